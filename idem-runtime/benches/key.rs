//! Which record of the store: the key that every claim begins with.

// `criterion_main` makes a public function.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use idem_runtime::{
    Policy, Principal,
    measured::{Secret, storage_key},
};

const POLICY: Policy = Policy::new("payments");
const KEY: &str = "8e03978e-40d5-43e8-bc93-6894a57f9324";

criterion_group!(benches, keys);
criterion_main!(benches);

fn keys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("storage key");
    let principal = Principal::new("acct_1");
    let pepper = Secret::new(&[7; 32]);
    group.bench_function("plain", |bencher| {
        bencher.iter(|| storage_key(&POLICY, &principal, black_box(KEY), None));
    });
    group.bench_function("with a pepper", |bencher| {
        bencher.iter(|| storage_key(&POLICY, &principal, black_box(KEY), Some(&pepper)));
    });
    group.finish();
}
