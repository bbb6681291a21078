//! The clock of one host an hour off, either way: nothing changes.

use std::time::{Duration, SystemTime};

use tests::{
    backend::{Fixture, Postgres, Redis, Tiered},
    hosts::Host,
};

const HOUR: i64 = 3600;
const PROGRAM: &str = env!("CARGO_BIN_EXE_replica");

/// One test for each store that has a clock of its own, apart from those of the hosts.
macro_rules! on_every_server {
    ($($test:ident),* $(,)?) => {
        $(mod $test {
            use super::*;

            #[tokio::test]
            async fn redis() {
                super::$test(Redis::start().await).await;
            }

            #[tokio::test]
            async fn postgres() {
                super::$test(Postgres::start().await).await;
            }

            #[tokio::test]
            async fn tiered() {
                super::$test(Tiered::start().await).await;
            }
        })*
    };
}

on_every_server!(
    hosts_an_hour_apart_replay_each_others_answers,
    hosts_an_hour_apart_respect_each_others_claims,
    an_answer_of_a_host_an_hour_off_lasts_as_long_as_it_should,
    a_host_an_hour_off_renews_what_it_runs,
    a_host_an_hour_off_that_dies_is_replaced_after_its_lease_and_not_before,
);

trait Server: Fixture {
    /// What a host is told to find it.
    fn url(&self) -> String;
}

impl Server for Redis {
    fn url(&self) -> String {
        Self::url(self)
    }
}

impl Server for Postgres {
    fn url(&self) -> String {
        self.url_of_its_table()
    }
}

impl Server for Tiered {
    fn url(&self) -> String {
        format!("tiered:{},{}", Server::url(self.postgres()), self.redis().url())
    }
}

/// Three hosts on one store: one in time, one an hour ahead, one an hour behind.
async fn hosts(store: &impl Server) -> [Host; 3] {
    let mut hosts = Vec::new();
    for off_by in [0, HOUR, -HOUR] {
        let host = Host::start(PROGRAM, &store.url(), off_by).await;
        assert_clock(&host, off_by).await;
        hosts.push(host);
    }
    hosts.try_into().expect("three hosts")
}

/// Without this the tests would prove nothing.
async fn assert_clock(host: &Host, off_by: i64) {
    let here = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_secs().cast_signed();
    let there: i64 = host.get("/now").await.parse().expect("a number");
    assert!((there - here - off_by).abs() < 600, "the clock is off by {}", there - here);
}

async fn runs(hosts: &[Host]) -> usize {
    let mut runs = 0;
    for host in hosts {
        runs += host.get("/runs").await.parse::<usize>().expect("a number");
    }
    runs
}

async fn hosts_an_hour_apart_replay_each_others_answers(store: impl Server) {
    let hosts = hosts(&store).await;
    for (number, host) in hosts.iter().enumerate() {
        // A half hour's answer is over by the one clock, and not begun by the other.
        let key = number.to_string();
        let first = host.post("/half-an-hour").key(&key).body("{}").send().await;
        first.assert_fresh(201);
        for other in &hosts {
            other.post("/half-an-hour").key(&key).body("{}").send().await.assert_replay_of(&first);
            other.post("/half-an-hour").key(&key).body("[]").send().await.assert_problem(422, "key-reused");
        }
    }
    assert_eq!(runs(&hosts).await, 3);
}

async fn hosts_an_hour_apart_respect_each_others_claims(store: impl Server) {
    let hosts = hosts(&store).await;
    for (number, host) in hosts.iter().enumerate() {
        let key = number.to_string();
        host.get("/hold").await;
        let first = tokio::spawn(host.post("/half-an-hour").key(&key).send());
        host.get("/begun/1").await;
        for other in &hosts {
            other.post("/half-an-hour").key(&key).send().await.assert_problem(409, "in-flight");
        }
        host.get("/release").await;
        first.await.expect("a reply").assert_fresh(201);
    }
    assert_eq!(runs(&hosts).await, 3);
}

