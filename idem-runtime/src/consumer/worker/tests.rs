//! The loop, with a broker that does as the test says.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::sync::{Notify, oneshot};

use super::{Broker, BrokerError, Counters, Each, Fetched, Limits, Settlement, UNHEARD, run};
use crate::consumer::{ConsumeError, Delivery, Event, ParkedReason};

/// Hands out one event after the other, and listens once it may.
#[derive(Default)]
struct Deaf {
    listens: AtomicBool,
    fetched: AtomicU64,
    heard: AtomicU64,
    refused: AtomicU64,
    refuses: Notify,
}

/// Far beyond what may be fetched while nothing is heard.
const FLOOD: u64 = 20 * UNHEARD as u64;

impl Broker for Deaf {
    type Receipt = u64;

    async fn prepare(&self) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn fetch(&self, room: usize) -> Result<Vec<Fetched<u64>>, BrokerError> {
        if self.listens.load(SeqCst) {
            tokio::time::sleep(Duration::from_millis(500)).await;
            return Ok(Vec::new());
        }
        let first = self.fetched.fetch_add(room as u64, SeqCst);
        assert!(first < FLOOD, "fetched {first} events and settled none");
        let event = |receipt| Fetched { event: Event::new(format!("e{receipt}"), "{}"), receipt, again: false };
        Ok((first..first + room as u64).map(event).collect())
    }

    fn writes_dead_letters(&self) -> bool {
        false
    }

    async fn bury(&self, _: &Event, _: ParkedReason) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn settle(&self, settlements: &[Settlement<u64>]) -> Result<(), BrokerError> {
        if self.listens.load(SeqCst) {
            self.heard.fetch_add(settlements.len() as u64, SeqCst);
            return Ok(());
        }
        if self.refused.fetch_add(1, SeqCst) == 20 {
            self.refuses.notify_one();
        }
        Err(BrokerError::unavailable("it does not listen"))
    }

    async fn renew(&self, _: &[u64]) -> Result<(), BrokerError> {
        Ok(())
    }

    fn renew_every(&self) -> Duration {
        Duration::from_secs(20)
    }

    async fn may_publish(&self, _: &Event) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn publish(&self, _: &Event) -> Result<(), BrokerError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_hands_out_and_does_not_listen_fills_no_memory() {
    let (broker, (stop, stopped)) = (Arc::new(Deaf::default()), oneshot::channel::<()>());
    let (handler, counters) = (Each::new(|_: Event| std::future::ready(Delivery::Acknowledge)), Counters::default());
    let worker = run(broker.clone(), Limits::default(), counters.clone(), handler, async {
        let _ = stopped.await;
    });
    let (drained, ()) = tokio::join!(worker, async {
        broker.refuses.notified().await;
        let fetched = broker.fetched.load(SeqCst);
        assert!(fetched <= (UNHEARD + Limits::default().concurrency) as u64, "{fetched}");
        broker.listens.store(true, SeqCst);
        drop(stop);
    });
    let drained = drained.unwrap();
    assert!(drained.finished && drained.left == 0, "{drained:?}");
    assert_eq!(broker.heard.load(SeqCst), broker.fetched.load(SeqCst), "what was handled is told once");
    assert_eq!(counters.snapshot().broker_errors, broker.refused.load(SeqCst));
}

/// Hands out two events, and fails each of its steps once.
#[derive(Default)]
struct Shaky {
    failed: Mutex<HashSet<&'static str>>,
    fetched: AtomicBool,
    renewed: Notify,
    heard: AtomicUsize,
    heard_all: Notify,
}

impl Shaky {
    fn step(&self, step: &'static str) -> Result<(), BrokerError> {
        match self.failed.lock().unwrap().insert(step) {
            true => Err(BrokerError::unavailable("it is shaky")),
            false => Ok(()),
        }
    }
}

impl Broker for Shaky {
    type Receipt = u64;

    async fn prepare(&self) -> Result<(), BrokerError> {
        self.step("prepare")
    }

