//! What the store lives on is killed, or stands still.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tests::{client::Reply, servers::eventually_async};

use crate::support::*;

on_stores!([redis durable_postgres durable_tiered]: [a_claim_without_its_store_is_refused_in_time]);
on_stores!([durable_tiered]: [a_cache_without_its_authority_replays_and_nothing_runs]);
on_stores!([redis durable_redis durable_postgres durable_tiered]: [
    a_store_killed_after_the_effect_makes_nothing_run_again
    a_store_stopped_after_the_effect_makes_nothing_run_again
]);
on_stores!([durable_redis durable_postgres durable_tiered]: [a_store_killed_under_load_loses_and_doubles_nothing]);

/// The time-out of a command that the store has by itself, and what a store in trouble may cost beyond it.
const BUDGET: Duration = Duration::from_millis(500 + 300);

/// What a cache in trouble may cost first, where there is one.
const CACHE: Duration = Duration::from_millis(30);

async fn a_claim_without_its_store_is_refused_in_time(mut world: World) {
    let app = world.app_as_it_comes("app");
    app.post("/open", "").await.assert_fresh(200);
    let cases = [(true, "/retry"), (true, "/refuse"), (false, "/retry"), (false, "/refuse")];
    for (number, (dies, path)) in cases.into_iter().enumerate() {
        if dies {
            world.kill();
        } else {
            world.pause();
        }
        let key = number.to_string();
        let budget = if world.url.starts_with("tiered:") { BUDGET + CACHE } else { BUDGET };
        assert_refused_in_time(&app, &key, path, budget).await;
        assert_eq!(world.runs(), number);
        if dies {
            world.restart();
        } else {
            world.resume();
        }
        // What may have been claimed without an answer is given back.
        assert!(app.post("/drain", "").await.text().contains("finished: true"));
        let reply = app.retry_as(&key, path, "go").await;
        reply.assert_fresh(200);
        assert_eq!((reply.text().as_str(), world.runs()), ("app 1", number + 1));
    }
}

/// Asks several times, for this machine may have other things to do: most refusals come in time, the first one soon enough.
async fn assert_refused_in_time(app: &App, key: &str, path: &str, budget: Duration) {
    let mut took = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        app.post_as(key, path, "go").await.assert_problem(503, "store-unavailable");
        took.push(began.elapsed());
    }
    assert!(took[0] <= 3 * budget, "the first of {took:?} took longer than three times {budget:?}");
    took.sort_unstable();
    assert!(took[took.len() / 2] <= budget, "half of {took:?} took longer than {budget:?}");
}

/// The cache answers for what is completed, and for nothing else.
async fn a_cache_without_its_authority_replays_and_nothing_runs(mut world: World) {
    let (app, other) = (world.app_as_it_comes("app"), world.app_as_it_comes("other"));
    app.post("/open", "").await.assert_fresh(200);
    let cases = [(true, "/retry"), (true, "/refuse"), (false, "/retry"), (false, "/refuse")];
    for (number, (dies, path)) in cases.into_iter().enumerate() {
        let (done, new) = (format!("done-{number}"), format!("new-{number}"));
        let first = app.post_as(&done, path, "go").await;
        first.assert_fresh(200);
        // Each round leaves two.
        world.copies(2 * number as u64 + 1).await;
        if dies {
            world.authority().kill();
        } else {
            world.authority().pause();
        }
        for app in [&app, &other] {
            // A busy machine may be late to find the copy.
            app.answered(&done, path, "go").await.assert_replay_of(&first);
            // Whether the key is still taken, only the authority knows.
            app.post_as(&done, path, "other").await.assert_problem(503, "store-unavailable");
        }
        assert_refused_in_time(&app, &new, path, BUDGET + CACHE).await;
        assert_eq!(world.runs(), 2 * number + 1);
        app.answered(&done, path, "go").await.assert_replay_of(&first);
        if dies {
            world.authority().restart();
        } else {
            world.authority().resume();
        }
        assert!(app.post("/drain", "").await.text().contains("finished: true"));
        let late = app.answered(&new, path, "go").await;
        assert_eq!((late.is_replay(), late.text().as_str(), world.runs()), (false, "app 1", 2 * number + 2), "{late}");
        other.answered(&new, path, "go").await.assert_replay_of(&late);
        world.copies(2 * number as u64 + 2).await;
    }
}

async fn a_store_killed_after_the_effect_makes_nothing_run_again(mut world: World) {
    let (app, other) = (world.app_as_it_comes("app"), world.app_as_it_comes("other"));
    for (number, path) in ["/retry", "/refuse"].into_iter().enumerate() {
        let key = format!("hold-{number}");
        let first = app.send_as(&key, path, &key);
        world.line(&key).await;
        world.kill();
        app.post("/open", "").await.assert_fresh(200);
        let first = first.await.unwrap().expect("an answer");
        first.assert_fresh(200);
        assert_eq!(first.text(), "app 1");
        // The process that ran it knows, the other one cannot ask.
        for _ in 0..3 {
            app.post_as(&key, path, &key).await.assert_replay_of(&first);
            other.post_as(&key, path, &key).await.assert_problem(503, "store-unavailable");
        }
        world.restart();
        app.post_as(&key, path, &key).await.assert_replay_of(&first);
        assert!(app.post("/drain", "").await.text().contains("finished: true"));
        for app in [&app, &other, &world.app("third")] {
            app.answered(&key, path, &key).await.assert_replay_of(&first);
        }
        assert_eq!(world.runs(), number + 1);
        assert_eq!(app.get("/stale").await, "0");
        app.post("/close", "").await.assert_fresh(200);
    }
}

