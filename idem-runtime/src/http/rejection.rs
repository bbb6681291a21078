//! Refusals on the wire: problem+json ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)), never with a key or a body in them.

use std::{fmt, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};

use super::Disposition;
use crate::{engine::Refusal, key::KeySource, policy::Policy};

/// A request was refused before the handler ran, or there is no answer to give to it.
///
/// It answers with problem+json, and is itself among the extensions of that response: a layer around the guard finds it there, and may
/// say the same in a format of its own. Nothing else has it, be it an answer of the handler with the same status or a replay.
///
/// ```
/// use axum::{Json, Router, middleware::map_response, response::{IntoResponse, Response}, routing::post};
/// use http::header::RETRY_AFTER;
/// use idem_runtime::{Idempotency, MemoryStore, Rejection, idempotent};
/// use serde_json::json;
///
/// async fn in_our_format(response: Response) -> Response {
///     let Some(refused) = response.extensions().get::<Rejection>() else { return response };
///     let error = json!({ "error": refused.code().as_str(), "message": refused.detail() });
///     let mut restyled = (refused.status(), Json(error)).into_response();
///     if let Some(pause) = refused.retry_after() {
///         restyled.headers_mut().insert(RETRY_AFTER, pause.as_secs().into());
///     }
///     // For whoever looks further out, another guard among them.
///     *restyled.extensions_mut() = response.extensions().clone();
///     restyled
/// }
///
/// #[idempotent(scope = "payments", key = from_header)]
/// async fn pay() -> &'static str {
///     "paid"
/// }
///
/// let idempotency = Idempotency::builder(MemoryStore::new()).shared().build();
/// let app: Router =
///     Router::new().route("/payments", post(pay)).layer(map_response(in_our_format)).with_state(idempotency);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Rejection {
    code: Code,
    detail: Detail,
    retryable: bool,
}

