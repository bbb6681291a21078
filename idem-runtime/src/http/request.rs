//! A request made ready: body in memory, key, principal and fingerprint known as far as the request tells them.

use std::{
    borrow::Cow,
    future::poll_fn,
    task::{Context, Poll},
};

use axum::{
    RequestExt,
    body::Body,
    extract::{FromRequestParts, OriginalUri, RawPathParams, Request, rejection::RawPathParamsRejection},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{Extensions, HeaderMap, Method, StatusCode, Uri, request::Parts};
use http_body::Body as _;
use http_body_util::LengthLimitError;
use tokio::time::timeout;

use super::{
    body::{Pieces, Read, Rest, Resumed},
    header::{KeySyntaxError, parse_key_header},
    rejection::{Code, Rejection},
};
use crate::{
    Idempotency,
    canonical_json::{BodyKey, JsonError, JsonErrorKind, body_key},
    engine::Operation,
    fingerprint::{Fingerprint, NoFingerprint, RequestParts},
    key::{EndpointName, KeyRequest, KeySource, Principal, StorageKey},
    policy::{Missing, Policy},
};

/// What a request says of its operation.
#[derive(Debug)]
pub(super) enum Prepared {
    /// Everything.
    Operation { key: StorageKey, fingerprint: Fingerprint },
    /// Not everything: the rest is among the handler's arguments, or wrong.
    Open(Box<Open>),
}

/// In a box: most requests say everything.
#[derive(Debug)]
pub(super) struct Open {
    method: Method,
    path: String,
    /// `None`: it is among the arguments.
    principal: Option<Result<Principal, Rejection>>,
    fingerprint: Result<Fingerprint, Rejection>,
    /// With what is wrong, the place of the source that found it.
    key: Result<RequestKey, (usize, Rejection)>,
}

/// The first key that the request itself holds.
enum RequestKey {
    None,
    /// As it was sent, and the place of its source among all sources.
    Text(usize, String),
    /// Digested, for nothing else is asked for it.
    Known(StorageKey),
}

/// Reads what can be told before the handler's last argument takes the request apart, and gives its body back whole.
///
/// `None`: there is no key, and the policy runs such a request as it is; its body was not touched.
///
/// What is wrong with the *content* of the body is kept for [`Prepared::operation`], so that the handler's own extractor
/// says it first. All else is refused here.
pub(super) async fn prepare(
    runtime: &Idempotency,
    policy: &Policy,
    parts: &mut Parts,
    body: Body,
    ask_principal: bool,
) -> Result<(Option<Prepared>, Body), Response> {
    let sources = policy.key_sources();
    let path_params = match sources.iter().any(|source| matches!(source, KeySource::Path(_))) {
        // In a box: few ask for them, and each request would carry the room for them.
        true => Some(Box::new(RawPathParams::from_request_parts(parts, &()).await)),
        false => None,
    };
    let header_key = header_key(sources, &parts.headers).map_err(invalid_key)?;
    if header_key.is_none() && sources.iter().all(|source| is_without_key(source, parts)) {
        return match policy.on_missing() {
            Missing::Reject => Err(Rejection::key_missing(sources).into_response()),
            Missing::Run => Ok((None, body)),
        };
    }
    let body = limited(&mut parts.extensions, body);
    let parts = &*parts;
    let principal = match (ask_principal, policy.on_missing()) {
        (true, Missing::Reject) => Some(Ok(runtime.principal(parts)?)),
        // Nobody need be known who sends no key.
        (true, Missing::Run) => Some(runtime.principal(parts)),
        (false, _) => None,
    };
    let path = path(parts);
    let header_key = match (header_key, &principal) {
        (None, _) => RequestKey::None,
        (Some((place, key)), Some(Ok(principal)))
            if sources[..place].iter().all(|source| matches!(source, KeySource::Header(_))) =>
        {
            RequestKey::Known(runtime.request_key(policy, principal, &key, Some(endpoint(&parts.method, &path))))
        }
        (Some((place, key)), _) => RequestKey::Text(place, key.into_owned()),
    };
    let (body, trailers) = buffer(runtime, body).await?;
    let fingerprint = Fingerprint::of_request(
        policy.fingerprint_rule(),
        policy.reach(),
        &RequestParts {
            method: parts.method.as_str(),
            path: &path,
            query: parts.uri.query(),
            content_type: parts.headers.get(http::header::CONTENT_TYPE).map(|value| value.as_bytes()),
            body: &body,
        },
        || whole(parts, &body),
    );
    let fingerprint = fingerprint.map(Ok).or_else(no_fingerprint)?;
    if let (RequestKey::Known(key), Ok(fingerprint)) = (&header_key, &fingerprint) {
        let prepared = Prepared::Operation { key: *key, fingerprint: *fingerprint };
        return Ok((Some(prepared), restored(body, trailers)));
    }
    let request = whole(parts, &body);
    let key = match request_key(sources, header_key, &request, path_params.as_deref()) {
        Ok(key) => Ok(key),
        Err((place, KeyError::Invalid(detail))) => Err((place, Rejection::saying(Code::KeyInvalid, detail))),
        Err((place, KeyError::Body(error))) => invalid_body(error)?.map_err(|_| {
            (place, Rejection::saying(Code::BodyInvalid, "The key is read from a JSON body, and this body is none."))
        }),
        Err((_, KeyError::NoParameter)) => return Err(StatusCode::INTERNAL_SERVER_ERROR.into_response()),
    };
    let open = Open { method: parts.method.clone(), path: path.into_owned(), principal, fingerprint, key };
    Ok((Some(Prepared::Open(Box::new(open))), restored(body, trailers)))
}

impl Prepared {
    /// The operation, once the arguments are known that may hold the key or the principal.
    ///
    /// `argument_key` is asked for each source that reads the arguments and comes before the request's own key.
    /// `None`: there is no key, and the policy runs such a request as it is.
    pub(super) fn operation(
        self,
        runtime: &Idempotency,
        policy: &Policy,
        argument_key: impl Fn(usize) -> Result<Option<String>, Rejection>,
        principal: impl FnOnce() -> Option<Principal>,
    ) -> Result<Option<Operation>, Rejection> {
        let known = match self {
            Self::Operation { key, fingerprint } => Some((key, fingerprint)),
            Self::Open(open) => open.close(runtime, policy, argument_key, principal)?,
        };
        Ok(known.map(|(key, fingerprint)| runtime.engine_operation(policy, key, fingerprint)))
    }
}

impl Open {
    /// `None`: there is no key.
    fn close(
        self,
        runtime: &Idempotency,
        policy: &Policy,
        argument_key: impl Fn(usize) -> Result<Option<String>, Rejection>,
        principal: impl FnOnce() -> Option<Principal>,
    ) -> Result<Option<(StorageKey, Fingerprint)>, Rejection> {
        let (before, request_key) = match self.key {
            Ok(RequestKey::Known(key)) => return Ok(Some((key, self.fingerprint?))),
            Ok(RequestKey::Text(place, key)) => (place, Ok(Some(key))),
            Ok(RequestKey::None) => (usize::MAX, Ok(None)),
            // A source before it may have the key.
            Err((place, rejection)) => (place, Err(rejection)),
        };
        let mut key = None;
        for (place, source) in policy.key_sources().iter().enumerate().take(before) {
            if matches!(source, KeySource::Arguments) {
                key = argument_key(place)?;
                if key.is_some() {
                    break;
                }
            }
        }
        let Some(key) = key.map_or(request_key, |key| Ok(Some(key)))? else {
            return match policy.on_missing() {
                Missing::Reject => Err(Rejection::key_missing(policy.key_sources())),
                Missing::Run => Ok(None),
            };
        };
        if key.is_empty() {
            return Err(Rejection::saying(Code::KeyInvalid, EMPTY_KEY));
        }
        let principal = self.principal.unwrap_or_else(|| principal().ok_or(Code::PrincipalMissing.into()))?;
        let key = runtime.request_key(policy, &principal, &key, Some(endpoint(&self.method, &self.path)));
        Ok(Some((key, self.fingerprint?)))
    }
}

/// Never the key.
impl std::fmt::Debug for RequestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::None) { "RequestKey(none)" } else { "RequestKey(..)" })
    }
}

