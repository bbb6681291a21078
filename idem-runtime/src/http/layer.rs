//! The guard as a tower layer, around any service or a whole router.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    BoxError,
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::TryFutureExt;
use http::Method;
use http_body::Body as HttpBody;
use tower_layer::Layer;
use tower_service::Service;

use super::{disposition::marked, guarded::AttemptSlot, request::prepare, serve};
use crate::{
    Idempotency, Policy,
    engine::{Granted, Slot, fill},
    policy::Missing,
};

/// Guards every POST, PUT, PATCH and DELETE of the service it is put around; other methods pass untouched.
///
/// The service may be any of tower's that takes and gives axum's [`Body`].
///
/// Without a `key` in the policy the key is the `Idempotency-Key` header, opt-in per request.
///
/// The guard itself is always ready. The service inside is waited for when a request is to run, under its claim: what
/// sheds load belongs outside. An `Err` of that service, or of its readiness, is passed on and counts as an operation
/// that broke off: its key is free, or under `on_abandoned` `refuse` and `recover` its outcome is unknown. A layer
/// inside that answers in the place of a handler it has cut off, with 504 say, gives an error answer like any other,
/// which frees the key: time-outs and catch-panic belong outside too.
///
/// ```
/// use axum::{Router, routing::post};
/// use idem_runtime::{Idempotency, IdempotencyLayer, MemoryStore, Policy};
///
/// let idempotency = Idempotency::builder(MemoryStore::new()).principal_from_header("x-account").build();
/// let app: Router = Router::new()
///     .route("/payments", post(async || "paid"))
///     .route_layer(IdempotencyLayer::new(idempotency, Policy::new("api")).required());
/// ```
///
/// `layer` in the place of `route_layer` guards the router's fallback as well: a path that is no route's is refused for want of
/// a key, where it would be 404.
#[derive(Debug, Clone)]
pub struct IdempotencyLayer {
    runtime: Idempotency,
    policy: Policy,
}

/// A service under an [`IdempotencyLayer`].
#[derive(Debug, Clone)]
pub struct IdempotencyService<S> {
    inner: S,
    layer: Arc<IdempotencyLayer>,
}

impl IdempotencyLayer {
    /// A layer that guards under one policy.
    ///
    /// # Panics
    /// As [`Policy::validate`] does, when options contradict each other; and for a policy with `transaction`, because a service takes
    /// no argument to hold one.
    #[must_use]
    pub const fn new(runtime: Idempotency, policy: Policy) -> Self {
        assert!(
            !policy.is_transaction(),
            "a layer cannot hold a `transaction`: write `#[idempotent(.., transaction)]`"
        );
        Self { runtime, policy: policy.validate() }
    }

    /// Refuses a guarded method without a key: 400 `key-missing`.
    #[must_use]
    pub fn required(self) -> Self {
        Self { policy: self.policy.missing(Missing::Reject), ..self }
    }
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = IdempotencyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        IdempotencyService { inner, layer: Arc::new(self.clone()) }
    }
}

impl<S, B, R> Service<Request<B>> for IdempotencyService<S>
where
    S: Service<Request<Body>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    R: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    /// At once: a place in the service inside is taken when a request runs, not while its body comes or it waits for
    /// another.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let inner = self.inner.clone();
        let request = request.map(Body::new);
        if matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH | Method::DELETE) {
            Box::pin(guard(self.layer.clone(), inner, request))
        } else {
            Box::pin(pass(inner, request))
        }
    }
}

async fn pass<S, R>(mut inner: S, request: Request) -> Result<Response, S::Error>
where
    S: Service<Request, Response = Response<R>>,
    R: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    poll_fn(|context| inner.poll_ready(context)).await?;
    Ok(inner.call(request).await?.map(Body::new))
}

fn guard<S, R>(
    layer: Arc<IdempotencyLayer>,
    inner: S,
    request: Request,
) -> impl Future<Output = Result<Response, S::Error>> + Send
where
    S: Service<Request, Response = Response<R>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    // Taken apart before the future begins, which would keep room for the whole beside its parts.
    let (mut parts, body) = request.into_parts();
    async move {
        let IdempotencyLayer { runtime, policy } = &*layer;
        let (prepared, body) = match prepare(runtime, policy, &mut parts, body, true).await {
            Ok(prepared) => prepared,
            Err(refused) => return Ok(refused),
        };
        let operation = match prepared {
            Some(prepared) => prepared.operation(runtime, policy, |_| Ok(None), || None),
            None => Ok(None),
        };
        let slot = Slot::default();
        parts.extensions.insert(AttemptSlot(slot.clone()));
        // In a box: with the request in it, the block of every operation would be too large for the allocator's quick path.
        let passing = Box::pin(pass(inner, Request::from_parts(parts, body)));
        match &operation {
            Err(rejection) => Ok(rejection.clone().into_response()),
            Ok(None) => {
                runtime.engine().fill_unclaimed(&slot);
                passing.await
            }
            Ok(Some(operation)) => {
                let effect = move |granted: Granted<'_>| {
                    fill(&slot, granted.keep());
                    passing.map_ok(move |answer| marked(answer, Some(&slot)))
                };
                serve(runtime, policy, operation, effect).await
            }
        }
    }
}
