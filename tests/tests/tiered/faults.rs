//! Whatever Redis does, it is a copy that is not there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use idem_runtime::{
    Answer, Store,
    store::{Claimed, Complete, Outcome, Ownership, redis::RedisCache},
};
use redis::Client;
use tests::{
    claims::{DAY, claim, complete, key, token, win},
    servers::RedisServer,
};
use tokio::task::JoinSet;

use crate::support::{Both, copy_key, require_replayed};

/// What is completed is replayed, and what is not runs once.
async fn require_right(both: &Both, at: u32, why: &str) {
    require_replayed(&both.store, 1, "body", why).await;
    require_replayed(&both.elsewhere().await, 1, "body", why).await;
    win(&both.store, claim(at, 1)).await;
    assert!(matches!(both.store.claim(claim(at, 2)).await.unwrap(), Claimed::Busy { .. }), "{why}");
    assert_eq!(both.store.complete(&complete(at, 1, "new")).await.unwrap(), Ownership::Held, "{why}");
    require_replayed(&both.store, at, "new", why).await;
}

#[tokio::test]
async fn flushed_stopped_and_restarted_blank_redis_is_only_a_miss() {
    let mut both = Both::start().await;
    both.completed(1, "body").await;
    require_right(&both, 10, "untouched").await;
    both.redis.run::<()>(&["FLUSHALL"]);
    require_right(&both, 11, "flushed").await;
    both.redis.kill();
    require_right(&both, 12, "stopped").await;
    both.redis.restart();
    assert_eq!(both.redis.run::<u32>(&["DBSIZE"]), 0);
    require_right(&both, 13, "restarted blank").await;
    both.redis.pause();
    require_right(&both, 14, "paused").await;
    both.redis.resume();
    require_right(&both, 15, "resumed").await;
    // In the end copies are made again.
    tests::servers::eventually_async("a copy", Duration::from_secs(20), async || {
        both.store.claim(claim(1, 9)).await.unwrap();
        both.store.flush().await;
        both.has_copy(1).then_some(())
    })
    .await;
}

/// Without Redis every claim is answered.
#[tokio::test]
async fn a_ping_is_the_authoritys() {
    let both = Both::start().await;
    both.redis.pause();
    both.store.ping().await.unwrap();
    both.redis.resume();
    both.postgres.pause();
    let ping = tokio::time::timeout(Duration::from_secs(30), both.store.ping()).await;
    assert!(ping.expect("it ends within the time-out of ten seconds").is_err());
    both.postgres.resume();
}

#[tokio::test]
async fn a_redis_that_was_never_there_is_only_a_miss() {
    let mut redis = RedisServer::start();
    redis.kill();
    let both = Both::with(&[], redis, RedisCache::builder()).await;
    both.completed(1, "body").await;
    require_right(&both, 10, "never there").await;
}

#[tokio::test]
async fn garbage_is_only_a_miss() {
    let both = Both::start().await;
    both.completed(1, "body").await;
    both.completed(2, "another").await;
    let mut connection = Client::open(both.redis.url()).unwrap().get_connection().unwrap();
    let copy: Vec<u8> = redis::cmd("GET").arg(copy_key(1)).query(&mut connection).unwrap();
    let other: Vec<u8> = redis::cmd("GET").arg(copy_key(2)).query(&mut connection).unwrap();
    let changed = |at: usize| {
        let mut changed = copy.clone();
        changed[at] ^= 1;
        changed
    };
    let noise: Vec<u8> = (0..500_u32).map(|at| (at * 7919 % 251) as u8).collect();
    let mut newer = copy.clone();
    newer[0] = 2;
    let mut all = vec![
        ("nothing", vec![]),
        ("noise", noise),
        ("a copy of another key", other),
        ("a newer layout", newer),
        ("a copy with more behind it", [&copy[..], b"!"].concat()),
        ("half a record of a Redis store", [&[1, 2][..], &[1; 32], &[1; 16], &[0; 24], b"forged"].concat()),
    ];
    all.extend((0..copy.len()).step_by(5).map(|end| ("a copy cut off", copy[..end].to_vec())));
    all.extend((0..copy.len()).map(|at| ("a copy with one bit changed", changed(at))));
    for (what, bytes) in all {
        redis::cmd("SET").arg(copy_key(1)).arg(bytes).exec(&mut connection).unwrap();
        let claimed = both.store.claim(claim(1, 2)).await.unwrap();
        assert_eq!(claimed, Claimed::Completed { answer: Some(tests::claims::answer("body")) }, "{what}");
        both.store.flush().await;
        // And it is put right.
        let written: Vec<u8> = redis::cmd("GET").arg(copy_key(1)).query(&mut connection).unwrap();
        assert_eq!(written, copy, "{what}");
    }
    for at in [1, 2, 3] {
        both.redis.run::<()>(&["DEL", &copy_key(at)]);
        both.redis.run::<()>(&["RPUSH", &copy_key(at), "a", "list"]);
    }
    require_right(&both, 3, "a list").await;
}

