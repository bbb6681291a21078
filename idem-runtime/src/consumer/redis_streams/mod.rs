//! Events from a Redis stream, by a consumer group.
//!
//! ```no_run
//! # #[derive(serde::Deserialize)] struct Order { number: u64 }
//! # async fn ship(order: Order) -> Result<(), std::io::Error> { Ok(()) }
//! # async fn stop_signal() {}
//! # async fn example(idempotency: idem_runtime::Idempotency) -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use idem_runtime::{
//!     Policy,
//!     consumer::redis_streams::{Worker, driver},
//! };
//!
//! // As long as an entry may be delivered again, redrives included.
//! const SHIP: Policy = Policy::new("ship-orders").ttl(Duration::from_secs(7 * 24 * 60 * 60)).validate_for_events();
//!
//! let client = driver::Client::open("redis://127.0.0.1:6379")?;
//! let worker = Worker::builder(client, "orders").group("shipping").name("shipping-1").build();
//! let consumer = idempotency.consumer(SHIP);
//! let drained = worker.run_json_until(&consumer, |order: Order, _attempt| ship(order), stop_signal()).await?;
//! println!("{} deliveries will come again", drained.left);
//! # Ok(())
//! # }
//! ```
//!
//! A producer gives every event an id of its own making, the same when it publishes the event again:
//!
//! ```text
//! XADD orders * id evt_1 payload {"number":7}
//! ```
//!
//! # What it holds to
//!
//! - `XACK` is sent after the event is done, or parked in the store, never before. Until then the entry is pending.
//! - While an event is handled, its worker claims the entry anew every third of [`reclaim_after`](WorkerBuilder::reclaim_after),
//!   so that a long handler keeps it. When a worker dies, others take its entries over (`XAUTOCLAIM`) once they have been
//!   idle that long.
//! - An event that is to come again stays pending, and is set so that it will have been idle long enough when its time has
//!   come; whichever worker of the group looks first takes it. That is never later than `reclaim_after`.
//! - At most [`concurrency`](WorkerBuilder::concurrency) events are handled at once, and no more are fetched.
//! - A server that goes away is asked again with growing pauses. The group is made again if the server forgot it.
//! - `XREADGROUP` waits on a connection of its own, so that no acknowledgement waits behind it.
//!
//! # What it cannot hold to
//!
//! A server that dies forgets its last entries and acknowledgements, as far as its persistence goes. A lost
//! acknowledgement is one more delivery, and a duplicate. A lost entry is lost before any worker can see it.
//!
//! Nothing is trimmed: `XTRIM`, or `MAXLEN` in the producer's `XADD`, is for whoever owns the stream.

mod broker;
mod reply;
mod wire;

use std::{fmt, future::Future, sync::Arc, time::Duration};

use redis::Client;
use serde::{Serialize, de::DeserializeOwned};

use self::broker::Stream;
use super::{
    BrokerError, Consumer, Event, Outcome, ParkedEvent, RedriveError, Redriven, WorkerMetrics,
    worker::{self, Broker as _, Counters, LONGEST, Limits, worker_methods},
};
use crate::{Attempt, engine::Drained};

/// The driver whose [`Client`] a worker is given.
pub use ::redis as driver;

/// One worker of a consumer group. Cheap to clone; clones are one worker.
#[derive(Clone)]
pub struct Worker {
    broker: Arc<Stream>,
    limits: Limits,
    counters: Counters,
}

/// The options of a [`Worker`].
#[must_use = "options fetch nothing"]
pub struct WorkerBuilder {
    stream: Stream,
    limits: Limits,
}

worker_methods!();

impl Worker {
    /// A worker on `stream`, over two connections of its own to the server that `client` names. It connects when it runs.
    pub fn builder(client: Client, stream: impl Into<String>) -> WorkerBuilder {
        WorkerBuilder { stream: Stream::new(client, stream.into()), limits: Limits::default() }
    }
}

impl WorkerBuilder {
    /// The consumer group; it is made if it is not there, and the stream too. Default: `idem`.
    ///
    /// A new group begins with the oldest entry of the stream.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.stream.group = group.into();
        self
    }

    /// What the group calls this worker: no two may run under one name. Default: `worker`, the number of the process, and the
    /// time at which this was built.
    ///
    /// A worker that takes the place of another may take its name: Redis never forgets a name by itself.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.stream.name = name.into();
        self
    }

    /// The field of an entry that holds the event's id. Default: `id`.
    pub fn id_field(mut self, field: impl Into<String>) -> Self {
        self.stream.id_field = field.into();
        self
    }

    /// The field of an entry that holds the payload. An entry without it has an empty one. Default: `payload`.
    pub fn payload_field(mut self, field: impl Into<String>) -> Self {
        self.stream.payload_field = field.into();
        self
    }

    /// How long an entry must be idle before another worker takes it over, at least 10 ms. Default: one minute.
    ///
    /// The same for all workers of a group. Longer than any pause of a living worker: one that stands still for longer
    /// loses its entries to another. Then both may handle an event at once, and the store decides which of them does.
    pub fn reclaim_after(mut self, idle: Duration) -> Self {
        self.stream.reclaim_after = idle.clamp(Duration::from_millis(10), LONGEST);
        self
    }

    /// How long a command may take before its connection is taken for dead. Default: 2 seconds.
    pub fn command_timeout(mut self, timeout: Duration) -> Self {
        self.stream.command_timeout = timeout.min(LONGEST);
        self
    }

    /// A stream that gets a copy of every event that is parked, before its entry is acknowledged: the id, the payload, and
    /// the `reason`. An event may come there more than once. A handler of [`run_each_until`](Worker::run_each_until) that returns a
    /// bare [`Delivery`](super::Delivery) does not say what it parks. Default: none; parked events are in the store.
    pub fn dead_letters(mut self, stream: impl Into<String>) -> Self {
        self.stream.dead_letters = Some(stream.into());
        self
    }

    /// The worker.
    #[must_use]
    pub fn build(self) -> Worker {
        Worker { broker: Arc::new(self.stream), limits: self.limits, counters: Counters::default() }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("stream", &self.broker).field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerBuilder").field("stream", &self.stream).field("limits", &self.limits).finish()
    }
}
