//! What an operation costs at the server, counted in its log.

use std::time::Duration;

use idem_runtime::{
    Store,
    store::{
        Begun, Claimed, Complete, Outcome, Ownership, Parked, Release, Renew, Resolve, Resolved, Transactions, Verdict,
        postgres::driver as sqlx,
    },
};
use tests::{
    claims::{DAY, answer, claim, complete, key, token, win},
    servers::{PostgresServer, Proxy, eventually_async},
};

use crate::support::*;

/// The statements that a server was sent, each a round trip, since it was last asked.
struct Counted<'a>(&'a PostgresServer, usize);

impl Counted<'_> {
    fn next(&mut self) -> Vec<String> {
        let log = self.0.log();
        let sent: Vec<_> = log.lines().filter(|line| line.contains("LOG:  ")).collect();
        let new = sent[self.1..].iter().map(|line| (*line).to_owned()).collect();
        self.1 = sent.len();
        new
    }
}

/// Statements that were prepared before.
#[tokio::test]
async fn a_first_execution_is_two_statements_and_a_replay_one() {
    let server = migrated(&["log_statement=all"]).await;
    let store = patient().sweep_every(None).connect(&server.url()).await.unwrap();
    let mut counted = Counted(&server, 0);
    // The fewest of several: a machine that is busy may write a claim late enough for a second statement.
    let mut fewest = [usize::MAX; 4];
    for round in 0..10 {
        let (first, second, many) = (round * 1_000, round * 1_000 + 1, round * 1_000 + 2);
        counted.next();
        win(&store, claim(first, 1)).await;
        assert_eq!(store.complete(&complete(first, 1, "answer")).await.unwrap(), Ownership::Held);
        fewest[0] = fewest[0].min(counted.next().len());

        let replay = store.claim(claim(first, 2)).await.unwrap();
        assert_eq!(replay, Claimed::Completed { answer: Some(answer("answer")) });
        fewest[1] = fewest[1].min(counted.next().len());

        win(&store, claim(second, 1)).await;
        assert_eq!(store.renew(Renew::of(&claim(second, 1))).await.unwrap(), Ownership::Held);
        assert!(matches!(store.claim(claim(second, 2)).await.unwrap(), Claimed::Busy { .. }));
        assert_eq!(store.release(Release::new(key(second), token(1))).await.unwrap(), Ownership::Held);
        fewest[2] = fewest[2].min(counted.next().len());

        let batch: Vec<_> = (many..many + 100).map(|at| claim(at, 3)).collect();
        assert!(store.claim_many(&batch).await.iter().all(|claimed| claimed.as_ref().is_ok_and(is_won)));
        fewest[3] = fewest[3].min(counted.next().len());
    }
    assert_eq!(fewest, [2, 1, 4, 1], "first execution, replay, four steps, batch");

    // Nothing is worth a warning to the server's operator.
    let log = server.log();
    assert!(!log.contains("WARNING") && !log.contains("ERROR"), "{log}");
}

/// The least there is: begin, claim, what the handler does, complete, commit. Statements that were prepared before.
#[tokio::test]
async fn a_first_execution_in_a_transaction_is_four_round_trips_and_the_handlers_own() {
    let server = migrated(&[]).await;
    let proxy = Proxy::start(server.port()).await;
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.port());
    let store = patient().sweep_every(None).max_transactions(1).connect(&url).await.unwrap();
    let mut fewest = [usize::MAX; 4];
    let mut before = 0;
    // From one to the next: what is sent after the end of a transaction counts as well.
    let mut count = |fewest: &mut usize| {
        let now = proxy.replies();
        *fewest = (*fewest).min(now - before);
        before = now;
    };
    for at in 0..10 {
        store.rollback(store.begin().await.unwrap()).await;
        count(&mut fewest[3]);
        first_execution(&store, at).await;
        store.rollback(store.begin().await.unwrap()).await;
        count(&mut fewest[0]);
        let Ok(Begun::NotWon(replay)) = store.begin_and_claim(claim(at, 2)).await else { panic!("it has run") };
        assert_eq!(replay, Claimed::Completed { answer: Some(answer("a")) });
        store.rollback(store.begin().await.unwrap()).await;
        count(&mut fewest[1]);
        // Without a claim it is asked whether a statement failed.
        store.commit(store.begin().await.unwrap()).await.unwrap();
        store.rollback(store.begin().await.unwrap()).await;
        count(&mut fewest[2]);
    }
    let [first, replay, unclaimed, nothing] = fewest;
    assert_eq!(nothing, 2, "begin and roll back");
    assert_eq!([first, replay, unclaimed].map(|sent| sent - nothing), [4 + 1, 4, 3], "first, replay, without a key");
}

