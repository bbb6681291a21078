//! The stream of one run: made, filled, watched and deleted.

use std::{ops::Range, time::Duration};

use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, PullConsumer, pull},
    message::PublishMessage,
};
use idem_runtime::{
    Attempt, Drained,
    consumer::{BrokerError, Consumer, Event, Outcome, nats, redis_streams},
};
use redis::{AsyncConnectionConfig, Client, aio::MultiplexedConnection};

use super::{cli::BrokerUrl, worker::Seen};

/// A stream that only this run uses.
#[derive(Clone)]
pub(super) enum Broker {
    Redis { client: Client, connection: MultiplexedConnection, stream: String },
    Nats { context: jetstream::Context, stream: String },
}

/// A worker on the stream.
#[derive(Clone, Debug)]
pub(super) enum Worker {
    Redis(redis_streams::Worker),
    Nats(nats::Worker),
}

/// How far the stream has been worked off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// Messages that are not acknowledged.
    pub(super) open: u64,
    /// How often a message was handed out, where the broker counts that.
    pub(super) delivered: Option<u64>,
}

/// How a worker is set up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// How long a worker may be silent before its messages go to another.
    pub(super) silence: Duration,
    /// How many events it handles at once.
    pub(super) at_once: usize,
}

/// What the group of workers is called, and the durable.
const GROUP: &str = "workers";

/// The header that holds the event's id. Under `Nats-Msg-Id` the server would drop what is published a second time, and
/// there would be nothing to see.
const ID_HEADER: &str = "event-id";

