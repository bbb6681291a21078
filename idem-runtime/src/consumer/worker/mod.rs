//! The loop that every broker's worker is: fetch, handle, settle; renew what is held; stop in good order.
//!
//! ```text
//! free slots ── fetch ── handle ──┬─ acknowledge ─────────┐
//!                 │               ├─ deliver again, later ─┼─ told to the broker, many at a time
//!                 │               └─ parked: acknowledge ──┘
//!                 └─ held: renewed with the broker until it is settled
//! ```

mod desk;
mod fault;
mod handle;
mod methods;
mod redrive;
mod settle;
#[cfg(test)]
mod tests;

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures_util::future::{self, Either, FusedFuture, FutureExt};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

use self::{
    desk::{Desk, Held},
    settle::Backoff,
};
use super::{Event, ParkedReason};
use crate::{engine::Drained, policy::MAX_SECONDS};

pub use self::{
    desk::WorkerMetrics,
    fault::{BrokerError, BrokerErrorKind},
    redrive::RedriveError,
};
pub(super) use self::{
    desk::{Counters, Job},
    handle::{Batches, Each, JsonBatches},
    methods::worker_methods,
    redrive::redrive,
    settle::Settlement,
};

/// What a broker does for the loop.
pub(super) trait Broker: Send + Sync + 'static {
    /// Names one delivery at the broker.
    type Receipt: Clone + Send + Sync + 'static;

    /// Makes sure that there is something to fetch from: at the start, and after every fault.
    fn prepare(&self) -> impl Future<Output = Result<(), BrokerError>> + Send;

    /// At most `room` deliveries. Waits a moment for the first one, and for no other.
    ///
    /// Not to be dropped halfway: what the broker has handed out by then would wait until it is reclaimed.
    fn fetch(&self, room: usize) -> impl Future<Output = Result<Vec<Fetched<Self::Receipt>>, BrokerError>> + Send;

    /// Whether parked events leave dead letters.
    fn writes_dead_letters(&self) -> bool;

    /// Writes the dead letter of a parked event.
    fn bury(&self, event: &Event, reason: ParkedReason) -> impl Future<Output = Result<(), BrokerError>> + Send;

    /// Tells the broker what became of deliveries, whose dead letters are written. Safe to repeat.
    fn settle(&self, settlements: &[Settlement<Self::Receipt>])
    -> impl Future<Output = Result<(), BrokerError>> + Send;

    /// Tells the broker that these are still being worked on.
    fn renew(&self, held: &[Self::Receipt]) -> impl Future<Output = Result<(), BrokerError>> + Send;

    /// How often it must hear that.
    fn renew_every(&self) -> Duration;

    /// Whether this event could be published, as far as can be told without doing it.
    fn may_publish(&self, event: &Event) -> impl Future<Output = Result<(), BrokerError>> + Send;

    /// Publishes an event to where deliveries come from.
    fn publish(&self, event: &Event) -> impl Future<Output = Result<(), BrokerError>> + Send;
}

/// One delivery as it was fetched.
#[derive(Debug)]
pub(super) struct Fetched<R> {
    pub(super) event: Event,
    pub(super) receipt: R,
    /// It was handed out before.
    pub(super) again: bool,
}

/// What is done with fetched events.
pub(super) trait Handle<R>: Send + 'static {
    /// Begins to handle them. Each job is settled as soon as it is known what became of its event.
    fn begin(&self, jobs: Vec<(Event, Job<R>)>, running: &mut JoinSet<()>);
}

/// How much a worker does at once, and how patient it is.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    pub(super) concurrency: usize,
    pub(super) batch: usize,
    /// Between which bounds a delivery that failed comes again.
    pub(super) backoff: (Duration, Duration),
    pub(super) drain: Duration,
}

/// How many deliveries may be settled that the broker has not heard of: telling it goes on beside handling, but a broker that hands out
/// and does not listen gets no further.
const UNHEARD: usize = 2 * settle::AT_ONCE;

/// Room for deliveries.
struct Room {
    /// One each while it is handled.
    slots: Arc<Semaphore>,
    /// One each until the broker has heard what became of it.
    places: Arc<Semaphore>,
}

/// As of a policy's times.
pub(super) const LONGEST: Duration = Duration::from_secs(MAX_SECONDS);

/// The broker hears the last settlements even when the time to drain is over.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrency: 64,
            batch: 64,
            backoff: (Duration::ZERO, Duration::from_secs(60)),
            drain: Duration::from_secs(30),
        }
    }
}

