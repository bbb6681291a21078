//! The process is killed at each step of an operation, from before its claim to before its answer.

use std::collections::HashMap;

use futures_util::future::join_all;
use tests::{
    client::Reply,
    stops::{LEASE_STEPS, TRANSACTION_STEPS},
};

use crate::support::*;

/// How many operations stand at the step when the process is killed.
const KEYS: usize = 3;

const RULES: [&str; 3] = ["/retry", "/refuse", "/recover"];

/// How often each step is died at.
const LEASE_ROUNDS: usize = 2;
const TRANSACTION_ROUNDS: usize = 2;

const LEASE_KILLS: usize = LEASE_ROUNDS * RULES.len() * LEASE_STEPS.len();
const TRANSACTION_KILLS: usize = TRANSACTION_ROUNDS * TRANSACTION_STEPS.len();

/// On four stores, three of which have transactions. Each test counts what it does of them.
const _: () = assert!(4 * LEASE_KILLS + 3 * TRANSACTION_KILLS >= 200);

on_stores!([sqlite redis postgres tiered]: [ledger_and_record_agree_under_a_lease]);
on_stores!([sqlite postgres tiered]: [row_and_record_agree_in_a_transaction]);

/// A process that died at a step, and the keys it had.
struct Life {
    name: String,
    path: &'static str,
    step: &'static str,
    keys: Vec<String>,
}

/// What a retry comes to once the lease is out.
#[derive(Debug, PartialEq)]
enum Then {
    Runs(u32),
    Replays,
    Unknown,
}

async fn ledger_and_record_agree_under_a_lease(world: World) {
    let mut lives = Vec::new();
    for round in 0..LEASE_ROUNDS {
        for path in RULES {
            for step in LEASE_STEPS {
                let life = Life::new(path, step, round);
                life.live(&world, KEYS).await;
                lives.push(life);
            }
        }
    }
    assert_eq!(lives.len(), LEASE_KILLS, "as many kills as are promised");

    let last = &world.app("last");
    let replies: HashMap<&str, Reply> = join_all(lives.iter().flat_map(|Life { path, keys, .. }| {
        keys.iter().map(move |key| async move { (&**key, last.retry_as(key, path, key).await) })
    }))
    .await
    .into_iter()
    .collect();
    let ledger = world.ledger_by_body();
    for life in &lives {
        for key in &life.keys {
            life.check(&replies[&**key], ledger.get(key).map_or(&[], Vec::as_slice));
            let again = last.retry_as(key, life.path, key).await;
            match life.then() {
                Then::Runs(_) | Then::Replays => {
                    assert_eq!((again.is_replay(), again.text()), (true, replies[&**key].text()));
                }
                Then::Unknown => life.assert_unknown(&again),
            }
        }
    }
    assert_eq!(world.ledger_by_body(), ledger, "a second retry does nothing");
}

impl Life {
    fn new(path: &'static str, step: &'static str, round: usize) -> Self {
        let name = format!("{}-{step}-{round}", path.trim_start_matches('/'));
        let keys = (0..KEYS).map(|key| format!("{name}-{key}")).collect();
        Self { name, path, step, keys }
    }

    /// Until its end, at the step that so many came to.
    async fn live(&self, world: &World, many: usize) {
        let app = world.app(&self.name);
        app.stop_at(self.step).await;
        let cut: Vec<_> = self.keys.iter().map(|key| app.send_as(key, self.path, key)).collect();
        app.stopped_at(self.step, many).await;
        app.kill();
        for reply in join_all(cut).await {
            assert!(reply.unwrap().is_none(), "nobody answers for {}", self.name);
        }
    }

    fn then(&self) -> Then {
        match (self.step, self.path) {
            ("claim", _) => Then::Runs(1),
            ("completed", _) => Then::Replays,
            (_, "/retry") => Then::Runs(2),
            (_, "/refuse") => Then::Unknown,
            // The ledger is asked: of one that has not begun it knows, of one that is done too, of one in between it does not.
            ("claimed", _) => Then::Runs(1),
            ("begun", _) => Then::Unknown,
            _ => Then::Replays,
        }
    }

