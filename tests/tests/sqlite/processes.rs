//! Several processes on one file, some of them killed.

use futures_util::future::join_all;
use idem_runtime::SqliteStore;
use tests::{
    client::{Client, Reply},
    hosts::Host,
};

use crate::Place;

const PROGRAM: &str = env!("CARGO_BIN_EXE_replica");
const HOUR: i64 = 3600;

async fn hosts(place: &Place, off_by: impl IntoIterator<Item = i64>) -> Vec<Host> {
    let store = format!("sqlite:{}", place.file().display());
    let mut hosts = Vec::new();
    for off_by in off_by {
        hosts.push(Host::start(PROGRAM, &store, off_by).await);
    }
    hosts
}

async fn runs(hosts: &[Host]) -> usize {
    let mut runs = 0;
    for host in hosts {
        runs += host.get("/runs").await.parse::<usize>().unwrap();
    }
    runs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_duplicates_over_three_processes_one_runs() {
    let place = Place::new();
    let hosts = hosts(&place, [0; 3]).await;
    for round in 0..10 {
        let key = round.to_string();
        let replies = join_all((0..45).map(|at| hosts[at % 3].post("/half-an-hour").key(&key).send())).await;
        let fresh: Vec<&Reply> = replies.iter().filter(|reply| reply.status == 201 && !reply.is_replay()).collect();
        assert_eq!(fresh.len(), 1, "round {round}");
        for reply in &replies {
            match reply.status.as_u16() {
                201 if reply.is_replay() => reply.assert_replay_of(fresh[0]),
                201 => {}
                _ => reply.assert_problem(409, "in-flight"),
            }
        }
        assert_eq!(runs(&hosts).await, round + 1);
    }
}

/// A process whose wall clock is an hour off goes by the time of the file.
#[tokio::test]
async fn processes_whose_clocks_are_an_hour_apart_agree() {
    let place = Place::new();
    let hosts = hosts(&place, [0, HOUR, -HOUR]).await;
    for (number, host) in hosts.iter().enumerate() {
        let key = number.to_string();
        let first = host.post("/half-an-hour").key(&key).body("{}").send().await;
        first.assert_fresh(201);
        host.get("/hold").await;
        let held = format!("held-{number}");
        let running = tokio::spawn(host.post("/half-an-hour").key(&held).send());
        host.get("/begun/2").await;
        for other in &hosts {
            other.post("/half-an-hour").key(&key).body("{}").send().await.assert_replay_of(&first);
            other.post("/half-an-hour").key(&held).send().await.assert_problem(409, "in-flight");
        }
        host.get("/release").await;
        running.await.unwrap().assert_fresh(201);
    }
    assert_eq!(runs(&hosts).await, 6);
}

/// SIGKILL in the middle of many requests: what was answered is there, and the file is whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_process_has_answered_is_there() {
    for round in 0..4 {
        let place = Place::new();
        let first = hosts(&place, [0]).await.pop().unwrap();
        let (answered, mut replies) = tokio::sync::mpsc::unbounded_channel();
        let ask = |lane: usize| {
            let (client, answered) = (Client::new(first.address()), answered.clone());
            // One request after the other, until nobody answers.
            async move {
                for number in 0.. {
                    let key = format!("{lane}-{number}");
                    let Ok(reply) = client.post("/half-an-hour").key(&key).try_send().await else { break };
                    answered.send((key, reply)).unwrap();
                }
            }
        };
        let lanes: Vec<_> = (0..40).map(|lane| tokio::spawn(ask(lane))).collect();
        drop(answered);
        let mut known = Vec::new();
        while known.len() < 1 + 50 * round {
            known.push(replies.recv().await.expect("an answer"));
        }
        drop(first);
        join_all(lanes).await;
        while let Some(reply) = replies.recv().await {
            known.push(reply);
        }
        let second = hosts(&place, [0]).await.pop().unwrap();
        for (key, reply) in &known {
            reply.assert_fresh(201);
            second.post("/half-an-hour").key(key).send().await.assert_replay_of(reply);
        }
        let store = SqliteStore::open(place.file()).await.unwrap();
        let whole: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(store.pool()).await.unwrap();
        assert_eq!(whole, "ok");
    }
}
