//! The handler's own word on one answer.

use axum::response::{IntoResponse, IntoResponseParts, Response, ResponseParts};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};

use crate::{engine::Slot, policy::StoreRule};

/// What becomes of the key after this one answer, whatever the policy's `store` says of its status.
///
/// The status is that of HTTP. An answer of gRPC (`content-type: application/grpc`) is judged by its `grpc-status`, in
/// a header or a trailer: under `definitive` 3, 5, 6, 9, 11 and 12 are kept. Where another protocol says 200 and an
/// error, as GraphQL, JSON-RPC and gRPC-Web do in their bodies, the key is freed by [`Release`](Self::Release). A
/// transaction whose answer is kept is rolled back for an error in a header, not for one in a trailer.
///
/// Part of an answer, like a header:
///
/// ```
/// use axum::{http::StatusCode, response::IntoResponse};
/// use idem_runtime::Disposition;
///
/// async fn charge() -> impl IntoResponse {
///     // The provider hung up after we sent the charge: nobody can tell.
///     (StatusCode::BAD_GATEWAY, Disposition::Unknown, "no answer from the provider")
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disposition {
    /// It is kept and replayed.
    Store,
    /// The key is free: a retry runs. In a transaction, which is rolled back for it, whatever the status says.
    Release,
    /// It may or may not have taken effect: a retry gets 409 `outcome-unknown` until that is settled.
    Unknown,
}

/// Nobody can tell what became of the attempt that this answer is of, unless the answer says so.
#[derive(Clone, Copy)]
struct Doubted;

impl Disposition {
    /// The handler's word, or else what a policy says of the status.
    pub(super) fn of(rule: StoreRule, answer: &Response, trailers: Option<&HeaderMap>) -> Self {
        // It stays with the answer, for a guard around this one.
        if let Some(word) = answer.extensions().get::<Self>() {
            return *word;
        }
        let status = said_status(answer, trailers);
        let stored = match rule {
            StoreRule::All => true,
            StoreRule::Success => is_success(status),
            StoreRule::Definitive => match status.as_u16() {
                401 | 403 | 408 | 425 | 429 => false,
                status => (200..500).contains(&status),
            },
        };
        match stored {
            true => Self::Store,
            false if answer.extensions().get::<Doubted>().is_some() => Self::Unknown,
            false => Self::Release,
        }
    }
}

/// Whether the head of an answer says that its effect took place.
pub(super) fn succeeded(answer: &Response) -> bool {
    is_success(said_status(answer, None))
}

fn is_success(status: StatusCode) -> bool {
    status.is_success() || status.is_redirection()
}

/// The status of an answer. gRPC, where that of HTTP is always 200, says it in a header or, behind a message, in a
/// trailer.
fn said_status(answer: &Response, trailers: Option<&HeaderMap>) -> StatusCode {
    const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
    let headers = answer.headers();
    let speaks_grpc = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if !speaks_grpc {
        return answer.status();
    }
    match headers.get(GRPC_STATUS).or_else(|| trailers?.get(GRPC_STATUS)).map(HeaderValue::as_bytes) {
        None | Some(b"0") => answer.status(),
        // Argument, existence, precondition, range and method: the same request would be answered the same.
        Some(b"3" | b"5" | b"6" | b"9" | b"11" | b"12") => StatusCode::BAD_REQUEST,
        Some(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// An answer with the word of the attempt that it is of, if that was [marked](crate::Attempt::mark_unknown), and not that
/// of a guard inside, which may have kept it.
pub(super) fn marked(mut answer: Response, attempt: Option<&Slot>) -> Response {
    if attempt.is_some_and(Slot::is_unknown) {
        answer.extensions_mut().insert(Doubted);
    } else {
        answer.extensions_mut().remove::<Doubted>();
    }
    answer
}

impl IntoResponseParts for Disposition {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Self::Error> {
        parts.extensions_mut().insert(self);
        Ok(parts)
    }
}

impl IntoResponse for Disposition {
    fn into_response(self) -> Response {
        (self, ()).into_response()
    }
}
