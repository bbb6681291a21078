//! Hashing: storage keys, fingerprints and derived keys.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use idem_runtime::{
    Fingerprint, Policy, Principal, derive_key,
    measured::{Secret, storage_key},
    python_recipe_key,
};
use serde_json::json;

const POLICY: Policy = Policy::new("payments");
const KEY: &str = "8e03978e-40d5-43e8-bc93-6894a57f9324";
const BODY: &[u8] = br#"{"amount":1999,"currency":"usd","source":"tok_visa","metadata":{"order":"o-1","try":1}}"#;

criterion_group!(benches, keys, fingerprints, derived_keys);
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

fn fingerprints(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fingerprint");
    group.bench_function("bytes", |bencher| bencher.iter(|| Fingerprint::of_bytes(black_box(BODY))));
    group.bench_function("json", |bencher| bencher.iter(|| Fingerprint::of_json_text(black_box(BODY))));
    group.finish();
}

fn derived_keys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("derive");
    let params = json!({ "amount": 1999, "installment": 3 });
    group
        .bench_function("derive_key", |bencher| bencher.iter(|| derive_key("order-123", "charge", black_box(&params))));
    group.bench_function("python_recipe_key", |bencher| {
        bencher.iter(|| python_recipe_key("order-123", "charge", black_box(&params)));
    });
    group.finish();
}
