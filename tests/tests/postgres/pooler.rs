//! Behind PgBouncer, which gives a connection to a transaction.

use idem_runtime::{
    Store,
    store::{Begun, Claimed, Ownership, Release, StoreErrorKind, Transactions, postgres::driver as sqlx},
};
use tests::{
    claims::{answer, claim, complete, key, token},
    servers::PgBouncer,
};
use tokio::task::JoinSet;

use crate::support::*;

fn builder() -> idem_runtime::store::postgres::PostgresStoreBuilder {
    patient().transaction_pooler()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_pooler_every_step_works() {
    let server = migrated(&["default_transaction_isolation=serializable"]).await;
    let pooler = PgBouncer::start(&server);
    // Without the option it is said at the start what does not work, and what to write.
    let error = patient().connect(&pooler.url()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains("transaction_pooler"), "{error}");
    builder().migrate(&pooler.url()).await.unwrap();

    let (one, two) = (builder().connect(&pooler.url()).await.unwrap(), builder().connect(&pooler.url()).await.unwrap());
    let mut all = JoinSet::new();
    for (by, store) in [(1, &one), (2, &two), (3, &one), (4, &two)] {
        let store = store.clone();
        all.spawn(async move {
            let mut won = 0;
            for at in 0..100 {
                match store.claim(claim(at, by)).await.unwrap() {
                    Claimed::Won { .. } => {
                        assert_eq!(store.complete(&complete(at, by, "answer")).await.unwrap(), Ownership::Held);
                        won += 1;
                    }
                    Claimed::Busy { .. } => {}
                    replay => assert_eq!(replay, Claimed::Completed { answer: Some(answer("answer")) }),
                }
            }
            won
        });
    }
    assert_eq!(all.join_all().await.iter().sum::<u32>(), 100);

    let batch: Vec<_> = (200..300).map(|at| claim(at, 1)).collect();
    assert!(one.claim_many(&batch).await.iter().all(|claimed| claimed.as_ref().is_ok_and(is_won)));
    assert_eq!(one.release(Release::new(key(200), token(1))).await.unwrap(), Ownership::Held);
    assert_eq!(one.expire(10).await.unwrap(), 0);

    let recorded = Claimed::Completed { answer: Some(answer("a")) };
    let mut transaction = one.begin().await.unwrap();
    assert!(is_won(&one.claim_in(&mut transaction, claim(400, 1)).await.unwrap()));
    sqlx::raw_sql("SELECT 1").execute(&mut *transaction).await.unwrap();
    assert_eq!(one.complete_in(&mut transaction, &complete(400, 1, "a")).await.unwrap(), Ownership::Held);
    one.commit(transaction).await.unwrap();
    assert_eq!(two.claim(claim(400, 2)).await.unwrap(), recorded);
    for at in 500..520 {
        first_execution(&one, at).await;
        let Ok(Begun::NotWon(replay)) = two.begin_and_claim(claim(at, 2)).await else { panic!("{at} has run") };
        assert_eq!(replay, recorded);
    }
    // Nothing was set for whoever has the connections next.
    assert_eq!(pooler.settings(), server.run("SHOW lock_timeout; SHOW statement_timeout"));
}
