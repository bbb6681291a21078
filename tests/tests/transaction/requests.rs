//! Requests that are refused before there is a transaction.

use tests::client::Ask;

use crate::{
    bank::{Bank, Database},
    on_every_database,
};

on_every_database!(
    a_request_without_a_sound_key_is_refused,
    a_body_that_cannot_be_read_does_not_burn_the_key,
    who_may_not_call_gets_no_replay,
);

/// What a handler with arguments of every kind is asked by whoever may call it.
fn ask(bank: &Bank, body: &str) -> Ask {
    bank.client.post("/typed").header("authorization", "valid").json(body.to_owned())
}

/// Asserts that nothing ran, nothing is kept, and that a sound request with the key `k` runs.
async fn assert_nothing_happened(database: &Database, bank: &Bank) {
    assert_eq!((database.entries().await, database.records().await, bank.script.runs()), (0, 0, 0));
    let first = ask(bank, "1").key("k").send().await;
    first.assert_fresh(201);
    ask(bank, "1").key("k").send().await.assert_replay_of(&first);
    assert_eq!((database.entries().await, database.records().await, bank.script.runs()), (1, 1, 1));
}

async fn a_request_without_a_sound_key_is_refused(database: Database) {
    let bank = database.bank().await;
    ask(&bank, "1").send().await.assert_problem(400, "key-missing");
    for key in ["", "a, k", "\"k", "a b"] {
        ask(&bank, "1").key(key).send().await.assert_problem(400, "key-invalid");
    }
    ask(&bank, "1").key("k").key("k").send().await.assert_problem(400, "key-invalid");
    ask(&bank, "1").key("k").without("x-account").send().await.assert_problem(400, "principal-missing");
    assert_nothing_happened(&database, &bank).await;
}

async fn a_body_that_cannot_be_read_does_not_burn_the_key(database: Database) {
    let bank = database.bank().await;
    for (body, status) in [("!", 400), ("", 400), ("-1", 422), ("\"1\"", 422), (&*" ".repeat(101), 413)] {
        let refused = ask(&bank, body).key("k").send().await;
        assert_eq!((refused.status.as_u16(), refused.is_replay()), (status, false), "`{body}`: {refused}");
    }
    assert_nothing_happened(&database, &bank).await;
}

async fn who_may_not_call_gets_no_replay(database: Database) {
    let bank = database.bank().await;
    let uninvited = || bank.client.post("/typed").key("k").json("1").send();
    assert_eq!(uninvited().await.status, 401);
    assert_nothing_happened(&database, &bank).await;
    let refused = uninvited().await;
    assert_eq!((refused.status.as_u16(), refused.is_replay(), refused.body.len()), (401, false, 0), "{refused}");
    assert_eq!(bank.script.runs(), 1);
}
