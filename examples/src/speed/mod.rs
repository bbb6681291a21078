//! The speed command: subjects, load, report.
//!
//! A guard is measured against a base in *turns*: base, subject, base, subject, each for half a second, so that whatever
//! else the machine does meets both alike. Each pair of turns gives one ratio, and the median of a row's ratios counts.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the report of a command")]

mod floor;
mod load;
mod postgres;
mod report;
mod servers;
mod sql;
mod subject;

use std::{process::ExitCode, thread, time::Duration};

use clap::Parser;
use tokio::runtime::Builder;

use self::{
    load::{Keys, Load},
    report::{Measured, Report},
    servers::{Server, Servers},
    subject::Subject,
};

/// Measures guarded against bare, and against the least that its store could cost.
#[derive(Debug, Parser)]
struct Options {
    /// How long each turn is, in milliseconds.
    #[arg(long, default_value_t = 500)]
    turn: u64,
    /// How many pairs of turns a row has in each round.
    #[arg(long, default_value_t = 4)]
    turns: usize,
    /// How many rounds, each with processes of its own.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Open connections.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// How many threads a subject has. By default one for each core, less one in rows with a server beside it.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Only rows of these subjects, such as `memory,redis`.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Subject>,
    /// Serve one subject instead, on a free port. The command starts itself with this.
    #[arg(long, hide = true, requires = "place")]
    serve: Option<Subject>,
    /// Where the records of the subject served are kept: a URL or a path.
    #[arg(long, hide = true)]
    place: Option<String>,
}

/// One row of the report.
#[derive(Debug, Clone, Copy)]
struct Pair {
    subject: Subject,
    base: Subject,
    keys: Keys,
}

const fn pair(subject: Subject, base: Subject, keys: Keys) -> Pair {
    Pair { subject, base, keys }
}

impl Pair {
    /// How many threads both serve with: one for each core, as services have, less one where a server keeps a core busy.
    fn threads(&self) -> Result<u16> {
        let cores = u16::try_from(thread::available_parallelism()?.get())?;
        let has_server = [self.subject, self.base].iter().any(|side| side.needs().a_server());
        Ok(if has_server { cores.saturating_sub(1).max(1) } else { cores })
    }
}

/// What is measured, and against what.
const PAIRS: [Pair; 14] = [
    pair(Subject::Memory, Subject::Bare, Keys::New),
    pair(Subject::Memory, Subject::Bare, Keys::Same),
    pair(Subject::Layer, Subject::Bare, Keys::New),
    pair(Subject::Layer, Subject::Bare, Keys::Same),
    pair(Subject::MemoryFloor, Subject::Bare, Keys::New),
    pair(Subject::MemoryFloor, Subject::Bare, Keys::Same),
    pair(Subject::Floor, Subject::Bare, Keys::New),
    pair(Subject::Redis, Subject::Floor, Keys::New),
    pair(Subject::Redis, Subject::Floor, Keys::Same),
    pair(Subject::Postgres, Subject::PostgresFloor, Keys::New),
    pair(Subject::PostgresTransaction, Subject::PostgresByHand, Keys::New),
    pair(Subject::Tiered, Subject::Redis, Keys::Same),
    pair(Subject::Sqlite, Subject::SqliteFloor, Keys::New),
    pair(Subject::SqliteTransaction, Subject::SqliteByHand, Keys::New),
];

/// The whole command.
pub fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("speed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The load has one thread, as `wrk -t1` has: a second would only take the cores from what is measured.
fn run(options: &Options) -> Result<()> {
    match (options.serve, &options.place) {
        (Some(subject), Some(place)) => {
            let mut runtime = Builder::new_multi_thread();
            if let Some(threads) = options.threads {
                runtime.worker_threads(threads.into());
            }
            runtime.enable_all().build()?.block_on(subject.serve(place))
        }
        _ => Builder::new_current_thread().enable_all().build()?.block_on(async {
            tokio::select! {
                measured = measure(options) => measured,
                // The servers are ended on the way out.
                _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
            }
        }),
    }
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

async fn measure(options: &Options) -> Result<()> {
    let wanted = |pair: &Pair| options.only.is_empty() || options.only.contains(&pair.subject);
    let pairs: Vec<Pair> = PAIRS.into_iter().filter(wanted).collect();
    let mut servers = Servers::start(&pairs).await?;
    let mut report = Report::new(&pairs);
    for round in 1..=options.rounds {
        for (row, pair) in pairs.iter().enumerate() {
            // Fresh processes for each round: what the last one stored slows nobody down.
            servers.forget().await?;
            let mut base = Contestant::start(pair.base, pair, &mut servers, options).await?;
            let mut subject = Contestant::start(pair.subject, pair, &mut servers, options).await?;
            for _ in 0..options.turns {
                let (before, after) = (base.turn(&servers).await?, subject.turn(&servers).await?);
                report.add(row, &before, &after);
            }
            eprintln!("round {round}, {} {}: {}", pair.subject, pair.keys, report.ratio(row));
        }
    }
    report.print();
    Ok(())
}

/// One side of a pair: its process, warm.
struct Contestant {
    server: Server,
    keys: Keys,
    connections: usize,
    time: Duration,
}

impl Contestant {
    async fn start(subject: Subject, pair: &Pair, servers: &mut Servers, options: &Options) -> Result<Self> {
        let threads = match options.threads {
            Some(threads) => threads,
            None => pair.threads()?,
        };
        let server = Server::start(subject, &servers.place(subject), threads)?;
        let warm = Duration::from_millis(300);
        load::run(server.address(), pair.keys, options.connections, warm).await?;
        Ok(Self {
            server,
            keys: pair.keys,
            connections: options.connections,
            time: Duration::from_millis(options.turn),
        })
    }

    async fn turn(&mut self, servers: &Servers) -> Result<Measured> {
        servers.reset_count().await?;
        let (cpu, own) = (self.server.cpu_time()?, servers::own_cpu_time()?);
        let load: Load = load::run(self.server.address(), self.keys, self.connections, self.time).await?;
        Ok(Measured {
            load,
            round_trips: servers.round_trips().await?,
            cpu: self.server.cpu_time()? - cpu,
            load_cpu: servers::own_cpu_time()? - own,
        })
    }
}
