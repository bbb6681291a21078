//! gRPC says in a header or behind its body what HTTP says in the status, which is always 200.

use axum::{
    Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::StreamBody;
use idem_runtime::{Attempt, Disposition, idempotent};
use tests::{
    backend::Backend,
    service::{App, Call, Service},
};

tests::on_every_store!(
    an_error_frees_the_key_wherever_it_is_said,
    an_error_that_a_retry_would_meet_again_is_definitive,
    an_error_of_an_attempt_that_nobody_can_tell_of_is_unknown,
    the_handlers_word_goes_before_what_its_trailers_say,
);

#[idempotent(scope = "rpc", key = from_header)]
async fn success(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "rpc", key = from_header, store = definitive)]
async fn definitive(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "rpc", key = from_header, store = all)]
async fn all(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "rpc", key = from_header)]
async fn doubtful(attempt: Attempt, State(app): State<App>, call: Call) -> Response {
    attempt.mark_unknown();
    app.run(call).await
}

async fn service(backend: &Backend) -> Service {
    let routes = Router::new()
        .route("/success", post(success))
        .route("/definitive", post(definitive))
        .route("/all", post(all))
        .route("/doubtful", post(doubtful));
    Service::start(backend, routes).await
}

const GRPC: [(&str, &str); 1] = [("content-type", "application/grpc+proto")];

/// An answer without a message.
fn in_the_head(status: &'static str) -> Response {
    (GRPC, [("grpc-status", status)]).into_response()
}

fn behind_the_body(status: &'static str) -> Response {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    let frames = [Frame::data(Bytes::from("message")), Frame::trailers(trailers)];
    let frames = futures_util::stream::iter(frames.map(Ok::<_, std::io::Error>));
    (GRPC, Body::new(StreamBody::new(frames))).into_response()
}

async fn an_error_frees_the_key_wherever_it_is_said(backend: Backend) {
    let service = service(&backend).await;
    service.script().answer(|run, _| match run {
        1 => in_the_head("14"),
        2 => behind_the_body("13"),
        3 => behind_the_body("0"),
        // Of a service that speaks no gRPC it says nothing.
        4 => [("grpc-status", "14")].into_response(),
        5 => in_the_head("0"),
        _ => in_the_head("14"),
    });
    for _ in 0..3 {
        assert!(!service.post("/success").key("k").send().await.is_replay());
    }
    let replay = service.post("/success").key("k").send().await;
    assert_eq!((replay.is_replay(), replay.text().as_str()), (true, "message"), "{replay}");
    for key in ["k4", "k5"] {
        service.post("/success").key(key).send().await.assert_fresh(200);
        assert!(service.post("/success").key(key).send().await.is_replay());
    }
    service.post("/all").key("k").send().await.assert_fresh(200);
    assert!(service.post("/all").key("k").send().await.is_replay());
    assert_eq!(service.runs(), 6);
}

async fn an_error_that_a_retry_would_meet_again_is_definitive(backend: Backend) {
    let service = service(&backend).await;
    let statuses = ["1", "2", "4", "7", "8", "10", "13", "14", "15", "16", "what", "3", "5", "6", "9", "11", "12"];
    for (number, status) in statuses.into_iter().enumerate() {
        let kept = number >= 11;
        for answer in [in_the_head, behind_the_body] {
            let runs = service.runs();
            service.script().answer(move |_, _| answer(status));
            let key = format!("{status}-{runs}");
            service.post("/definitive").key(&key).send().await.assert_fresh(200);
            assert_eq!(service.post("/definitive").key(&key).send().await.is_replay(), kept, "{status}");
        }
    }
}

async fn an_error_of_an_attempt_that_nobody_can_tell_of_is_unknown(backend: Backend) {
    let service = service(&backend).await;
    for (key, answer) in [("head", in_the_head as fn(&'static str) -> Response), ("body", behind_the_body)] {
        service.script().answer(move |_, _| answer("14"));
        service.post("/doubtful").key(key).send().await.assert_fresh(200);
        service.post("/doubtful").key(key).send().await.assert_problem(409, "outcome-unknown");
    }
    service.script().answer(|_, _| behind_the_body("0"));
    service.post("/doubtful").key("done").send().await.assert_fresh(200);
    assert!(service.post("/doubtful").key("done").send().await.is_replay());
}

async fn the_handlers_word_goes_before_what_its_trailers_say(backend: Backend) {
    let service = service(&backend).await;
    service.script().answer(|_, _| (Disposition::Store, behind_the_body("14")).into_response());
    service.post("/success").key("k").send().await.assert_fresh(200);
    assert!(service.post("/success").key("k").send().await.is_replay());
    assert_eq!(service.runs(), 1);
}
