#![doc = include_str!("../README.md")]
// What needs which feature, on docs.rs, which has the nightly that knows it.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod apart;
mod canonical_json;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod consumer;
mod decode;
mod derive;
mod digest;
mod engine;
mod fingerprint;
mod http;
mod key;
#[cfg(feature = "__bench")]
#[doc(hidden)]
pub mod measured;
mod per_thread;
mod policy;
#[doc(hidden)]
pub mod private;
mod record;
mod recovery;
mod runtime;
pub mod store;

pub use idem_macros::{financial, idempotent, idempotent_consumer};

pub use self::{
    canonical_json::JsonError,
    clock::{Clock, FakeClock, SystemClock},
    consumer::{ConsumeError, Consumer},
    derive::{DeriveKeyError, derive_key, python_recipe_key, python_recipe_key_from_json},
    engine::{Attempt, DetachedRun, Drained, Metrics, Refusal, Tx},
    fingerprint::Fingerprint,
    http::{Code, Disposition, FinancialRouter, HasKeySource, IdempotencyLayer, IdempotencyService, Rejection},
    key::{KeyRequest, KeySource, Principal, StorageKey, ToKey},
    policy::{FingerprintRule, KeySpace, Missing, OnAbandoned, OnConflict, OnStoreError, Policy, StoreRule},
    record::Answer,
    recovery::{LostAttempt, Recover, Recovering, Settlement, Unsettled},
    runtime::{ExecuteError, Executed, Idempotency, IdempotencyBuilder, IdempotencySetup, Operation},
    store::{MemoryStore, Store},
};

#[cfg(feature = "postgres")]
pub use self::store::PostgresStore;
#[cfg(feature = "redis")]
pub use self::store::RedisStore;
#[cfg(feature = "sqlite")]
pub use self::store::SqliteStore;
#[cfg(all(feature = "redis", any(feature = "postgres", feature = "sqlite")))]
pub use self::store::TieredStore;
