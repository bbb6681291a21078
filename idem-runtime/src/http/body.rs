//! Bodies that are not one piece of bytes.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{Error, body::Body};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

/// An empty body that does not say so beforehand: with an exact length of 0 axum would write `content-length: 0` on an
/// answer that must not have one (RFC 9110, section 8.6).
pub(super) struct Silent;

/// What was read of a body. Most are one piece, for which no list is made.
#[derive(Default)]
pub(super) struct Pieces {
    first: Bytes,
    more: Vec<Bytes>,
    bytes: usize,
}

/// A body that was read up to a point: the pieces again, then what follows them.
pub(super) struct Resumed {
    read: std::vec::IntoIter<Bytes>,
    read_bytes: u64,
    rest: Rest,
}

/// What follows the pieces that were read.
pub(super) enum Rest {
    /// The body goes on.
    Body(Body),
    /// The body ended in trailers.
    Trailers(HeaderMap),
    /// The body broke.
    Broken(Error),
    /// Nothing.
    End,
}

/// Where reading a body came to.
pub(super) enum Read {
    /// To its end.
    All(Option<HeaderMap>),
    /// To more than what was asked for.
    TooMuch,
    /// To where it broke.
    Broken(Error),
}

impl Pieces {
    /// Reads on, as far as `max` bytes.
    pub(super) fn poll_read(&mut self, body: &mut Body, max: usize, context: &mut Context<'_>) -> Poll<Read> {
        // Most are one piece, and one that has a length says behind its last piece that it is over.
        while !body.is_end_stream() {
            let frame = match ready!(Pin::new(&mut *body).poll_frame(context)) {
                None => break,
                Some(Err(error)) => return Poll::Ready(Read::Broken(error)),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) => {
                    self.push(data);
                    if self.len() > max {
                        return Poll::Ready(Read::TooMuch);
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        return Poll::Ready(Read::All(Some(trailers)));
                    }
                }
            }
        }
        Poll::Ready(Read::All(None))
    }

    fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        if self.first.is_empty() {
            self.first = piece;
        } else if !piece.is_empty() {
            self.more.push(piece);
        }
    }

    /// How many bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    /// All of it, copied only if it came in more pieces than one.
    pub(super) fn joined(self) -> Bytes {
        if self.more.is_empty() {
            return self.first;
        }
        let mut joined = BytesMut::with_capacity(self.len());
        joined.extend_from_slice(&self.first);
        for piece in self.more {
            joined.extend_from_slice(&piece);
        }
        joined.freeze()
    }
}

impl From<Bytes> for Pieces {
    fn from(first: Bytes) -> Self {
        Self { bytes: first.len(), first, more: Vec::new() }
    }
}

impl Resumed {
    pub(super) fn new(read: Pieces, rest: Rest) -> Self {
        let read_bytes = read.len() as u64;
        let mut pieces = read.more;
        if !read.first.is_empty() {
            pieces.insert(0, read.first);
        }
        Self { read: pieces.into_iter(), read_bytes, rest }
    }
}

impl HttpBody for Silent {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}

impl HttpBody for Resumed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(piece) = self.read.next() {
            self.read_bytes -= piece.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if let Rest::Body(body) = &mut self.rest {
            return Pin::new(body).poll_frame(context);
        }
        Poll::Ready(match std::mem::replace(&mut self.rest, Rest::End) {
            Rest::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
            Rest::Broken(error) => Some(Err(error)),
            Rest::End | Rest::Body(_) => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.read.as_slice().is_empty()
            && match &self.rest {
                Rest::Body(body) => body.is_end_stream(),
                Rest::Trailers(_) | Rest::Broken(_) => false,
                Rest::End => true,
            }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            Rest::Body(body) => {
                let rest = body.size_hint();
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower() + self.read_bytes);
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper + self.read_bytes);
                }
                hint
            }
            // Trailers need a chunked answer, and what broke had no length.
            Rest::Trailers(_) | Rest::Broken(_) => SizeHint::default(),
            Rest::End => SizeHint::with_exact(self.read_bytes),
        }
    }
}
