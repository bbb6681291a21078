//! One request to a service in this process, and what came back.

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

/// What came back.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, or as much as came before it broke.
    pub body: Bytes,
    /// Whether the body broke.
    pub broke: bool,
}

impl Reply {
    /// Whether it says that it is a replay.
    #[must_use]
    pub fn replayed(&self) -> bool {
        self.headers.get("idempotent-replayed").is_some_and(|value| value == "true")
    }

    /// Its body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Its status and, if it is a problem, the problem's code; else whether it is a replay.
    #[must_use]
    pub fn summary(&self) -> String {
        let problem = self.headers.get("content-type").is_some_and(|value| value == "application/problem+json");
        let what = match serde_json::from_slice::<Value>(&self.body) {
            Ok(body) if problem => body["code"].as_str().unwrap_or("a problem without a code").to_owned(),
            _ if self.replayed() => "replay".to_owned(),
            _ => "fresh".to_owned(),
        };
        format!("{} {what}", self.status.as_u16())
    }
}

/// A POST with an idempotency key.
#[must_use]
pub fn post(path: &str, key: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::builder().method(Method::POST).uri(path).header("idempotency-key", key);
    request.body(body.into()).unwrap_or_else(|error| panic!("not a request: {error}"))
}

/// Sends it, and reads what comes back to its end.
pub async fn send(app: &Router, request: Request<Body>) -> Reply {
    let Ok(response) = app.clone().oneshot(request).await;
    read(response).await
}

/// Reads a response to its end.
pub async fn read(response: Response<Body>) -> Reply {
    let (parts, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    let mut broke = false;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend(frame.into_data().unwrap_or_default()),
            Err(_) => {
                broke = true;
                break;
            }
        }
    }
    Reply { status: parts.status, headers: parts.headers, body: bytes.into(), broke }
}
