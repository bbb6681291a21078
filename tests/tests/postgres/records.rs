//! The row: its frozen layout, and what becomes of one that is not as it should be.

use idem_runtime::{
    Store,
    store::{Claimed, Complete, Outcome, Ownership, Parked, Release, Renew, Resolve, Resolved, Verdict},
};
use tests::claims::{DAY, answer, claim, complete, key, token, win};

use crate::support::*;

/// Everything but the times, which are told apart by whether they are there.
const ROW: &str = "SELECT concat_ws(' ', format, state, encode(fingerprint, 'hex'), coalesce(encode(token, 'hex'), '-'), \
     attempt, until IS NOT NULL, forget IS NOT NULL, coalesce(encode(answer, 'escape'), '-'), coalesce(answer_length, -1)) \
     FROM {t} WHERE key = ";

/// What a version that is in use somewhere has written, and this one must go on writing.
#[tokio::test]
async fn the_layout_of_a_row_is_frozen() {
    let world = World::start().await;
    let store = &world.store;
    let print = "01".repeat(32);
    let (one, nobody) = ("01".repeat(16), "-");
    let row = async |at: u32| world.text_of(&format!("{ROW} '\\x{}'", hex(key(at)))).await;

    win(store, claim(1, 1)).await;
    assert_eq!(row(1).await, format!("1 1 {print} {one} 1 t t - -1"));
    win(store, claim(2, 1).retention(None)).await;
    assert_eq!(row(2).await, format!("1 1 {print} {one} 1 t f - -1"));
    assert_eq!(store.complete(&complete(1, 1, "answer")).await.unwrap(), Ownership::Held);
    assert_eq!(row(1).await, format!("1 2 {print} {one} 1 t t answer 6"));
    let end = |at, outcome| Complete::new(key(at), token(1), outcome, DAY);
    win(store, claim(3, 1)).await;
    assert_eq!(store.complete(&end(3, Outcome::Tombstone)).await.unwrap(), Ownership::Held);
    assert_eq!(row(3).await, format!("1 3 {print} {one} 1 f t - -1"));
    win(store, claim(4, 1)).await;
    assert_eq!(store.complete(&end(4, Outcome::Unknown)).await.unwrap(), Ownership::Held);
    assert_eq!(row(4).await, format!("1 4 {print} {one} 1 f f - -1"));
    win(store, claim(5, 1)).await;
    assert_eq!(store.complete(&end(5, Outcome::Parked(answer("why")))).await.unwrap(), Ownership::Held);
    assert_eq!(row(5).await, format!("1 5 {print} {one} 1 f f why 3"));
    win(store, claim(6, 1)).await;
    assert_eq!(store.release(Release::new(key(6), token(1)).remember(DAY)).await.unwrap(), Ownership::Held);
    assert_eq!(row(6).await, format!("1 1 {print} {nobody} 1 t t - -1"));
    assert_eq!(store.release(Release::new(key(2), token(1))).await.unwrap(), Ownership::Held);
    assert_eq!(row(2).await, format!("1 6 {print} {nobody} 1 f t - -1"));
    let verdict = Verdict::Completed { answer: Some(answer("found")), ttl: DAY, remember: DAY };
    assert_eq!(store.resolve(&Resolve::new(key(4), verdict)).await.unwrap(), Resolved::Applied);
    assert_eq!(row(4).await, format!("1 2 {print} {nobody} 1 t t found 5"));
    assert_eq!(store.resolve(&Resolve::new(key(5), Verdict::NotExecuted)).await.unwrap(), Resolved::Applied);
    assert_eq!(row(5).await, format!("1 6 {print} {nobody} 1 f t - -1"));
}

/// A row as another version wrote it, word by word.
const WRITTEN: &str = "INSERT INTO {t} VALUES ('\\xKEY', FORMAT, 2, '\\x0101010101010101010101010101010101010101010101010101010101010101', \
     '\\x02020202020202020202020202020202', 1767225600000000, 3, 32503680000000000, 32503680000000000, 'answer', 6)";

#[tokio::test]
async fn a_row_of_this_layout_is_replayed_and_one_of_the_next_refused() {
    let world = World::start().await;
    let store = &world.store;
    world.run(&WRITTEN.replace("KEY", &hex(key(1))).replace("FORMAT", "1")).await;
    world.run(&WRITTEN.replace("KEY", &hex(key(2))).replace("FORMAT", "2")).await;
    assert_eq!(store.claim(claim(1, 1)).await.unwrap(), Claimed::Completed { answer: Some(answer("answer")) });
    assert_eq!(store.claim(claim(2, 1)).await.unwrap(), Claimed::Unreadable);
    // Nor does anything else touch it, and it never expires.
    world.run("UPDATE {t} SET forget = 1 WHERE format = 2").await;
    assert_eq!(store.claim(claim(2, 1)).await.unwrap(), Claimed::Unreadable);
    assert_eq!(store.expire(100).await.unwrap(), 0);
    assert_eq!(store.complete(&complete(2, 2, "other")).await.unwrap(), Ownership::Lost);
    assert_eq!(world.number("SELECT count(*) FROM {t} WHERE format = 2 AND answer = 'answer'").await, 1);
}

