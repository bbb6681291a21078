//! A broker under test, and what a test says to it.

use std::{future::Future, pin::Pin, time::Duration};

use async_nats::{
    HeaderMap,
    jetstream::{self, consumer::PullConsumer},
};
use idem_runtime::{
    Attempt, Drained, Idempotency, MemoryStore, Policy,
    consumer::{BrokerError, Consumer, Event, Outcome, ParkedEvent, Redriven, WorkerMetrics, nats, redis_streams},
};
use serde::de::DeserializeOwned;
use tests::servers::{NatsServer, RedisServer, eventually_async};
use tokio::{sync::watch, task::JoinHandle};

/// Longer than anything here takes, so that what hangs fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A delivery that met its event in flight does not wait for the lease.
const LATEST: Duration = Duration::from_secs(1);

/// What every event here is called in its stream, subject, group or durable.
const NAME: &str = "events";

/// A broker of the test's own.
pub(crate) enum Bus {
    Redis { server: RedisServer },
    Nats { server: NatsServer, jetstream: jetstream::Context },
}

/// How a worker under test differs from one as it comes.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    pub(crate) concurrency: usize,
    pub(crate) batch: usize,
    /// How long a delivery must be silent before another worker gets it.
    pub(crate) silence: Duration,
    pub(crate) drain: Duration,
    pub(crate) dead_letters: Option<&'static str>,
}

/// A worker, whichever broker it works for.
#[derive(Clone)]
pub(crate) enum Worker {
    Redis(redis_streams::Worker),
    Nats(nats::Worker),
}

/// A worker in a task of its own.
pub(crate) struct Running {
    pub(crate) worker: Worker,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<Drained, BrokerError>>,
}

type Stop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Makes of every function `async fn name(bus: Bus)` one test for each broker.
macro_rules! on_both_brokers {
    ($($test:ident),* $(,)?) => {
        mod redis {
            $(
                #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() { super::$test($crate::bus::Bus::redis().await).await; }
            )*
        }
        mod nats {
            $(
                #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() { super::$test($crate::bus::Bus::nats().await).await; }
            )*
        }
    };
}
pub(crate) use on_both_brokers;

impl Default for Options {
    fn default() -> Self {
        Self {
            concurrency: 16,
            batch: 16,
            silence: Duration::from_secs(20),
            drain: Duration::from_secs(20),
            dead_letters: None,
        }
    }
}

