//! Telling the broker what became of deliveries, and waiting for a broker that is away.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, mpsc::UnboundedReceiver},
    time::{Instant, sleep_until, timeout_at},
};

use super::{Broker, BrokerError, Counters};
use crate::consumer::{Event, ParkedReason};

/// What the broker is told of one delivery.
#[derive(Debug, Clone)]
pub(in crate::consumer) enum Settlement<R> {
    /// The event took effect or is parked: the broker may forget the delivery.
    Done { receipt: R },
    /// The event is open: it is to be delivered again, not before `after`.
    Again { receipt: R, after: Duration },
}

/// What became of one delivery, on its way to the broker.
#[derive(Debug)]
pub(super) struct Word<R> {
    pub(super) settlement: Settlement<R>,
    /// The event is parked, so that its dead letter, if the broker writes any, comes first.
    pub(super) parked: Option<(Event, ParkedReason)>,
    /// Keeps short what waits for a broker that hands out and does not listen.
    pub(super) place: Option<OwnedSemaphorePermit>,
}

/// How many settlements the broker is told at once.
pub(super) const AT_ONCE: usize = 512;

/// Pauses that grow while a broker is away.
#[derive(Debug)]
pub(super) struct Backoff {
    counters: Counters,
    next: Duration,
    /// When it was last said what is wrong.
    told: Option<Instant>,
}

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

/// How often it is said what is wrong.
const TELL: Duration = Duration::from_secs(60);

/// Tells the broker everything, until nobody is left to say anything. A dead letter that cannot be written holds up nothing else.
pub(super) async fn settle<B: Broker>(
    broker: Arc<B>,
    mut queue: UnboundedReceiver<Word<B::Receipt>>,
    counters: Counters,
) {
    let (mut heard, mut letters) = (Vec::new(), Letters::new(&counters));
    loop {
        let is_over = match letters.due {
            None => queue.recv_many(&mut heard, AT_ONCE).await == 0,
            Some(due) => matches!(timeout_at(due, queue.recv_many(&mut heard, AT_ONCE)).await, Ok(0)),
        };
        if is_over {
            match letters.due {
                None => return,
                Some(due) => sleep_until(due).await,
            }
        }
        let (mut settlements, mut places) = (Vec::new(), Vec::new());
        for Word { settlement, parked, place } in heard.drain(..) {
            match (settlement, parked) {
                (Settlement::Done { receipt }, Some((event, reason))) if broker.writes_dead_letters() => {
                    letters.push(Letter { receipt, event, reason });
                }
                (settlement, _) => {
                    settlements.push(settlement);
                    places.push(place);
                }
            }
        }
        tell(&*broker, &settlements, &counters).await;
        drop(places);
        if let Some(done) = letters.write_one(&*broker).await {
            tell(&*broker, &[done], &counters).await;
        }
    }
}

/// Tells until the broker has heard it.
async fn tell<B: Broker>(broker: &B, settlements: &[Settlement<B::Receipt>], counters: &Counters) {
    let mut backoff = Backoff::new(counters);
    while !settlements.is_empty()
        && let Err(error) = broker.settle(settlements).await
    {
        backoff.pause_after(&error).await;
    }
}

/// A parked event whose dead letter is not written.
struct Letter<R> {
    receipt: R,
    event: Event,
    reason: ParkedReason,
}

/// Dead letters on their way.
struct Letters<R> {
    unwritten: VecDeque<Letter<R>>,
    /// When they are tried again; `None`: there are none.
    due: Option<Instant>,
    backoff: Backoff,
}

impl<R> Letters<R> {
    fn new(counters: &Counters) -> Self {
        Self { unwritten: VecDeque::new(), due: None, backoff: Backoff::new(counters) }
    }

    /// An event that was delivered again meanwhile has one letter. Beyond what is bearable the oldest is let go of: the broker delivers
    /// its event again.
    fn push(&mut self, letter: Letter<R>) {
        let same = |other: &&mut Letter<R>| other.reason == letter.reason && other.event == letter.event;
        if let Some(same) = self.unwritten.iter_mut().find(same) {
            same.receipt = letter.receipt;
            return;
        }
        if self.unwritten.len() == AT_ONCE {
            self.unwritten.pop_front();
        }
        self.unwritten.push_back(letter);
        self.due.get_or_insert_with(Instant::now);
    }

    /// Writes the next one if it is due, and says what the broker may forget then. One that cannot be written is tried again as the
    /// last.
    async fn write_one<B: Broker<Receipt = R>>(&mut self, broker: &B) -> Option<Settlement<R>> {
        self.due.filter(|due| *due <= Instant::now())?;
        let letter = self.unwritten.pop_front()?;
        if let Err(error) = broker.bury(&letter.event, letter.reason).await {
            self.unwritten.push_back(letter);
            self.due = Some(Instant::now() + self.backoff.after(&error));
            return None;
        }
        self.backoff.reset();
        self.due = (!self.unwritten.is_empty()).then(Instant::now);
        Some(Settlement::Done { receipt: letter.receipt })
    }
}

impl Backoff {
    pub(super) fn new(counters: &Counters) -> Self {
        Self { counters: counters.clone(), next: FIRST, told: None }
    }

    /// Says what is wrong, and waits; longer each time.
    pub(super) async fn pause_after(&mut self, error: &BrokerError) {
        tokio::time::sleep(self.after(error)).await;
    }

    fn after(&mut self, error: &BrokerError) -> Duration {
        self.tell(error);
        let longer = (self.next * 2).min(LONGEST);
        std::mem::replace(&mut self.next, longer)
    }

    /// At once, and then once a minute. Counted each time.
    pub(super) fn tell(&mut self, error: &BrokerError) {
        self.counters.broker_failed();
        let now = Instant::now();
        if self.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL) {
            tracing::warn!(%error, "the broker does not answer as it should, it is asked again until it does");
            self.told = Some(now);
        }
    }

    pub(super) fn reset(&mut self) {
        (self.next, self.told) = (FIRST, None);
    }
}
