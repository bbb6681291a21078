//! A payments service that cannot charge twice: what a service guarded by idem looks like from start to end.
//!
//! | file | what |
//! |---|---|
//! | this one | the parts put together: store, runtime, router, shutdown |
//! | `routes` | the handlers; above each, the attribute that guards it |
//! | `transfers` | more handlers: the ones whose effect is in the same database as their answers |
//! | `caller` | who calls, and so whose keys they are |
//! | `psp` | the payment provider, a sandbox that moves no money |
//! | `ledger` | what happened, one line per effect |
//! | `api` | JSON in, problems out |
//! | `cli` | flags and environment |

mod api;
mod caller;
mod cli;
mod ledger;
mod psp;
mod routes;
mod transfers;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use axum::{Router, extract::FromRef};
use idem_runtime::Idempotency;
use tokio::net::TcpListener;

use self::{api::ApiError, ledger::Ledger, psp::Psp};
use crate::{signals, stores::StoreUrl};

pub use self::cli::Options;

/// How long a stopping service waits for its callers, and then for the operations whose callers are gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// What every handler can reach. idem finds its runtime in it through `FromRef`.
#[derive(Debug, Clone)]
struct App {
    idempotency: Idempotency,
    ledger: Arc<Ledger>,
    psp: Psp,
}

impl FromRef<App> for Idempotency {
    fn from_ref(app: &App) -> Self {
        app.idempotency.clone()
    }
}

/// A service that only has to be served.
struct Started {
    listener: TcpListener,
    router: Router,
    idempotency: Idempotency,
    store: StoreUrl,
    ledger: Option<PathBuf>,
}

/// Serves until SIGTERM or SIGINT, then lets what runs finish.
///
/// Exits with 2 when the options do not work, with 1 when serving failed or something was left: a caller who did not
/// finish sending or reading, or an operation that was still running.
pub async fn run(options: Options) -> ExitCode {
    let started = match start(options).await {
        Ok(started) => started,
        Err(error) => {
            complain(&error);
            return ExitCode::from(2);
        }
    };
    serve(started).await.unwrap_or_else(|error| {
        complain(&error.to_string());
        ExitCode::FAILURE
    })
}

/// Everything that can be wrong with the options, each as one sentence.
async fn start(options: Options) -> Result<Started, String> {
    let url = options.store()?;
    let store = url.open().await?;
    // One decision for the whole service: a key belongs to the caller who sent it.
    let idempotency = Idempotency::builder_shared(store.shared())
        .principal_from_fn(|request| caller::name(&request.headers).map(str::to_owned))
        .build();
    let transfers =
        transfers::router(idempotency.clone(), &store).await.map_err(|e| format!("cannot make the accounts: {e}"))?;
    let path = options.ledger(&url);
    let ledger = Arc::new(match &path {
        Some(path) => Ledger::open(path).map_err(|e| format!("cannot open the ledger `{}`: {e}", path.display()))?,
        None => Ledger::in_memory(),
    });
    let listener =
        TcpListener::bind(&options.listen).await.map_err(|e| format!("cannot listen on `{}`: {e}", options.listen))?;
    let app = App { idempotency: idempotency.clone(), psp: Psp::new(ledger.clone()), ledger };
    let router = routes::router(app)
        .merge(transfers)
        .fallback(async || ApiError::NoSuchPath)
        .method_not_allowed_fallback(async || ApiError::NoSuchMethod);
    Ok(Started { listener, router, idempotency, store: url, ledger: path })
}

async fn serve(started: Started) -> io::Result<ExitCode> {
    let Started { listener, router, idempotency, store, ledger } = started;
    // Before anybody is told that the service is there: from then on a signal stops it in good order.
    let (stop, stopping) = (signals::stop()?, signals::stop()?);
    let address = listener.local_addr()?;
    let ledger = ledger.map_or("memory, forgotten on exit".to_owned(), |path| path.display().to_string());
    // Whoever started this may be waiting for the line, so it must not stay in a buffer.
    let mut out = io::stdout();
    writeln!(out, "listening on http://{address}\nstore: {store}\nledger: {ledger}").and_then(|()| out.flush())?;

    let server = axum::serve(listener, router).with_graceful_shutdown(async { _ = stop.await });
    let impatience = async {
        stopping.await;
        tokio::time::sleep(PATIENCE).await;
    };
    let callers_finished = tokio::select! {
        served = server => served.map(|()| true)?,
        () = impatience => false,
    };

    // The server does not know of operations whose caller hung up. They finish here, or their keys stay in flight.
    let drained = idempotency.drain(PATIENCE).await;
    if !callers_finished {
        complain("some callers did not finish in time");
    }
    if !drained.finished {
        complain(&format!("{} operations were still running", drained.left));
    }
    Ok(if callers_finished && drained.finished { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// To stderr, and never a panic: it may be closed.
fn complain(what: &str) {
    let _ = writeln!(io::stderr(), "error: {what}");
}