impl Bus {
    /// One that forgets nothing when it is killed.
    pub(crate) async fn redis() -> Self {
        let start = || RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]);
        Self::Redis { server: tokio::task::spawn_blocking(start).await.unwrap() }
    }

    pub(crate) async fn nats() -> Self {
        let server = tokio::task::spawn_blocking(NatsServer::start).await.unwrap();
        let jetstream = jetstream::new(async_nats::connect(server.url()).await.unwrap());
        let subjects = vec![NAME.to_owned()];
        let config = jetstream::stream::Config { name: NAME.to_owned(), subjects, ..Default::default() };
        jetstream.create_stream(config).await.unwrap();
        Self::Nats { server, jetstream }
    }

    /// A worker of the one group. It connects when it runs.
    pub(crate) async fn worker(&self, name: &str, options: Options) -> Worker {
        match self {
            Self::Redis { server } => {
                let client = redis::Client::open(server.url()).unwrap();
                let mut builder = redis_streams::Worker::builder(client, NAME).group(NAME).name(name);
                if let Some(stream) = options.dead_letters {
                    builder = builder.dead_letters(stream);
                }
                let builder = builder.concurrency(options.concurrency).batch(options.batch).drain(options.drain);
                Worker::Redis(builder.backoff(Duration::ZERO, LATEST).reclaim_after(options.silence).build())
            }
            Self::Nats { server, .. } => {
                let context = jetstream::new(async_nats::connect(server.url()).await.unwrap());
                let mut builder = nats::Worker::builder(context, NAME).durable(NAME);
                if let Some(subject) = options.dead_letters {
                    builder = builder.dead_letters(subject);
                }
                let builder = builder.concurrency(options.concurrency).batch(options.batch).drain(options.drain);
                // The server would drop a second publication under `Nats-Msg-Id` itself.
                Worker::Nats(
                    builder.backoff(Duration::ZERO, LATEST).ack_wait(options.silence).id_header("event-id").build(),
                )
            }
        }
    }

    /// Publishes, and has it confirmed.
    pub(crate) async fn publish(&self, id: Option<&str>, payload: &str) {
        self.try_publish(id, payload).await.unwrap();
    }

    pub(crate) async fn try_publish(&self, id: Option<&str>, payload: &str) -> Result<(), String> {
        match self {
            Self::Redis { server } => {
                let mut add = vec!["XADD", NAME, "*"];
                if let Some(id) = id {
                    add.extend(["id", id]);
                }
                add.extend(["payload", payload]);
                server.try_run::<String>(&add).map(drop).map_err(|error| error.to_string())
            }
            Self::Nats { jetstream, .. } => {
                let mut headers = HeaderMap::new();
                if let Some(id) = id {
                    headers.insert("event-id", id);
                }
                let sent = jetstream.publish_with_headers(NAME, headers, payload.to_owned().into()).await;
                sent.map_err(|error| error.to_string())?.await.map(drop).map_err(|error| error.to_string())
            }
        }
    }

    /// How many messages the group has not acknowledged.
    pub(crate) async fn open(&self) -> Option<u64> {
        match self {
            Self::Redis { server } => {
                // In the order in which a message goes: what moves on in between is counted twice, and not missed.
                let groups: Vec<std::collections::HashMap<String, redis::Value>> =
                    server.try_run(&["XINFO", "GROUPS", NAME]).ok()?;
                let read: u64 = redis::from_redis_value_ref(groups.first()?.get("entries-read")?).unwrap_or(0);
                let (pending, ..): (u64, Option<String>, Option<String>, redis::Value) =
                    server.try_run(&["XPENDING", NAME, NAME]).ok()?;
                Some(pending + server.try_run::<u64>(&["XLEN", NAME]).ok()? - read)
            }
            Self::Nats { jetstream, .. } => {
                let stream = jetstream.get_stream(NAME).await.ok()?;
                let mut durable: PullConsumer = stream.get_consumer(NAME).await.ok()?;
                let info = durable.info().await.ok()?;
                Some(info.num_pending + info.num_ack_pending as u64)
            }
        }
    }

    /// Until the group has acknowledged everything.
    pub(crate) async fn settled(&self) {
        eventually_async("everything is acknowledged", PATIENCE, async || (self.open().await == Some(0)).then_some(()))
            .await;
    }

    /// Makes a place for dead letters.
    pub(crate) async fn dead_letter_box(&self, name: &str) {
        if let Self::Nats { jetstream, .. } = self {
            let subjects = vec![name.to_owned()];
            let config = jetstream::stream::Config { name: name.to_owned(), subjects, ..Default::default() };
            jetstream.create_stream(config).await.unwrap();
        }
    }

    /// Nothing can be written there any more.
    pub(crate) async fn lose_dead_letter_box(&self, name: &str) {
        match self {
            Self::Redis { server } => server.run::<()>(&["SET", name, "no stream"]),
            Self::Nats { jetstream, .. } => {
                jetstream.delete_stream(name).await.unwrap();
            }
        }
    }

    /// Now it can.
    pub(crate) async fn find_dead_letter_box(&self, name: &str) {
        match self {
            Self::Redis { server } => server.run::<()>(&["DEL", name]),
            Self::Nats { .. } => self.dead_letter_box(name).await,
        }
    }

    /// What is there: payloads and reasons.
    pub(crate) async fn dead_letters(&self, name: &str) -> Vec<(String, String)> {
        match self {
            Self::Redis { server } => {
                let letters: Vec<(String, Vec<String>)> = server.run(&["XRANGE", name, "-", "+"]);
                let field = |fields: &[String], name: &str| {
                    let at = fields.iter().position(|field| field == name).unwrap();
                    fields[at + 1].clone()
                };
                letters.iter().map(|(_, fields)| (field(fields, "payload"), field(fields, "reason"))).collect()
            }
            Self::Nats { jetstream, .. } => {
                let stream = jetstream.get_stream(name).await.unwrap();
                let mut letters = Vec::new();
                for sequence in 1..=stream.cached_info().state.messages {
                    let letter = stream.get_raw_message(sequence).await.unwrap();
                    let payload = String::from_utf8(letter.payload.to_vec()).unwrap();
                    letters.push((payload, letter.headers.get("Idem-Parked").unwrap().to_string()));
                }
                letters
            }
        }
    }

    /// Kills the broker.
    pub(crate) fn kill(&mut self) {
        match self {
            Self::Redis { server } => server.kill(),
            Self::Nats { server, .. } => server.kill(),
        }
    }

    /// Kills the broker and starts it again.
    pub(crate) fn restart(&mut self) {
        tokio::task::block_in_place(|| match self {
            Self::Redis { server } => server.restart(),
            Self::Nats { server, .. } => server.restart(),
        });
    }
}