/// What an operator's mistake, or a broken disk, can make of a row: it is refused, and no step changes it.
#[tokio::test]
async fn damage_is_found_whatever_it_hit() {
    let world = World::start().await;
    let store = &world.store;
    let mut at = 0;
    for damage in [
        "format = 0",
        "state = 9",
        "fingerprint = substr(fingerprint, 1, 31)",
        "fingerprint = ''",
        "token = substr(token, 2)",
        "token = token || '\\x00'",
        "fence = -1",
        "fence = 9223372036854775807",
        "attempt = 0",
        "until = NULL",
        "forget = NULL",
        "answer = substr(answer, 1, 5)",
        "answer = NULL",
        "answer_length = NULL",
        "answer_length = 7",
        "state = 1",
        "state = 4",
    ] {
        at += 1;
        win(store, claim(at, 1)).await;
        assert_eq!(store.complete(&complete(at, 1, "answer")).await.unwrap(), Ownership::Held);
        let here = format!("WHERE key = '\\x{}'", hex(key(at)));
        assert_eq!(world.run(&format!("UPDATE {{t}} SET {damage} {here}")).await, 1);
        let before = world.text_of(&format!("SELECT t::text FROM {{t}} AS t {here}")).await;
        for claim in [claim(at, 1), claim(at, 2), used_with(claim(at, 2), 2)] {
            assert_eq!(store.claim(claim).await.unwrap(), Claimed::Unreadable, "{damage}");
        }
        assert_eq!(store.claim_many(&[claim(at, 3)]).await.remove(0).unwrap(), Claimed::Unreadable, "{damage}");
        assert_eq!(store.complete(&complete(at, 1, "other")).await.unwrap(), Ownership::Lost, "{damage}");
        assert_eq!(store.renew(Renew::of(&claim(at, 1))).await.unwrap(), Ownership::Lost, "{damage}");
        assert_eq!(store.release(Release::new(key(at), token(1))).await.unwrap(), Ownership::Lost, "{damage}");
        let verdict = Resolve::new(key(at), Verdict::NotExecuted);
        assert_eq!(store.resolve(&verdict).await.unwrap(), Resolved::NotUnknown, "{damage}");
        assert_eq!(world.text_of(&format!("SELECT t::text FROM {{t}} AS t {here}")).await, before, "{damage}");
    }
}

#[tokio::test]
async fn the_longest_times_there_are_do_not_overflow() {
    let world = World::start().await;
    let store = &world.store;
    let ever = leased(claim(1, 1), std::time::Duration::MAX).retention(Some(std::time::Duration::MAX));
    win(store, ever).await;
    assert!(matches!(store.claim(claim(1, 2)).await.unwrap(), Claimed::Busy { .. }));
    assert_eq!(store.renew(Renew::of(&ever)).await.unwrap(), Ownership::Held);
    let end = Complete::new(key(1), token(1), Outcome::Answer(answer("a")), std::time::Duration::MAX);
    assert_eq!(store.complete(&end).await.unwrap(), Ownership::Held);
    assert_eq!(store.claim(claim(1, 2)).await.unwrap(), Claimed::Completed { answer: Some(answer("a")) });
}

#[tokio::test]
async fn a_big_binary_answer_comes_back_byte_for_byte() {
    let world = World::start().await;
    let body: Vec<u8> = (0..3_000_000_u32).map(|at| (at * 31 % 251) as u8).collect();
    let body = idem_runtime::Answer::from_bytes(body.into());
    win(&world.store, claim(1, 1)).await;
    let end = Complete::new(key(1), token(1), Outcome::Answer(body.clone()), DAY);
    assert_eq!(world.store.complete(&end).await.unwrap(), Ownership::Held);
    assert_eq!(world.store.claim(claim(1, 2)).await.unwrap(), Claimed::Completed { answer: Some(body) });
}

#[tokio::test]
async fn parked_records_are_listed_page_by_page() {
    let world = World::start().await;
    let store = &world.store;
    let batch: Vec<_> = (0..250).map(|at| claim(at, 1)).collect();
    for claimed in store.claim_many(&batch).await {
        assert!(is_won(&claimed.unwrap()));
    }
    for at in 0..250 {
        let outcome = if at % 5 == 0 { Outcome::Tombstone } else { Outcome::Parked(answer("why")) };
        assert_eq!(store.complete(&Complete::new(key(at), token(1), outcome, DAY)).await.unwrap(), Ownership::Held);
    }
    let (mut page, mut seen) = (Parked::first(30), Vec::new());
    loop {
        let records = store.parked(page).await.unwrap();
        seen.extend(records.iter().map(|record| record.key));
        match records.last() {
            Some(last) if records.len() == 30 => page = page.after(last.key),
            _ => break,
        }
    }
    let parked: Vec<_> = (0..250).filter(|at| at % 5 != 0).map(key).collect();
    assert_eq!(seen, parked);
}
