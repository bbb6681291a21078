//! The handler's answer, read to its end so that it can be kept, up to a size and a time.

use std::{
    future::{Future, poll_fn},
    mem::take,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use http_body::Body as _;
use pin_project_lite::pin_project;
use tokio::time::timeout;

use super::{
    body::{Pieces, Read, Rest, Resumed, Silent},
    disposition::Disposition,
    stored,
};
use crate::{
    engine::{Recording, Settled},
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
    pieces: Pieces,
    max: usize,
    /// It did not say beforehand how long it is: what its headers say of that is somebody's word.
    streams: bool,
}

pin_project! {
    /// An effect until its answer is settled: for the first client, and as it is recorded. An `Err` of the effect is passed on.
    pub(super) struct Capturing<F> {
        // Gone once it has answered.
        #[pin]
        effect: Option<F>,
        keeping: Keeping,
        reading: Option<Slow>,
    }
}

/// What an answer came to.
enum Captured {
    Settled(Settled<Response>),
    /// Its body is not in memory yet.
    Slow(Slow),
}

/// In a box: most answers are whole in memory, and carry no room for those that are not.
type Slow = Pin<Box<dyn Future<Output = Settled<Response>> + Send>>;

/// The answer of a handler that has returned. Headers and bytes are those of the handler.
pub(super) async fn capture(response: Response, keeping: Keeping) -> Settled<Response> {
    match begin(response, keeping) {
        Captured::Settled(settled) => settled,
        Captured::Slow(slow) => slow.await,
    }
}

fn begin(mut response: Response, keeping: Keeping) -> Captured {
    if let Some(recording) = not_kept(&mut response, None, keeping.rule) {
        return Captured::Settled(Settled { value: response, recording });
    }
    let mut reading =
        Reading { body: take(response.body_mut()), pieces: Pieces::default(), max: keeping.max_bytes, streams: false };
    // Most answers are whole in memory: they need no clock.
    match reading.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(read) => Captured::Settled(settle(response, reading, read, keeping.rule)),
        Poll::Pending => Captured::Slow(Box::pin(async move {
            let whole = poll_fn(|context| reading.poll(context));
            // What is too slow is as what is too large.
            let read = timeout(keeping.deadline, whole).await.unwrap_or(Read::TooMuch);
            settle(response, reading, read, keeping.rule)
        })),
    }
}

/// What is recorded in place of the answer, if its handler or the policy does not want it kept.
fn not_kept(response: &mut Response, trailers: Option<&HeaderMap>, rule: StoreRule) -> Option<Recording> {
    match Disposition::of(rule, response, trailers) {
        Disposition::Store => None,
        Disposition::Release => Some(Recording::Release),
        Disposition::Unknown => {
            // So it is to a guard around this one.
            response.extensions_mut().insert(Disposition::Unknown);
            Some(Recording::Unknown)
        }
    }
}

fn settle(mut response: Response, reading: Reading, read: Read, rule: StoreRule) -> Settled<Response> {
    let Reading { body, pieces, streams, .. } = reading;
    let resumed = match read {
        Read::All(_) if streams && is_of_another_length(&response, &pieces) => {
            Resumed::new(pieces, Rest::Broken(axum::Error::new(OtherLength)))
        }
        Read::All(trailers) => {
            if streams && trailers.is_none() {
                // It has a length now, beside which this must not stand (RFC 9112, section 6.2).
                response.headers_mut().remove(TRANSFER_ENCODING);
            }
            let body = pieces.joined();
            // Without trailers nothing has been said that was not known before the body was read.
            let not_kept = trailers.as_ref().and_then(|trailers| not_kept(&mut response, Some(trailers), rule));
            let recording = not_kept.unwrap_or_else(|| {
                Recording::Answer(stored::seal(response.status(), response.headers(), &body, trailers.as_ref()))
            });
            return Settled { value: whole(response, body, trailers), recording };
        }
        // The effect is a fact even where its answer cannot be kept.
        Read::TooMuch => Resumed::new(pieces, Rest::Body(body)),
        Read::Broken(error) => Resumed::new(pieces, Rest::Broken(error)),
    };
    Settled { value: response.map(|_| Body::new(resumed)), recording: Recording::Tombstone }
}

/// Cut short, or longer than its client will read: not what the handler meant to answer.
fn is_of_another_length(response: &Response, pieces: &Pieces) -> bool {
    let length = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    // Of what is not sent the length may be told all the same (RFC 9110, section 8.6).
    let is_sent = response.status() != StatusCode::NOT_MODIFIED || pieces.len() > 0;
    is_sent && length.is_some_and(|length: usize| length != pieces.len())
}

/// The response with a body that is whole in memory. The first client and every retry get theirs here.
pub(super) fn whole(mut response: Response, body: Bytes, trailers: Option<HeaderMap>) -> Response {
    let no_content = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || response.status().is_informational();
    *response.body_mut() = match trailers {
        Some(trailers) => Body::new(Resumed::new(Pieces::from(body), Rest::Trailers(trailers))),
        None if body.is_empty() && no_content => Body::new(Silent),
        None => Body::from(body),
    };
    response
}

impl<F> Capturing<F> {
    pub(super) const fn new(effect: F, keeping: Keeping) -> Self {
        Self { effect: Some(effect), keeping, reading: None }
    }
}

impl<F, X> Future for Capturing<F>
where
    F: Future<Output = Result<Response, X>>,
{
    type Output = Settled<Result<Response, X>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(effect) = this.effect.as_mut().as_pin_mut() {
            let answer = ready!(effect.poll(context));
            this.effect.set(None);
            match answer.map(|response| begin(response, *this.keeping)) {
                Ok(Captured::Settled(settled)) => return Poll::Ready(settled.ok()),
                Ok(Captured::Slow(slow)) => *this.reading = Some(slow),
                Err(error) => return Poll::Ready(Settled { value: Err(error), recording: Recording::Broken }),
            }
        }
        let Some(reading) = this.reading else { unreachable!("polled after completion") };
        reading.as_mut().poll(context).map(Settled::ok)
    }
}

impl<T> Settled<T> {
    fn ok<X>(self) -> Settled<Result<T, X>> {
        Settled { value: Ok(self.value), recording: self.recording }
    }
}

impl Keeping {
    pub(super) fn of(policy: &Policy, limits: &Limits) -> Self {
        Self { rule: policy.store_rule(), max_bytes: limits.max_answer_bytes, deadline: limits.answer_deadline }
    }
}

impl Reading {
    /// Goes on where it stopped waiting.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Read> {
        let read = || {
            let hint = self.body.size_hint();
            self.streams |= hint.exact().is_none();
            if hint.lower() > self.max as u64 {
                return Poll::Ready(Read::TooMuch);
            }
            self.pieces.poll_read(&mut self.body, self.max, context)
        };
        // Unwind safe: after a panic the body is never polled again.
        catch_unwind(AssertUnwindSafe(read))
            .unwrap_or_else(|_| Poll::Ready(Read::Broken(axum::Error::new(BodyPanicked))))
    }
}

#[derive(Debug)]
struct OtherLength;

impl std::fmt::Display for OtherLength {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the body of the answer is not as long as its `content-length`")
    }
}

impl std::error::Error for OtherLength {}

#[derive(Debug)]
struct BodyPanicked;

impl std::fmt::Display for BodyPanicked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the body of the answer panicked")
    }
}

impl std::error::Error for BodyPanicked {}
