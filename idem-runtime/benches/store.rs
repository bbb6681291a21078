//! The memory store: what a first execution, a replay and a refused duplicate cost it.

// `criterion_main` makes a public function, and what fails here fails the measurement.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use idem_runtime::{
    Answer, Fingerprint, MemoryStore, StorageKey, Store,
    store::{Claim, Complete, Outcome, Ownership, Release, Renew, Token},
};

const FINGERPRINT: Fingerprint = Fingerprint::from_bytes([1; 32]);
const LEASE: Duration = Duration::from_secs(30);

/// Short, so that old records are dropped while new ones come, as in a service that has run for a day.
const TTL: Duration = Duration::from_millis(100);

criterion_group!(benches, memory);
criterion_main!(benches);

fn memory(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = MemoryStore::builder().max_entries(usize::MAX).max_bytes(usize::MAX).build();
    let answer = Answer::from_bytes(Bytes::from(vec![7; 300]));
    let mut keys = (0u64..).map(key);
    let mut group = criterion.benchmark_group("memory");

    group.bench_function("claim and complete", |bencher| {
        bencher.to_async(&runtime).iter(|| {
            let (claim, store, answer) = (claim(keys.next().unwrap()), &store, answer.clone());
            async move {
                black_box(store.claim(claim).await.unwrap());
                store.complete(&Complete::new(claim.key, claim.token, Outcome::Answer(answer), TTL)).await.unwrap()
            }
        });
    });
    group.bench_function("claim and release", |bencher| {
        bencher.to_async(&runtime).iter(|| {
            let (claim, store) = (claim(keys.next().unwrap()), &store);
            async move {
                black_box(store.claim(claim).await.unwrap());
                store.release(Release::new(claim.key, claim.token)).await.unwrap()
            }
        });
    });

    let day = Duration::from_secs(24 * 60 * 60);
    let (done, running) = (claim(keys.next().unwrap()), claim(keys.next().unwrap()));
    runtime.block_on(async {
        for claim in [done, running] {
            black_box(store.claim(claim).await.unwrap());
        }
        let complete = Complete::new(done.key, done.token, Outcome::Answer(answer), day);
        assert_eq!(store.complete(&complete).await.unwrap(), Ownership::Held);
    });
    let mut duplicate = done;
    duplicate.token = Token::from_bytes([9; 16]);
    group.bench_function("replay", |bencher| {
        bencher.to_async(&runtime).iter(async || store.claim(black_box(duplicate)).await.unwrap());
    });
    duplicate.key = running.key;
    group.bench_function("busy", |bencher| {
        bencher.to_async(&runtime).iter(async || store.claim(black_box(duplicate)).await.unwrap());
    });
    group.bench_function("renew", |bencher| {
        bencher.to_async(&runtime).iter(async || store.renew(black_box(Renew::of(&running))).await.unwrap());
    });
    group.finish();
}

fn claim(key: StorageKey) -> Claim {
    Claim::new(key, Token::from_bytes([8; 16]), FINGERPRINT, LEASE)
}

/// Spread as evenly as the digests that real keys are (SplitMix64).
fn key(at: u64) -> StorageKey {
    let mut bytes = [0; 32];
    for (word, lane) in bytes.chunks_exact_mut(8).zip(1u64..) {
        let mut mixed = at.wrapping_mul(4).wrapping_add(lane).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word.copy_from_slice(&(mixed ^ (mixed >> 31)).to_be_bytes());
    }
    StorageKey::from_bytes(bytes)
}
