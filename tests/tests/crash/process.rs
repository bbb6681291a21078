//! The process of the handler is killed, or stopped for longer than its lease.

use tests::servers::RedisServer;

use crate::support::*;

fn world() -> World {
    World::new(RedisServer::start())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_handler_is_run_again_after_its_lease() {
    let world = world();
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
        end,
    ] = &ledger[..]
    else {
        panic!("{ledger:?}")
    };
    assert_eq!((*attempt, *again), (1, 2));
    assert!(larger > fence);
    assert_eq!(downstream, same);
    assert_eq!(*end, Line::End { by: "second".to_owned(), attempt: 2, owner: "true".to_owned() });
    second.post("/retry", "hold").await.assert_replay_of(&reply);
    assert_eq!(world.runs(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_handler_stays_unknown_until_it_is_settled() {
    for (word, status) in [("executed", "replay"), ("not-executed", "fresh")] {
        let world = world();
        let (first, second) = (world.app("first"), world.app("second"));
        let cut = first.send("/refuse", "hold");
        world.lines(1).await;
        first.kill();
        assert!(cut.await.unwrap().is_none());
        second.post("/open", "").await.assert_fresh(200);
        second.post("/refuse", "hold").await.assert_problem(409, "in-flight");
        assert_eq!(second.post("/settle", word).await.text(), "NotUnknown", "it may still run");
        second.retry("/refuse", "hold").await.assert_problem(409, "outcome-unknown");
        // For good, also for a process that knows nothing of it.
        let third = world.app("third");
        third.post("/refuse", "hold").await.assert_problem(409, "outcome-unknown");
        assert_eq!(world.runs(), 1);

        assert_eq!(second.post("/settle", word).await.text(), "Applied");
        third.post("/open", "").await.assert_fresh(200);
        let reply = third.post("/refuse", "hold").await;
        if status == "replay" {
            assert!(reply.is_replay(), "{reply}");
            assert_eq!((reply.text().as_str(), world.runs()), ("found out", 1));
        } else {
            reply.assert_fresh(200);
            assert_eq!((reply.text().as_str(), world.runs()), ("third 1", 2));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_process_that_wakes_changes_nothing() {
    let world = world();
    let (first, second) = (world.app("first"), world.app("second"));
    let stopped = first.send("/retry", "hold");
    world.lines(1).await;
    first.stop();
    second.post("/open", "").await.assert_fresh(200);
    let reply = second.retry("/retry", "hold").await;
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
    let ends: Vec<_> = world.ledger().into_iter().filter(|line| matches!(line, Line::End { .. })).collect();
    let end = |by: &str, attempt, owner: &str| Line::End { by: by.to_owned(), attempt, owner: owner.to_owned() };
    assert_eq!(ends, [end("second", 2, "true"), end("first", 1, "false")]);
    assert_eq!(world.runs(), 2);
}

/// Under `refuse` nobody takes over, and the one that wakes settles it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_process_that_wakes_settles_the_unknown() {
    let world = world();
    let (first, second) = (world.app("first"), world.app("second"));
    let stopped = first.send("/refuse", "hold");
    world.lines(1).await;
    first.stop();
    second.retry("/refuse", "hold").await.assert_problem(409, "outcome-unknown");
    first.go_on();
    first.post("/open", "").await.assert_fresh(200);
    let late = stopped.await.unwrap().expect("an answer");
    late.assert_fresh(200);
    second.post("/refuse", "hold").await.assert_replay_of(&late);
    assert_eq!((world.runs(), first.get("/stale").await.as_str()), (1, "0"));
}
