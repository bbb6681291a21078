//! What is copied, for how long, and what a replay costs.

use std::time::Duration;

use idem_runtime::{
    PostgresStore, Store, TieredStore,
    store::{
        Claim, Claimed, Complete, Forgotten, Outcome, Ownership, Release, Resolve, Resolved, StoreErrorKind, Verdict,
        redis::RedisCache, tiered::Authority,
    },
};
use tests::{
    claims::{DAY, LEASE, answer, claim, complete, fingerprint, key, token, win},
    servers::{PostgresServer, RedisCluster, RedisServer, SentinelTrio},
};

use crate::support::{Both, authority, copy_key, require_replayed};

#[tokio::test]
async fn a_replay_is_one_command_to_redis_and_none_to_postgres() {
    let both = Both::with(&["log_statement=all"], RedisServer::start(), RedisCache::builder()).await;
    both.completed(1, "body").await;
    let completed = Claimed::Completed { answer: Some(answer("body")) };
    assert_eq!(both.store.claim(claim(1, 2)).await.unwrap(), completed);

    let statements = |both: &Both| both.postgres.log().matches("LOG:  ").count();
    let before = statements(&both);
    both.redis.run::<()>(&["CONFIG", "RESETSTAT"]);
    for by in 2..12 {
        assert_eq!(both.store.claim(claim(1, by)).await.unwrap(), completed);
    }
    assert_eq!(both.redis.calls(), [("get".to_owned(), 10)]);
    let many: Vec<_> = (2..12).map(|by| claim(1, by)).collect();
    for claimed in both.store.claim_many(&many).await {
        assert_eq!(claimed.unwrap(), completed);
    }
    assert_eq!(both.redis.calls(), [("get".to_owned(), 20)]);
    assert_eq!(statements(&both), before, "{}", both.postgres.log());
    // The count can count.
    assert_eq!(both.store.claim(Claim::new(key(1), token(2), fingerprint(2), LEASE)).await.unwrap(), Claimed::Mismatch);
    assert!(statements(&both) > before);

    // And so a Postgres that stands still is not noticed.
    both.postgres.pause();
    assert_eq!(both.store.claim(claim(1, 3)).await.unwrap(), completed);
    both.postgres.resume();
}

#[tokio::test]
async fn the_bytes_of_a_copy_are_frozen() {
    let both = Both::start().await;
    both.completed(1, "body").await;
    let copy: Vec<u8> = both.redis.run(&["GET", &copy_key(1)]);
    assert_eq!(copy[..65], [&[1][..], key(1).as_bytes(), &[1; 32]].concat());
    // The first bytes of SHA-256 over all the rest, computed elsewhere.
    assert_eq!(copy[65..], *b"\xa2\x44\x69\x8b\xdd\x60\xeb\x5fbody");
    assert_eq!(both.redis.run::<Vec<String>>(&["KEYS", "*"]), [copy_key(1)]);
}

#[tokio::test]
async fn only_answers_are_copied_and_only_those_that_the_authority_has() {
    let both = Both::start().await;
    let end = |at, outcome| Complete::new(key(at), token(1), outcome, DAY);
    for (at, outcome) in [(1, Outcome::Tombstone), (2, Outcome::Unknown), (3, Outcome::Parked(answer("why")))] {
        win(&both.store, claim(at, 1)).await;
        assert_eq!(both.store.complete(&end(at, outcome)).await.unwrap(), Ownership::Held);
        both.store.claim(claim(at, 2)).await.unwrap();
    }
    win(&both.store, claim(4, 1)).await;
    win(&both.store, claim(5, 1)).await;
    assert_eq!(both.store.release(Release::new(key(5), token(1)).remember(DAY)).await.unwrap(), Ownership::Held);
    // Held, for it is the owner that asks again: but what was recorded is another thing.
    assert_eq!(both.store.complete(&complete(3, 1, "after all")).await.unwrap(), Ownership::Held);
    assert_eq!(both.store.complete(&complete(1, 1, "after all")).await.unwrap(), Ownership::Held);
    both.store.flush().await;
    assert_eq!(both.redis.run::<u32>(&["DBSIZE"]), 0);

    both.completed(6, "first").await;
    assert_eq!(both.store.complete(&complete(6, 1, "second")).await.unwrap(), Ownership::Held);
    both.store.flush().await;
    require_replayed(&both.store, 6, "first", "asked again with another answer").await;

    // An operator's word is copied like the owner's.
    let verdict = Verdict::Completed { answer: Some(answer("by hand")), ttl: DAY, remember: DAY };
    assert_eq!(both.store.resolve(&Resolve::new(key(3), verdict)).await.unwrap(), Resolved::Applied);
    both.store.flush().await;
    assert!(both.has_copy(3));
    require_replayed(&both.elsewhere().await, 3, "by hand", "resolved").await;
}

