//! Events that are delivered again and again, and take effect once. `--help` names every option.

use std::process::ExitCode;

use clap::Parser as _;
use examples::events::{self, Options};

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    // What is wrong with the store, one process says for all.
    let level = if options.is_worker() { tracing::Level::ERROR } else { tracing::Level::WARN };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level).init();
    events::run(options).await
}
