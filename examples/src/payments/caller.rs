//! Who calls. A real service checks a token here; this one believes it.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header::AUTHORIZATION, request::Parts},
};

use super::api::ApiError;

/// The account behind `Authorization: Bearer NAME`.
///
/// As the first argument of a guarded handler it refuses a stranger before any answer is replayed.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) name: String,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        name(&parts.headers).map(|name| Self { name: name.to_owned() }).ok_or(ApiError::Unauthorized)
    }
}

/// The name in the header: what the token stands for, not the token, or a key would be lost whenever a token rotates.
pub(super) fn name(headers: &HeaderMap) -> Option<&str> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    // Of two, another reader of the request may believe the other one.
    let (Some(line), None) = (lines.next(), lines.next()) else { return None };
    let (scheme, name) = line.to_str().ok()?.split_once(' ')?;
    let name = name.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !name.is_empty()).then_some(name)
}
