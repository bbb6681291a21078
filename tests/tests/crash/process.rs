//! The process of the handler is killed, or stopped for longer than its lease.

use crate::support::*;

on_stores!([sqlite postgres tiered]: [a_process_stopped_in_its_transaction_is_waited_for]);
on_stores!([sqlite redis postgres tiered]: [
    a_killed_handler_is_run_again_after_its_lease
    a_killed_handler_that_took_effect_is_unknown_until_somebody_says_so
    a_killed_handler_that_did_nothing_is_unknown_until_somebody_says_so
    a_killed_handler_is_recovered_by_what_the_provider_knows
    a_stopped_process_that_wakes_changes_nothing
    a_stopped_process_that_wakes_and_fails_frees_nothing
    a_stopped_process_that_wakes_settles_the_unknown
]);

async fn a_killed_handler_is_run_again_after_its_lease(world: World) {
    let (first, second) = (world.app("first"), world.app("second"));
    let cut = first.send("/retry", "hold");
    world.lines(1).await;
    first.kill();
    assert!(cut.await.unwrap().is_none(), "nobody answers for it");
    second.post("/open", "").await.assert_fresh(200);
    second.post("/retry", "hold").await.assert_problem(409, "in-flight");
    assert_eq!(world.runs(), 1, "its lease holds");

    let reply = second.retry("/retry", "hold").await;
    reply.assert_fresh(200);
    assert_eq!(reply.text(), "second 2");
    let ledger = world.ledger();
    let [
        Line::Begin { attempt, fence, downstream, .. },
        Line::Begin { attempt: again, fence: larger, downstream: same, .. },
        Line::End { by, attempt: last, owner, .. },
    ] = &ledger[..]
    else {
        panic!("{ledger:?}")
    };
    assert_eq!((*attempt, *again), (1, 2));
    assert!(larger > fence);
    assert_eq!(downstream, same);
    assert_eq!((&**by, *last, &**owner), ("second", 2, "true"));
    second.post("/retry", "hold").await.assert_replay_of(&reply);
    assert_eq!(world.runs(), 2);
}

/// A handler that was killed, as an operator finds it: unknown for good, also for a process that knows nothing of it.
async fn unknown(world: &World) -> App {
    let (first, second) = (world.app("first"), world.app("second"));
    let cut = first.send("/refuse", "hold");
    world.lines(1).await;
    first.kill();
    assert!(cut.await.unwrap().is_none());
    second.post("/open", "").await.assert_fresh(200);
    second.post("/refuse", "hold").await.assert_problem(409, "in-flight");
    assert_eq!(second.post("/settle", "executed").await.text(), "NotUnknown", "it may still run");
    second.retry("/refuse", "hold").await.assert_problem(409, "outcome-unknown");
    let third = world.app("third");
    third.post("/refuse", "hold").await.assert_problem(409, "outcome-unknown");
    third.post("/open", "").await.assert_fresh(200);
    assert_eq!(world.runs(), 1);
    third
}

async fn a_killed_handler_that_took_effect_is_unknown_until_somebody_says_so(world: World) {
    let app = unknown(&world).await;
    assert_eq!(app.post("/settle", "executed").await.text(), "Applied");
    let reply = app.post("/refuse", "hold").await;
    assert!(reply.is_replay(), "{reply}");
    assert_eq!((reply.text().as_str(), world.runs()), ("found out", 1));
}

async fn a_killed_handler_that_did_nothing_is_unknown_until_somebody_says_so(world: World) {
    let app = unknown(&world).await;
    assert_eq!(app.post("/settle", "not-executed").await.text(), "Applied");
    let reply = app.post("/refuse", "hold").await;
    reply.assert_fresh(200);
    assert_eq!((reply.text().as_str(), world.runs()), ("third 1", 2));
}

/// Which at first cannot tell, then can.
async fn a_killed_handler_is_recovered_by_what_the_provider_knows(world: World) {
    let (first, second) = (world.app("first"), world.app("second"));
    let cut = first.send("/recover", "hold");
    let [Line::Begin { downstream, .. }] = &world.lines(1).await[..] else { panic!("not one line") };
    first.kill();
    assert!(cut.await.unwrap().is_none());
    second.post("/open", "").await.assert_fresh(200);
    second.retry("/recover", "hold").await.assert_problem_for_now(409, "outcome-unknown");
    second.post("/recover", "hold").await.assert_problem_for_now(409, "outcome-unknown");

    world.write(&format!("end first 1 true {downstream} hold"));
    let reply = second.post("/recover", "hold").await;
    assert_eq!((reply.is_replay(), reply.text().as_str(), world.runs()), (true, "first 1", 1), "{reply}");
    second.post("/recover", "hold").await.assert_replay_of(&reply);
}

