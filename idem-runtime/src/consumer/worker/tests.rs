//! The loop, with a broker that does as the test says.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::sync::{Notify, oneshot};

use super::{Broker, BrokerError, Counters, Each, Fetched, Limits, Settlement, UNHEARD, run};
use crate::consumer::{Delivery, Event, ParkedReason};

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
            pending::<()>().await;
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

    async fn publish(&self, _: &Event) -> Result<(), BrokerError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_hands_out_and_does_not_listen_fills_no_memory() {
    let (broker, (stop, stopped)) = (Arc::new(Deaf::default()), oneshot::channel::<()>());
    let handler = Each::new(|_: Event| std::future::ready(Delivery::Acknowledge));
    let worker = run(broker.clone(), Limits::default(), Counters::default(), handler, async {
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
}

#[test]
fn there_may_be_no_limit() {
    super::Room::new(usize::MAX);
}
