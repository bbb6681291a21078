//! What every passing case uses: sends requests to a router and looks at what comes back.
#![allow(dead_code, reason = "no case needs everything")]

use axum::{Router, body::Body};
use http::Request;
use idem_runtime::{Idempotency, MemoryStore};
use tower::ServiceExt;

/// A runtime that knows all callers as one.
pub(crate) fn runtime() -> Idempotency {
    Idempotency::builder(MemoryStore::new()).shared().build()
}

/// Runs a future to its end.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// How often a function ran. Clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Runs(std::sync::Arc<std::sync::atomic::AtomicUsize>);

impl Runs {
    pub(crate) fn begin(&self) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}

/// One answer: status, whether it was replayed, body.
pub(crate) type Answer = (u16, bool, String);

/// Sends requests one after the other.
pub(crate) fn send(app: &Router, requests: impl IntoIterator<Item = Request<Body>>) -> Vec<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut answers = Vec::new();
        for request in requests {
            let response = app.clone().oneshot(request).await.expect("an answer");
            let status = response.status().as_u16();
            let replayed = response.headers().contains_key("idempotent-replayed");
            let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
            answers.push((status, replayed, String::from_utf8_lossy(&body).into_owned()));
        }
        answers
    })
}

/// A POST of a JSON body with headers.
pub(crate) fn post(uri: &str, headers: &[(&str, &str)], body: &str) -> Request<Body> {
    let mut request = Request::post(uri).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body.to_owned())).expect("a request")
}

/// Sends the same request twice: it must run once and be replayed with the same bytes.
pub(crate) fn runs_once(app: &Router, request: impl Fn() -> Request<Body>) -> Answer {
    let mut answers = send(app, [request(), request()]).into_iter();
    let (Some(first), Some(second)) = (answers.next(), answers.next()) else { panic!("two answers") };
    assert!(!first.1, "the first request runs: {first:?}");
    assert!(second.1, "the second is a replay: {second:?}");
    assert_eq!((first.0, &first.2), (second.0, &second.2), "with the same answer");
    first
}

/// Sends the same request twice: it must run twice.
pub(crate) fn runs_twice(app: &Router, request: impl Fn() -> Request<Body>) {
    for answer in send(app, [request(), request()]) {
        assert!(!answer.1, "runs: {answer:?}");
    }
}
