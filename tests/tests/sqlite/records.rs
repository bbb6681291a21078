//! The rows, as they are frozen.

use std::time::Duration;

use idem_runtime::{
    Clock, SqliteStore, Store,
    store::{Claimed, Complete, Fence, Outcome, Ownership, Parked, Release, Resolve, Resolved, Verdict},
};
use sqlx::Row;
use tests::claims::*;

use crate::Place;

const T: i64 = 1_767_225_600_000_000;

/// Puts a row behind the store's back, with the key and the fingerprint of `claim(at, _)`.
async fn insert(store: &SqliteStore, at: u32, columns: &str, values: &str) {
    let statement = format!("INSERT INTO idem_records (key, fingerprint, {columns}) VALUES (?1, ?2, {values})");
    let query = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(key(at).as_bytes().to_vec());
    query.bind(fingerprint(1).as_bytes().to_vec()).execute(store.pool()).await.unwrap();
}

const COLUMNS: &str = "format, state, token, fence, attempt, until, forget, length, answer";
const TOKEN: &str = "x'09090909090909090909090909090909'";

#[tokio::test]
async fn rows_of_format_1_are_read() {
    let place = Place::new();
    let store = place.open().await;
    let fence = Fence::new(42);
    let (hour, minute) = (T + 3_600_000_000, T + 60_000_000);
    let yes = answer("yes");
    let rows = [
        (
            format!("1, 1, {TOKEN}, 42, 3, {minute}, {hour}, NULL, NULL"),
            Claimed::Busy { retry_after: Duration::from_secs(60) },
        ),
        (
            format!("1, 1, {TOKEN}, 42, 3, {minute}, NULL, NULL, NULL"),
            Claimed::Busy { retry_after: Duration::from_secs(60) },
        ),
        (
            format!("1, 2, {TOKEN}, 42, 3, {minute}, {hour}, 3, x'796573'"),
            Claimed::Completed { answer: Some(yes.clone()) },
        ),
        (format!("1, 2, NULL, 42, 3, {T}, {hour}, 3, x'796573'"), Claimed::Completed { answer: None }),
        (format!("1, 3, {TOKEN}, 42, 3, NULL, {hour}, NULL, NULL"), Claimed::Completed { answer: None }),
        (format!("1, 4, {TOKEN}, 42, 3, NULL, NULL, NULL, NULL"), Claimed::Unknown { fence, attempt: 3 }),
        (format!("1, 5, {TOKEN}, 42, 3, NULL, NULL, 3, x'796573'"), Claimed::Parked { note: yes, fence, attempt: 3 }),
        // Past its time.
        (
            format!("1, 3, {TOKEN}, 42, 3, NULL, {T}, NULL, NULL"),
            Claimed::Won { fence: Fence::new(T as u64), attempt: 1 },
        ),
        // Nobody's: the next attempt.
        (
            format!("1, 1, NULL, 42, 3, {T}, {hour}, NULL, NULL"),
            Claimed::Won { fence: Fence::new(T as u64 + 1), attempt: 4 },
        ),
    ];
    for (at, (values, claimed)) in (0..).zip(rows) {
        insert(&store, at, COLUMNS, &values).await;
        assert_eq!(store.claim(claim(at, 1)).await.unwrap(), claimed, "{values}");
    }
}

#[tokio::test]
async fn rows_of_another_format_and_broken_ones_are_refused() {
    let place = Place::new();
    let store = place.open().await;
    let hour = T + 3_600_000_000;
    let rows = [
        format!("2, 2, {TOKEN}, 42, 3, {hour}, {hour}, 3, x'796573'"),
        format!("0, 2, {TOKEN}, 42, 3, {hour}, {hour}, 3, x'796573'"),
        format!("2, 9, NULL, 0, 0, NULL, {T}, NULL, NULL"),
        format!("1, 2, {TOKEN}, 42, 3, {hour}, {hour}, 3, x'7965'"),
        format!("1, 2, {TOKEN}, 42, 3, {hour}, {hour}, NULL, x'796573'"),
        format!("1, 2, x'0909', 42, 3, {hour}, {hour}, 3, x'796573'"),
        format!("1, 6, {TOKEN}, 42, 3, {hour}, {hour}, NULL, NULL"),
        format!("1, 1, {TOKEN}, 42, 3, NULL, {hour}, NULL, NULL"),
        format!("1, 1, {TOKEN}, -42, 3, {hour}, {hour}, NULL, NULL"),
    ];
    for (at, values) in (0..).zip(&rows) {
        insert(&store, at, COLUMNS, values).await;
        let claim = claim(at, 9);
        assert_eq!(store.claim(claim).await.unwrap(), Claimed::Unreadable, "{values}");
        assert_eq!(store.claim_many(&[claim]).await.pop().unwrap().unwrap(), Claimed::Unreadable, "{values}");
        assert_eq!(store.complete(&complete(at, 9, "mine")).await.unwrap(), Ownership::Lost, "{values}");
        assert_eq!(store.release(Release::new(key(at), token(9))).await.unwrap(), Ownership::Lost, "{values}");
        let resolved = store.resolve(&Resolve::new(key(at), Verdict::NotExecuted)).await.unwrap();
        assert_eq!(resolved, Resolved::NotUnknown, "{values}");
    }
}