/// Works until `shutdown` resolves, then finishes what was begun.
pub(super) async fn run<B: Broker>(
    broker: Arc<B>,
    limits: Limits,
    counters: Counters,
    handle: impl Handle<B::Receipt>,
    shutdown: impl Future<Output = ()>,
) -> Result<Drained, BrokerError> {
    let mut shutdown = pin!(shutdown.fuse());
    // Boxed: this future goes into that of the caller, and a broker's are large.
    match future::select(&mut shutdown, Box::pin(begin(&*broker, &counters))).await {
        Either::Left(_) => return Ok(Drained { finished: true, left: 0 }),
        Either::Right((ready, _)) => ready?,
    }

    let (words, queue) = mpsc::unbounded_channel();
    let desk = Arc::new(Desk::new(words, counters.clone(), limits.backoff));
    // They end with this future: a worker that is dropped says nothing more to the broker.
    let mut clerks = JoinSet::new();
    clerks.spawn(renew(broker.clone(), desk.held(), counters.clone()));
    let settler = clerks.spawn(settle::settle(broker.clone(), queue, counters.clone()));
    let mut running = JoinSet::new();

    Box::pin(work(&*broker, &limits, &desk, handle, &mut running, shutdown)).await;

    let deadline = Instant::now() + limits.drain;
    let finished = timeout_at(deadline, async { while running.join_next().await.is_some() {} }).await.is_ok();
    let left = desk.held().count();
    running.abort_all();
    // One that holds up its thread is not waited for any longer.
    let _ = timeout(LAST_WORDS, async { while running.join_next().await.is_some() {} }).await;
    // With the last sender gone, the settler ends once the broker has heard everything.
    drop(desk);
    let heard = timeout_at(deadline.max(Instant::now() + LAST_WORDS), async {
        while !settler.is_finished() {
            clerks.join_next().await;
        }
    });
    let finished = heard.await.is_ok() && finished;
    Ok(Drained { finished, left })
}

/// A broker that cannot be reached is waited for; one that refuses is a mistake to be told at once.
async fn begin(broker: &impl Broker, counters: &Counters) -> Result<(), BrokerError> {
    let mut backoff = Backoff::new(counters);
    loop {
        match broker.prepare().await {
            Err(error) if error.kind() == BrokerErrorKind::Unavailable => backoff.pause_after(&error).await,
            ready => return ready,
        }
    }
}

/// Fetches and begins, until `shutdown` resolves.
async fn work<B: Broker>(
    broker: &B,
    limits: &Limits,
    desk: &Arc<Desk<B::Receipt>>,
    handle: impl Handle<B::Receipt>,
    running: &mut JoinSet<()>,
    mut shutdown: Pin<&mut impl FusedFuture<Output = ()>>,
) {
    let room = Room::new(limits.concurrency);
    let (mut backoff, mut mending) = (Backoff::new(desk.counters()), Backoff::new(desk.counters()));
    loop {
        reap(running);
        let (mut slots, mut places) = match future::select(&mut shutdown, pin!(room.take(limits.batch))).await {
            Either::Left(_) => return,
            Either::Right((taken, _)) => taken,
        };
        let mut fetching = pin!(broker.fetch(slots.num_permits()));
        let (fetched, stop) = match future::select(&mut shutdown, &mut fetching).await {
            // What the broker is about to hand out must not be forgotten.
            Either::Left(_) => (fetching.await, true),
            Either::Right((fetched, _)) => (fetched, false),
        };
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(_) if stop => return desk.counters().broker_failed(),
            Err(error) => {
                drop((slots, places));
                let mended = async {
                    backoff.pause_after(&error).await;
                    if let Err(error) = broker.prepare().await {
                        mending.tell(&error);
                    }
                };
                match future::select(&mut shutdown, pin!(mended)).await {
                    Either::Left(_) => return,
                    Either::Right(_) => continue,
                }
            }
        };
        backoff.reset();
        mending.reset();
        let jobs = fetched.into_iter().map(|Fetched { event, receipt, again }| {
            desk.delivered(again);
            let job = desk.take(receipt, [slots.split(1), places.split(1)]);
            (event, job)
        });
        if stop {
            jobs.for_each(|(_, job)| job.give_back());
            return;
        }
        let jobs: Vec<_> = jobs.collect();
        if !jobs.is_empty() {
            handle.begin(jobs, running);
        }
    }
}

impl Room {
    fn new(concurrency: usize) -> Self {
        let with = |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        Self { slots: with(concurrency), places: with(concurrency.saturating_add(UNHEARD)) }
    }

    /// Waits until there is a slot and a place, and takes as many of both as are free then, `most` at most.
    async fn take(&self, most: usize) -> (OwnedSemaphorePermit, OwnedSemaphorePermit) {
        let (mut slots, mut places) = (one(&self.slots).await, one(&self.places).await);
        let more = self.slots.available_permits().min(self.places.available_permits()).min(most.saturating_sub(1));
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        // Nobody else takes from them.
        if let Ok(more_slots) = self.slots.clone().try_acquire_many_owned(more)
            && let Ok(more_places) = self.places.clone().try_acquire_many_owned(more)
        {
            slots.merge(more_slots);
            places.merge(more_places);
        }
        (slots, places)
    }
}

async fn one(permits: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    // Nobody closes it.
    loop {
        if let Ok(permit) = permits.clone().acquire_owned().await {
            return permit;
        }
    }
}

fn reap(running: &mut JoinSet<()>) {
    while let Some(ended) = running.try_join_next() {
        if ended.is_err() {
            // Its jobs were dropped: nobody renews them, and the broker delivers them again. The error has the words of
            // the panic, which may quote the event.
            tracing::error!("a handler of events panicked outside of its consumer");
        }
    }
}

async fn renew<B: Broker>(broker: Arc<B>, held: Arc<Held<B::Receipt>>, counters: Counters) {
    loop {
        tokio::time::sleep(broker.renew_every()).await;
        let receipts = held.receipts();
        if !receipts.is_empty()
            && let Err(error) = broker.renew(&receipts).await
        {
            counters.broker_failed();
            tracing::debug!(%error, "deliveries could not be renewed");
        }
    }
}