/// The sentence of a refusal.
#[derive(Debug, Clone, Copy)]
enum Detail {
    Said(&'static str),
    /// There is no key in any of these places, which the author of the service named.
    NoKeyIn(&'static [KeySource]),
}

/// Why a request was refused: the `code` of the problem, and the end of its `type`, `urn:idempotency:<code>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// 400 `key-missing`: the operation needs a key.
    KeyMissing,
    /// 400 `key-invalid`: the key is not of the form it must have.
    KeyInvalid,
    /// 400 `principal-missing`: nobody can tell whose key it is.
    PrincipalMissing,
    /// 400 `body-invalid`: the body cannot be compared as the operation demands.
    BodyInvalid,
    /// 400 `body-unreadable`: the body broke off.
    BodyUnreadable,
    /// 408 `body-timeout`: the body did not arrive in time.
    BodyTimeout,
    /// 413 `body-too-large`: the body is larger than the route's limit.
    BodyTooLarge,
    /// 422 `key-reused`: the key was used with another request.
    KeyReused,
    /// 409 `in-flight`, with `Retry-After`: the first request is running.
    InFlight,
    /// 409 `outcome-unknown`: the first request may or may not have taken effect.
    OutcomeUnknown,
    /// 409 `response-not-kept`: it ran, its answer is not kept.
    ResponseNotKept,
    /// 500 `panicked`, with `Retry-After` where a retry runs: the handler panicked.
    Panicked,
    /// 503 `store-unavailable`, with `Retry-After`.
    StoreUnavailable,
    /// 503 `overloaded`, with `Retry-After`: too many operations are in flight.
    Overloaded,
    /// 503 `contended`, with `Retry-After`: its transaction met others each time it was run, and was rolled back.
    Contended,
    /// 503 `commit-unconfirmed`, with `Retry-After`: the reply to its commit was lost; a retry finds out what became of it.
    CommitUnconfirmed,
    /// 500 `transaction-leaked`: the handler kept its transaction, which was not committed.
    TransactionLeaked,
    /// 500 `transaction-missing`: an operation under `transaction` was called without one, by
    /// [`execute`](crate::Idempotency::execute).
    TransactionMissing,
    /// 500 `fingerprint-missing`: an operation under `financial` was called without a fingerprint, by
    /// [`execute`](crate::Idempotency::execute).
    FingerprintMissing,
}

/// What a refused client is told to wait. The lease says when the owner would be given up, not when it will be done.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Code {
    /// The code as it stands in the problem.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeyMissing => "key-missing",
            Self::KeyInvalid => "key-invalid",
            Self::PrincipalMissing => "principal-missing",
            Self::BodyInvalid => "body-invalid",
            Self::BodyUnreadable => "body-unreadable",
            Self::BodyTimeout => "body-timeout",
            Self::BodyTooLarge => "body-too-large",
            Self::KeyReused => "key-reused",
            Self::InFlight => "in-flight",
            Self::OutcomeUnknown => "outcome-unknown",
            Self::ResponseNotKept => "response-not-kept",
            Self::Panicked => "panicked",
            Self::StoreUnavailable => "store-unavailable",
            Self::Overloaded => "overloaded",
            Self::Contended => "contended",
            Self::CommitUnconfirmed => "commit-unconfirmed",
            Self::TransactionLeaked => "transaction-leaked",
            Self::TransactionMissing => "transaction-missing",
            Self::FingerprintMissing => "fingerprint-missing",
        }
    }

    /// The status the request is answered with.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::KeyMissing | Self::KeyInvalid | Self::PrincipalMissing | Self::BodyInvalid | Self::BodyUnreadable => {
                StatusCode::BAD_REQUEST
            }
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::InFlight | Self::OutcomeUnknown | Self::ResponseNotKept => StatusCode::CONFLICT,
            Self::Panicked | Self::TransactionLeaked | Self::TransactionMissing | Self::FingerprintMissing => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::StoreUnavailable | Self::Overloaded | Self::Contended | Self::CommitUnconfirmed => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// Whether the same request, sent again later, may be answered otherwise, whatever its policy. After a panic, and where the
    /// outcome is unknown, that is for the policy to say: see [`Rejection::retryable`].
    pub const fn retryable(self) -> bool {
        matches!(
            self,
            Self::BodyTimeout
                | Self::InFlight
                | Self::StoreUnavailable
                | Self::Overloaded
                | Self::Contended
                | Self::CommitUnconfirmed
        )
    }

    const fn title(self) -> &'static str {
        match self {
            Self::KeyMissing => "Idempotency key missing",
            Self::KeyInvalid => "Idempotency key invalid",
            Self::PrincipalMissing => "Caller not identified",
            Self::BodyInvalid => "Request body invalid",
            Self::BodyUnreadable => "Request body broken off",
            Self::BodyTimeout => "Request body too slow",
            Self::BodyTooLarge => "Request body too large",
            Self::KeyReused => "Idempotency key used with another request",
            Self::InFlight => "Request in flight",
            Self::OutcomeUnknown => "Outcome unknown",
            Self::ResponseNotKept => "Response not kept",
            Self::Panicked | Self::TransactionLeaked | Self::TransactionMissing | Self::FingerprintMissing => {
                "Internal error"
            }
            Self::StoreUnavailable => "Idempotency store unavailable",
            Self::Overloaded => "Too many requests in flight",
            Self::Contended => "Too many requests for the same data",
            Self::CommitUnconfirmed => "Commit not confirmed",
        }
    }

    const fn detail(self) -> &'static str {
        match self {
            Self::KeyMissing => "This operation needs an idempotency key, the same for every retry.",
            Self::KeyInvalid => "No idempotency key can be made of what this request holds.",
            Self::PrincipalMissing => "Idempotency keys belong to a caller, and this request names none.",
            Self::BodyInvalid => "The body is not JSON that can be compared with that of a retry.",
            Self::BodyUnreadable => "The body could not be read to its end. Nothing ran.",
            Self::BodyTimeout => "The body did not arrive in time. Nothing ran.",
            Self::BodyTooLarge => "The body is larger than this operation takes. Nothing ran.",
            Self::KeyReused => "Use a new key for a new request, and the same request for a retry.",
            Self::InFlight => "A request with this key may still be running. Ask again later.",
            Self::OutcomeUnknown => {
                "The first request with this key may or may not have taken effect. It is not run again until that is settled."
            }
            Self::ResponseNotKept => "The request with this key ran. Its answer was not kept, and it is not run again.",
            Self::Panicked => "The request failed in a way that was not foreseen.",
            Self::StoreUnavailable => {
                "The idempotency store did not answer. This request did not run, or what it did in its transaction was undone. Ask again later."
            }
            Self::Overloaded => "Nothing ran. Ask again later.",
            Self::Contended => "The request met others that change the same data, and was undone. Ask again later.",
            Self::CommitUnconfirmed => {
                "It cannot be told yet whether this request took effect. Ask again later, with the same key."
            }
            Self::TransactionLeaked => "The request failed in a way that was not foreseen, and was undone.",
            Self::TransactionMissing | Self::FingerprintMissing => "What was asked for is set up wrongly. Nothing ran.",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Rejection {
    /// What the request was refused for.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Whether the same request, sent again later, may be answered otherwise. Made of a [`Refusal`] alone, which knows of no policy, one
    /// after a panic or of an unknown outcome says no.
    pub const fn retryable(&self) -> bool {
        self.retryable
    }

    /// The status the request is answered with.
    pub const fn status(&self) -> StatusCode {
        self.code.status()
    }

    /// What the header `Retry-After` says, in whole seconds; `None` where there is no such header, as the refusal is not
    /// [`retryable`](Self::retryable).
    pub const fn retry_after(&self) -> Option<Duration> {
        if self.retryable { Some(RETRY_AFTER) } else { None }
    }

    /// What is said to the client: one or more English sentences, never with the key or anything of the body.
    pub fn detail(&self) -> String {
        self.detail.to_string()
    }

    /// The same refusal with a sentence that says more.
    pub(super) const fn saying(code: Code, detail: &'static str) -> Self {
        Self { code, detail: Detail::Said(detail), retryable: code.retryable() }
    }

    /// The refusal of a request without a key, which says where to write one.
    pub(super) const fn key_missing(sources: &'static [KeySource]) -> Self {
        Self { code: Code::KeyMissing, detail: Detail::NoKeyIn(sources), retryable: Code::KeyMissing.retryable() }
    }

    /// The refusal of an operation under this policy.
    pub(super) fn under(policy: &Policy, refusal: Refusal) -> Self {
        let goes_on = match refusal {
            Refusal::Panicked => policy.goes_on_after_a_panic(),
            Refusal::Unknown => policy.recovers(),
            _ => false,
        };
        let rejection = Self::from(refusal);
        Self { retryable: rejection.retryable || goes_on, ..rejection }
    }

    fn problem(&self) -> String {
        let Self { code, detail, retryable } = self;
        let (status, title) = (code.status().as_u16(), code.title());
        let detail = serde_json::Value::from(detail.to_string());
        format!(
            r#"{{"type":"urn:idempotency:{code}","title":"{title}","status":{status},"detail":{detail},"code":"{code}","retryable":{retryable}}}"#
        )
    }
}

impl From<Code> for Rejection {
    fn from(code: Code) -> Self {
        Self::saying(code, code.detail())
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Self::from(match refusal {
            Refusal::Mismatch => Code::KeyReused,
            Refusal::InFlight { .. } => Code::InFlight,
            Refusal::Unknown | Refusal::Unreadable => Code::OutcomeUnknown,
            Refusal::NotKept => Code::ResponseNotKept,
            Refusal::Unavailable { .. } => Code::StoreUnavailable,
            Refusal::Overloaded => Code::Overloaded,
            Refusal::Panicked => Code::Panicked,
            Refusal::Contended => Code::Contended,
            Refusal::Unconfirmed => Code::CommitUnconfirmed,
            Refusal::Leaked => Code::TransactionLeaked,
            Refusal::NoTransaction => Code::TransactionMissing,
            Refusal::NoFingerprint => Code::FingerprintMissing,
            Refusal::Unnamed => Code::KeyInvalid,
        })
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = match self {
            Self::Said(detail) => return f.write_str(detail),
            Self::NoKeyIn(sources) => sources,
        };
        let Some(places) = sources.iter().map(place).collect::<Option<Vec<_>>>() else {
            return f.write_str(Code::KeyMissing.detail());
        };
        write!(f, "This operation needs an idempotency key in {}, the same for every retry.", places.join(" or in "))
    }
}

/// By what is said: two functions that find a key say nothing, and may be one.
impl PartialEq for Detail {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

/// Where a client writes a key for this source. `None`: only the service knows.
fn place(source: &KeySource) -> Option<String> {
    match (source, KeySource::DEFAULT) {
        (KeySource::Header(name), KeySource::Header(default)) if *name == default => {
            Some("the header `Idempotency-Key`".to_owned())
        }
        (KeySource::Header(name), _) => Some(format!("the header `{name}`")),
        (KeySource::Path(name), _) => Some(format!("the parameter `{name}` of the path")),
        (KeySource::Query(name), _) => Some(format!("the parameter `{name}` of the query")),
        (KeySource::Body(pointer), _) => Some(format!("the member `{pointer}` of the JSON body")),
        (KeySource::Function(_) | KeySource::Arguments, _) => None,
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl std::error::Error for Rejection {}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.problem()));
        *response.status_mut() = self.code.status();
        let is_of_this_request = matches!(self.code, Code::Panicked | Code::OutcomeUnknown | Code::TransactionLeaked);
        if self.retryable || is_of_this_request {
            // Of a guard inside another one: that asks it again, and does not keep what is true only now.
            response.extensions_mut().insert(Disposition::Release);
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(pause) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(pause.as_secs()));
        }
        response.extensions_mut().insert(self);
        response
    }
}
