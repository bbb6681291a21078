//! The speed command: subjects, load, report.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the report of a command")]

mod load;
mod report;
mod servers;
mod subject;

use std::{process::ExitCode, time::Duration};

use clap::Parser;

use self::{
    load::Keys,
    report::Report,
    servers::{Redis, Server},
    subject::Subject,
};

/// Measures guarded against bare.
#[derive(Debug, Parser)]
struct Options {
    /// How long each subject is loaded in each round.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// How many rounds; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Open connections.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Serve one subject instead, on a free port. The command starts itself with this.
    #[arg(long, hide = true, requires = "redis")]
    serve: Option<Subject>,
    /// The Redis that `serve` uses.
    #[arg(long, hide = true)]
    redis: Option<String>,
}

/// What is measured of each subject.
const MEASURED: [(Subject, Keys); 10] = [
    (Subject::Bare, Keys::New),
    (Subject::Memory, Keys::New),
    (Subject::Memory, Keys::Same),
    (Subject::Layer, Keys::New),
    (Subject::Layer, Keys::Same),
    (Subject::Floor, Keys::New),
    (Subject::Redis, Keys::New),
    (Subject::Floor, Keys::Same),
    (Subject::Redis, Keys::Same),
    (Subject::Bare, Keys::Same),
];

/// The whole command.
pub async fn main() -> ExitCode {
    let options = Options::parse();
    let result = match (options.serve, &options.redis) {
        (Some(subject), Some(redis)) => subject.serve(redis).await,
        _ => measure(&options).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("speed: {error}");
            ExitCode::FAILURE
        }
    }
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

async fn measure(options: &Options) -> Result<()> {
    let redis = Redis::start().await?;
    let mut report = Report::new(&MEASURED);
    let time = Duration::from_secs(options.seconds);
    for round in 0..options.rounds {
        for (row, (subject, keys)) in MEASURED.iter().enumerate() {
            // A fresh process for each turn: what the last one stored slows nobody down.
            let server = Server::start(*subject, redis.url()).await?;
            load::run(server.address(), *keys, options.connections, Duration::from_millis(300)).await?;
            redis.reset().await?;
            let cpu = server.cpu_time()?;
            let load = load::run(server.address(), *keys, options.connections, time).await?;
            report.add(row, &load, redis.commands().await?, server.cpu_time()? - cpu);
            eprintln!("round {}, {subject} {keys}: {:.0} requests/s", round + 1, load.per_second());
        }
    }
    report.print();
    Ok(())
}
