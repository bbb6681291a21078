//! What it costs to know a request again: fingerprints of a body and keys made of params, per size.

// `criterion_main` makes a public function.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use idem_runtime::{Fingerprint, derive_key, python_recipe_key, python_recipe_key_from_json};
use serde::Serialize;

#[derive(Serialize)]
struct Params {
    currency: &'static str,
    amount: u64,
    installment: u8,
}

/// About 100 bytes, a payment, then orders of more items.
const ITEMS: [usize; 3] = [1, 20, 10_000];

fn order(items: usize) -> String {
    let items: Vec<String> = (0..items)
        .map(|number| {
            format!(r#"{{"sku": "sku-{number:06}", "quantity": {}, "price": 12.{:02}}}"#, number % 9, number % 100)
        })
        .collect();
    format!(r#"{{"order": {{"id": "o-1", "note": "caf\u00e9"}}, "items": [{}]}}"#, items.join(", "))
}

fn fingerprints(criterion: &mut Criterion) {
    for (name, of) in [
        ("fingerprint/bytes", (|body| Some(Fingerprint::of_bytes(body))) as fn(&[u8]) -> Option<Fingerprint>),
        ("fingerprint/json", |body| Fingerprint::of_json_text(body).ok()),
    ] {
        let mut group = criterion.benchmark_group(name);
        for body in ITEMS.map(order) {
            assert!(of(body.as_bytes()).is_some(), "the body is JSON");
            group.throughput(Throughput::Bytes(body.len() as u64));
            group.bench_with_input(BenchmarkId::from_parameter(body.len()), body.as_bytes(), |bencher, body| {
                bencher.iter(|| of(black_box(body)));
            });
        }
        group.finish();
    }
}

fn keys(criterion: &mut Criterion) {
    let params = Params { currency: "usd", amount: 1999, installment: 3 };
    let text = r#"{"currency":"usd","amount":1999,"installment":3}"#;
    let mut group = criterion.benchmark_group("key");
    group.bench_function("derive_key", |bencher| {
        bencher.iter(|| derive_key(black_box("order-123"), black_box("charge"), black_box(&params)));
    });
    group.bench_function("python_recipe_key", |bencher| {
        bencher.iter(|| python_recipe_key(black_box("order-123"), black_box("charge"), black_box(&params)));
    });
    group.bench_function("python_recipe_key_from_json", |bencher| {
        bencher.iter(|| python_recipe_key_from_json(black_box("order-123"), black_box("charge"), black_box(text)));
    });
    group.finish();
}

criterion_group!(benches, fingerprints, keys);
criterion_main!(benches);
