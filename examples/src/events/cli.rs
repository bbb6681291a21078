//! Flags, and the environment variables of the same meaning.

use std::{fmt, num::NonZeroUsize, path::PathBuf};

use clap::Parser;

use crate::stores::{self, StoreUrl};

/// Publishes events, each of them twice, and lets workers handle them: each takes effect once.
///
/// It ends by itself when everything is acknowledged, says what happened, and exits with 1 if there are not as many effects
/// as events. SIGTERM or Ctrl-C lets the workers finish what they have in hand, and deletes the stream.
///
/// Where the store is a database, an effect is a row of the table `events_effects` in it, written in one transaction with
/// the event's record: not even a killed worker doubles or loses it. Else an effect is a line of the ledger: there, a worker that
/// is killed after it has written the line and before the store knows leaves an event that is run again once its lease is
/// out, and a second line. That is what `--chaos` shows on `redis:`.
#[derive(Parser, Clone)]
#[command(name = "events", version)]
pub struct Options {
    /// Who delivers: `redis://[[USER]:PASSWORD@]HOST[:PORT]` or `nats://[USER:PASSWORD@]HOST[:PORT]`.
    #[arg(
        long,
        env = "IDEM_BROKER",
        hide_env_values = true,
        value_name = "URL",
        default_value = "redis://127.0.0.1:6379"
    )]
    broker: String,

    /// Where records are kept: `memory:`, `sqlite:PATH`, `redis://..`, `postgres://..` or `tiered:postgres://..,redis://..`.
    #[arg(long, env = "IDEM_STORE", hide_env_values = true, value_name = "URL", default_value = "sqlite:events.db")]
    store: String,

    /// How many events; each is published twice.
    #[arg(long, default_value = "1000", value_name = "N")]
    pub(super) events: NonZeroUsize,

    /// How many workers: each a process of its own, but tasks of this one with `memory:`, which no process shares.
    #[arg(long, default_value = "4", value_name = "N")]
    pub(super) workers: NonZeroUsize,

    /// A file that gets one JSON line per effect, without waiting for the disk: it outlives a killed worker, not a power cut.
    /// With effects that are rows it gets them in the end. Default, where lines are needed: a new file, which is named.
    #[arg(long, env = "IDEM_LEDGER", value_name = "FILE")]
    pub(super) ledger: Option<PathBuf>,

    /// Kills a worker with SIGKILL every second and starts another in its place, as for one that somebody else has killed.
    #[arg(long)]
    pub(super) chaos: bool,

    /// Insists on effects that are rows. Chosen by itself where the store is a database, unless there is a `--ledger`
    /// and no `--chaos`.
    #[arg(long)]
    pub(super) transactional: bool,

    /// Prints the report alone, as JSON.
    #[arg(long)]
    pub(super) json: bool,

    /// What a worker is told: whose events they are.
    #[arg(long, hide = true, requires = "worker")]
    pub(super) run: Option<String>,

    /// What a worker is told: its name.
    #[arg(long, hide = true, requires = "run")]
    pub(super) worker: Option<String>,
}

/// A checked `--broker`.
pub(super) enum BrokerUrl {
    Redis(String),
    Nats(String),
}

/// Names the place, and no password.
impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redis(url) => write!(f, "redis, {}", stores::place(url)),
            Self::Nats(url) => write!(f, "nats, {}", stores::place(url)),
        }
    }
}

impl Options {
    /// What `--broker` means. The error does not repeat the value: it may hold a password.
    pub(super) fn broker(&self) -> Result<BrokerUrl, String> {
        match self.broker.split_once("://") {
            Some(("redis" | "rediss", _)) => Ok(BrokerUrl::Redis(self.broker.clone())),
            Some(("nats" | "tls", _)) => Ok(BrokerUrl::Nats(self.broker.clone())),
            _ => Err("`--broker` is none that there is: write `redis://HOST:PORT` or `nats://HOST:PORT`".to_owned()),
        }
    }

    /// What `--store` means. The error does not repeat the value either.
    pub(super) fn store(&self) -> Result<StoreUrl, String> {
        self.store.parse().map_err(|error| format!("`--store` is none that there is: {error}"))
    }

    /// Whether this is a worker that another process started.
    #[must_use]
    pub fn is_worker(&self) -> bool {
        self.worker.is_some()
    }

    /// What a worker finds in its environment, where no list of processes shows it.
    pub(super) fn environment(&self) -> [(&'static str, &str); 2] {
        [("IDEM_BROKER", &self.broker), ("IDEM_STORE", &self.store)]
    }
}

/// Not the URLs, for their passwords.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("events", &self.events)
            .field("workers", &self.workers)
            .field("ledger", &self.ledger)
            .field("chaos", &self.chaos)
            .finish_non_exhaustive()
    }
}