/// The parameters of the route, if there are any.
type PathParams = Result<RawPathParams, RawPathParamsRejection>;

/// Why a source that was looked at holds no key.
enum KeyError {
    Invalid(&'static str),
    Body(JsonError),
    /// The route has no parameter of this name: no client can send one.
    NoParameter,
}

const EMPTY_KEY: &str = "The idempotency key is empty; write at least one character.";

/// The target as the client sent it: a nested router has taken its prefix off `parts.uri`. Where the target was
/// replaced on the way, the new one.
fn uri(parts: &Parts) -> &Uri {
    original(parts).filter(|original| is_left_of(&parts.uri, original)).unwrap_or(&parts.uri)
}

/// The request as a function of the service sees it.
fn whole<'a>(parts: &'a Parts, body: &'a Bytes) -> KeyRequest<'a> {
    KeyRequest::new(&parts.method, uri(parts), &parts.headers, body)
}

/// The path of that target. One that was replaced stands before the new one, so that what a router around the guard was
/// asked for is not lost; behind both stands the new query, if that is another one too: a handler may make several
/// requests of one. No target has a space in it.
fn path(parts: &Parts) -> Cow<'_, str> {
    let (uri, path) = (&parts.uri, parts.uri.path());
    match original(parts) {
        None => path.into(),
        Some(original) if original.path() == path || is_left_of(uri, original) => original.path().into(),
        Some(original) if original.query() == uri.query() => format!("{} {path}", original.path()).into(),
        Some(original) => format!("{} {path}?{}", original.path(), uri.query().unwrap_or_default()).into(),
    }
}

