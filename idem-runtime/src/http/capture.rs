//! The handler's answer, read to its end so that it can be kept, up to a size and a time.

use std::{
    future::{Future, ready},
    mem::take,
    time::Duration,
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::{
    body::{Rest, Resumed, Silent},
    disposition::Disposition,
    stored,
};
use crate::{
    engine::{CatchPanic, Recording, Settled},
    policy::{Policy, StoreRule},
    runtime::Limits,
};

/// Which answers are kept, and as far as what size and time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keeping {
    rule: StoreRule,
    max_bytes: usize,
    deadline: Duration,
}

/// A body on its way into memory.
struct Reading {
    body: Body,
    pieces: Vec<Bytes>,
    max: usize,
}

/// Where reading a body stopped.
enum Stopped {
    /// It is whole.
    End(Option<HeaderMap>),
    /// It is larger, or slower, than what is kept.
    Full,
    /// It broke, or panicked.
    Broken(axum::Error),
}

/// The answer for the first client, and what is recorded of it. Headers and bytes are those of the handler.
pub(super) fn capture(mut response: Response, keeping: Keeping) -> impl Future<Output = Settled<Response>> + Send {
    let word = response.extensions_mut().remove::<Disposition>();
    match word.unwrap_or_else(|| Disposition::of(keeping.rule, response.status())) {
        Disposition::Release => {
            return ready(Settled { value: response, recording: Recording::Release }).left_future();
        }
        Disposition::Unknown => {
            return ready(Settled { value: response, recording: Recording::Unknown }).left_future();
        }
        Disposition::Store => {}
    }
    let mut reading = Reading { body: take(response.body_mut()), pieces: Vec::new(), max: keeping.max_bytes };
    // Most answers are whole in memory: they need no clock, and no room for one.
    match reading.read().now_or_never() {
        Some(stopped) => ready(settle(response, reading, stopped)).left_future(),
        None => Box::pin(async move {
            let stopped = timeout(keeping.deadline, reading.read()).await.unwrap_or(Stopped::Full);
            settle(response, reading, stopped)
        })
        .right_future(),
    }
}

fn settle(response: Response, reading: Reading, stopped: Stopped) -> Settled<Response> {
    let Reading { body, mut pieces, .. } = reading;
    let resumed = match stopped {
        Stopped::End(trailers) => {
            let body = match pieces.len() {
                0 | 1 => pieces.pop().unwrap_or_default(),
                _ => Bytes::from(pieces.concat()),
            };
            let answer = stored::seal(response.status(), response.headers(), &body, trailers.as_ref());
            return Settled { value: whole(response, body, trailers), recording: Recording::Answer(answer) };
        }
        // The effect is a fact even where its answer cannot be kept.
        Stopped::Full => Resumed::new(pieces, Rest::Body(body)),
        Stopped::Broken(error) => Resumed::new(pieces, Rest::Broken(error)),
    };
    Settled { value: response.map(|_| Body::new(resumed)), recording: Recording::Tombstone }
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

impl Keeping {
    pub(super) fn of(policy: &Policy, limits: &Limits) -> Self {
        Self { rule: policy.store_rule(), max_bytes: limits.max_answer_bytes, deadline: limits.answer_deadline }
    }
}

impl Reading {
    /// Goes on where it stopped waiting, if this is dropped there and begun again.
    async fn read(&mut self) -> Stopped {
        if self.body.size_hint().lower() > self.max as u64 {
            return Stopped::Full;
        }
        CatchPanic::new(self.collect()).await.unwrap_or_else(|_| Stopped::Broken(axum::Error::new(BodyPanicked)))
    }

    async fn collect(&mut self) -> Stopped {
        let mut bytes: usize = self.pieces.iter().map(Bytes::len).sum();
        // Most answers are one piece, and say behind it that they are over.
        while !self.body.is_end_stream() {
            let frame = match self.body.frame().await {
                None => break,
                Some(Err(error)) => return Stopped::Broken(error),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) => {
                    bytes += data.len();
                    self.pieces.push(data);
                    if bytes > self.max {
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
}

#[derive(Debug)]
struct BodyPanicked;

impl std::fmt::Display for BodyPanicked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the body of the answer panicked")
    }
}

impl std::error::Error for BodyPanicked {}
