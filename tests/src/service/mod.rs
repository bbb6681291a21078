//! A service under test: one or more replicas of a router, each on a port and with a runtime of its own, over one store.

mod script;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::FromRef, response::Response};
use http::Method;
use idem_runtime::{Drained, Idempotency, IdempotencyBuilder, IdempotencyLayer, IdempotencySetup, Policy, Store};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

pub use self::script::{Call, Script};
use crate::{
    backend::{Backend, Watched},
    client::{Ask, Client},
};

/// The state of the router.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "named as their types")]
pub struct App {
    pub idempotency: Idempotency,
    pub script: Script,
}

/// The replicas, and the script that their handlers follow.
#[derive(Debug)]
pub struct Service {
    replicas: Vec<Replica>,
    script: Script,
}

/// One process, as far as a test in one process can tell.
#[derive(Debug)]
pub struct Replica {
    client: Client,
    idempotency: Idempotency,
    store: Watched,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

/// A service that is not started yet.
#[expect(missing_debug_implementations, reason = "holds functions")]
#[must_use = "a service does nothing until it is started"]
pub struct Setup<'a> {
    backend: &'a Backend,
    routes: Box<Routes<'a>>,
    runtime: Box<Runtime<'a>>,
    replicas: usize,
    script: Script,
    way: Option<Arc<dyn Store>>,
}

type Routes<'a> = dyn Fn(&Idempotency) -> Router<App> + 'a;
type Runtime<'a> = dyn Fn(IdempotencyBuilder) -> IdempotencySetup + 'a;

impl Service {
    /// One replica of these routes, whose callers are told by the header `x-account`.
    pub async fn start(backend: &Backend, routes: Router<App>) -> Self {
        Self::of(backend, routes).start().await
    }

    /// These routes, to be set up further.
    pub fn of(backend: &Backend, routes: Router<App>) -> Setup<'_> {
        Self::with(backend, move |_| routes.clone())
    }

    /// Routes that are made with the runtime, to be set up further.
    pub fn with<'a>(backend: &'a Backend, routes: impl Fn(&Idempotency) -> Router<App> + 'a) -> Setup<'a> {
        Setup {
            backend,
            routes: Box::new(routes),
            runtime: Box::new(|builder| builder.principal_from_header("x-account")),
            replicas: 1,
            script: Script::new(),
            way: None,
        }
    }

    /// These routes, none of them guarded, under a layer with this policy.
    pub fn layered(backend: &Backend, policy: Policy, routes: Router<App>) -> Setup<'_> {
        Self::with(backend, move |idempotency| routes.clone().layer(IdempotencyLayer::new(idempotency.clone(), policy)))
    }

    /// What the handlers do and have done.
    #[must_use]
    pub fn script(&self) -> &Script {
        &self.script
    }

    /// How often a handler ran, in all replicas.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.script.runs()
    }

    /// The replica of this number, from 0.
    #[must_use]
    pub fn replica(&self, number: usize) -> &Replica {
        &self.replicas[number]
    }

    /// A POST of account `acct_1` to the first replica.
    pub fn post(&self, path: &str) -> Ask {
        self.client().post(path)
    }

    /// A request of account `acct_1` to the first replica.
    pub fn ask(&self, method: Method, path: &str) -> Ask {
        self.client().ask(method, path)
    }

    /// The client of the first replica.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.replicas[0].client
    }

    /// The runtime of the first replica.
    #[must_use]
    pub fn idempotency(&self) -> &Idempotency {
        &self.replicas[0].idempotency
    }

    /// The first replica's way to the store.
    #[must_use]
    pub fn store(&self) -> &Watched {
        &self.replicas[0].store
    }

    /// Stops every replica as a service stops: no more connections, then what still runs.
    ///
    /// # Panics
    ///
    /// If something does not end.
    pub async fn stop(self) {
        for replica in self.replicas {
            replica.stop.send_replace(true);
            drop(replica.client);
            replica.server.await.expect("the server ends");
            let Drained { finished, left, .. } = replica.idempotency.drain(Duration::from_secs(30)).await;
            assert!(finished, "{left} operations do not end");
        }
    }
}

impl Replica {
    /// A client of this replica.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.client.address()
    }

    /// A POST of account `acct_1`.
    pub fn post(&self, path: &str) -> Ask {
        self.client.post(path)
    }

    /// Its runtime.
    #[must_use]
    pub fn idempotency(&self) -> &Idempotency {
        &self.idempotency
    }
}

impl<'a> Setup<'a> {
    /// So many replicas.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// Runtimes that are built like this.
    pub fn runtime(mut self, build: impl Fn(IdempotencyBuilder) -> IdempotencySetup + 'a) -> Self {
        self.runtime = Box::new(build);
        self
    }

    /// Handlers that follow the script of another service.
    pub fn script(mut self, script: &Script) -> Self {
        self.script = script.clone();
        self
    }

    /// Replicas that all reach their records by this store.
    pub fn behind(mut self, way: impl Store) -> Self {
        self.way = Some(Arc::new(way));
        self
    }

    /// Starts it.
    pub async fn start(self) -> Service {
        let mut replicas = Vec::new();
        for _ in 0..self.replicas {
            let store = match &self.way {
                Some(way) => Watched::new(way.clone()),
                None => Watched::new(self.backend.connect().await),
            };
            let idempotency = (self.runtime)(Idempotency::builder(store.clone())).build();
            let app = App { idempotency: idempotency.clone(), script: self.script.clone() };
            let router = (self.routes)(&idempotency).with_state(app);
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let client = Client::new(listener.local_addr().expect("an address"));
            let (stop, mut stopped) = watch::channel(false);
            let server = tokio::spawn(async move {
                let stopped = async move { drop(stopped.wait_for(|stop| *stop).await) };
                axum::serve(listener, router).with_graceful_shutdown(stopped).await.expect("a server");
            });
            replicas.push(Replica { client, idempotency, store, stop, server });
        }
        Service { replicas, script: self.script }
    }
}

impl App {
    /// What a handler does when it runs.
    pub async fn run(&self, call: Call) -> Response {
        self.script.run(call).await
    }
}

impl FromRef<App> for Idempotency {
    fn from_ref(app: &App) -> Self {
        app.idempotency.clone()
    }
}