fn original(parts: &Parts) -> Option<&Uri> {
    parts.extensions.get().map(|OriginalUri(original)| original)
}

/// Whether it is what is left of a target whose beginning was taken off.
fn is_left_of(uri: &Uri, original: &Uri) -> bool {
    uri.query() == original.query() && (uri.path() == "/" || original.path().ends_with(uri.path()))
}

/// Whether a source that needs neither body nor arguments, and is no header, holds nothing.
fn is_without_key(source: &KeySource, parts: &Parts) -> bool {
    match source {
        KeySource::Header(_) => true,
        KeySource::Query(name) => matches!(query_param(&parts.uri, name), Ok(None)),
        KeySource::Path(_) | KeySource::Body(_) | KeySource::Function(_) | KeySource::Arguments => false,
    }
}

fn endpoint<'a>(method: &'a Method, path: &'a str) -> EndpointName<'a> {
    EndpointName { method: method.as_str(), path }
}

/// The first key in a header, and the place of its source. Every header that may hold one is held to the syntax.
fn header_key<'a>(
    sources: &[KeySource],
    headers: &'a HeaderMap,
) -> Result<Option<(usize, Cow<'a, str>)>, KeySyntaxError> {
    let mut first = None;
    for (place, source) in sources.iter().enumerate() {
        if let KeySource::Header(name) = source {
            let key = parse_key_header(headers, name)?;
            first = first.or(key.map(|key| (place, key)));
        }
    }
    Ok(first)
}

fn request_key(
    sources: &[KeySource],
    header_key: RequestKey,
    request: &KeyRequest<'_>,
    path_params: Option<&PathParams>,
) -> Result<RequestKey, (usize, KeyError)> {
    // Sources behind the first header that holds a key are not asked.
    let before = match header_key {
        RequestKey::Known(_) => 0,
        RequestKey::Text(place, _) => place,
        RequestKey::None => sources.len(),
    };
    for (place, source) in sources.iter().enumerate().take(before) {
        let found = source_key(source, request, path_params);
        let found = found.and_then(|key| match key {
            Some(key) if key.is_empty() => Err(KeyError::Invalid(EMPTY_KEY)),
            key => Ok(key),
        });
        if let Some(key) = found.map_err(|error| (place, error))? {
            return Ok(RequestKey::Text(place, key));
        }
    }
    Ok(header_key)
}

fn source_key(
    source: &KeySource,
    request: &KeyRequest<'_>,
    path_params: Option<&PathParams>,
) -> Result<Option<String>, KeyError> {
    Ok(match source {
        KeySource::Path(name) => Some(path_param(path_params, name)?),
        KeySource::Query(name) => query_param(request.uri, name)?,
        KeySource::Body(pointer) => match body_key(request.body, pointer).map_err(KeyError::Body)? {
            BodyKey::Absent => None,
            BodyKey::Text(key) => Some(key),
            BodyKey::Unusable => {
                return Err(KeyError::Invalid("The member that holds the key must be text or a whole number."));
            }
        },
        KeySource::Function(find) => find(request),
        KeySource::Header(_) | KeySource::Arguments => None,
    })
}

