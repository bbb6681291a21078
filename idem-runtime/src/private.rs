//! All that generated code may name. Not part of the public API: it changes with the macros, which are pinned to this version.

pub use axum::response::Response;

pub use crate::http::{
    guarded::{
        ArgumentKey, Endpoint, FromExtension, FromState, Guarded, KeyChosen, PrincipalText, argument_key, derived_key,
        finds_runtime, function_key, principal, recovering,
    },
    transacted::{IsNoTx, IsTx, Transacted, TxArgument, finds_store},
};