impl Worker {
    /// Runs it in a task, a batch at a time.
    pub(crate) fn run<E, F, Fut>(&self, consumer: &Consumer, handler: F) -> Running
    where
        E: std::fmt::Display + Send + 'static,
        F: Fn(Event, Attempt) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<u32, E>> + Send + 'static,
    {
        let consumer = consumer.clone();
        self.start(async move |worker, stop| match worker {
            Self::Redis(worker) => worker.run_until(&consumer, handler, stop).await,
            Self::Nats(worker) => worker.run_until(&consumer, handler, stop).await,
        })
    }

    /// Runs it in a task, for payloads that are JSON.
    pub(crate) fn run_json<T, F, Fut>(&self, consumer: &Consumer, handler: F) -> Running
    where
        T: DeserializeOwned + Send + 'static,
        F: Fn(T, Attempt) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<u32, String>> + Send + 'static,
    {
        let consumer = consumer.clone();
        self.start(async move |worker, stop| match worker {
            Self::Redis(worker) => worker.run_json_until(&consumer, handler, stop).await,
            Self::Nats(worker) => worker.run_json_until(&consumer, handler, stop).await,
        })
    }

    /// Runs it in a task, each event by itself.
    pub(crate) fn run_each<F, Fut, O>(&self, handler: F) -> Running
    where
        F: Fn(Event) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = O> + Send + 'static,
        O: Outcome + 'static,
    {
        self.start(async move |worker, stop| match worker {
            Self::Redis(worker) => worker.run_each_until(handler, stop).await,
            Self::Nats(worker) => worker.run_each_until(handler, stop).await,
        })
    }

    pub(crate) async fn redrive(&self, consumer: &Consumer, event: &ParkedEvent) -> Redriven {
        match self {
            Self::Redis(worker) => worker.redrive(consumer, event).await.unwrap(),
            Self::Nats(worker) => worker.redrive(consumer, event).await.unwrap(),
        }
    }

    pub(crate) fn metrics(&self) -> WorkerMetrics {
        match self {
            Self::Redis(worker) => worker.metrics(),
            Self::Nats(worker) => worker.metrics(),
        }
    }

    fn start<W, Fut>(&self, work: W) -> Running
    where
        W: FnOnce(Self, Stop) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Drained, BrokerError>> + Send + 'static,
    {
        let (stop, mut stopping) = watch::channel(false);
        let stopped = async move {
            // A test that is over stops its workers too.
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        Running { worker: self.clone(), stop, task: tokio::spawn(work(self.clone(), Box::pin(stopped))) }
    }
}

impl Running {
    /// Tells it to stop, and waits until it has.
    pub(crate) async fn stop(self) -> Drained {
        self.stop.send_replace(true);
        tokio::time::timeout(PATIENCE, self.task).await.expect("it stops").expect("no panic").expect("no refusal")
    }

    /// The same, whatever it left.
    pub(crate) async fn end(self) {
        let _ = self.stop().await;
    }

    /// Why it ended by itself, at its start.
    pub(crate) async fn refused(self) -> BrokerError {
        let ended = tokio::time::timeout(PATIENCE, self.task).await.expect("it ends").expect("no panic");
        ended.expect_err("a refusal")
    }

    /// Ends it where it stands. What its consumer has begun goes on.
    pub(crate) fn abort(self) {
        self.task.abort();
    }
}

/// A consumer with a store of its own.
pub(crate) fn consumer(policy: Policy) -> Consumer {
    runtime().consumer(policy)
}

/// A store of its own, for several consumers.
pub(crate) fn runtime() -> Idempotency {
    Idempotency::builder(MemoryStore::new()).shared().build()
}

/// The policy of tests that need no other.
pub(crate) const POLICY: Policy = Policy::new("brokers").max_attempts(3).validate_for_events();