/// The columns of the one row of this key, as SQLite spells them.
async fn row(store: &SqliteStore, at: u32) -> String {
    let statement = "SELECT concat_ws(' ', hex(key), format, state, hex(fingerprint), quote(token), fence, attempt, \
                     quote(until), quote(forget), quote(length), quote(answer)) FROM idem_records WHERE key = ?1";
    let row = sqlx::query(statement).bind(key(at).as_bytes().to_vec()).fetch_one(store.pool()).await.unwrap();
    let (row, whole): (String, _) = (row.get(0), |byte: u8, many| format!("{byte:02X}").repeat(many));
    let key = format!("{at:08X}{}", whole(0xab, 28));
    let row = row.strip_prefix(&key).unwrap_or_else(|| panic!("the key of {row}"));
    row.replace(&whole(1, 32), "PRINT").replace(&whole(7, 16), "SEVEN").trim().to_owned()
}

#[tokio::test]
async fn rows_are_written_as_format_1() {
    let place = Place::new();
    let store = place.open().await;
    let (fence, lease, day) = (T, T + 30_000_000, 86_400_000_000_i64);
    win(&store, claim(1, 7)).await;
    assert_eq!(row(&store, 1).await, format!("1 1 PRINT X'SEVEN' {fence} 1 {lease} {} NULL NULL", lease + day));
    win(&store, claim(2, 7).retention(None)).await;
    assert_eq!(row(&store, 2).await, format!("1 1 PRINT X'SEVEN' {} 1 {lease} NULL NULL NULL", fence + 1));
    let ttl = |outcome| Complete::new(key(1), token(7), outcome, DAY).remember(2 * DAY);
    assert_eq!(store.complete(&ttl(Outcome::Unknown)).await.unwrap(), Ownership::Held);
    assert_eq!(row(&store, 1).await, format!("1 4 PRINT X'SEVEN' {fence} 1 NULL NULL NULL NULL"));
    assert_eq!(store.complete(&ttl(Outcome::Answer(answer("yes")))).await.unwrap(), Ownership::Held);
    // Time is never before a fence.
    let now = i64::try_from(place.clock.now()).unwrap() + 1;
    assert_eq!(
        row(&store, 1).await,
        format!("1 2 PRINT X'SEVEN' {fence} 1 {} {} 3 X'796573'", now + day, now + 2 * day)
    );
    let parked = Complete::new(key(2), token(7), Outcome::Parked(answer("why")), DAY);
    assert_eq!(store.complete(&parked).await.unwrap(), Ownership::Held);
    assert_eq!(row(&store, 2).await, format!("1 5 PRINT X'SEVEN' {} 1 NULL NULL 3 X'776879'", fence + 1));
    let verdict = Verdict::Completed { answer: None, ttl: DAY, remember: DAY };
    assert_eq!(store.resolve(&Resolve::new(key(2), verdict)).await.unwrap(), Resolved::Applied);
    assert_eq!(row(&store, 2).await, format!("1 3 PRINT NULL {} 1 NULL {} NULL NULL", fence + 1, now + day));
    win(&store, claim(3, 7)).await;
    assert_eq!(store.release(Release::new(key(3), token(7)).remember(DAY)).await.unwrap(), Ownership::Held);
    assert_eq!(row(&store, 3).await, format!("1 1 PRINT NULL {} 1 {} {} NULL NULL", fence + 2, now + 1, now + 1 + day));
}

#[tokio::test]
async fn parked_records_are_listed_in_pages() {
    let place = Place::new();
    let store = place.open().await;
    for at in [5, 3, 1, 4, 2, 6] {
        win(&store, claim(at, 1)).await;
        let parked = Complete::new(key(at), token(1), Outcome::Parked(answer("why")), DAY);
        assert_eq!(store.complete(&parked).await.unwrap(), Ownership::Held);
    }
    // One that cannot be read does not end the list.
    sqlx::query("UPDATE idem_records SET format = 2 WHERE key = ?1")
        .bind(key(2).as_bytes().to_vec())
        .execute(store.pool())
        .await
        .unwrap();
    place.clock.advance(400 * DAY);
    let (mut page, mut found) = (Parked::first(2), Vec::new());
    loop {
        let records = store.parked(page).await.unwrap();
        found.extend(records.iter().map(|record| (record.key, record.note.clone(), record.attempt)));
        match records.last() {
            Some(last) if records.len() == 2 => page = Parked::first(2).after(last.key),
            _ => break,
        }
    }
    assert_eq!(found, [1, 3, 4, 5, 6].map(|at| (key(at), answer("why"), 1)));
    assert_eq!(store.parked(Parked::first(0)).await.unwrap(), []);
    assert_eq!(store.parked(Parked::first(usize::MAX)).await.unwrap().len(), 5);
}