    /// Where a function is asked, it may know more the next time.
    fn assert_unknown(&self, reply: &Reply) {
        match self.path {
            "/recover" => reply.assert_problem_for_now(409, "outcome-unknown"),
            _ => reply.assert_problem(409, "outcome-unknown"),
        }
    }

    /// Whether the answer to the retry is what the ledger says, and both what they must be.
    fn check(&self, reply: &Reply, lines: &[Line]) {
        let Self { name, step, .. } = self;
        let then = self.then();
        let mine = format!("{name} 1");
        let (mut begins, mut ends) = (Vec::new(), Vec::new());
        if !matches!(*step, "claim" | "claimed") {
            begins.push(mine.clone());
        }
        if matches!(*step, "done" | "complete" | "completed") {
            ends.push(mine.clone());
        }
        match then {
            Then::Runs(attempt) => {
                reply.assert_fresh(200);
                assert_eq!(reply.text(), format!("last {attempt}"), "{name}");
                begins.push(format!("last {attempt}"));
                ends.push(format!("last {attempt}"));
            }
            Then::Replays => assert_eq!((reply.is_replay(), reply.text()), (true, mine), "{name}: {reply}"),
            Then::Unknown => self.assert_unknown(reply),
        }

        let (mut begun, mut ended, mut fences, mut downstreams) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for line in lines {
            match line {
                Line::Begin { by, attempt, fence, downstream, .. } => {
                    begun.push(format!("{by} {attempt}"));
                    fences.push(*fence);
                    downstreams.push(downstream);
                }
                Line::End { by, attempt, owner, downstream, .. } => {
                    assert_eq!(owner, "true", "{name}: {line:?}");
                    ended.push(format!("{by} {attempt}"));
                    downstreams.push(downstream);
                }
            }
        }
        assert_eq!((begun, ended), (begins, ends), "{name}");
        assert!(fences.is_sorted_by(|first, second| first < second), "{name}: {lines:?}");
        downstreams.dedup();
        assert!(downstreams.len() <= 1, "one key for the provider, whoever tries: {lines:?}");
    }
}

async fn row_and_record_agree_in_a_transaction(world: World) {
    let mut lives = Vec::new();
    for round in 0..TRANSACTION_ROUNDS {
        for step in TRANSACTION_STEPS {
            let life = Life::new("/transact", step, round);
            // A file has one transaction that writes: the others wait for it to begin theirs.
            let alone = world.url.starts_with("sqlite:") && !matches!(step, "begin" | "committed");
            life.live(&world, if alone { 1 } else { KEYS }).await;
            lives.push(life);
        }
    }
    assert_eq!(lives.len(), TRANSACTION_KILLS, "as many kills as are promised");

    let last = world.app("last");
    let before = last.effects().await;
    for Life { name, step, keys, .. } in &lives {
        for key in keys {
            let reply = last.retry_as(key, "/transact", key).await;
            if *step == "committed" {
                assert_eq!(before.get(key), Some(&vec![format!("{name} 1")]), "the row is there");
                assert_eq!((reply.is_replay(), reply.text()), (true, format!("{name} 1")), "and so is the record");
            } else {
                assert_eq!(before.get(key), None, "the row is not there");
                reply.assert_fresh(200);
                assert_eq!(reply.text(), "last 1", "nor is the record");
            }
            let again = last.retry_as(key, "/transact", key).await;
            assert_eq!((again.is_replay(), again.text()), (true, reply.text()));
        }
    }
    let after = last.effects().await;
    assert_eq!(after.len(), TRANSACTION_KILLS * KEYS);
    for Life { name, step, keys, .. } in &lives {
        let run = if *step == "committed" { format!("{name} 1") } else { "last 1".to_owned() };
        for key in keys {
            assert_eq!(after[key], [&*run], "{key}: one row, by who answers");
        }
    }
}
