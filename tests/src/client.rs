//! A client over real HTTP, and one that sees every byte.

use std::{fmt, net::SocketAddr, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version, header};
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Sends requests to one address, over as many connections as it takes.
#[derive(Debug, Clone)]
pub struct Client {
    http: legacy::Client<HttpConnector, Body>,
    address: SocketAddr,
}

/// One connection that stays open, for exchanges that cost the client next to nothing.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

/// A request that is still being written.
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Ask {
    client: Client,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Body,
}

/// What came back.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "named as the parts of a response")]
pub struct Reply {
    pub status: StatusCode,
    pub version: Version,
    pub headers: HeaderMap,
    pub trailers: Option<HeaderMap>,
    /// As much as came.
    pub body: Bytes,
    /// Whether the body ended before its end.
    pub broke: bool,
}

/// Longer than any test waits: who waits longer waits for ever.
const PATIENCE: Duration = Duration::from_secs(60);

impl Client {
    /// A client of `address` over HTTP/1.1.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { http: legacy::Client::builder(TokioExecutor::new()).build_http(), address }
    }

    /// A client of `address` over one connection of HTTP/2.
    #[must_use]
    pub fn http2(address: SocketAddr) -> Self {
        Self { http: legacy::Client::builder(TokioExecutor::new()).http2_only(true).build_http(), address }
    }

    /// Where it sends to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A request of account `acct_1`.
    pub fn ask(&self, method: Method, path: &str) -> Ask {
        let headers = HeaderMap::from_iter([(ACCOUNT, HeaderValue::from_static("acct_1"))]);
        Ask { client: self.clone(), method, path: path.to_owned(), headers, body: Body::empty() }
    }

    /// A POST of account `acct_1`.
    pub fn post(&self, path: &str) -> Ask {
        self.ask(Method::POST, path)
    }

    /// Sends these bytes as they are, and reads until the server closes the connection.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub async fn raw(&self, request: &[u8]) -> Vec<u8> {
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await.expect("a connection");
            stream.write_all(request).await.expect("a request");
            let mut reply = Vec::new();
            stream.read_to_end(&mut reply).await.expect("a reply to its end");
            reply
        };
        tokio::time::timeout(PATIENCE, exchange).await.expect("the server closes the connection")
    }
}

impl Wire {
    /// A connection to this address.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, read: Vec::new() }
    }

    /// Sends a request as it is and reads one response, which must say its length.
    ///
    /// # Panics
    ///
    /// If there is no such response.
    pub async fn exchange(&mut self, request: &[u8]) -> String {
        self.stream.write_all(request).await.expect("a request");
        let reply = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(length) = response_length(&self.read) {
                    return self.read.drain(..length).collect();
                }
                assert!(self.stream.read_buf(&mut self.read).await.expect("bytes") > 0, "the connection is closed");
            }
        });
        String::from_utf8(reply.await.expect("the server answers")).expect("text")
    }
}

impl Wire {
    /// Sends these bytes as they are.
    ///
    /// # Panics
    ///
    /// If the connection is closed.
    pub async fn send(&mut self, request: &[u8]) {
        self.stream.write_all(request).await.expect("a request");
    }

    /// Reads one head, its blank line included.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub async fn read_head(&mut self) -> String {
        let head = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(end) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                    return self.read.drain(..end + 4).collect();
                }
                assert!(self.stream.read_buf(&mut self.read).await.expect("bytes") > 0, "the connection is closed");
            }
        });
        String::from_utf8(head.await.expect("the server answers")).expect("text")
    }

    /// Sends these bytes and then nothing more, and reads until the server closes the connection too.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub async fn send_and_close(mut self, request: &[u8]) -> Vec<u8> {
        self.stream.write_all(request).await.expect("a request");
        self.stream.shutdown().await.expect("an end");
        let read = tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut self.read)).await;
        drop(read.expect("the server closes the connection"));
        self.read
    }
}

/// The length of the response at the start of these bytes, if it is whole.
fn response_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let text = str::from_utf8(bytes.get(..head)?).expect("a head in ASCII");
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let whole = head + length.parse::<usize>().expect("a number");
    (bytes.len() >= whole).then_some(whole)
}

const ACCOUNT: HeaderName = HeaderName::from_static("x-account");
const KEY: HeaderName = HeaderName::from_static("idempotency-key");

impl Ask {
    /// With this idempotency key.
    pub fn key(self, key: &str) -> Self {
        self.header(KEY.as_str(), key)
    }

    /// As this account instead.
    pub fn account(mut self, account: &str) -> Self {
        self.headers.insert(ACCOUNT, account.parse().expect("a header's value"));
        self
    }

