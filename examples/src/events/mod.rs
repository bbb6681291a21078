//! Events that are delivered again and again, and take effect once: a producer, a broker, and workers that may be killed.
//!
//! | file | what |
//! |---|---|
//! | this one | a run from start to end |
//! | `worker` | one worker: a broker, a consumer, an effect |
//! | `effects` | rows of a table, lines of a ledger |
//! | `broker` | the stream of the run, at either broker |
//! | `crew` | the workers' processes |
//! | `report` | what happened |
//! | `cli` | flags and environment |

mod broker;
mod cli;
mod crew;
mod effects;
mod report;
mod worker;

use std::{
    io::{self, Write as _},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use self::{
    broker::{Broker, Progress},
    crew::Crew,
    effects::{Effects, Ledger},
    report::{Display, Report},
    worker::{Haste, Job},
};
use crate::{
    signals,
    stores::{AnyStore, StoreUrl, one_line},
};

pub use self::cli::Options;

/// A run: what its workers share, and what it was told.
struct Run {
    id: String,
    options: Options,
    store: AnyStore,
    effects: Effects,
    broker: Broker,
    crew: Crew,
}

/// How many events are published together.
const TOGETHER: usize = 500;

/// How often the broker is asked how far it is.
const LOOK: Duration = Duration::from_millis(100);

/// How often chaos kills.
const KILL: Duration = Duration::from_secs(1);

/// Nothing was acknowledged for so long: it never will be.
const STUCK: Duration = Duration::from_secs(120);

/// Publishes, works, and reports; or is one of the workers.
///
/// Exits with 2 when the options do not work, with 1 when something failed or there are not as many effects as events,
/// and with 128 and the number of the signal, SIGTERM or SIGINT, that stopped it before.
pub async fn run(options: Options) -> ExitCode {
    let worked = match options.worker.clone().zip(options.run.clone()) {
        Some((name, run)) => work(options, name, run).await.map(|()| ExitCode::SUCCESS),
        None => match Run::prepare(options).await {
            Ok((run, stop)) => run.finish(stop).await,
            Err(error) => {
                complain(&error);
                return ExitCode::from(2);
            }
        },
    };
    worked.unwrap_or_else(|error| {
        complain(&error);
        ExitCode::FAILURE
    })
}

/// One worker, until it is told to stop.
async fn work(options: Options, name: String, run: String) -> Result<(), String> {
    let store = options.store()?.open().await?;
    let effects = effects(&options, &store)?;
    let broker = connect(&options, &run).await?;
    let job = Job { run, name, store, effects, broker, haste: haste(&options) };
    job.work(crew::say, crew::told_to_stop()).await
}

impl Run {
    /// Everything that can be wrong with the options, each as one sentence; and how the run is told to stop, before
    /// anything is made that it would have to delete.
    async fn prepare(mut options: Options) -> Result<(Self, impl Future<Output = u8>), String> {
        let url = options.store()?;
        // What is wrong with a URL is said before anything is made.
        options.broker()?;
        if options.chaos && url == StoreUrl::Memory {
            return Err("`--chaos` kills processes, and `memory:` is in one: write another `--store`".to_owned());
        }
        let id = format!("{:08x}", getrandom::u32().map_err(|error| format!("no randomness: {error}"))?);
        let store = url.open().await?;
        let own = std::env::temp_dir().join(format!("events-{id}.ledger"));
        let is_own = options.ledger.is_none() && matches!(store, AnyStore::Memory(_) | AnyStore::Redis(_));
        if is_own {
            options.ledger = Some(own.clone());
        }
        let prepared = Self::make(id, options, store).await;
        match &prepared {
            Ok((run, _)) if is_own => tell(&run.options, &format!("effects are lines of {}", own.display())),
            // Nobody is told of it, and nothing is in it.
            Err(_) if is_own => drop(std::fs::remove_file(own)),
            _ => {}
        }
        prepared
    }

    /// The ledger, the table and the stream.
    async fn make(id: String, options: Options, store: AnyStore) -> Result<(Self, impl Future<Output = u8>), String> {
        let effects = effects(&options, &store)?;
        if let Some(path) = &options.ledger {
            Ledger::open_ours(path)?;
        }
        effects.create().await.map_err(|error| format!("cannot make the table `events_effects`: {error}"))?;
        let mut broker = connect(&options, &id).await?;
        let stop = signals::stop().map_err(|error| format!("cannot listen to signals: {error}"))?;
        let pace = haste(&options).pace(&effects);
        broker.create(pace).await.map_err(|error| at("cannot make the stream", &options, &error))?;
        let crew = Crew::default();
        Ok((Self { id, options, store, effects, broker, crew }, stop))
    }

    async fn finish(mut self, stop: impl Future<Output = u8>) -> Result<ExitCode, String> {
        let begun = Instant::now();
        let (worked, signal) = tokio::select! {
            worked = self.work_off() => (worked, None),
            signal = stop => (Err("a signal".to_owned()), Some(signal)),
        };
        let stopped = self.crew.stop().await;
        let deleted = self.broker.delete().await.map_err(|error| format!("cannot delete the stream: {error}"));
        if let Some(signal) = signal {
            let ended = stopped.and(deleted).map_or_else(|error| error, |()| "the stream is deleted".to_owned());
            complain(&format!("stopped by signal {signal} before the end: {ended}"));
            return Ok(ExitCode::from(128 + signal));
        }
        let (published, kills, progress) = worked.map_err(|error| match &stopped {
            Ok(()) => error,
            Err(why) => format!("{error}; {why}"),
        })?;
        stopped.and(deleted)?;

        let report = self.report(published, kills, progress, begun.elapsed()).await?;
        if let (Some(path), Effects::Postgres(_) | Effects::Sqlite(_)) = (&self.options.ledger, &self.effects) {
            self.effects.copy_to(&Ledger::open(path)?, &self.id).await?;
        }
        let text = if self.options.json {
            serde_json::to_string(&report).map_err(|error| error.to_string())?
        } else {
            report.to_string()
        };
        writeln!(io::stdout(), "{text}").map_err(|error| error.to_string())?;
        Ok(if report.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Until everything is published and acknowledged. How much was published, how many were killed, and what the broker says.
    async fn work_off(&mut self) -> Result<(u64, u64, Progress), String> {
        for number in 1..=self.options.workers.get() {
            self.start(format!("worker-{number}"))?;
        }
        let total = self.options.events.get() as u64 * 2;
        let published = Arc::new(AtomicU64::new(0));
        // It ends with this, for a stream that is deleted must not be filled.
        let mut producer = self.produce(published.clone());
        let mut display = Display::new(total, self.options.json);
        let (mut kills, mut last_kill) = (0, Instant::now());
        let (mut last_open, mut last_change) = (0, Instant::now());
        loop {
            tokio::time::sleep(LOOK).await;
            if let Some(produced) = producer.try_join_next() {
                produced.map_err(|error| error.to_string())??;
            }
            let done = producer.is_empty();
            let now = published.load(Relaxed);
            let progress = self.broker.progress(now).await.map_err(|error| at("the broker", &self.options, &error))?;
            display.show(now, now.saturating_sub(progress.open), kills);
            if done && progress.open == 0 {
                return Ok((now, kills, progress));
            }
            if progress.open != last_open {
                (last_open, last_change) = (progress.open, Instant::now());
            }
            if last_change.elapsed() > STUCK {
                return Err(format!("{} messages are left, and nobody works on them", progress.open));
            }
            kills += self.crew.fill(&self.id, &self.options).await?;
            if self.options.chaos && last_kill.elapsed() >= KILL {
                let which = usize::try_from(kills).unwrap_or_default();
                self.crew.replace(which, &self.id, &self.options).await?;
                (kills, last_kill) = (kills + 1, Instant::now());
            }
        }
    }

    fn start(&mut self, name: String) -> Result<(), String> {
        if !matches!(self.store, AnyStore::Memory(_)) {
            return self.crew.start_process(name, &self.id, &self.options);
        }
        let job = Job {
            run: self.id.clone(),
            name: name.clone(),
            store: self.store.clone(),
            effects: self.effects.clone(),
            broker: self.broker.clone(),
            haste: haste(&self.options),
        };
        self.crew.start_task(name, job);
        Ok(())
    }

    fn produce(&self, published: Arc<AtomicU64>) -> JoinSet<Result<(), String>> {
        let (mut broker, run, events) = (self.broker.clone(), self.id.clone(), self.options.events.get());
        let mut producer = JoinSet::new();
        producer.spawn(async move {
            for first in (0..events).step_by(TOGETHER) {
                let together = first..events.min(first + TOGETHER);
                let confirmed = broker.publish_twice(&run, together).await;
                published.fetch_add(confirmed.map_err(|error| format!("cannot publish: {error}"))?, Relaxed);
            }
            Ok(())
        });
        producer
    }

    async fn report(&self, published: u64, kills: u64, progress: Progress, took: Duration) -> Result<Report, String> {
        let seen = self.crew.seen();
        let count = self.effects.count(&self.id).await.map_err(|error| format!("cannot count effects: {error}"))?;
        let mut exact = vec!["published", "parked", "effects"];
        if kills == 0 {
            exact.extend(["delivered", "redeliveries", "duplicates"]);
        } else if progress.delivered.is_some() {
            exact.extend(["delivered", "redeliveries"]);
        }
        // Every message was delivered a first time, or it would not be acknowledged.
        let delivered = match progress.delivered {
            Some(delivered) => delivered,
            None => seen.delivered.max(published + seen.redelivered),
        };
        Ok(Report {
            events: self.options.events.get() as u64,
            published,
            delivered,
            duplicates: seen.duplicates,
            redeliveries: delivered.saturating_sub(published),
            parked: self.parked().await?,
            effects: count.effects,
            events_with_effect: count.events,
            kills,
            seconds: took.as_secs_f64(),
            ledger: self.options.ledger.clone(),
            exact,
        })
    }

    /// How many events of this run are parked.
    async fn parked(&self) -> Result<u64, String> {
        const PAGE: usize = 500;
        let idempotency = idem_runtime::Idempotency::builder_shared(self.store.shared()).shared().build();
        let consumer = idempotency.consumer(haste(&self.options).policy());
        let own = format!("{}-", self.id);
        let (mut parked, mut page) = (0, consumer.parked(PAGE).await.map_err(|error| error.to_string())?);
        loop {
            parked += page.iter().filter(|event| event.id().is_some_and(|id| id.starts_with(&own))).count() as u64;
            let (Some(last), PAGE) = (page.last(), page.len()) else { return Ok(parked) };
            page = consumer.parked_after(last, PAGE).await.map_err(|error| error.to_string())?;
        }
    }
}

async fn connect(options: &Options, run: &str) -> Result<Broker, String> {
    let connected = Broker::connect(&options.broker()?, run).await;
    connected.map_err(|error| at("cannot use the broker", options, &error))
}

/// What went wrong with the broker, and which one it is, in one line.
fn at(what: &str, options: &Options, error: &broker::Failure) -> String {
    let place = options.broker().map(|url| url.to_string()).unwrap_or_default();
    format!("{what}: {place}: {}", one_line(&error.to_string()))
}

/// Where effects go. A worker comes to the same answer as the process that started it.
fn effects(options: &Options, store: &AnyStore) -> Result<Effects, String> {
    let rows = match store {
        AnyStore::Postgres(_, pool) | AnyStore::Tiered(_, pool) => Some(Effects::Postgres(pool.clone())),
        AnyStore::Sqlite(store) => Some(Effects::Sqlite(store.pool().clone())),
        AnyStore::Memory(_) | AnyStore::Redis(_) => None,
    };
    match (rows, &options.ledger) {
        (None, _) if options.transactional => {
            Err("`--transactional` needs a database: write `--store sqlite:PATH` or `--store postgres://..`".to_owned())
        }
        (Some(_), Some(path)) if !options.transactional && !options.chaos => Ok(Effects::Lines(Ledger::open(path)?)),
        (Some(rows), _) => Ok(rows),
        (None, Some(path)) => Ok(Effects::Lines(Ledger::open(path)?)),
        (None, None) => Err("effects that are lines need a `--ledger`".to_owned()),
    }
}

const fn haste(options: &Options) -> Haste {
    if options.chaos { Haste::Chaos } else { Haste::Calm }
}

/// To stderr, unless only the report is wanted.
fn tell(options: &Options, what: &str) {
    if !options.json {
        let _ = writeln!(io::stderr(), "{what}");
    }
}

/// To stderr, and never a panic: it may be closed.
fn complain(what: &str) {
    let _ = writeln!(io::stderr(), "error: {what}");
}
