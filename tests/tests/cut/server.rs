//! The server itself lets go: an outer time-out, a shutdown.

use std::time::Duration;

use http::StatusCode;
use tests::{backend::Backend, on_every_store};
use tower_http::timeout::TimeoutLayer;

use crate::support::*;

on_every_store!(an_outer_time_out_cuts_nothing, a_shutdown_waits_up_to_its_bound);

async fn an_outer_time_out_cuts_nothing(backend: Backend) {
    for path in ROUTES {
        let app = App::new(&backend).await;
        let layer = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_millis(100));
        let server = Server::start(app.router().layer(layer)).await;
        // On a busy machine the time may be over before the handler has begun: then nothing has.
        while app.runs.begun() == 0 {
            // The handler stands at its gate for as long as it takes.
            let late = server.send(path, "k").await;
            assert!(matches!(late.status.as_u16(), 408 | 409), "{path}: {late}");
        }
        assert_eq!((app.runs.begun(), app.runs.ended()), (1, 0), "{path}");
        let duplicate = server.send(path, "k").await;
        assert!(matches!(duplicate.status.as_u16(), 408 | 409), "{duplicate}");
        assert_eq!(app.runs.begun(), 1);
        app.assert_ran_once(&server, path, "k").await;
    }
}

/// The server ends, since the one connection is gone; the operation does not, and is waited for by who drains.
async fn a_shutdown_waits_up_to_its_bound(backend: Backend) {
    for path in ROUTES {
        let app = App::new(&backend).await;
        let server = Server::start(app.router()).await;
        drop({
            let stream = server.open(path, "k").await;
            soon(app.gate.reached()).await;
            stream
        });
        soon(app.gone.reached()).await;
        server.stop().await;
        assert_eq!((app.runs.begun(), app.runs.ended()), (1, 0), "the server does not wait for it");
        let drained = app.idempotency.drain(Duration::from_millis(50)).await;
        assert_eq!((drained.finished, drained.left), (false, 1));

        let waiting = tokio::spawn({
            let idempotency = app.idempotency.clone();
            async move { idempotency.drain(PATIENCE).await }
        });
        app.gate.open();
        let drained = soon(waiting).await.unwrap();
        assert_eq!((drained.finished, drained.left, app.runs.ended()), (true, 0, 1));

        // As after a restart.
        let next = App::new(&backend).await;
        let server = Server::start(next.router()).await;
        let retry = server.send(path, "k").await;
        assert!(retry.is_replay(), "{retry}");
        assert_eq!((retry.text().as_str(), next.runs.begun()), ("paid", 0));
    }
}