    async fn fetch(&self, _: usize) -> Result<Vec<Fetched<u64>>, BrokerError> {
        self.step("fetch")?;
        if self.fetched.swap(true, SeqCst) {
            tokio::time::sleep(Duration::from_millis(500)).await;
            return Ok(Vec::new());
        }
        let event = |receipt| Fetched { event: Event::new(format!("e{receipt}"), "{}"), receipt, again: false };
        Ok((0..2).map(event).collect())
    }

    fn writes_dead_letters(&self) -> bool {
        true
    }

    async fn bury(&self, _: &Event, _: ParkedReason) -> Result<(), BrokerError> {
        self.step("bury")
    }

    async fn settle(&self, settlements: &[Settlement<u64>]) -> Result<(), BrokerError> {
        self.step("settle")?;
        if self.heard.fetch_add(settlements.len(), SeqCst) + settlements.len() == 2 {
            self.heard_all.notify_one();
        }
        Ok(())
    }

    async fn renew(&self, _: &[u64]) -> Result<(), BrokerError> {
        self.renewed.notify_one();
        self.step("renew")
    }

    fn renew_every(&self) -> Duration {
        Duration::from_secs(20)
    }

    async fn may_publish(&self, _: &Event) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn publish(&self, _: &Event) -> Result<(), BrokerError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_broker_and_the_store_fail_is_counted() {
    let (broker, counters) = (Arc::new(Shaky::default()), Counters::default());
    let handler = Each::new({
        let broker = broker.clone();
        move |event: Event| {
            let broker = broker.clone();
            async move {
                if event.id() == Some("e0") {
                    return Err::<(), _>(ConsumeError::Parked(ParkedReason::Failed));
                }
                broker.renewed.notified().await;
                Err(ConsumeError::NO_ANSWER)
            }
        }
    });
    let drained = run(broker.clone(), Limits::default(), counters.clone(), handler, broker.heard_all.notified()).await;
    assert!(drained.unwrap().finished);
    let failed = broker.failed.lock().unwrap().clone();
    assert_eq!(failed, HashSet::from(["prepare", "fetch", "renew", "bury", "settle"]));
    let metrics = counters.snapshot();
    assert_eq!((metrics.broker_errors, metrics.store_errors), (5, 1));
    assert_eq!((metrics.acknowledged, metrics.retried, metrics.parked), (1, 1, 1));
}

/// As a handler does that computes for long, or calls what blocks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_holds_up_its_thread_does_not_hold_up_the_end() {
    let (broker, (stop, stopped)) = (Arc::new(Deaf::default()), oneshot::channel::<()>());
    let (begun, end) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let handler = Each::new({
        let (begun, end) = (begun.clone(), end.clone());
        move |_: Event| {
            let (begun, end) = (begun.clone(), end.clone());
            async move {
                begun.notify_one();
                while !end.load(SeqCst) {
                    std::thread::yield_now();
                }
                Delivery::Acknowledge
            }
        }
    });
    let limits = Limits { concurrency: 1, drain: Duration::from_millis(10), ..Limits::default() };
    let worker = run(broker.clone(), limits, Counters::default(), handler, async {
        let _ = stopped.await;
    });
    let (drained, ()) = tokio::join!(worker, async {
        begun.notified().await;
        drop(stop);
    });
    end.store(true, SeqCst);
    let drained = drained.unwrap();
    assert!(!drained.finished && drained.left == 1, "{drained:?}");
}

#[tokio::test]
async fn there_may_be_no_limit() {
    super::Room::new(usize::MAX);
    let (broker, (stop, stopped)) = (Arc::new(Deaf::default()), oneshot::channel::<()>());
    broker.listens.store(true, SeqCst);
    let limits = Limits { concurrency: usize::MAX, batch: usize::MAX, drain: super::LONGEST, ..Limits::default() };
    let handler = Each::new(|_: Event| std::future::ready(Delivery::Acknowledge));
    drop(stop);
    let drained = run(broker, limits, Counters::default(), handler, async {
        let _ = stopped.await;
    });
    assert!(drained.await.unwrap().finished);
}
