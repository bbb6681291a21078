//! Answers that are too large, too slow or broken to be kept: the effect is a fact all the same.

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::StatusCode;
use idem_runtime::idempotent;
use tests::{
    backend::Backend,
    service::{App, Call, Script, Service},
};
use tokio::sync::watch;

tests::on_every_store!(
    an_answer_over_the_cap_reaches_the_first_client_and_is_not_kept,
    an_answer_at_the_cap_is_kept,
    a_stream_over_the_cap_reaches_the_first_client_and_is_not_kept,
    a_stream_that_breaks_is_never_replayed_as_whole,
    a_stream_that_panics_is_never_replayed_as_whole,
    a_stream_of_another_length_than_it_says_is_never_replayed_as_whole,
    an_answer_slower_than_its_deadline_reaches_the_first_client_and_is_not_kept,
    an_error_over_the_cap_frees_the_key_all_the_same,
    an_answer_that_is_not_kept_is_still_compared,
    a_mebibyte_is_kept_unless_told_otherwise,
);

#[idempotent(scope = "reports", key = from_header)]
async fn report(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

const CAP: usize = 1000;

async fn service(backend: &Backend) -> Service {
    Service::of(backend, Router::new().route("/reports", post(report)))
        .runtime(|builder| {
            builder.principal_from_header("x-account").max_answer_bytes(CAP).answer_deadline(Duration::from_millis(100))
        })
        .start()
        .await
}

async fn assert_not_kept(service: &Service) {
    for _ in 0..3 {
        service.post("/reports").key("k").send().await.assert_problem(409, "response-not-kept");
    }
    assert_eq!(service.runs(), 1);
    assert_eq!(service.idempotency().metrics().not_kept, 3);
}

async fn an_answer_over_the_cap_reaches_the_first_client_and_is_not_kept(backend: Backend) {
    let service = service(&backend).await;
    let body: Vec<u8> = (0..=255).cycle().take(CAP + 1).collect();
    let answer = body.clone();
    service.script().answer(move |_, _| (StatusCode::CREATED, answer.clone()).into_response());
    let first = service.post("/reports").key("k").send().await;
    first.assert_fresh(201);
    assert_eq!(first.body, body);
    assert_eq!(first.header("content-length").as_deref(), Some("1001"));
    assert_not_kept(&service).await;
}

async fn an_answer_at_the_cap_is_kept(backend: Backend) {
    let service = service(&backend).await;
    service.script().answer(|_, _| vec![7; CAP].into_response());
    let first = service.post("/reports").key("k").send().await;
    first.assert_fresh(200);
    service.post("/reports").key("k").send().await.assert_replay_of(&first);
    stream_of(service.script(), vec![Ok(vec![8; CAP / 2].into()), Ok(vec![9; CAP / 2].into())]);
    let first = service.post("/reports").key("k2").send().await;
    first.assert_fresh(200);
    service.post("/reports").key("k2").send().await.assert_replay_of(&first);
}

async fn a_stream_over_the_cap_reaches_the_first_client_and_is_not_kept(backend: Backend) {
    let service = service(&backend).await;
    stream_of(service.script(), (0..50).map(|piece| Ok(Bytes::from(vec![piece; 100]))).collect());
    let first = service.post("/reports").key("k").send().await;
    first.assert_fresh(200);
    let whole: Vec<u8> = (0..50).flat_map(|piece| [piece; 100]).collect();
    assert_eq!(first.body, whole);
    assert!(!first.broke);
    assert_not_kept(&service).await;
}

async fn a_stream_that_breaks_is_never_replayed_as_whole(backend: Backend) {
    let service = service(&backend).await;
    stream_of(service.script(), vec![Ok("begun".into()), Err("gone")]);
    let first = service.post("/reports").key("k").try_send().await;
    assert!(first.is_err() || first.is_ok_and(|reply| reply.broke), "a broken answer looks whole");
    assert_not_kept(&service).await;
}

async fn a_stream_that_panics_is_never_replayed_as_whole(backend: Backend) {
    let service = service(&backend).await;
    service.script().answer(|_, _| {
        let pieces = stream::iter(0..2).map(|piece| {
            assert!(piece == 0, "the stream panics, as it is told to");
            Ok::<_, std::io::Error>(Bytes::from("begun"))
        });
        Body::from_stream(pieces).into_response()
    });
    let first = service.post("/reports").key("k").try_send().await;
    assert!(first.is_err() || first.is_ok_and(|reply| reply.broke), "a broken answer looks whole");
    assert_not_kept(&service).await;
}

/// Cut short, or a file that grew: beside a `content-length` that is wrong the next answer would be read as a part of this one.
async fn a_stream_of_another_length_than_it_says_is_never_replayed_as_whole(backend: Backend) {
    for length in ["3", "10"] {
        let service = service(&backend).await;
        service.script().answer(move |_, _| {
            let pieces = stream::iter([Ok::<_, std::io::Error>(Bytes::from("begun"))]);
            ([("content-length", length)], Body::from_stream(pieces)).into_response()
        });
        let first = service.post("/reports").key(length).try_send().await;
        let whole = first.is_ok_and(|reply| !reply.broke && reply.body == "begun");
        assert!(!whole, "a broken answer looks whole");
        service.post("/reports").key(length).send().await.assert_problem(409, "response-not-kept");
        assert_eq!(service.runs(), 1);
    }
    // Of what has no body, the length may be told.
    let service = service(&backend).await;
    service.script().answer(|_, _| {
        let nothing = stream::iter([] as [Result<Bytes, std::io::Error>; 0]);
        (StatusCode::NOT_MODIFIED, [("content-length", "5")], Body::from_stream(nothing)).into_response()
    });
    service.post("/reports").key("unchanged").send().await.assert_fresh(304);
    assert!(service.post("/reports").key("unchanged").send().await.is_replay());
}

async fn an_answer_slower_than_its_deadline_reaches_the_first_client_and_is_not_kept(backend: Backend) {
    let service = service(&backend).await;
    let end = watch::Sender::new(false);
    let ended = end.subscribe();
    service.script().answer(move |_, _| {
        let mut ended = ended.clone();
        let last = stream::once(async move {
            ended.wait_for(|ended| *ended).await.map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(Bytes::from("done"))
        });
        Body::from_stream(stream::iter([Ok(Bytes::from("begun, "))]).chain(last)).into_response()
    });
    let first = tokio::spawn(service.post("/reports").key("k").send());
    // While the body still comes, the operation is known to have run.
    service.store().until("the answer's deadline is over", |steps| steps.completions == 1).await;
    service.post("/reports").key("k").send().await.assert_problem(409, "response-not-kept");
    end.send_replace(true);
    let first = first.await.expect("a reply");
    first.assert_fresh(200);
    assert_eq!((first.text().as_str(), first.broke), ("begun, done", false));
    service.post("/reports").key("k").send().await.assert_problem(409, "response-not-kept");
    assert_eq!(service.runs(), 1);
}

async fn an_error_over_the_cap_frees_the_key_all_the_same(backend: Backend) {
    let service = service(&backend).await;
    service.script().answer(|run, _| {
        let status = if run == 1 { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
        (status, vec![b'x'; 2 * CAP / run.pow(2)]).into_response()
    });
    let first = service.post("/reports").key("k").send().await;
    first.assert_fresh(502);
    assert_eq!(first.body.len(), 2 * CAP);
    let second = service.post("/reports").key("k").send().await;
    second.assert_fresh(200);
    service.post("/reports").key("k").send().await.assert_replay_of(&second);
}

async fn an_answer_that_is_not_kept_is_still_compared(backend: Backend) {
    let service = service(&backend).await;
    service.script().answer(|_, _| vec![7; CAP + 1].into_response());
    service.post("/reports").key("k").body("1").send().await.assert_fresh(200);
    service.post("/reports").key("k").body("2").send().await.assert_problem(422, "key-reused");
    service.post("/reports").key("k").body("1").send().await.assert_problem(409, "response-not-kept");
    assert_eq!(service.runs(), 1);
}

async fn a_mebibyte_is_kept_unless_told_otherwise(backend: Backend) {
    let service = Service::start(&backend, Router::new().route("/reports", post(report))).await;
    let body: Vec<u8> = (0..=250).cycle().take((1 << 20) + 1).collect();
    let answer = body.clone();
    service.script().answer(move |run, _| answer[..(1 << 20) + run - 1].to_vec().into_response());
    let first = service.post("/reports").key("k").send().await;
    first.assert_fresh(200);
    assert_eq!(first.body, body[..1 << 20]);
    service.post("/reports").key("k").send().await.assert_replay_of(&first);
    let over = service.post("/reports").key("k2").send().await;
    over.assert_fresh(200);
    assert_eq!(over.body, body);
    service.post("/reports").key("k2").send().await.assert_problem(409, "response-not-kept");
    assert_eq!(service.runs(), 2);
}

/// Every run answers 200 with these pieces.
fn stream_of(script: &Script, pieces: Vec<Result<Bytes, &'static str>>) {
    script.answer(move |_, _| Body::from_stream(stream::iter(pieces.clone())).into_response());
}
