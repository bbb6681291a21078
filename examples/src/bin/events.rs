//! Events that are delivered again and again, and take effect once. `--help` names every option.

use std::process::ExitCode;

use clap::Parser as _;
use examples::events::{self, Options};

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::WARN).init();
    events::run(Options::parse()).await
}