#[tokio::test]
async fn an_evicting_redis_is_welcome() {
    let redis = RedisServer::with(&["--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru"]);
    let both = Both::with(&[], redis, RedisCache::builder()).await;
    let body = |at: u32| Answer::from_bytes(Bytes::from(vec![u8::try_from(at).unwrap(); 40_000]));
    for at in 0..100 {
        win(&both.store, claim(at, 1)).await;
        let end = Complete::new(key(at), token(1), Outcome::Answer(body(at)), DAY);
        assert_eq!(both.store.complete(&end).await.unwrap(), Ownership::Held);
        both.store.flush().await;
    }
    assert_ne!(both.redis.info("evicted_keys"), "0");
    for at in 0..100 {
        assert_eq!(both.store.claim(claim(at, 2)).await.unwrap(), Claimed::Completed { answer: Some(body(at)) });
    }
    // And one that refuses to grow.
    both.redis.run::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1"]);
    for at in 0..100 {
        assert_eq!(both.store.claim(claim(at, 3)).await.unwrap(), Claimed::Completed { answer: Some(body(at)) });
    }
}

/// One that stands still costs a request its time-out, and soon nothing.
#[tokio::test]
async fn a_paused_redis_costs_a_request_its_time_out_and_soon_nothing() {
    let timeout = Duration::from_millis(500);
    let both = Both::with(&[], RedisServer::start(), RedisCache::builder().timeout(timeout)).await;
    both.completed(1, "body").await;
    both.redis.pause();
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    for _ in 0..40 {
        let asked = Instant::now();
        both.store.claim(claim(1, 2)).await.unwrap();
        slowest = slowest.max(asked.elapsed());
    }
    // Forty time-outs would be twenty seconds.
    assert!(slowest < timeout * 3, "{slowest:?}");
    assert!(begun.elapsed() < timeout * 12, "{:?}", begun.elapsed());

    // Many at once pay it at most once each, together.
    let begun = Instant::now();
    let mut many = JoinSet::new();
    for by in 0..100 {
        let store = both.store.clone();
        many.spawn(async move { store.claim(claim(1, by)).await.unwrap() });
    }
    many.join_all().await;
    assert!(begun.elapsed() < timeout * 6, "{:?}", begun.elapsed());
    both.redis.resume();
}

/// The caller of a completion never waits for Redis.
#[tokio::test]
async fn a_completion_does_not_wait_for_redis() {
    let timeout = Duration::from_secs(5);
    let both = Both::with(&[], RedisServer::start(), RedisCache::builder().timeout(timeout)).await;
    both.completed(1, "body").await;
    for at in 2..8 {
        win(&both.store, claim(at, 1)).await;
    }
    both.redis.pause();
    let mut quickest = Duration::MAX;
    for at in 2..8 {
        let asked = Instant::now();
        assert_eq!(both.store.complete(&complete(at, 1, "body")).await.unwrap(), Ownership::Held);
        quickest = quickest.min(asked.elapsed());
    }
    assert!(quickest < Duration::from_millis(250), "{quickest:?}");
    both.redis.resume();
}

/// Redis comes, goes, stands still and forgets, while sixteen workers run forty keys: each is run once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_runs_twice_whatever_redis_does() {
    let mut both = Both::start().await;
    let runs: Arc<Vec<AtomicU32>> = Arc::new((0..40).map(|_| AtomicU32::new(0)).collect());
    let mut workers = JoinSet::new();
    for by in 1..=16 {
        let (store, runs) = (both.elsewhere().await, Arc::clone(&runs));
        workers.spawn(async move {
            for round in 0..200_u32 {
                let at = (round * 7 + u32::from(by)) % 40;
                let run = claim(at, by);
                match store.claim(run).await.unwrap() {
                    Claimed::Won { attempt, .. } => {
                        assert_eq!(attempt, 1);
                        runs[at as usize].fetch_add(1, Ordering::Relaxed);
                        tokio::task::yield_now().await;
                        let end = Complete::new(run.key, run.token, answer_of(at), DAY);
                        assert_eq!(store.complete(&end).await.unwrap(), Ownership::Held);
                    }
                    Claimed::Completed { answer } => assert_eq!(answer.map(Outcome::Answer), Some(answer_of(at))),
                    Claimed::Busy { .. } => tokio::task::yield_now().await,
                    other => panic!("{other:?}"),
                }
            }
        });
    }
    let mut fault = 0;
    while !workers.is_empty() {
        fault += 1;
        match fault % 6 {
            0 => both.redis.run::<()>(&["FLUSHALL"]),
            1 => both.redis.pause(),
            2 => both.redis.resume(),
            3 => both.redis.kill(),
            4 => both.redis.restart(),
            _ => {}
        }
        if let Ok(Some(worker)) = tokio::time::timeout(Duration::from_millis(100), workers.join_next()).await {
            worker.unwrap();
        }
    }
    let runs: Vec<_> = runs.iter().map(|runs| runs.load(Ordering::Relaxed)).collect();
    assert_eq!(runs, vec![1; 40]);
}

fn answer_of(at: u32) -> Outcome {
    Outcome::Answer(Answer::from_bytes(Bytes::from(format!("answer {at}"))))
}
