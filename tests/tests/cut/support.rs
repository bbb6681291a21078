//! A server whose handlers stand at a gate, and who tells when a request is dropped.

use std::{future::Future, net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::{FromRef, Request, State},
    middleware::{Next, from_fn_with_state},
    response::Response,
    routing::post,
};
use idem_runtime::{Idempotency, IdempotencyLayer, KeySource, Policy, idempotent};
use tests::{
    backend::Backend,
    client::{Client, Reply},
    faulty_store::FaultyStore,
    gate::Gate,
    probe::Runs,
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

pub(crate) const POLICY: Policy = Policy::new("cut").key(&[KeySource::DEFAULT]).financial().validate();

/// Guarded by the attribute, or by the layer; with an argument that reads the body, or without.
pub(crate) const ROUTES: [&str; 4] = ["/attribute/read", "/attribute/unread", "/layer/read", "/layer/unread"];

/// Longer than anything takes here: what is waited for longer does not come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub(crate) struct App {
    pub(crate) idempotency: Idempotency,
    pub(crate) store: FaultyStore,
    pub(crate) runs: Runs,
    /// Where the handlers stand.
    pub(crate) gate: Gate,
    /// Reached when the server has let go of a request, answered or not.
    pub(crate) gone: Gate,
}

impl FromRef<App> for Idempotency {
    fn from_ref(app: &App) -> Self {
        app.idempotency.clone()
    }
}

impl App {
    pub(crate) async fn new(backend: &Backend) -> Self {
        let store = FaultyStore::around(backend.connect().await);
        let idempotency = Idempotency::builder(store.clone()).shared().build();
        Self { idempotency, store, runs: Runs::default(), gate: Gate::new(), gone: Gate::new() }
    }

    pub(crate) fn router(&self) -> Router {
        let layer = IdempotencyLayer::new(self.idempotency.clone(), POLICY);
        Router::new()
            .route("/layer/read", post(bare_read))
            .route("/layer/unread", post(bare_unread))
            .layer(layer)
            .route("/attribute/read", post(read))
            .route("/attribute/unread", post(unread))
            .layer(from_fn_with_state(self.clone(), tell_when_gone))
            .with_state(self.clone())
    }

    /// What began has ended, and a retry gets its answer.
    pub(crate) async fn assert_ran_once(&self, server: &Server, path: &str, key: &str) {
        self.gate.open();
        let drained = self.idempotency.drain(PATIENCE).await;
        assert!(drained.finished, "{drained:?}");
        assert_eq!((self.runs.begun(), self.runs.ended()), (1, 1));
        let retry = server.send(path, key).await;
        assert!(retry.is_replay(), "{retry}");
        assert_eq!((retry.status.as_u16(), retry.text().as_str()), (200, "paid"));
        assert_eq!((self.runs.begun(), self.runs.ended()), (1, 1));
    }
}

#[idempotent(scope = "cut", key = from_header, financial)]
async fn read(State(app): State<App>, body: String) -> &'static str {
    charge(app, body).await
}

#[idempotent(scope = "cut", key = from_header, financial)]
async fn unread(State(app): State<App>) -> &'static str {
    charge(app, BODY.to_owned()).await
}

async fn bare_read(State(app): State<App>, body: String) -> &'static str {
    charge(app, body).await
}

async fn bare_unread(State(app): State<App>) -> &'static str {
    charge(app, BODY.to_owned()).await
}

async fn charge(app: App, body: String) -> &'static str {
    app.runs.begin();
    assert_eq!(body, BODY);
    app.gate.pass().await;
    app.runs.end();
    "paid"
}

async fn tell_when_gone(State(app): State<App>, request: Request, next: Next) -> Response {
    struct Gone(Gate);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.mark();
        }
    }
    let _gone = Gone(app.gone);
    next.run(request).await
}

/// `axum::serve`, on a port of its own.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

pub(crate) const BODY: &str = r#"{"amount":1999}"#;

impl Server {
    pub(crate) async fn start(router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let stopped = async move { drop(stopped.await) };
        let serve = axum::serve(listener, router).with_graceful_shutdown(stopped);
        Self { address, stop: Some(stop), task: tokio::spawn(async move { serve.await.unwrap() }) }
    }

    /// A connection with this request on it, written whole.
    pub(crate) async fn open(&self, path: &str, key: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(&request(path, key)).await.unwrap();
        stream
    }

    /// The same request on a connection of its own, and its answer.
    pub(crate) async fn send(&self, path: &str, key: &str) -> Reply {
        Client::new(self.address).post(path).key(key).header("content-type", "application/json").body(BODY).send().await
    }

    /// No more connections, and the end of those there are.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        soon(self.task).await.unwrap();
    }
}

/// A request as bytes.
pub(crate) fn request(path: &str, key: &str) -> Vec<u8> {
    let length = BODY.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nidempotency-key: {key}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{BODY}"
    )
    .into_bytes()
}

/// What comes within the time that anything takes here.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it comes to an end")
}