fn path_param(params: Option<&PathParams>, name: &str) -> Result<String, KeyError> {
    let value = match params {
        Some(Ok(params)) => params.iter().find(|(param, _)| *param == name).map(|(_, value)| value.to_owned()),
        Some(Err(RawPathParamsRejection::InvalidUtf8InPathParam(_))) => {
            return Err(KeyError::Invalid("The path that holds the key is not UTF-8; percent-encode UTF-8."));
        }
        Some(Err(_)) | None => None,
    };
    value.ok_or_else(|| {
        tracing::error!(name, "`from_path` names a parameter that this route does not have");
        KeyError::NoParameter
    })
}

fn query_param(uri: &Uri, name: &str) -> Result<Option<String>, KeyError> {
    let query = uri.query().unwrap_or_default();
    let mut values = form_urlencoded::parse(query.as_bytes()).filter(|(param, _)| param == name);
    let value = values.next().map(|(_, value)| value.into_owned());
    match (values.next(), &value) {
        (Some(_), _) => Err(KeyError::Invalid("The query parameter that holds the key is given twice; give it once.")),
        // All bytes that are no text are read as this one character: two keys would be one.
        (None, Some(key)) if key.contains(char::REPLACEMENT_CHARACTER) => {
            Err(KeyError::Invalid("The query parameter that holds the key is not UTF-8; percent-encode UTF-8."))
        }
        (None, _) => Ok(value),
    }
}

/// The whole body, under the runtime's deadline, and its trailers.
pub(super) async fn buffer(runtime: &Idempotency, mut body: Body) -> Result<(Bytes, Option<HeaderMap>), Response> {
    if body.is_end_stream() {
        return Ok((Bytes::new(), None));
    }
    let mut pieces = Pieces::default();
    let mut read = |context: &mut Context<'_>| pieces.poll_read(&mut body, usize::MAX, context);
    // A small body has come with its head: it needs no clock, and no room for one.
    let read = match poll_fn(|context| Poll::Ready(read(context))).await {
        Poll::Ready(read) => read,
        Poll::Pending => Box::pin(timeout(runtime.limits().body_deadline, poll_fn(read)))
            .await
            .map_err(|_| Rejection::from(Code::BodyTimeout).into_response())?,
    };
    match read {
        Read::All(trailers) => Ok((pieces.joined(), trailers)),
        // Never: nothing is more than `usize::MAX`.
        Read::TooMuch => Ok((pieces.joined(), None)),
        Read::Broken(error) => Err(unread(&error).into_response()),
    }
}

/// The body as it came.
pub(super) fn restored(body: Bytes, trailers: Option<HeaderMap>) -> Body {
    match trailers {
        None => Body::from(body),
        Some(trailers) => Body::new(Resumed::new(Pieces::from(body), Rest::Trailers(trailers))),
    }
}

/// The body under the route's `DefaultBodyLimit`, which axum keeps among the extensions, where only a request finds it.
pub(super) fn limited(extensions: &mut Extensions, body: Body) -> Body {
    let mut request = Request::new(body);
    std::mem::swap(request.extensions_mut(), extensions);
    let mut request = request.with_limited_body();
    std::mem::swap(request.extensions_mut(), extensions);
    request.into_body()
}

/// Over the limit, or broken off.
fn unread(error: &axum::Error) -> Rejection {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if error.is::<LengthLimitError>() {
            return Code::BodyTooLarge.into();
        }
        source = error.source();
    }
    Code::BodyUnreadable.into()
}

fn invalid_key(error: KeySyntaxError) -> Response {
    Rejection::saying(Code::KeyInvalid, error.message()).into_response()
}

/// A member given twice is refused at once: two readers would understand two requests, and the handler's extractor
/// may be one that does not see it. All else that is wrong is the extractor's to say.
fn invalid_body<T>(error: JsonError) -> Result<Result<T, Rejection>, Response> {
    if error.kind() == JsonErrorKind::Duplicate {
        let detail = "The body gives a member of an object twice; give it once.";
        return Err(Rejection::saying(Code::BodyInvalid, detail).into_response());
    }
    Ok(Err(Code::BodyInvalid.into()))
}

fn no_fingerprint<T>(error: NoFingerprint) -> Result<Result<T, Rejection>, Response> {
    match error {
        NoFingerprint::Json(error) => invalid_body(error),
        NoFingerprint::Function => {
            let detail = "The request is not of the form in which this operation compares it with a retry.";
            Ok(Err(Rejection::saying(Code::BodyInvalid, detail)))
        }
    }
}

impl From<Rejection> for Response {
    fn from(rejection: Rejection) -> Self {
        rejection.into_response()
    }
}
