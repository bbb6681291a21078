#[path = "../support.rs"]
mod support;

use axum::{Router, routing::post};
use idem_runtime::{Fingerprint, KeyRequest, idempotent};

mod fingerprints {
    use super::{Fingerprint, KeyRequest};

    pub fn first_word(request: &KeyRequest<'_>) -> Option<Fingerprint> {
        Some(Fingerprint::of_bytes(request.body.split(u8::is_ascii_whitespace).next()?))
    }
}

fn length(request: &KeyRequest<'_>) -> Fingerprint {
    Fingerprint::from_bytes([request.body.len() as u8; 32])
}

fn lines<E>(request: &KeyRequest<'_>) -> Result<Fingerprint, std::str::Utf8Error> {
    let text = std::str::from_utf8(request.body)?;
    Ok(Fingerprint::of_bytes(text.lines().collect::<String>().as_bytes()))
}

#[idempotent(scope = "words", key = from_header, financial, fingerprint = from_fn(fingerprints::first_word))]
async fn word(body: String) -> String {
    body
}

#[idempotent(scope = "lengths", key = from_header, fingerprint = from_fn(length))]
async fn long(body: String) -> String {
    body
}

#[idempotent(scope = "lines", key = from_header, fingerprint = from_fn(lines::<()>))]
async fn line(body: String) -> String {
    body
}

fn main() {
    let app = Router::new()
        .route("/word", post(word))
        .route("/long", post(long))
        .route("/line", post(line))
        .with_state(support::runtime());
    let key = [("idempotency-key", "k")];
    for uri in ["/word", "/long", "/line"] {
        support::runs_once(&app, || support::post(uri, &key, "one two"));
    }
    let answers = support::send(
        &app,
        [
            support::post("/word", &key, "one three"),
            support::post("/word", &key, "two two"),
            support::post("/long", &key, "two one"),
            support::post("/long", &key, "one"),
            support::post("/line", &key, "one \ntwo"),
            support::post("/line", &key, "onetwo"),
        ],
    );
    assert_eq!(answers.iter().map(|answer| answer.0).collect::<Vec<_>>(), [200, 422, 200, 422, 200, 422], "{answers:?}");
}