#[tokio::test]
async fn a_duplicate_that_postgres_answered_is_copied() {
    let both = Both::start().await;
    both.completed(1, "body").await;
    for round in 0..2 {
        both.redis.run::<()>(&["FLUSHALL"]);
        let store = both.elsewhere().await;
        let completed = Claimed::Completed { answer: Some(answer("body")) };
        match round {
            0 => assert_eq!(store.claim(claim(1, 2)).await.unwrap(), completed),
            _ => assert_eq!(store.claim_many(&[claim(1, 2)]).await.remove(0).unwrap(), completed),
        }
        store.flush().await;
        assert!(both.has_copy(1));
        both.postgres.pause();
        assert_eq!(store.claim(claim(1, 3)).await.unwrap(), completed);
        both.postgres.resume();
    }
}

/// What is left of the row, and of its copy, in milliseconds; the row is looked at first.
fn left(both: &Both, at: u32) -> (i64, i64) {
    let digits: String = key(at).as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let row = both.postgres.run(&format!(
        "SELECT ((until - extract(epoch FROM clock_timestamp()) * 1000000) / 1000)::bigint \
         FROM idem_records WHERE key = '\\x{digits}'"
    ));
    (row.parse().unwrap(), both.redis.run(&["PTTL", &copy_key(at)]))
}

#[tokio::test]
async fn a_copy_ends_before_its_row() {
    let both = Both::start().await;
    let second = Duration::from_secs(1);
    // (`ttl`, `remember`)
    let times = [(DAY, DAY), (10 * second, DAY), (100 * DAY, 200 * DAY), (4 * second, 4 * second)];
    for (at, (ttl, remember)) in (1..).zip(times) {
        win(&both.store, claim(at, 1)).await;
        let end = Complete::new(key(at), token(1), Outcome::Answer(answer("body")), ttl).remember(remember);
        assert_eq!(both.store.complete(&end).await.unwrap(), Ownership::Held);
        both.store.flush().await;
        let (row, copy) = left(&both, at);
        assert!(copy > 0 && copy <= row - 900, "row {row} ms, copy {copy} ms");
    }
    // What is kept for less than the margin is not copied at all.
    win(&both.store, claim(9, 1)).await;
    let end = Complete::new(key(9), token(1), Outcome::Answer(answer("body")), second).remember(DAY);
    assert_eq!(both.store.complete(&end).await.unwrap(), Ownership::Held);
    both.store.flush().await;
    assert!(!both.has_copy(9));

    // One that is made later has what is left by then.
    let row = loop {
        both.redis.run::<()>(&["DEL", &copy_key(2)]);
        both.store.claim(claim(2, 2)).await.unwrap();
        both.store.flush().await;
        let (row, copy) = left(&both, 2);
        assert!(copy <= row - 900, "row {row} ms, copy {copy} ms");
        if row < 3_000 {
            break row;
        }
    };
    // And then the authority says what is remembered.
    let mut told = Vec::new();
    for _ in 0..(row / 50 + 100) {
        let claimed = both.store.claim(claim(2, 3)).await.unwrap();
        let (row, _) = left(&both, 2);
        told.push((row, matches!(claimed, Claimed::Completed { answer: Some(_) })));
        if row < -200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let late: Vec<_> = told.windows(2).filter(|pair| pair[0].0 <= 0 && pair[1].1).collect();
    assert_eq!(late, Vec::<&[(i64, bool)]>::new(), "replayed past `ttl`: {told:?}");
    assert!(told.last().is_some_and(|(row, replayed)| *row <= 0 && !replayed), "{told:?}");
    assert_eq!(both.store.claim(claim(2, 3)).await.unwrap(), Claimed::Completed { answer: None });
}

#[tokio::test]
async fn copies_in_a_cluster_lie_where_their_slots_are() {
    let cluster = RedisCluster::start();
    let postgres = PostgresServer::with(&["fsync=off", "synchronous_commit=off"]);
    let store = TieredStore::new(authority(&postgres).await, RedisCache::cluster(cluster.seeds()).unwrap());
    for at in 0..60 {
        win(&store, claim(at, 1)).await;
        assert_eq!(store.complete(&complete(at, 1, "body")).await.unwrap(), Ownership::Held);
    }
    store.flush().await;
    // The first may have come before the Cluster was known, and the time-out for them is short.
    for at in 0..60 {
        store.claim(claim(at, 2)).await.unwrap();
    }
    store.flush().await;
    let sizes: Vec<u32> = (0..3).map(|master| cluster.server(master).run(&["DBSIZE"])).collect();
    assert_eq!(sizes.iter().sum::<u32>(), 60, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size > 5), "{sizes:?}");
    let many: Vec<_> = (0..60).map(|at| claim(at, 3)).collect();
    for claimed in store.claim_many(&many).await {
        assert_eq!(claimed.unwrap(), Claimed::Completed { answer: Some(answer("body")) });
    }
}

