//! Whether the file would take a claim.

use idem_runtime::{Store, store::StoreErrorKind};

use crate::{Place, refused};

#[tokio::test]
async fn a_ping_says_that_the_file_is_not_what_it_was() {
    let place = Place::new();
    let store = place.open().await;
    store.ping().await.unwrap();
    sqlx::raw_sql("DROP TABLE idem_records").execute(store.pool()).await.unwrap();
    let error = store.ping().await.unwrap_err();
    assert!(error.to_string().contains("idem_records"), "{error}");
}

/// One who writes keeps no claim from being answered, if only by what lies there.
#[tokio::test]
async fn a_ping_waits_for_no_writer() {
    let place = Place::new();
    let store = place.open().await;
    let mut writer = store.pool().begin_with("BEGIN IMMEDIATE").await.unwrap();
    store.ping().await.unwrap();
    sqlx::raw_sql("DELETE FROM idem_schema").execute(&mut *writer).await.unwrap();
    writer.commit().await.unwrap();
    refused(store.ping().await, StoreErrorKind::Misconfigured);
}
