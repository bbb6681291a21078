//! The envelope of an answer: sealing it once, opening it at every replay.

// `criterion_main` makes a public function.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use idem_runtime::measured::{open, seal};

criterion_group!(benches, envelope);
criterion_main!(benches);

fn envelope(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("envelope");
    for length in [300, 16 << 10, 1 << 20] {
        let content = vec![7; length];
        let sealed = seal(&content);
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(BenchmarkId::new("seal", length), |bencher| bencher.iter(|| seal(black_box(&content))));
        group.bench_function(BenchmarkId::new("open", length), |bencher| bencher.iter(|| open(black_box(&sealed))));
    }
    group.finish();
}
