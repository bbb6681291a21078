//! Events from a NATS JetStream stream, by a durable pull consumer.
//!
//! ```no_run
//! # #[derive(serde::Deserialize)] struct Order { number: u64 }
//! # async fn ship(order: Order) -> Result<(), std::io::Error> { Ok(()) }
//! # async fn stop_signal() {}
//! # async fn example(idempotency: idem_runtime::Idempotency) -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use idem_runtime::{
//!     Policy,
//!     consumer::nats::{Worker, driver},
//! };
//!
//! // As long as a message may be delivered again, redrives included.
//! const SHIP: Policy = Policy::new("ship-orders").ttl(Duration::from_secs(7 * 24 * 60 * 60)).validate_for_events();
//!
//! let client = driver::connect("nats://127.0.0.1:4222").await?;
//! let worker = Worker::builder(driver::jetstream::new(client), "ORDERS").durable("shipping").build();
//! let consumer = idempotency.consumer(SHIP);
//! let drained = worker.run_json_until(&consumer, |order: Order, _attempt| ship(order), stop_signal()).await?;
//! println!("{} deliveries will come again", drained.left);
//! # Ok(())
//! # }
//! ```
//!
//! A producer gives every event an id of its own making in the header `Nats-Msg-Id`, the same when it publishes the event
//! again. Within the stream's `duplicate_window`, two minutes unless it is set, the server drops the second message by
//! itself; what comes later, or is delivered again, is for the worker.
//!
//! # What it holds to
//!
//! - `+ACK` is sent after the event is done, or parked in the store, never before.
//! - While an event is handled, `+WPI` goes out every third of the durable's `ack_wait`, so that a long handler keeps its
//!   message. When a worker dies, the server delivers its messages to others once `ack_wait` is over.
//! - An event that is to come again is answered with `-NAK` and the delay.
//! - At most [`concurrency`](WorkerBuilder::concurrency) events are handled at once, and no more are pulled.
//! - A server that goes away is waited for. The client connects again by itself; the durable is made again if it is gone.
//!
//! # What it cannot hold to
//!
//! An acknowledgement is not confirmed. A lost one is one more delivery, and a duplicate.
//!
//! A durable with `max_deliver` gives up messages that the store never heard of: leave it unlimited, as it is when the worker
//! makes the durable, for [`Policy::max_attempts`](crate::Policy::max_attempts) ends the attempts.

mod broker;

use std::{fmt, future::Future, sync::Arc, time::Duration};

use async_nats::jetstream::Context;
use serde::{Serialize, de::DeserializeOwned};

use self::broker::Durable;
use super::{
    BrokerError, Consumer, Event, Outcome, ParkedEvent, RedriveError, Redriven, WorkerMetrics,
    worker::{self, Broker as _, Counters, LONGEST, Limits, worker_methods},
};
use crate::{Attempt, engine::Drained};

/// The client whose [`Context`] a worker is given.
pub use ::async_nats as driver;

/// The header that holds an event's id when it is published by [`Worker::redrive`] or [`Worker::publish`]. A worker looks
/// there first: under `Nats-Msg-Id` the server would drop an event that it saw within its `duplicate_window`.
pub const EVENT_ID: &str = "Idem-Event-Id";

/// One worker of a durable consumer. Cheap to clone; clones are one worker.
#[derive(Clone)]
pub struct Worker {
    broker: Arc<Durable>,
    limits: Limits,
    counters: Counters,
}

/// The options of a [`Worker`].
#[must_use = "options fetch nothing"]
pub struct WorkerBuilder {
    durable: Durable,
    limits: Limits,
}

worker_methods!();

impl Worker {
    /// A worker on the stream of this name, which must be there.
    pub fn builder(context: Context, stream: impl Into<String>) -> WorkerBuilder {
        WorkerBuilder { durable: Durable::new(context, stream.into()), limits: Limits::default() }
    }
}

impl WorkerBuilder {
    /// The durable consumer that the workers share; it is made if it is not there. One that is there is taken as it is, its
    /// `ack_wait` and its filter too. Default: `idem`.
    pub fn durable(mut self, name: impl Into<String>) -> Self {
        self.durable.name = name.into();
        self
    }

    /// Only messages of this subject, which may hold wildcards. Default: all of the stream.
    pub fn subject(mut self, filter: impl Into<String>) -> Self {
        self.durable.filter = Some(filter.into());
        self
    }

    /// Where [`Worker::redrive`] and [`Worker::publish`] publish. Default: [`subject`](Self::subject), or the stream's only
    /// subject, unless it holds wildcards. Every durable of the stream gets what is published there.
    pub fn publish_to(mut self, subject: impl Into<String>) -> Self {
        self.durable.publish_to = Some(subject.into());
        self
    }

    /// The header that holds the event's id. Default: `Nats-Msg-Id`.
    pub fn id_header(mut self, name: impl Into<String>) -> Self {
        self.durable.id_header = name.into();
        self
    }

    /// How long the server waits for a sign of life before it delivers a message again, for a durable that is made here. At
    /// least 10 ms. Default: 30 seconds.
    ///
    /// Longer than any pause of a living worker: one that stands still for longer meets its own messages at another. Then both
    /// may handle an event at once, and the store decides which of them does.
    pub fn ack_wait(mut self, wait: Duration) -> Self {
        self.durable.ack_wait = wait.clamp(Duration::from_millis(10), LONGEST);
        self
    }

    /// How many messages may wait for their acknowledgement, those that are to come again included, for a durable that is
    /// made here. Default: 20,000.
    pub const fn max_ack_pending(mut self, messages: u32) -> Self {
        self.durable.max_ack_pending = messages;
        self
    }

    /// A subject that gets a copy of every event that is parked, before its message is acknowledged, with its id in
    /// [`EVENT_ID`] and the reason in `Idem-Parked`. It must belong to a stream, which confirms it, and not be among what the durable
    /// reads. An event may come there more than once. A handler of [`run_each_until`](Worker::run_each_until) that returns a
    /// bare [`Delivery`](super::Delivery) does not say what it parks. One that is larger than the server's `max_payload` with these
    /// headers comes without its payload, whose length in bytes is in `Idem-Payload-Left-Out`. Default: none; parked events are in
    /// the store.
    pub fn dead_letters(mut self, subject: impl Into<String>) -> Self {
        self.durable.dead_letters = Some(subject.into());
        self
    }

    /// The worker.
    #[must_use]
    pub fn build(self) -> Worker {
        Worker { broker: Arc::new(self.durable), limits: self.limits, counters: Counters::default() }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("durable", &self.broker).field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerBuilder").field("durable", &self.durable).field("limits", &self.limits).finish()
    }
}