async fn an_answer_of_a_host_an_hour_off_lasts_as_long_as_it_should(store: impl Server) {
    const TTL: Duration = Duration::from_secs(2);
    let hosts = hosts(&store).await;
    for (number, host) in hosts.iter().enumerate() {
        let other = &hosts[(number + 1) % 3];
        let mut told = false;
        for round in 0..10 {
            let key = format!("{number}-{round}");
            let begun = store.now().await;
            let first = host.post("/short").key(&key).send().await;
            first.assert_fresh(201);
            store.pass(TTL / 2).await;
            let retry = other.post("/short").key(&key).send().await;
            if store.now().await < begun + TTL {
                retry.assert_replay_of(&first);
                store.pass(TTL / 2 + Duration::from_millis(1)).await;
                other.post("/short").key(&key).send().await.assert_fresh(201);
                told = true;
                break;
            }
        }
        assert!(told, "this machine is too slow to ask within {TTL:?}");
    }
}

/// Of `/leased`.
const LEASE: Duration = Duration::from_secs(3);

async fn a_host_an_hour_off_renews_what_it_runs(store: impl Server) {
    let hosts = hosts(&store).await;
    let [in_time, off @ ..] = &hosts;
    for host in off {
        host.get("/hold").await;
    }
    // Both at once, for it takes its time.
    let asks = [("ahead", &off[0]), ("behind", &off[1])];
    let running = asks.map(|(key, host)| tokio::spawn(host.post("/leased").key(key).send()));
    for host in off {
        host.get("/begun/1").await;
    }
    for _ in 0..3 {
        store.pass(LEASE).await;
        for (key, _) in asks {
            in_time.post("/leased").key(key).send().await.assert_problem(409, "in-flight");
        }
    }
    for host in off {
        host.get("/release").await;
    }
    for ((key, _), running) in asks.into_iter().zip(running) {
        let first = running.await.expect("a reply");
        first.assert_fresh(200);
        assert!(first.text().starts_with("1 "), "it is the first attempt: {first}");
        for host in &hosts {
            host.post("/leased").key(key).send().await.assert_replay_of(&first);
        }
    }
    assert_eq!(runs(&hosts).await, 2);
}

async fn a_host_an_hour_off_that_dies_is_replaced_after_its_lease_and_not_before(store: impl Server) {
    for (off_by, others) in [(HOUR, -HOUR), (-HOUR, HOUR)] {
        let lives = Host::start(PROGRAM, &store.url(), others).await;
        let mut told = false;
        for round in 0..10 {
            let mut dies = Host::start(PROGRAM, &store.url(), off_by).await;
            let key = format!("{off_by}-{round}");
            dies.get("/hold").await;
            let asked = store.now().await;
            let cut = tokio::spawn(dies.post("/leased").key(&key).try_send());
            dies.get("/begun/1").await;
            dies.kill();
            assert!(cut.await.expect("a task").is_err());
            let at_once = lives.post("/leased").key(&key).send().await;
            if store.now().await >= asked + LEASE {
                continue;
            }
            at_once.assert_problem(409, "in-flight");
            store.pass(LEASE + Duration::from_millis(1)).await;
            let second = lives.post("/leased").key(&key).send().await;
            second.assert_fresh(200);
            let text = second.text();
            let fence = text.strip_prefix("2 ").unwrap_or_else(|| panic!("it is the second attempt: {text}"));
            // The fence is of the store's clock: it is neither an hour ahead nor behind.
            let fence: u64 = fence.parse().expect("a number");
            let now = store.now().await;
            assert!(now.abs_diff(Duration::from_micros(fence)) < Duration::from_secs(600), "{fence} at {now:?}");
            told = true;
            break;
        }
        assert!(told, "this machine is too slow to ask within {LEASE:?}");
    }
}

#[tokio::test]
async fn a_clock_that_is_set_changes_nothing_in_memory() {
    let host = Host::start(PROGRAM, "memory:", 0).await;
    let first = host.post("/half-an-hour").key("k").send().await;
    first.assert_fresh(201);
    host.get("/hold").await;
    let held = tokio::spawn(host.post("/half-an-hour").key("held").send());
    for off_by in [HOUR, -HOUR, 24 * HOUR, 0] {
        host.set_clock(off_by);
        assert_clock(&host, off_by).await;
        host.post("/half-an-hour").key("k").send().await.assert_replay_of(&first);
        host.get("/begun/2").await;
        host.post("/half-an-hour").key("held").send().await.assert_problem(409, "in-flight");
    }
    host.get("/release").await;
    held.await.expect("a reply").assert_fresh(201);
    assert_eq!(host.get("/runs").await, "2");
}
