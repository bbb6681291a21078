//! HTTP/2: the stream is reset, or its connection is gone.

use axum::body::Body;
use http::Request;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tests::{backend::Backend, on_every_store};
use tokio::net::TcpStream;

use crate::support::*;

on_every_store!(a_reset_stream_cuts_nothing, a_connection_that_is_gone_cuts_nothing);

/// A connection, and its socket to close it by: hyper keeps its own until the last stream is done.
async fn connect(server: &Server) -> (SendRequest<Body>, std::net::TcpStream) {
    let stream = TcpStream::connect(server.address).await.unwrap().into_std().unwrap();
    let socket = stream.try_clone().unwrap();
    let io = TokioIo::new(TcpStream::from_std(stream).unwrap());
    let (sender, connection) = handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    (sender, socket)
}

fn request(server: &Server, path: &str, key: &str) -> Request<Body> {
    Request::post(format!("http://{}{path}", server.address))
        .header("idempotency-key", key)
        .header("content-type", "application/json")
        .body(Body::from(BODY))
        .unwrap()
}

async fn a_reset_stream_cuts_nothing(backend: Backend) {
    for path in ROUTES {
        let key = "k";
        let app = App::new(&backend).await;
        let server = Server::start(app.router()).await;
        let (mut sender, _socket) = connect(&server).await;
        let response = tokio::spawn(sender.send_request(request(&server, path, key)));
        soon(app.gate.reached()).await;
        // Whoever waits for the response goes: RST_STREAM with CANCEL.
        response.abort();
        soon(app.gone.reached()).await;
        assert_eq!(app.idempotency.metrics().detached, 1, "{path}");
        // The connection goes on.
        let again = soon(sender.send_request(request(&server, path, key))).await.unwrap();
        assert_eq!(again.status(), 409, "{path}");
        app.assert_ran_once(&server, path, key).await;
    }
}

async fn a_connection_that_is_gone_cuts_nothing(backend: Backend) {
    for path in ROUTES {
        let key = "k";
        let app = App::new(&backend).await;
        let server = Server::start(app.router()).await;
        let (mut sender, socket) = connect(&server).await;
        let response = tokio::spawn(sender.send_request(request(&server, path, key)));
        soon(app.gate.reached()).await;
        socket.shutdown(std::net::Shutdown::Both).unwrap();
        soon(app.gone.reached()).await;
        app.assert_ran_once(&server, path, key).await;
        assert!(response.await.unwrap().is_err());
    }
}
