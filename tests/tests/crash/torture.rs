//! A process killed in the middle of many requests, wherever each of them stands.

use futures_util::future::join_all;
use tests::client::Reply;

use crate::support::*;

on_stores!([sqlite redis postgres tiered]: [
    nothing_runs_twice_that_may_not
    everything_runs_to_its_end_that_may_run_again
]);
on_stores!([sqlite postgres tiered]: [every_row_has_its_record]);

/// How many requests a process gets before it is killed.
const KEYS: usize = 24;

/// How much a process has written down when it is killed.
const MOMENTS: [usize; 4] = [1, 8, 17, 30];

/// A request to a process that was killed, what it answered, and what another one answers to the same.
struct Cut {
    key: String,
    first: Option<Reply>,
    retry: Reply,
}

/// Kills a process at each of the moments, and asks another for everything they were asked.
async fn killed(world: &World, path: &str) -> (App, Vec<Cut>) {
    let mut sent = Vec::new();
    for moment in MOMENTS {
        let name = format!("life-{moment}");
        let (app, before) = (world.app(&name), world.ledger().len());
        // The first one stands in its handler, the others come and go.
        let held = format!("hold-{moment}");
        let mut requests = vec![(app.send_as(&held, path, &held), held)];
        world.lines(before + 1).await;
        for number in 1..KEYS {
            let key = format!("{moment}-{number}");
            requests.push((app.send_as(&key, path, &key), key));
        }
        world.lines(before + moment).await;
        app.kill();
        sent.extend(requests);
    }
    let last = world.app("last");
    last.post("/open", "").await.assert_fresh(200);
    let cut = join_all(sent.into_iter().map(|(first, key)| {
        let last = &last;
        async move {
            let first = first.await.unwrap().filter(|first| first.status == 200);
            Cut { first, retry: last.retry_as(&key, path, &key).await, key }
        }
    }))
    .await;
    assert_eq!(cut.len(), KEYS * MOMENTS.len());
    (last, cut)
}

/// The attempts that began under each key, and those that ended.
fn attempts(lines: Option<&Vec<Line>>) -> (Vec<u32>, Vec<u32>) {
    let (mut begun, mut ended) = (Vec::new(), Vec::new());
    for line in lines.into_iter().flatten() {
        match line {
            Line::Begin { attempt, .. } => begun.push(*attempt),
            Line::End { attempt, .. } => ended.push(*attempt),
        }
    }
    (begun, ended)
}

async fn nothing_runs_twice_that_may_not(world: World) {
    let (_last, cut) = killed(&world, "/refuse").await;
    let ledger = world.ledger_by_body();
    let mut unknown = 0;
    for Cut { key, first, retry } in &cut {
        let (begun, ended) = attempts(ledger.get(key));
        match first {
            Some(first) => retry.assert_replay_of(first),
            None if retry.status == 409 => {
                retry.assert_problem(409, "outcome-unknown");
                unknown += 1;
            }
            None => assert_eq!(retry.status, 200, "{retry}"),
        }
        assert!(matches!(begun[..], [] | [1]) && matches!(ended[..], [] | [1]), "{key}: {begun:?} {ended:?}");
        assert!(retry.status == 409 || ended == [1], "{key}: who answers has run");
    }
    assert!(unknown >= MOMENTS.len(), "one at least of each life was killed in its handler");
}

async fn everything_runs_to_its_end_that_may_run_again(world: World) {
    let (last, cut) = killed(&world, "/retry").await;
    let ledger = world.ledger_by_body();
    let mut again = 0;
    for Cut { key, first, retry } in &cut {
        assert_eq!(retry.status, 200, "{retry}");
        let (begun, ended) = attempts(ledger.get(key));
        // One that was killed between its claim and its first line has left no line.
        assert!(matches!(begun[..], [1] | [2] | [1, 2]), "{key}: {begun:?}");
        assert!(ended.last() == begun.last(), "{key}: {begun:?} {ended:?}");
        if let Some(first) = first {
            retry.assert_replay_of(first);
            assert_eq!((begun, ended), (vec![1], vec![1]), "{key}: it was answered");
        } else if begun.len() > 1 {
            again += 1;
        }
        let replay = last.retry_as(key, "/retry", key).await;
        assert_eq!((replay.is_replay(), replay.text()), (true, retry.text()));
    }
    assert!(again >= MOMENTS.len(), "one at least of each life was killed in its handler");
    assert_eq!(world.ledger_by_body(), ledger);
}

/// The process is killed once so many rows are there, and not one more is waited for.
async fn every_row_has_its_record(world: World) {
    let last = world.app("last");
    let mut sent = Vec::new();
    for moment in [1, 4, 9, 15, 20] {
        let (app, before) = (world.app(&format!("life-{moment}")), last.effects().await.len());
        for number in 0..KEYS {
            let key = format!("{moment}-{number}");
            sent.push((app.send_as(&key, "/transact", &key), key));
        }
        last.effects_by(before + moment).await;
        app.kill();
    }
    let (mut answered, mut cut) = (0, 0);
    let mut replies = Vec::new();
    for (first, key) in sent {
        let first = first.await.unwrap().filter(|first| first.status == 200);
        let reply = last.until(&key, "/transact", &key, |reply| reply.status == 200).await;
        if let Some(first) = first {
            reply.assert_replay_of(&first);
            answered += 1;
        } else if !reply.is_replay() {
            cut += 1;
        }
        replies.push((key, reply));
    }
    assert!(answered > 0 && cut > 0, "{answered} were answered, {cut} cut");
    let effects = last.effects().await;
    assert_eq!(effects.len(), replies.len());
    for (key, reply) in replies {
        assert_eq!(effects[&key], [reply.text()], "{key}: one row, by who answers");
    }
}
