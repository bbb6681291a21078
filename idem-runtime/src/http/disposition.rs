//! The handler's own word on one answer.

use axum::response::{IntoResponse, IntoResponseParts, Response, ResponseParts};
use http::StatusCode;

use crate::{engine::Slot, policy::StoreRule};

/// What becomes of the key after this one answer, whatever the policy's `store` says of its status.
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

impl Disposition {
    /// What a policy says of a status.
    pub(super) fn of(rule: StoreRule, status: StatusCode) -> Self {
        let stored = match rule {
            StoreRule::All => true,
            StoreRule::Success => status.is_success() || status.is_redirection(),
            StoreRule::Definitive => match status.as_u16() {
                401 | 403 | 408 | 425 | 429 => false,
                status => (200..500).contains(&status),
            },
        };
        if stored { Self::Store } else { Self::Release }
    }
}

/// An answer with the word of the attempt that it is of, if that was [marked](crate::Attempt::mark_unknown) and the answer says none.
pub(super) fn marked(mut answer: Response, rule: StoreRule, attempt: Option<&Slot>) -> Response {
    if attempt.is_some_and(Slot::is_unknown)
        && answer.extensions().get::<Disposition>().is_none()
        && Disposition::of(rule, answer.status()) == Disposition::Release
    {
        answer.extensions_mut().insert(Disposition::Unknown);
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
