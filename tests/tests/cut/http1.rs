//! HTTP/1.1: the connection is closed, reset, or closed on one side.

use axum::body::Body;
use tests::{
    backend::Backend,
    faulty_store::{Fault, Step},
    gate::Gate,
    on_every_store,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::*;

on_every_store!(
    a_client_that_is_gone_cuts_nothing,
    a_client_that_is_gone_while_the_store_is_asked_cuts_nothing,
    a_client_that_is_gone_in_its_upload_has_done_nothing,
    a_request_behind_another_is_not_run_twice,
);

/// How a client goes.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// It closes the connection.
    Fin,
    /// It resets the connection.
    Reset,
    /// It closes its side, and goes on reading.
    HalfClose,
}

const WAYS: [Way; 3] = [Way::Fin, Way::Reset, Way::HalfClose];

impl Way {
    async fn go(self, mut stream: TcpStream) -> Option<TcpStream> {
        match self {
            Self::Fin => None,
            Self::Reset => {
                stream.set_zero_linger().unwrap();
                None
            }
            Self::HalfClose => {
                stream.shutdown().await.unwrap();
                Some(stream)
            }
        }
    }
}

async fn a_client_that_is_gone_cuts_nothing(backend: Backend) {
    for path in ROUTES {
        for way in WAYS {
            let app = App::new(&backend).await;
            let key = &format!("{way:?}");
            let server = Server::start(app.router()).await;
            let stream = server.open(path, key).await;
            soon(app.gate.reached()).await;
            let stream = way.go(stream).await;
            // The server has noticed: only now is the handler on its own.
            soon(app.gone.reached()).await;
            assert_eq!(app.idempotency.metrics().detached, 1, "{path}");
            assert_eq!((app.runs.begun(), app.runs.ended()), (1, 0), "{path}");
            if let Some(mut stream) = stream {
                let mut read = Vec::new();
                soon(stream.read_to_end(&mut read)).await.unwrap();
                assert_eq!(read, b"", "{path}");
            }
            server.send(path, key).await.assert_problem(409, "in-flight");
            app.assert_ran_once(&server, path, key).await;
        }
    }
}

/// Gone while the key is claimed, or while the answer is recorded.
async fn a_client_that_is_gone_while_the_store_is_asked_cuts_nothing(backend: Backend) {
    for step in [Step::Claim, Step::Complete] {
        for (when, held) in [("before", Fault::HeldBefore as fn(Gate) -> Fault), ("after", Fault::HeldAfter)] {
            let (path, key) = ("/attribute/read", &format!("{step:?}-{when}"));
            let gate = Gate::new();
            let app = App::new(&backend).await;
            app.gate.open();
            app.store.fail_next(step, held(gate.clone()));
            let server = Server::start(app.router()).await;
            let stream = server.open(path, key).await;
            soon(gate.reached()).await;
            drop(stream);
            soon(app.gone.reached()).await;
            assert_eq!(app.runs.ended(), usize::from(matches!(step, Step::Complete)), "{key}");
            gate.open();
            app.assert_ran_once(&server, path, key).await;
        }
    }
}

/// Nothing has begun, so nothing is stored, and the key is as good as new.
async fn a_client_that_is_gone_in_its_upload_has_done_nothing(backend: Backend) {
    let app = App::new(&backend).await;
    app.gate.open();
    let server = Server::start(app.router()).await;
    for path in ["/attribute/read", "/layer/unread"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let request = request(path, "k");
        stream.write_all(&request[..request.len() - 1]).await.unwrap();
        // The head has arrived, and the body has not: the server is reading it.
        drop(stream);
    }
    soon(app.gone.reached_by(2)).await;
    assert_eq!((app.runs.begun(), backend.records().await), (0, 0));
    assert_eq!(app.idempotency.metrics().detached, 0);
    for path in ["/attribute/read", "/layer/unread"] {
        server.send(path, "k").await.assert_fresh(200);
    }
    assert_eq!(app.runs.ended(), 2);
}

/// hyper does not see a client go behind whose request another one waits, so nothing is cut. The second request is run, or not.
async fn a_request_behind_another_is_not_run_twice(backend: Backend) {
    for path in ["/attribute/read", "/layer/read"] {
        let app = App::new(&backend).await;
        let server = Server::start(app.router()).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&[request(path, "k"), request(path, "behind")].concat()).await.unwrap();
        soon(app.gate.reached()).await;
        drop(stream);
        server.send(path, "k").await.assert_problem(409, "in-flight");
        assert_eq!((app.runs.begun(), app.runs.ended()), (1, 0));
        app.gate.open();
        let first = async {
            loop {
                let retry = server.send(path, "k").await;
                if retry.is_replay() {
                    break retry;
                }
                retry.assert_problem(409, "in-flight");
            }
        };
        assert_eq!(soon(first).await.text(), "paid");
        let behind = || server.send(path, "behind");
        let second = async {
            loop {
                let reply = behind().await;
                if reply.status == 200 {
                    break reply;
                }
                reply.assert_problem(409, "in-flight");
            }
        };
        assert_eq!(soon(second).await.text(), "paid");
        assert!(behind().await.is_replay());
        assert_eq!((app.runs.begun(), app.runs.ended()), (2, 2));
    }
}

/// A server that is told to serve half-closed connections answers on them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_closed_connection_can_be_answered() {
    use hyper_util::{
        rt::{TokioExecutor, TokioIo},
        server::conn::auto,
        service::TowerToHyperService,
    };
    use tower::ServiceExt;

    let backend = Backend::start::<tests::backend::Memory>().await;
    let app = App::new(&backend).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = app.router().map_request(|request: http::Request<hyper::body::Incoming>| request.map(Body::new));
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().half_close(true);
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await.unwrap();
    });
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&request("/attribute/read", "k")).await.unwrap();
    soon(app.gate.reached()).await;
    stream.shutdown().await.unwrap();
    app.gate.open();
    let mut reply = Vec::new();
    soon(stream.read_to_end(&mut reply)).await.unwrap();
    assert!(String::from_utf8_lossy(&reply).ends_with("paid"), "{}", String::from_utf8_lossy(&reply));
    soon(serving).await.unwrap();
    assert_eq!((app.runs.ended(), app.idempotency.metrics().detached), (1, 0));
}
