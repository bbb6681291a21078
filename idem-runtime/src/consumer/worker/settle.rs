//! Telling the broker what became of deliveries, and waiting for a broker that is away.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc::UnboundedReceiver;

use super::{Broker, BrokerError};
use crate::consumer::{Event, ParkedReason};

/// What became of one delivery.
#[derive(Debug, Clone)]
pub(in crate::consumer) enum Settlement<R> {
    /// The event took effect: the broker may forget the delivery.
    Done { receipt: R },
    /// The event is open: it is to be delivered again, not before `after`.
    Again { receipt: R, after: Duration },
    /// The event is parked: the broker may forget the delivery once the dead letter, if one is wanted, is written.
    Parked { receipt: R, event: Event, reason: ParkedReason },
}

/// How many settlements the broker is told at once.
const AT_ONCE: usize = 512;

/// Pauses that grow while a broker is away.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

/// Tells the broker everything, in order, until nobody is left to say anything.
pub(super) async fn settle<B: Broker>(broker: Arc<B>, mut queue: UnboundedReceiver<Settlement<B::Receipt>>) {
    let mut settlements = Vec::new();
    while queue.recv_many(&mut settlements, AT_ONCE).await > 0 {
        let mut backoff = Backoff::default();
        while let Err(error) = broker.settle(&settlements).await {
            backoff.pause_after(&error).await;
        }
        settlements.clear();
    }
}

impl Backoff {
    /// Says what is wrong, once, and waits; longer each time.
    pub(super) async fn pause_after(&mut self, error: &BrokerError) {
        if self.next == FIRST {
            tracing::warn!(%error, "the broker does not answer as it should, it is asked again until it does");
        }
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(LONGEST);
    }

    pub(super) const fn reset(&mut self) {
        self.next = FIRST;
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}
