//! A process killed in the middle of many requests, wherever each of them stands.

use std::collections::HashMap;

use futures_util::future::join_all;
use tests::{client::Reply, servers::RedisServer};

use crate::support::*;

const KEYS: usize = 24;

/// The first one stands in its handler, the others come and go.
fn body(key: usize) -> &'static str {
    if key == 0 { "hold" } else { "" }
}

/// Kills a process once its ledger has so many lines, and asks another for every key.
async fn killed_after(lines: usize, path: &'static str) -> (World, App, Vec<(Option<Reply>, Reply)>) {
    let world = World::new(RedisServer::start());
    let (first, second) = (world.app("first"), world.app("second"));
    second.post("/open", "").await.assert_fresh(200);
    let mut sent = vec![first.send_as("0", path, body(0))];
    world.lines(1).await;
    sent.extend((1..KEYS).map(|key| first.send_as(&key.to_string(), path, body(key))));
    world.lines(lines).await;
    first.kill();
    let first_replies = join_all(sent).await.into_iter().map(|reply| reply.unwrap());
    let retries = (0..KEYS).map(|key| {
        let second = &second;
        async move { second.retry_as(&key.to_string(), path, body(key)).await }
    });
    let replies = first_replies.zip(join_all(retries).await).collect();
    (world, second, replies)
}

/// How often each operation began, and how often it ended.
fn runs(world: &World) -> HashMap<String, Vec<u32>> {
    let mut runs: HashMap<String, Vec<u32>> = HashMap::new();
    for line in world.ledger() {
        if let Line::Begin { attempt, downstream, .. } = line {
            runs.entry(downstream).or_default().push(attempt);
        }
    }
    runs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_runs_twice_that_may_not() {
    for lines in [1, 5, 12, 20, 30] {
        let (world, _second, replies) = killed_after(lines, "/refuse").await;
        let mut unknown = 0;
        for (first, retry) in &replies {
            match first.as_ref().filter(|first| first.status == 200) {
                Some(first) => retry.assert_replay_of(first),
                None if retry.status == 409 => {
                    retry.assert_problem(409, "outcome-unknown");
                    unknown += 1;
                }
                None => assert_eq!(retry.status, 200, "{retry}"),
            }
        }
        for (operation, attempts) in runs(&world) {
            assert_eq!(attempts, [1], "{operation} with {lines} lines");
        }
        assert!(unknown > 0, "one at least was killed in its handler");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_runs_to_its_end_that_may_run_again() {
    for lines in [1, 5, 12, 20, 30] {
        let (world, second, replies) = killed_after(lines, "/retry").await;
        let mut answered = 0;
        for (first, retry) in &replies {
            assert_eq!(retry.status, 200, "{retry}");
            if let Some(first) = first.as_ref().filter(|first| first.status == 200) {
                retry.assert_replay_of(first);
                answered += 1;
            }
        }
        let runs = runs(&world);
        assert_eq!(runs.len(), KEYS, "every key ran, one operation each");
        let again = runs.values().filter(|attempts| attempts.len() > 1).count();
        assert!((1..=KEYS - answered).contains(&again), "{again} ran again, {answered} were answered before");
        for attempts in runs.values() {
            // One that was killed between its claim and its first line has left no line.
            assert!(matches!(attempts[..], [1] | [2] | [1, 2]), "{attempts:?}");
        }
        for key in 0..KEYS {
            assert!(second.retry_as(&key.to_string(), "/retry", body(key)).await.is_replay());
        }
    }
}
