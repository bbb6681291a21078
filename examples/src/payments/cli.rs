//! Flags, and the environment variables of the same meaning.

use std::path::PathBuf;

use clap::Parser;

/// A payments service that cannot charge twice.
///
/// Every caller authenticates with `Authorization: Bearer NAME` and sends an `Idempotency-Key` with what must happen once.
#[derive(Parser)]
#[command(name = "payments", version)]
pub struct Options {
    /// Where to listen. Port 0 takes a free one.
    #[arg(long, env = "IDEM_LISTEN", default_value = "127.0.0.1:3000", value_name = "HOST:PORT")]
    pub(super) listen: String,

    /// Where answers are kept: `memory:`, which forgets on restart, or `redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]`.
    #[arg(long, env = "IDEM_STORE", hide_env_values = true, default_value = "memory:", value_name = "URL")]
    store: String,

    /// A file that gets one JSON line per effect. Replicas may share it. Without it, effects are kept in memory.
    #[arg(long, env = "IDEM_LEDGER", value_name = "FILE")]
    pub(super) ledger: Option<PathBuf>,
}

/// A checked `--store`.
pub(super) enum StoreUrl {
    Memory,
    Redis(String),
}

impl Options {
    /// What `--store` means. The error does not repeat the value: it may hold a password.
    pub(super) fn store(&self) -> Result<StoreUrl, String> {
        match self.store.split_once(':') {
            Some(("memory", "")) => Ok(StoreUrl::Memory),
            Some(("redis" | "rediss", _)) => Ok(StoreUrl::Redis(self.store.clone())),
            _ => Err("`--store` is neither `memory:` nor a `redis://` URL".to_owned()),
        }
    }
}

/// Not the store, for its password.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("listen", &self.listen).field("ledger", &self.ledger).finish_non_exhaustive()
    }
}