/// An event that another worker handles is done at once: nobody waits until its lease is out.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Broker {
    pub(super) async fn connect(url: &BrokerUrl, run: &str) -> Result<Self, Failure> {
        let stream = format!("events-{run}");
        Ok(match url {
            BrokerUrl::Redis(url) => {
                let client = Client::open(url.as_str())?;
                let patient = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(30)));
                let connection = client.get_multiplexed_async_connection_with_config(&patient).await?;
                Self::Redis { client, connection, stream }
            }
            BrokerUrl::Nats(url) => {
                Self::Nats { context: jetstream::new(async_nats::connect(url.as_str()).await?), stream }
            }
        })
    }

    /// Makes the stream and its group of workers.
    pub(super) async fn create(&mut self, pace: Pace) -> Result<(), Failure> {
        match self {
            Self::Redis { connection, stream, .. } => {
                let mut create = redis::cmd("XGROUP");
                create.arg("CREATE").arg(&*stream).arg(GROUP).arg("0").arg("MKSTREAM");
                // From here on the server counts what it hands out for the first time.
                create.arg("ENTRIESREAD").arg(0);
                create.exec_async(connection).await?;
            }
            Self::Nats { context, stream } => {
                let config = jetstream::stream::Config {
                    name: stream.clone(),
                    subjects: vec![stream.clone()],
                    ..jetstream::stream::Config::default()
                };
                let durable = pull::Config {
                    durable_name: Some(GROUP.to_owned()),
                    ack_policy: AckPolicy::Explicit,
                    ack_wait: pace.silence,
                    max_ack_pending: 20_000,
                    ..pull::Config::default()
                };
                context.create_stream(config).await?.create_consumer(durable).await?;
            }
        }
        Ok(())
    }

    /// Publishes these events, and all of them again. How many messages the broker has confirmed.
    pub(super) async fn publish_twice(&mut self, run: &str, events: Range<usize>) -> Result<u64, Failure> {
        let twice = events.clone().chain(events).map(|number| (format!("{run}-{number}"), payload(number)));
        match self {
            Self::Redis { connection, stream, .. } => {
                let mut adds = redis::pipe();
                for (id, payload) in twice {
                    adds.cmd("XADD").arg(&*stream).arg("*").arg("id").arg(id).arg("payload").arg(payload);
                }
                let confirmed: Vec<String> = adds.query_async(connection).await?;
                Ok(confirmed.len() as u64)
            }
            Self::Nats { context, stream } => {
                let mut confirmations = Vec::new();
                for (id, payload) in twice {
                    let message = PublishMessage::build().header(ID_HEADER, id.as_str()).payload(payload.into());
                    confirmations.push(context.send_publish(stream.clone(), message).await?);
                }
                let mut confirmed = 0;
                for confirmation in confirmations {
                    confirmation.await?;
                    confirmed += 1;
                }
                Ok(confirmed)
            }
        }
    }

    /// Asks the broker, of which `published` messages are known to be there.
    pub(super) async fn progress(&mut self, published: u64) -> Result<Progress, Failure> {
        match self {
            Self::Redis { connection, stream, .. } => {
                // What is read in between is counted as both, and not missed.
                let (groups, pending): (Vec<std::collections::HashMap<String, redis::Value>>, redis::Value) =
                    redis::pipe()
                        .cmd("XINFO")
                        .arg("GROUPS")
                        .arg(&*stream)
                        .cmd("XPENDING")
                        .arg(&*stream)
                        .arg(GROUP)
                        .query_async(connection)
                        .await?;
                let read = groups.first().and_then(|group| group.get("entries-read")).ok_or("the group is gone")?;
                let read: u64 = redis::from_redis_value_ref(read)?;
                let redis::Value::Array(pending) = pending else { return Err("`XPENDING` answered nothing".into()) };
                let pending: u64 = redis::from_redis_value_ref(pending.first().ok_or("`XPENDING` answered nothing")?)?;
                Ok(Progress { open: published.saturating_sub(read) + pending, delivered: None })
            }
            Self::Nats { context, stream } => {
                let mut durable: PullConsumer = context.get_consumer_from_stream(GROUP, &*stream).await?;
                let info = durable.info().await?;
                let open = info.num_pending + info.num_ack_pending as u64;
                Ok(Progress { open, delivered: Some(info.delivered.consumer_sequence) })
            }
        }
    }

    pub(super) async fn delete(&mut self) -> Result<(), Failure> {
        match self {
            Self::Redis { connection, stream, .. } => {
                redis::cmd("UNLINK").arg(&*stream).exec_async(connection).await?;
            }
            Self::Nats { context, stream } => {
                context.delete_stream(&*stream).await?;
            }
        }
        Ok(())
    }

    pub(super) fn worker(&self, name: &str, pace: Pace) -> Worker {
        match self {
            Self::Redis { client, stream, .. } => Worker::Redis(
                redis_streams::Worker::builder(client.clone(), stream)
                    .group(GROUP)
                    .name(name)
                    .reclaim_after(pace.silence)
                    .backoff(BACKOFF.0, BACKOFF.1)
                    .concurrency(pace.at_once)
                    .batch(pace.at_once)
                    .build(),
            ),
            // The durable is there, and knows how long a worker may be silent.
            Self::Nats { context, stream } => Worker::Nats(
                nats::Worker::builder(context.clone(), stream)
                    .durable(GROUP)
                    .id_header(ID_HEADER)
                    .backoff(BACKOFF.0, BACKOFF.1)
                    .concurrency(pace.at_once)
                    .batch(pace.at_once)
                    .build(),
            ),
        }
    }
}

impl Worker {
    pub(super) async fn run_until<F, Fut>(
        &self,
        consumer: &Consumer,
        handler: F,
        stop: impl Future<Output = ()>,
    ) -> Result<Drained, BrokerError>
    where
        F: Fn(Event, Attempt) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), std::io::Error>> + Send + 'static,
    {
        match self {
            Self::Redis(worker) => worker.run_until(consumer, handler, stop).await,
            Self::Nats(worker) => worker.run_until(consumer, handler, stop).await,
        }
    }

    pub(super) async fn run_each_until<F, Fut, O>(
        &self,
        handler: F,
        stop: impl Future<Output = ()>,
    ) -> Result<Drained, BrokerError>
    where
        F: Fn(Event) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = O> + Send + 'static,
        O: Outcome,
    {
        match self {
            Self::Redis(worker) => worker.run_each_until(handler, stop).await,
            Self::Nats(worker) => worker.run_each_until(handler, stop).await,
        }
    }

    pub(super) fn seen(&self) -> Seen {
        let metrics = match self {
            Self::Redis(worker) => worker.metrics(),
            Self::Nats(worker) => worker.metrics(),
        };
        Seen { delivered: metrics.delivered, redelivered: metrics.redelivered, duplicates: metrics.duplicates }
    }
}

fn payload(number: usize) -> String {
    format!(r#"{{"order":{number}}}"#)
}
