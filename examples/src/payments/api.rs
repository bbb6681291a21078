//! JSON in, problems out (RFC 9457).

use std::{fmt, marker::PhantomData};

use axum::{
    Json,
    extract::{
        FromRequest, FromRequestParts, Request,
        rejection::{JsonRejection, PathRejection},
    },
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use idem_runtime::Disposition;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::json;

use super::{ledger::LedgerError, psp::PspError};

/// `Json`, refusing as the rest of the API does.
///
/// It is the last argument of a guarded handler, so a body that does not fit costs the caller no key.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let Json(Object(value)) = Json::from_request(request, state).await?;
        Ok(Self(value))
    }
}

/// `axum::extract::Path`, refusing as the rest of the API does.
pub(super) struct Path<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let axum::extract::Path(value) = axum::extract::Path::from_request_parts(parts, state).await?;
        Ok(Self(value))
    }
}

/// What is written with the names of its fields: serde would also take the values alone, in the order of the fields.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
            }
        }

        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// Every answer that is not the one the caller hoped for.
#[derive(Debug)]
pub(super) enum ApiError {
    Unauthorized,
    NotFound,
    NoSuchPath,
    NoSuchMethod,
    Path(PathRejection),
    Body(JsonRejection),
    Psp(PspError),
    Ledger(LedgerError),
    NoSuchAccount,
    TooPoor { balance: i64 },
    Database,
    NoTransactions,
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::Body(rejection)
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::Path(rejection)
    }
}

impl From<PspError> for ApiError {
    fn from(error: PspError) -> Self {
        Self::Psp(error)
    }
}

impl From<LedgerError> for ApiError {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

/// Under `transaction` nothing is lost by it: whatever the handler did is rolled back, and a retry runs.
impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        tracing::warn!(%error, "a statement failed");
        Self::Database
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match self {
            Self::Unauthorized => {
                let problem = problem(StatusCode::UNAUTHORIZED, "send `Authorization: Bearer NAME`");
                ([(header::WWW_AUTHENTICATE, "Bearer")], problem).into_response()
            }
            Self::NotFound => problem(StatusCode::NOT_FOUND, "no such payment of yours"),
            Self::NoSuchPath => problem(StatusCode::NOT_FOUND, "there is nothing at this path"),
            Self::NoSuchMethod => problem(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method"),
            Self::Path(rejection) => problem(rejection.status(), &rejection.body_text()),
            Self::Body(rejection) => problem(rejection.status(), &rejection.body_text()),
            Self::Psp(PspError::Declined) => problem(StatusCode::PAYMENT_REQUIRED, "the card was declined"),
            Self::Psp(PspError::Down) => problem(StatusCode::SERVICE_UNAVAILABLE, "the payment provider is down"),
            Self::Psp(PspError::TooMuch { refundable }) => problem(
                StatusCode::UNPROCESSABLE_ENTITY,
                &format!("at most {refundable} of this payment can be refunded"),
            ),
            Self::Psp(PspError::NoSuchPayment) => Self::NotFound.into_response(),
            Self::NoSuchAccount => problem(StatusCode::NOT_FOUND, "`from` or `to` is no account"),
            Self::TooPoor { balance } => {
                problem(StatusCode::UNPROCESSABLE_ENTITY, &format!("`from` has only {balance}"))
            }
            Self::Database => problem(StatusCode::SERVICE_UNAVAILABLE, "the database failed; nothing happened"),
            Self::NoTransactions => problem(
                StatusCode::NOT_IMPLEMENTED,
                "transfers need a store with transactions: start with `--store sqlite:PATH`, `postgres://..` or `tiered:..`",
            ),
            Self::Psp(PspError::Ledger(error)) | Self::Ledger(error) => ledger_problem(&error),
        }
    }
}

/// A server error frees the key by default, which is right when nothing happened. When nobody can tell, say so:
/// the key is then refused until somebody has looked, rather than run again.
fn ledger_problem(error: &LedgerError) -> Response {
    let problem = problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string());
    match error {
        LedgerError::NotWritten(_) => problem,
        LedgerError::MaybeWritten(_) => (Disposition::Unknown, problem).into_response(),
    }
}

fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or_default();
    let body = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}
