//! Flags, and the environment variables of the same meaning.

use std::path::PathBuf;

use clap::Parser;

use crate::stores::StoreUrl;

/// A payments service that cannot charge twice.
///
/// Every caller authenticates with `Authorization: Bearer NAME` and sends an `Idempotency-Key` with what must happen once.
#[derive(Parser)]
#[command(name = "payments", version)]
pub struct Options {
    /// Where to listen. Port 0 takes a free one.
    #[arg(long, env = "IDEM_LISTEN", default_value = "127.0.0.1:3000", value_name = "HOST:PORT")]
    pub(super) listen: String,

    /// Where answers are kept: `sqlite:PATH`, `postgres://..`, `redis://..`, `tiered:postgres://..,redis://..`, or `memory:`, which
    /// forgets on exit.
    #[arg(long, env = "IDEM_STORE", hide_env_values = true, default_value = "sqlite:payments.db", value_name = "URL")]
    store: String,

    /// A file that gets one JSON line per effect. Replicas may share it. By default it is beside the SQLite file, otherwise
    /// `payments.ledger`; with `memory:`, effects are forgotten together with their answers.
    #[arg(long, env = "IDEM_LEDGER", value_name = "FILE")]
    ledger: Option<PathBuf>,
}

impl Options {
    /// What `--store` means. The error does not repeat the value: it may hold a password.
    pub(super) fn store(&self) -> Result<StoreUrl, String> {
        self.store.parse().map_err(|error| format!("`--store` names no store: {error}"))
    }

    /// Where effects are written down; `None`: nowhere. It lasts as long as the answers do: a payment that is replayed must not be
    /// missing from the ledger.
    pub(super) fn ledger(&self, store: &StoreUrl) -> Option<PathBuf> {
        match (&self.ledger, store) {
            (Some(path), _) => Some(path.clone()),
            (None, StoreUrl::Memory) => None,
            (None, StoreUrl::Sqlite(database)) => {
                let mut path = database.clone().into_os_string();
                path.push(".ledger");
                Some(path.into())
            }
            (None, _) => Some("payments.ledger".into()),
        }
    }
}

/// Not the store, for its password.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("listen", &self.listen).field("ledger", &self.ledger).finish_non_exhaustive()
    }
}