#[tokio::test]
async fn a_transaction_warns_nobody() {
    let server = migrated(&["log_statement=all"]).await;
    let store = patient().sweep_every(None).connect(&server.url()).await.unwrap();
    let mut counted = Counted(&server, 0);
    for at in 0..3 {
        counted.next();
        let mut transaction = store.begin().await.unwrap();
        assert!(is_won(&store.claim_in(&mut transaction, claim(at, 1)).await.unwrap()));
        assert_eq!(store.complete_in(&mut transaction, &complete(at, 1, "a")).await.unwrap(), Ownership::Held);
        store.commit(transaction).await.unwrap();
    }
    // Begin, three for the claim, one for the completion, two for the commit; a simple query of several is one.
    let sent = counted.next();
    assert!(sent.len() <= 7, "{sent:?}");
    first_execution(&store, 100).await;
    assert!(matches!(store.begin_and_claim(claim(100, 2)).await, Ok(Begun::NotWon(_))));
    let pool = sqlx::PgPool::connect(&server.url()).await.unwrap();
    let given = patient().sweep_every(None).with_pool(pool).await.unwrap();
    win(&given, claim(10, 1)).await;
    let log = server.log();
    assert!(!log.contains("WARNING") && !log.contains("ERROR"), "{log}");
}

/// A replay that wrote something would wait for the disk.
#[tokio::test]
async fn replays_and_refusals_write_nothing() {
    let server = migrated(&["autovacuum=off"]).await;
    let store = patient().sweep_every(None).connect(&server.url()).await.unwrap();
    win(&store, claim(1, 1)).await;
    assert_eq!(store.complete(&complete(1, 1, "answer")).await.unwrap(), Ownership::Held);
    win(&store, claim(2, 1)).await;
    let transactions = || server.run("SELECT pg_snapshot_xmax(pg_current_snapshot())");
    let before = transactions();
    for _ in 0..20 {
        assert_eq!(store.claim(claim(1, 2)).await.unwrap(), Claimed::Completed { answer: Some(answer("answer")) });
        assert!(matches!(store.claim(claim(2, 2)).await.unwrap(), Claimed::Busy { .. }));
        let other = used_with(claim(1, 2), 2);
        assert_eq!(store.claim(other).await.unwrap(), Claimed::Mismatch);
    }
    assert_eq!(transactions(), before, "a transaction that writes takes a number");
}

/// A plan that reads the whole table is cheap as long as it is small, and is kept when it is not.
#[tokio::test]
async fn no_step_ever_reads_the_whole_table() {
    let world = World::start().await;
    let given = sqlx::PgPool::connect(&world.postgres.url()).await.unwrap();
    let given = world.postgres.builder().sweep_every(None).with_pool(given).await.unwrap();
    let scans = |kind: &str| {
        let schema = world.postgres.schema();
        format!("SELECT {kind} FROM pg_stat_user_tables WHERE schemaname = '{schema}' AND relname = 'idem_records'")
    };
    // Making the two indexes did, and the server counts with a delay.
    let made = eventually_async("the making of the table is counted", Duration::from_secs(30), async || {
        Some(world.number(&scans("seq_scan")).await).filter(|scans| *scans >= 2)
    })
    .await;
    for (store, from) in [(&world.store, 0), (&given, 100)] {
        // A plan for any arguments is made after the fifth time.
        for at in from..from + 20 {
            win(store, claim(at, 1)).await;
            assert_eq!(store.renew(Renew::of(&claim(at, 1))).await.unwrap(), Ownership::Held);
            let end = Outcome::Parked(answer("why"));
            assert_eq!(store.complete(&Complete::new(key(at), token(1), end, DAY)).await.unwrap(), Ownership::Held);
            let page = store.parked(Parked::first(1).after(key(at))).await.unwrap();
            assert!(page.is_empty());
            let verdict = Resolve::new(key(at), Verdict::NotExecuted);
            assert_eq!(store.resolve(&verdict).await.unwrap(), Resolved::Applied);
            assert_eq!(store.expire(10).await.unwrap(), 0);
            let batch: Vec<_> = (from + 1_000..from + 1_050).map(|at| claim(at, 2)).collect();
            store.claim_many(&batch).await;
        }
    }
    eventually_async("the searches are counted", Duration::from_secs(30), async || {
        (world.number(&scans("idx_scan")).await >= 40 * 50).then_some(())
    })
    .await;
    assert_eq!(world.number(&scans("seq_scan")).await, made);
}
