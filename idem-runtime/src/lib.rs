//! Runtime.
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod fingerprint;
mod key;
mod policy;
mod record;
pub mod store;

pub use self::{
    clock::{Clock, FakeClock, SystemClock},
    fingerprint::Fingerprint,
    key::{KeyRequest, KeySource, Principal, StorageKey, ToKey},
    policy::{FingerprintRule, KeySpace, Missing, OnAbandoned, OnConflict, OnStoreError, Policy, StoreRule},
    record::Answer,
    store::{MemoryStore, Store},
};
