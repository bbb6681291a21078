//! What the handlers do, and what they have done: chosen and read by the test, shared by all replicas.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    extract::{FromRequest, OriginalUri, Request},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri, header};
use tokio::sync::watch;

/// Clones are one.
#[derive(Clone)]
pub struct Script(Arc<Shared>);

struct Shared {
    calls: watch::Sender<Vec<Call>>,
    answer: Mutex<Arc<Answer>>,
    door: watch::Sender<Door>,
}

type Answer = dyn Fn(usize, &Call) -> Response + Send + Sync;

/// A request as it came to a handler.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "named as the parts of a request")]
pub struct Call {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Whether a handler that has begun may go on.
#[derive(Debug, Clone, Copy)]
enum Door {
    Open,
    Held {
        /// How many may go on all the same.
        passes: usize,
    },
}

const PATIENCE: Duration = Duration::from_secs(60);

impl Script {
    /// Every run answers 201, with the number of the run in its body and its `Location`.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            calls: watch::Sender::new(Vec::new()),
            answer: Mutex::new(Arc::new(created)),
            door: watch::Sender::new(Door::Open),
        }))
    }

    /// What a handler does when it runs.
    pub async fn run(&self, call: Call) -> Response {
        let answer = self.0.answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut run = 0;
        self.0.calls.send_modify(|calls| {
            calls.push(call.clone());
            run = calls.len();
        });
        self.pass().await;
        answer(run, &call)
    }

    /// From now on a run answers this; it is given the number of the run, from 1.
    pub fn answer(&self, answer: impl Fn(usize, &Call) -> Response + Send + Sync + 'static) {
        *self.0.answer.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(answer);
    }

    /// From now on the runs answer these statuses, one after the other, and the last of them for ever.
    pub fn statuses(&self, statuses: &'static [u16]) {
        self.answer(|run, call| {
            let status =
                statuses.get(run - 1).or(statuses.last()).and_then(|status| StatusCode::from_u16(*status).ok());
            (status.expect("a status"), created(run, call)).into_response()
        });
    }

    /// How often a handler ran.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.0.calls.borrow().len()
    }

    /// What the handlers were called with.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.0.calls.borrow().clone()
    }

    /// From now on a handler stops in its middle, before it answers.
    pub fn hold(&self) {
        self.0.door.send_replace(Door::Held { passes: 0 });
    }

    /// Lets one that is held, or comes to be held, go on.
    pub fn let_one_go(&self) {
        self.0.door.send_modify(|door| {
            if let Door::Held { passes } = door {
                *passes += 1;
            }
        });
    }

    /// Lets all go on.
    pub fn release(&self) {
        self.0.door.send_replace(Door::Open);
    }

    /// Waits until the handlers have begun so many runs.
    ///
    /// # Panics
    ///
    /// If they do not.
    pub async fn begun(&self, runs: usize) {
        let mut calls = self.0.calls.subscribe();
        let begun = tokio::time::timeout(PATIENCE, calls.wait_for(|calls| calls.len() >= runs)).await;
        assert!(matches!(begun, Ok(Ok(_))), "{} of {runs} runs have begun", self.runs());
    }

    async fn pass(&self) {
        let mut door = self.0.door.subscribe();
        loop {
            let mut passed = false;
            self.0.door.send_if_modified(|door| {
                passed = door.take_pass();
                false
            });
            if passed {
                return;
            }
            if door.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("runs", &self.runs()).finish_non_exhaustive()
    }
}

impl Door {
    fn take_pass(&mut self) -> bool {
        match self {
            Self::Open => true,
            Self::Held { passes: 0 } => false,
            Self::Held { passes } => {
                *passes -= 1;
                true
            }
        }
    }
}

impl<S: Send + Sync> FromRequest<S> for Call {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let (method, headers) = (request.method().clone(), request.headers().clone());
        let uri = request.extensions().get::<OriginalUri>().map_or_else(|| request.uri().clone(), |uri| uri.0.clone());
        let body = Bytes::from_request(request, state).await.map_err(IntoResponse::into_response)?;
        Ok(Self { method, uri, headers, body })
    }
}

fn created(run: usize, _: &Call) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json".to_owned()), (header::LOCATION, format!("/things/{run}"))];
    (StatusCode::CREATED, headers, format!(r#"{{"run":{run}}}"#)).into_response()
}
