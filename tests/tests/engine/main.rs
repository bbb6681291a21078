//! What the engine does when the store, the handler or the caller fails. Time is the runtime's own, and stands still.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what goes wrong here fails a test")]

mod blocks;
mod broken_records;
mod chain;
mod claim;
mod completion;
mod cut;
mod drain;
mod lease;
mod limits;
mod operator;
mod panic;
mod recover;
mod renew_for;
mod spans;
mod standing;
mod store_down_run;
mod support;
mod surroundings;
mod wait;
