//! The guard as a tower layer, around any service or a whole router.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{BoxError, body::Body, extract::Request, response::Response};
use bytes::Bytes;
use http::Method;
use http_body::Body as HttpBody;
use tower_layer::Layer;
use tower_service::Service;

use super::{guarded::AttemptSlot, request::prepare, serve};
use crate::{
    Idempotency, Policy,
    engine::{Slot, fill},
    policy::Missing,
};

/// Guards every POST, PUT, PATCH and DELETE of the service it is put around; other methods pass untouched.
///
/// Without a `key` in the policy the key is the `Idempotency-Key` header, opt-in per request.
///
/// ```
/// use axum::{Router, routing::post};
/// use idem_runtime::{Idempotency, IdempotencyLayer, MemoryStore, Policy};
///
/// let idempotency = Idempotency::builder(MemoryStore::new()).principal_from_header("x-account").build();
/// let app: Router = Router::new()
///     .route("/payments", post(async || "paid"))
///     .layer(IdempotencyLayer::new(idempotency, Policy::new("api")).required());
/// ```
#[derive(Debug, Clone)]
pub struct IdempotencyLayer {
    runtime: Idempotency,
    policy: Policy,
}

/// A service under an [`IdempotencyLayer`].
#[derive(Debug, Clone)]
pub struct IdempotencyService<S> {
    inner: S,
    layer: IdempotencyLayer,
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
        IdempotencyService { inner, layer: self.clone() }
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

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The service that was polled ready is the one to call; its clone waits for the next request.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
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
    Ok(inner.call(request).await?.map(Body::new))
}

async fn guard<S, R>(layer: IdempotencyLayer, inner: S, request: Request) -> Result<Response, S::Error>
where
    S: Service<Request, Response = Response<R>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let IdempotencyLayer { runtime, policy } = layer;
    let (mut parts, body) = request.into_parts();
    let (prepared, body) = match prepare(&runtime, &policy, &mut parts, body, true).await {
        Ok(prepared) => prepared,
        Err(refused) => return Ok(refused),
    };
    let mut request = Request::from_parts(parts, body);
    let Some(prepared) = prepared else {
        return pass(inner, request).await;
    };
    let operation = match prepared.operation(&runtime, &policy, |_| Ok(None), || None) {
        Ok(Some(operation)) => operation,
        Ok(None) => return pass(inner, request).await,
        Err(rejection) => return Ok(rejection.into()),
    };
    serve(&runtime, &policy, &operation, move |won| {
        let slot = Slot::default();
        fill(&slot, won.clone());
        request.extensions_mut().insert(AttemptSlot(slot));
        pass(inner, request)
    })
    .await
}