#[tokio::test]
async fn copies_behind_sentinels_lie_at_the_master() {
    let trio = SentinelTrio::start();
    let postgres = PostgresServer::with(&["fsync=off", "synchronous_commit=off"]);
    let cache = RedisCache::sentinel(trio.urls(), SentinelTrio::NAME).unwrap();
    let store = TieredStore::new(authority(&postgres).await, cache);
    for at in 0..10 {
        win(&store, claim(at, 1)).await;
        assert_eq!(store.complete(&complete(at, 1, "body")).await.unwrap(), Ownership::Held);
        store.flush().await;
    }
    store.claim(claim(0, 2)).await.unwrap();
    store.flush().await;
    assert!(trio.master.run::<u32>(&["DBSIZE"]) >= 5);
    require_replayed(&store, 0, "body", "behind Sentinels").await;
}

#[tokio::test]
async fn what_is_written_wrong_is_told_without_a_password() {
    for (cache, says) in [
        (RedisCache::server("redis://:hunter2@[host"), "does not parse"),
        (RedisCache::builder().prefix("a{b}").server("redis://:hunter2@host"), "brace"),
        (RedisCache::builder().timeout(Duration::ZERO).server("redis://:hunter2@host"), "`timeout` is not between"),
        (RedisCache::builder().timeout(Duration::MAX).cluster(["redis://:hunter2@host"]), "`timeout` is not between"),
        (
            RedisCache::builder().connect_timeout(Duration::MAX).sentinel(["redis://:hunter2@host"], "main"),
            "`connect_timeout` is not between",
        ),
        (RedisCache::cluster::<&str>([]), "at least one URL"),
        (RedisCache::sentinel::<&str>([], "main"), "at least one URL"),
    ] {
        let error = cache.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
        let text = format!("{error} {error:?}");
        assert!(text.contains(says) && !text.contains("hunter2"), "{text}");
    }
    let both = Both::start().await;
    let cache = RedisCache::builder().login("app", "hunter2").server("redis://app:hunter2@127.0.0.1:1").unwrap();
    let shown = format!("{:?} {:?}", cache, TieredStore::new(authority(&both.postgres).await, cache.clone()));
    assert!(!shown.contains("hunter2"), "{shown}");
}

/// What the documentation says is enough.
#[tokio::test]
async fn who_may_only_do_what_copies_need_may_do_enough() {
    let both = Both::start().await;
    let rights = "on >hunter2 ~idem-copy:* +@connection +get +set +del +eval +time";
    let mut command = vec!["ACL", "SETUSER", "app"];
    command.extend(rights.split(' '));
    both.redis.run::<()>(&command);
    let cache = RedisCache::server(&format!("redis://app:hunter2@127.0.0.1:{}", both.redis.port())).unwrap();
    let store = TieredStore::new(authority(&both.postgres).await, cache);
    win(&store, claim(1, 1)).await;
    assert_eq!(store.complete(&complete(1, 1, "body")).await.unwrap(), Ownership::Held);
    store.flush().await;
    assert!(both.has_copy(1));
    both.postgres.pause();
    assert_eq!(store.claim(claim(1, 2)).await.unwrap(), Claimed::Completed { answer: Some(answer("body")) });
    both.postgres.resume();
    both.redis.run::<()>(&["SET", &copy_key(1), "garbage"]);
    store.claim(claim(1, 2)).await.unwrap();
    store.flush().await;
    assert_eq!(both.redis.run::<Vec<u8>>(&["GET", &copy_key(1)])[0], 1, "it is put right");
    assert_eq!(store.forget(key(1)).await.unwrap(), Forgotten::Done);
    win(&store, claim(1, 2)).await;
}

/// A store of one's own can be the authority: one method more.
#[tokio::test]
async fn the_authority_tells_only_of_answers_that_are_kept() {
    let both = Both::start().await;
    let authority: &PostgresStore = both.store.authority();
    both.completed(1, "one").await;
    both.completed(2, "two").await;
    win(authority, claim(3, 1)).await;
    win(authority, claim(4, 1)).await;
    let tombstone = Complete::new(key(4), token(1), Outcome::Tombstone, DAY);
    assert_eq!(authority.complete(&tombstone).await.unwrap(), Ownership::Held);
    win(authority, claim(5, 1)).await;
    let brief = Complete::new(key(5), token(1), Outcome::Answer(answer("gone")), Duration::ZERO).remember(DAY);
    assert_eq!(authority.complete(&brief).await.unwrap(), Ownership::Held);
    let keys: Vec<_> = (1..=6).map(key).collect();
    let mut kept = authority.kept(&keys).await.unwrap();
    kept.sort_by_key(|kept| kept.key);
    let seen: Vec<_> = kept.iter().map(|kept| (kept.key, kept.fingerprint, kept.answer.clone())).collect();
    assert_eq!(seen, [(key(1), fingerprint(1), answer("one")), (key(2), fingerprint(1), answer("two"))]);
    assert!(kept.iter().all(|kept| kept.left <= DAY && kept.left > DAY / 2));
    assert_eq!(authority.kept(&[]).await.unwrap(), []);
}
