//! A response as bytes, and back.
//!
//! The content of an answer of kind `Response`, big endian, frozen by golden tests:
//!
//! | bytes | what |
//! |---|---|
//! | 2 | status |
//! | 4 | number of header lines |
//! | per line 2 + n, 4 + m | length and bytes of the name, length and bytes of the value |
//! | 8 + n | length and bytes of the body |
//! | 4, lines | trailers, as the headers |
//!
//! The highest bit of a value's length is set where the value is [sensitive](HeaderValue::is_sensitive).

use axum::{body::Body, response::Response};
use bytes::{Buf, BufMut, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::{
    capture::whole,
    rejection::{Code, Rejection},
};
use crate::{
    record::{Answer, Kind},
    recovery::Settlement,
};

/// Set on every replayed response, to `true`.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// What is kept of a whole response.
pub(super) fn seal(status: StatusCode, headers: &HeaderMap, body: &Bytes, trailers: Option<&HeaderMap>) -> Answer {
    let lines = Lines::of(headers, body.is_empty());
    let trailers = trailers.map(|trailers| Lines::of(trailers, false));
    let size = 2 + lines.size + 8 + body.len() + trailers.as_ref().map_or(4, |trailers| trailers.size);
    Answer::seal(Kind::Response, size, |bytes| {
        bytes.put_u16(status.as_u16());
        lines.put(bytes);
        bytes.put_u64(body.len() as u64);
        bytes.put_slice(body);
        match trailers {
            Some(trailers) => trailers.put(bytes),
            None => bytes.put_u32(0),
        }
    })
}

impl Settlement {
    /// It took effect; retries of the HTTP request get this response.
    pub fn responded(response: http::Response<Bytes>) -> Self {
        let (parts, body) = response.into_parts();
        Self::answered(seal(parts.status, &parts.headers, &body, None))
    }
}

/// The response as the first client got it, and the header that says so.
pub(super) fn replay(answer: &Answer) -> Result<Response, Rejection> {
    let content = answer.open(Kind::Response).map_err(|_| Rejection::from(Code::OutcomeUnknown))?;
    parse(content).ok_or_else(|| Rejection::from(Code::OutcomeUnknown))
}

fn parse(mut content: Bytes) -> Option<Response> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(content.try_get_u16().ok()?).ok()?;
    *response.headers_mut() = lines(&mut content)?;
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    let length = usize::try_from(content.try_get_u64().ok()?).ok()?;
    let body = take(&mut content, length)?;
    let trailers = lines(&mut content)?;
    content.is_empty().then(|| whole(response, body, (!trailers.is_empty()).then_some(trailers)))
}

/// Beside a value's length: it is not to be kept by whoever passes it on, as HTTP/2 does to compress it.
const SENSITIVE: u32 = 1 << 31;

/// The header lines that are kept.
struct Lines<'a> {
    headers: &'a HeaderMap,
    has_connection: bool,
    /// Whether there is no body: a length that is told all the same is of what is not sent, to `HEAD` or with a 304
    /// (RFC 9110, section 8.6).
    no_body: bool,
    count: u32,
    /// How many bytes [`put`](Self::put) puts.
    size: usize,
}

impl<'a> Lines<'a> {
    fn of(headers: &'a HeaderMap, no_body: bool) -> Self {
        let has_connection = headers.contains_key(header::CONNECTION);
        let mut lines = Self { headers, has_connection, no_body, count: 0, size: 4 };
        for (name, value) in lines.iter() {
            lines.count += 1;
            lines.size += 2 + name.as_str().len() + 4 + value.len();
        }
        lines
    }

    fn iter(&self) -> impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)> + use<'a> {
        let Self { headers, has_connection, no_body, .. } = *self;
        headers.iter().filter(move |(name, value)| {
            let is_kept = is_kept(name) || (no_body && *name == header::CONTENT_LENGTH && *value != "0");
            is_kept && !(has_connection && is_of_this_connection(name, headers))
        })
    }

    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.put_u32(self.count);
        for (name, value) in self.iter() {
            // A name is shorter than 64 KiB, as `HeaderName` sees to; a value shorter than 2 GiB, as memory does.
            bytes.put_u16(name.as_str().len() as u16);
            bytes.put_slice(name.as_str().as_bytes());
            let sensitive = if value.is_sensitive() { SENSITIVE } else { 0 };
            bytes.put_u32(value.len() as u32 | sensitive);
            bytes.put_slice(value.as_bytes());
        }
    }
}

fn lines(content: &mut Bytes) -> Option<HeaderMap> {
    let count = content.try_get_u32().ok()?;
    let mut headers = HeaderMap::new();
    for _ in 0..count {
        let length = content.try_get_u16().ok()?;
        let name = HeaderName::from_bytes(&take(content, length.into())?).ok()?;
        let word = content.try_get_u32().ok()?;
        let length = usize::try_from(word & !SENSITIVE).ok()?;
        let mut value = HeaderValue::from_maybe_shared(take(content, length)?).ok()?;
        value.set_sensitive(word & SENSITIVE != 0);
        headers.try_append(name, value).ok()?;
    }
    Some(headers)
}

fn take(content: &mut Bytes, length: usize) -> Option<Bytes> {
    (length <= content.len()).then(|| content.split_to(length))
}

/// Not of one delivery: who set a cookie, when, over which connection, under which trace.
fn is_kept(name: &HeaderName) -> bool {
    // By its text, of which the length alone tells most names apart.
    let of_one_delivery = match name.as_str() {
        "set-cookie" | "date" | "content-length" => true,
        "connection" | "keep-alive" | "proxy-connection" | "proxy-authenticate" => true,
        // `Trailer` stays: without it HTTP/1.1 does not send the trailers that are kept.
        "te" | "transfer-encoding" | "upgrade" => true,
        "x-request-id" | "request-id" | "x-correlation-id" | "x-trace-id" => true,
        "traceparent" | "tracestate" | "traceresponse" | "server-timing" | "x-amzn-trace-id" => true,
        "b3" | "baggage" | "sentry-trace" | "uber-trace-id" | "x-cloud-trace-context" => true,
        "grpc-trace-bin" | "x-datadog-trace-id" | "x-datadog-parent-id" => true,
        name => name.starts_with("x-b3-") || name == REPLAYED.as_str(),
    };
    !of_one_delivery
}

/// Whether `Connection` names it.
fn is_of_this_connection(name: &HeaderName, headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|option| option.trim().eq_ignore_ascii_case(name.as_str()))
}

#[cfg(test)]
mod tests;