async fn a_stopped_process_that_wakes_changes_nothing(world: World) {
    let (first, second) = (world.app("first"), world.app("second"));
    let stopped = first.send("/retry", "hold");
    world.lines(1).await;
    second.post("/open", "").await.assert_fresh(200);
    let reply = first.retried_while_stopped(&second, "/retry", "hold").await;
    reply.assert_fresh(200);
    assert_eq!(reply.text(), "second 2");

    first.go_on();
    first.post("/open", "").await.assert_fresh(200);
    // Its own client is told what its own run did; the record keeps what the second one did.
    let late = stopped.await.unwrap().expect("an answer");
    late.assert_fresh(200);
    assert_eq!(late.text(), "first 1");
    assert_eq!(first.post("/drain", "").await.status, 200);
    for app in [&first, &second] {
        app.post("/retry", "hold").await.assert_replay_of(&reply);
    }
    assert_eq!((first.get("/stale").await, second.get("/stale").await), ("1".to_owned(), "0".to_owned()));
    let ends = world.ledger().into_iter().filter_map(|line| match line {
        Line::End { by, attempt, owner, .. } => Some(format!("{by} {attempt} {owner}")),
        Line::Begin { .. } => None,
    });
    assert_eq!(ends.collect::<Vec<_>>(), ["second 2 true", "first 1 false"]);
    assert_eq!(world.runs(), 2);
}

/// It would free the key, which is another's by now.
async fn a_stopped_process_that_wakes_and_fails_frees_nothing(world: World) {
    const BODY: &str = "hold-fails-first";
    let (first, second) = (world.app("first"), world.app("second"));
    let stopped = first.send("/retry", BODY);
    world.lines(1).await;
    second.post("/open", "").await.assert_fresh(200);
    let reply = first.retried_while_stopped(&second, "/retry", BODY).await;
    reply.assert_fresh(200);
    assert_eq!(reply.text(), "second 2");

    first.go_on();
    first.post("/open", "").await.assert_fresh(200);
    // Its own client is told what its own run came to.
    stopped.await.unwrap().expect("an answer").assert_fresh(500);
    assert!(first.post("/drain", "").await.text().contains("finished: true"));
    for app in [&first, &second] {
        app.post("/retry", BODY).await.assert_replay_of(&reply);
    }
    assert_eq!((first.get("/stale").await, second.get("/stale").await), ("1".to_owned(), "0".to_owned()));
    assert_eq!(world.runs(), 2);
}

/// Under `refuse` nobody takes over, and the one that wakes settles it.
async fn a_stopped_process_that_wakes_settles_the_unknown(world: World) {
    let (first, second) = (world.app("first"), world.app("second"));
    let stopped = first.send("/refuse", "hold");
    world.lines(1).await;
    first.retried_while_stopped(&second, "/refuse", "hold").await.assert_problem(409, "outcome-unknown");
    first.go_on();
    first.post("/open", "").await.assert_fresh(200);
    let late = stopped.await.unwrap().expect("an answer");
    late.assert_fresh(200);
    second.post("/refuse", "hold").await.assert_replay_of(&late);
    assert_eq!((world.runs(), first.get("/stale").await.as_str()), (1, "0"));
}

/// There is no lease that could run out: whoever asks waits for the transaction as long as a lock is waited for, and never runs.
async fn a_process_stopped_in_its_transaction_is_waited_for(world: World) {
    let (first, second) = (world.app("first"), world.app("second"));
    first.stop_at("done").await;
    let stopped = first.send("/transact", "hold");
    first.post("/open", "").await.assert_fresh(200);
    first.stopped_at("done", 1).await;
    first.stop();
    second.post("/open", "").await.assert_fresh(200);
    second.post("/transact", "hold").await.assert_problem(409, "in-flight");
    first.kill();
    assert!(stopped.await.unwrap().is_none());
    let reply = second.retry("/transact", "hold").await;
    reply.assert_fresh(200);
    assert_eq!(reply.text(), "second 1");
    assert_eq!(second.effects().await["hold"], ["second 1"]);
}