/// It stands still after the effect: its last commands may be applied when it goes on, or not.
async fn a_store_stopped_after_the_effect_makes_nothing_run_again(world: World) {
    let (app, other) = (world.app_as_it_comes("app"), world.app_as_it_comes("other"));
    for (number, path) in ["/retry", "/refuse"].into_iter().enumerate() {
        let key = format!("hold-{number}");
        let first = app.send_as(&key, path, &key);
        world.line(&key).await;
        world.pause();
        app.post("/open", "").await.assert_fresh(200);
        let first = first.await.unwrap().expect("an answer");
        first.assert_fresh(200);
        app.post_as(&key, path, &key).await.assert_replay_of(&first);
        world.resume();
        assert!(app.post("/drain", "").await.text().contains("finished: true"));
        for app in [&app, &other] {
            app.answered(&key, path, &key).await.assert_replay_of(&first);
        }
        assert_eq!((world.runs(), app.get("/stale").await.as_str()), (number + 1, "0"));
        app.post("/close", "").await.assert_fresh(200);
    }
}

/// How often it is killed.
const KILLS: usize = 5;

/// Whoever asks for one key after the other, and sends each again until it is answered.
struct Callers {
    over: AtomicBool,
    answers: AtomicUsize,
    refusals: AtomicUsize,
}

impl Callers {
    async fn call(&self, caller: usize, app: &App, paths: &[&'static str]) -> Vec<(String, &'static str, Reply)> {
        let mut answered = Vec::new();
        while !self.over.load(Ordering::Relaxed) {
            let (key, path) = (format!("{caller}-{}", answered.len()), paths[answered.len() % paths.len()]);
            let began = Instant::now();
            let reply = loop {
                let reply = app.post_as(&key, path, &key).await;
                if reply.status == 200 {
                    break reply;
                }
                self.refusals.fetch_add(1, Ordering::Relaxed);
                assert!(began.elapsed() < PATIENCE, "no answer to `{key}` but {reply}");
                // As a client does that is told to come again later.
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            answered.push((key, path, reply));
            self.answers.fetch_add(1, Ordering::Relaxed);
        }
        answered
    }

    async fn until(&self, what: &str, count: &AtomicUsize, more: usize) {
        let enough = count.load(Ordering::Relaxed) + more;
        let look = async || (count.load(Ordering::Relaxed) >= enough).then_some(());
        eventually_async(what, PATIENCE, look).await;
    }
}

async fn a_store_killed_under_load_loses_and_doubles_nothing(mut world: World) {
    const CALLERS: usize = 8;
    let paths: &[&str] =
        if world.has_transactions() { &["/retry", "/refuse", "/transact"] } else { &["/retry", "/refuse"] };
    let apps = [world.app_as_it_comes("one"), world.app_as_it_comes("two")].map(Arc::new);
    let callers = Arc::new(Callers { over: AtomicBool::new(false), answers: 0.into(), refusals: 0.into() });
    let calling: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (app, callers) = (apps[caller % apps.len()].clone(), callers.clone());
            tokio::spawn(async move { callers.call(caller, &app, paths).await })
        })
        .collect();
    let mut kills = 0;
    for _ in 0..KILLS {
        callers.until("answers", &callers.answers, 3 * CALLERS).await;
        world.kill();
        kills += 1;
        callers.until("requests that find no store", &callers.refusals, CALLERS).await;
        world.restart();
    }
    callers.until("answers", &callers.answers, CALLERS).await;
    callers.over.store(true, Ordering::Relaxed);
    let answered: Vec<_> = join_all(calling).await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(kills, KILLS);
    assert!(answered.len() > KILLS * 3 * CALLERS);

    for app in &apps {
        assert!(app.post("/drain", "").await.text().contains("finished: true"));
    }
    let third = world.app("third");
    let (ledger, effects) = (world.ledger_by_body(), third.effects_if(world.has_transactions()).await);
    for (key, path, reply) in &answered {
        let replay = third.answered(key, path, key).await;
        assert_eq!((replay.is_replay(), replay.text()), (true, reply.text()), "{path} {key}");
        if *path == "/transact" {
            assert_eq!(effects[key], [reply.text()], "{key}: one row, by who answers");
        } else {
            let [Line::Begin { by, attempt, .. }, Line::End { by: same, attempt: again, .. }] = &ledger[key][..] else {
                panic!("{path} {key} ran once, and not {:?}", ledger[key])
            };
            assert_eq!((by, attempt), (same, again));
            assert_eq!(reply.text(), format!("{by} {attempt}"), "{path} {key}");
        }
    }
    for app in &apps {
        assert_eq!(app.get("/stale").await, "0");
    }
}