    /// With one more header line.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name: HeaderName = name.parse().expect("a header's name");
        self.headers.append(name, HeaderValue::from_bytes(value.as_ref()).expect("a header's value"));
        self
    }

    /// Without this header.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    /// With this body.
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    /// With this body, said to be JSON.
    pub fn json(mut self, body: impl Into<Body>) -> Self {
        self.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.body(body)
    }

    /// With this body in as many chunks, and no word on its length.
    pub fn chunked(self, chunks: Vec<Bytes>) -> Self {
        self.body(Body::from_stream(futures_util::stream::iter(chunks.into_iter().map(Ok::<_, std::io::Error>))))
    }

    /// Sends it and reads the whole reply.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub async fn send(self) -> Reply {
        self.try_send().await.expect("a reply")
    }

    /// Sends it and reads the whole reply, if there is one.
    ///
    /// # Errors
    ///
    /// If the connection fails before the head of a reply.
    ///
    /// # Panics
    ///
    /// If it takes too long.
    pub async fn try_send(self) -> Result<Reply, legacy::Error> {
        let Self { client, method, path, headers, body } = self;
        let mut request = Request::new(body);
        let uri = format!("http://{}{path}", client.address);
        *request.method_mut() = method;
        *request.uri_mut() = uri.parse().expect("a path");
        *request.headers_mut() = headers;
        let exchange = async {
            let (parts, mut body) = client.http.request(request).await?.into_parts();
            let mut read = Vec::new();
            let mut trailers = None;
            let mut broke = false;
            while let Some(frame) = body.frame().await {
                match frame.map(http_body::Frame::into_data) {
                    Ok(Ok(data)) => read.extend_from_slice(&data),
                    Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
                    Err(_) => broke = true,
                }
            }
            let (status, version, headers) = (parts.status, parts.version, parts.headers);
            Ok(Reply { status, version, headers, trailers, body: read.into(), broke })
        };
        tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| panic!("{uri} does not answer in time"))
    }
}

impl Reply {
    /// Whether it says that it is a replay.
    #[must_use]
    pub fn is_replay(&self) -> bool {
        self.headers.get("idempotent-replayed").is_some_and(|value| value == "true")
    }

    /// The value of a header that is there once, as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        assert!(values.next().is_none(), "`{name}` is there twice: {self}");
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    }

    /// Its body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The headers that the handler's answer and its replay have in common, every name once and in order of the names,
    /// with its values in their own order.
    #[must_use]
    pub fn lasting_headers(&self) -> Vec<(String, Vec<Vec<u8>>)> {
        let mut names: Vec<_> = self.headers.keys().filter(|name| !PASSING.contains(&name.as_str())).collect();
        names.sort_by_key(|name| name.as_str());
        let values = |name| self.headers.get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect();
        names.into_iter().map(|name| (name.to_string(), values(name))).collect()
    }

    /// Asserts that the handler has answered this now.
    #[track_caller]
    pub fn assert_fresh(&self, status: u16) {
        assert_eq!(self.status.as_u16(), status, "{self}");
        assert!(!self.headers.contains_key("idempotent-replayed"), "it says that it is a replay: {self}");
    }

    /// Asserts that this is the replay of `first`: status, headers and bytes.
    #[track_caller]
    pub fn assert_replay_of(&self, first: &Self) {
        assert_eq!(self.header("idempotent-replayed").as_deref(), Some("true"), "not a replay: {self}");
        assert_eq!(self.status, first.status, "{self}");
        assert_eq!(self.lasting_headers(), first.lasting_headers());
        assert_eq!(self.trailers, first.trailers);
        assert_eq!(self.body, first.body, "not the first answer: {self}");
    }

    /// Asserts that this is a refusal with this code, whole and in the form that is promised; after a panic, one that says
    /// that no retry runs.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, code: &str) {
        let retryable = matches!(
            code,
            "in-flight" | "store-unavailable" | "overloaded" | "body-timeout" | "contended" | "commit-unconfirmed"
        );
        self.assert_refused(status, code, retryable);
    }

    /// Asserts a refusal that a retry may get past by the route's policy alone.
    #[track_caller]
    pub fn assert_problem_for_now(&self, status: u16, code: &str) {
        self.assert_refused(status, code, true);
    }

    #[track_caller]
    fn assert_refused(&self, status: u16, code: &str, retryable: bool) {
        assert_eq!(self.status.as_u16(), status, "wanted `{code}`: {self}");
        assert_eq!(self.header("content-type").as_deref(), Some("application/problem+json"), "{self}");
        assert!(!self.headers.contains_key("idempotent-replayed"), "a refusal is not a replay: {self}");
        let problem: Value = serde_json::from_slice(&self.body).expect("a problem is JSON");
        assert_eq!(problem["code"], code, "{self}");
        assert_eq!(problem["type"], format!("urn:idempotency:{code}"), "{self}");
        assert_eq!(problem["status"], status, "{self}");
        assert_eq!(problem["retryable"], retryable, "{self}");
        for text in ["title", "detail"] {
            assert!(problem[text].as_str().is_some_and(|text| !text.is_empty()), "no `{text}`: {self}");
        }
        let sentence = |text: &str| text.starts_with(|first: char| first.is_ascii_uppercase()) && text.ends_with('.');
        assert!(problem["detail"].as_str().is_some_and(sentence), "`detail` is no sentence: {self}");
        assert_eq!(self.headers.contains_key("retry-after"), retryable, "{self}");
        if let Some(seconds) = self.header("retry-after") {
            assert!(seconds.parse::<u64>().is_ok_and(|seconds| seconds >= 1), "`retry-after: {seconds}`");
        }
    }
}

/// What belongs to one delivery.
const PASSING: [&str; 3] = ["date", "idempotent-replayed", "connection"];

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {:?}", self.status, self.headers, self.text())
    }
}
