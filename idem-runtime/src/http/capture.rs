//! The handler's answer, read to its end so that it can be kept, up to a size and a time.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, response::Parts};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use super::{
    body::{Rest, Resumed, Silent},
    disposition::Disposition,
    stored,
};
use crate::{
    engine::{CatchPanic, Recording, Settled},
    policy::StoreRule,
    runtime::Limits,
};

/// How far a body was read.
struct Read {
    pieces: Vec<Bytes>,
    end: End,
}

enum End {
    /// It is whole.
    Whole(Option<HeaderMap>),
    /// It is larger, or slower, than what is kept.
    Beyond(Body),
    /// It broke, or panicked.
    Broken(axum::Error),
}

/// The answer for the first client, and what is recorded of it. Headers and bytes are those of the handler.
pub(super) async fn capture(mut response: Response, rule: StoreRule, limits: Limits) -> Settled<Response> {
    let word = response.extensions_mut().remove::<Disposition>();
    match word.unwrap_or_else(|| Disposition::of(rule, response.status())) {
        Disposition::Release => return Settled { value: response, recording: Recording::Release },
        Disposition::Unknown => return Settled { value: response, recording: Recording::Unknown },
        Disposition::Store => {}
    }
    let (parts, body) = response.into_parts();
    let Read { mut pieces, end } = read(body, limits).await;
    match end {
        End::Whole(trailers) => {
            let body = match pieces.len() {
                0 | 1 => pieces.pop().unwrap_or_default(),
                _ => Bytes::from(pieces.concat()),
            };
            let answer = stored::seal(&parts, &body, trailers.as_ref());
            let value = Response::from_parts(parts, Body::empty());
            Settled { value: whole(value, body, trailers), recording: Recording::Answer(answer) }
        }
        // The effect is a fact even where its answer cannot be kept.
        End::Beyond(body) => tombstone(parts, Resumed::new(pieces, Rest::Body(body))),
        End::Broken(error) => tombstone(parts, Resumed::new(pieces, Rest::Broken(error))),
    }
}

/// The response with a body that is whole in memory. The first client and every retry get theirs here.
pub(super) fn whole(mut response: Response, body: Bytes, trailers: Option<HeaderMap>) -> Response {
    let no_content = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || response.status().is_informational();
    *response.body_mut() = match trailers {
        Some(trailers) => Body::new(Resumed::new(vec![body], Rest::Trailers(trailers))),
        None if body.is_empty() && no_content => Body::new(Silent),
        None => Body::from(body),
    };
    response
}

fn tombstone(parts: Parts, body: Resumed) -> Settled<Response> {
    Settled { value: Response::from_parts(parts, Body::new(body)), recording: Recording::Tombstone }
}

async fn read(mut body: Body, limits: Limits) -> Read {
    let mut pieces = Vec::new();
    if body.size_hint().lower() > limits.max_answer_bytes as u64 {
        return Read { pieces, end: End::Beyond(body) };
    }
    let deadline = Instant::now() + limits.answer_deadline;
    let stopped = timeout_at(deadline, CatchPanic::new(collect(&mut body, &mut pieces, limits.max_answer_bytes))).await;
    let end = match stopped {
        Ok(Ok(Stopped::End(trailers))) => End::Whole(trailers),
        Ok(Ok(Stopped::Broken(error))) => End::Broken(error),
        Ok(Err(_)) => End::Broken(axum::Error::new(BodyPanicked)),
        Ok(Ok(Stopped::Full)) | Err(_) => End::Beyond(body),
    };
    Read { pieces, end }
}

/// Where reading a body stopped.
enum Stopped {
    End(Option<HeaderMap>),
    Full,
    Broken(axum::Error),
}

async fn collect(body: &mut Body, pieces: &mut Vec<Bytes>, max: usize) -> Stopped {
    let mut bytes = 0;
    // Most answers are one piece, and say behind it that they are over.
    while !body.is_end_stream() {
        let frame = match body.frame().await {
            None => break,
            Some(Err(error)) => return Stopped::Broken(error),
            Some(Ok(frame)) => frame,
        };
        match frame.into_data() {
            Ok(data) => {
                bytes += data.len();
                pieces.push(data);
                if bytes > max {
                    return Stopped::Full;
                }
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    return Stopped::End(Some(trailers));
                }
            }
        }
    }
    Stopped::End(None)
}

#[derive(Debug)]
struct BodyPanicked;

impl std::fmt::Display for BodyPanicked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the body of the answer panicked")
    }
}

impl std::error::Error for BodyPanicked {}
