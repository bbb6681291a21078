//! A payments service that cannot charge twice. `--help` names every option.

use std::process::ExitCode;

use clap::Parser as _;
use examples::payments::{self, Options};

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    payments::run(Options::parse()).await
}
