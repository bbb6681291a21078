//! Runtime.
mod canonical_json;
mod clock;
mod derive;
mod fingerprint;
mod http;
mod key;
mod policy;
mod record;
pub mod store;

pub use self::{
    canonical_json::JsonError,
    clock::{Clock, FakeClock, SystemClock},
    derive::{DeriveKeyError, derive_key, python_recipe_key, python_recipe_key_from_json},
    fingerprint::Fingerprint,
    key::{KeyRequest, KeySource, Principal, StorageKey, ToKey},
    policy::{FingerprintRule, KeySpace, Missing, OnAbandoned, OnConflict, OnStoreError, Policy, StoreRule},
    record::Answer,
    store::{MemoryStore, Store},
};
