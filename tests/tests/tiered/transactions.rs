//! The authority's transactions.

use idem_runtime::store::{Claimed, Ownership, Transactions};
use tests::claims::{answer, claim, complete, win};

use crate::support::{Both, require_replayed};

#[tokio::test]
async fn what_a_transaction_completes_is_copied_once_it_is_committed() {
    let both = Both::start().await;
    let store = &both.store;

    let mut transaction = store.begin().await.unwrap();
    let won = store.claim_in(&mut transaction, claim(1, 1)).await.unwrap();
    assert!(matches!(won, Claimed::Won { attempt: 1, .. }), "{won:?}");
    assert_eq!(store.complete_in(&mut transaction, &complete(1, 1, "body")).await.unwrap(), Ownership::Held);
    // Its own completion, which nobody else sees yet: no copy is made of it.
    let completed = Claimed::Completed { answer: Some(answer("body")) };
    assert_eq!(store.claim_in(&mut transaction, claim(1, 2)).await.unwrap(), completed);
    store.flush().await;
    assert!(!both.has_copy(1));
    store.commit(transaction).await.unwrap();
    require_replayed(store, 1, "body", "committed").await;
    store.flush().await;
    assert!(both.has_copy(1), "its first duplicate is copied");
    let mut transaction = store.begin().await.unwrap();
    assert_eq!(store.claim_in(&mut transaction, claim(1, 3)).await.unwrap(), completed);
    store.rollback(transaction).await;

    let mut transaction = store.begin().await.unwrap();
    store.claim_in(&mut transaction, claim(2, 1)).await.unwrap();
    assert_eq!(store.complete_in(&mut transaction, &complete(2, 1, "undone")).await.unwrap(), Ownership::Held);
    store.claim_in(&mut transaction, claim(2, 2)).await.unwrap();
    store.rollback(transaction).await;
    store.flush().await;
    assert!(!both.has_copy(2));
    win(store, claim(2, 1)).await;
}
