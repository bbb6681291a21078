//! Redis itself is killed, or stands still.

use std::time::{Duration, Instant};

use tests::servers::RedisServer;

use crate::support::*;

/// The time-out of a command that the store has by itself, and what a store in trouble may cost beyond it.
const BUDGET: Duration = Duration::from_millis(500 + 300);

/// As it comes: a restart forgets everything.
fn blank() -> World {
    World::new(RedisServer::start())
}

/// A restart forgets nothing.
fn durable() -> World {
    World::new(RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_without_redis_is_refused_in_time() {
    for (dies, path) in [(true, "/retry"), (true, "/refuse"), (false, "/retry"), (false, "/refuse")] {
        let mut world = blank();
        let app = world.app("app");
        app.post("/open", "").await.assert_fresh(200);
        if dies {
            world.redis.kill();
        } else {
            world.redis.pause();
        }
        // The best of several, for this machine may have other things to do.
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let began = Instant::now();
            app.post(path, "").await.assert_problem(503, "store-unavailable");
            best = best.min(began.elapsed());
        }
        assert!(best <= BUDGET, "{best:?}");
        assert_eq!(world.runs(), 0);
        if dies {
            world.redis.restart();
        } else {
            world.redis.resume();
        }
        // What may have been claimed without an answer is given back.
        assert!(app.post("/drain", "").await.text().contains("finished: true"));
        let reply = app.retry(path, "").await;
        reply.assert_fresh(200);
        assert_eq!((reply.text().as_str(), world.runs()), ("app 1", 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_killed_after_the_effect_makes_nothing_run_again() {
    for path in ["/retry", "/refuse"] {
        for mut world in [blank(), durable()] {
            let (app, other) = (world.app("app"), world.app("other"));
            let first = app.send(path, "hold");
            world.lines(1).await;
            world.redis.kill();
            app.post("/open", "").await.assert_fresh(200);
            let first = first.await.unwrap().expect("an answer");
            first.assert_fresh(200);
            assert_eq!(first.text(), "app 1");
            // The process that ran it knows, the other one cannot ask.
            for _ in 0..3 {
                app.post(path, "hold").await.assert_replay_of(&first);
                other.post(path, "hold").await.assert_problem(503, "store-unavailable");
            }
            world.redis.restart();
            app.post(path, "hold").await.assert_replay_of(&first);
            assert!(app.post("/drain", "").await.text().contains("finished: true"));
            for app in [&app, &other, &world.app("third")] {
                app.retry(path, "hold").await.assert_replay_of(&first);
            }
            assert_eq!(world.runs(), 1);
            assert_eq!(app.get("/stale").await, "0");
        }
    }
}

/// It stands still after the effect: its last commands may be applied when it goes on, or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_stopped_after_the_effect_makes_nothing_run_again() {
    for path in ["/retry", "/refuse"] {
        let world = blank();
        let (app, other) = (world.app("app"), world.app("other"));
        let first = app.send(path, "hold");
        world.lines(1).await;
        world.redis.pause();
        app.post("/open", "").await.assert_fresh(200);
        let first = first.await.unwrap().expect("an answer");
        first.assert_fresh(200);
        app.post(path, "hold").await.assert_replay_of(&first);
        world.redis.resume();
        assert!(app.post("/drain", "").await.text().contains("finished: true"));
        for app in [&app, &other] {
            app.retry(path, "hold").await.assert_replay_of(&first);
        }
        assert_eq!((world.runs(), app.get("/stale").await.as_str()), (1, "0"));
    }
}
