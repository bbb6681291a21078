//! How much of a handler's speed the guard leaves, in one run:
//!
//! ```text
//! cargo run --release -p examples --bin speed
//! ```
//!
//! Every subject is a process of its own that serves `POST /charge`; all are loaded in turn, round robin, over 32 connections by one
//! thread, and the median round counts. Memory is compared with the bare handler, Redis with a floor: the bare handler
//! plus `SET NX GET` and `SET`, or one `SET NX GET` for a replay.

use std::process::ExitCode;

use examples::speed;

fn main() -> ExitCode {
    speed::main()
}
