//! All that generated code may name. Not part of the public API: it changes with the macros, which are pinned to this version.

pub use axum::response::Response;

pub use crate::consumer::attribute::{
    FromConsumeError, Payload, bytes_payload, consume, consume_in_place, json_payload, no_payload, runtime,
};
pub use crate::http::{
    guarded::{
        ArgumentKey, Endpoint, FromExtension, FromState, Guarded, KeyChosen, PrincipalText, argument_key, derived_key,
        finds_runtime, function_fingerprint, function_key, principal, recovering,
    },
    transacted::{IsNoTx, IsTx, Transacted, TxArgument, finds_store},
};
