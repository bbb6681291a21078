//! Reading JSON by code of the user's, which may do anything.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use serde::de::DeserializeOwned;

/// Why bytes are not what they should be.
#[derive(Debug)]
pub(crate) enum Undecodable {
    Json(serde_json::Error),
    /// A `Deserialize` panicked. Events beside this one must not suffer for it.
    Panicked,
}

pub(crate) fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T, Undecodable> {
    // Unwind safe: nothing is kept of what panicked.
    let decoded = catch_unwind(AssertUnwindSafe(|| serde_json::from_slice(json)));
    decoded.map_err(|_| Undecodable::Panicked)?.map_err(Undecodable::Json)
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => error.fmt(f),
            Self::Panicked => f.write_str("it panicked as it was decoded"),
        }
    }
}
