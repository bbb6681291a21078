use http_body_util::BodyExt;

use super::*;

const RESPONSE: &str = "0101f1f6304400c90000000400086c6f636174696f6e0000000b2f7061796d656e74732f3100046c696e6b0000000\
                        e3c2f613e3b2072656c3d6e65787400046c696e6b0000000e3c2f623e3b2072656c3d6c6173740006782d6e616d65\
                        00000004636166e9000000000000000a7b226964223a317d00ff00000000";
const TRAILERS: &str = "0101dbad8af700cc00000000000000000000000000000001000a782d636865636b73756d0000000130";
const SENSITIVE_TOKEN: &str = "0101760a763600c8000000020007782d746f6b656e80000001730006782d6e616d65000000016e00\
                               0000000000000000000000";

/// A response that a store holds must be replayed by every later version, so these bytes must never change. They come from
/// `tests/data/golden.py`, which writes the table at the head of `stored.rs` once more.
#[test]
fn golden() {
    let (created, headers) = head();
    assert_eq!(hex(&seal(created, &headers, &body(), None)), RESPONSE);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("0"));
    let sealed = seal(StatusCode::NO_CONTENT, &HeaderMap::new(), &Bytes::new(), Some(&trailers));
    assert_eq!(hex(&sealed), TRAILERS);
    let sealed = seal(StatusCode::OK, &sensitive(), &Bytes::new(), None);
    assert_eq!(hex(&sealed), SENSITIVE_TOKEN);
}

#[tokio::test]
async fn the_golden_bytes_replay() {
    let (found, collected) = replay(&answer(RESPONSE)).unwrap().into_parts();
    assert_eq!(found.status, StatusCode::CREATED);
    let mut headers = head().1;
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    assert_eq!(found.headers, headers);
    assert_eq!(collected.collect().await.unwrap().to_bytes(), body());

    let (found, collected) = replay(&answer(TRAILERS)).unwrap().into_parts();
    assert_eq!(found.status, StatusCode::NO_CONTENT);
    let collected = collected.collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-checksum"], "0");
    assert!(collected.to_bytes().is_empty());

    let found = replay(&answer(SENSITIVE_TOKEN)).unwrap();
    let found = ["x-token", "x-name"].map(|name| (&found.headers()[name], found.headers()[name].is_sensitive()));
    assert_eq!(found, [(&HeaderValue::from_static("s"), true), (&HeaderValue::from_static("n"), false)]);
}

/// RFC 9110, section 7.6.1.
#[test]
fn what_connection_names_is_of_one_delivery() {
    let mut headers = HeaderMap::new();
    for (name, value) in
        [("x-hop", "1"), ("x-stays", "2"), ("connection", "close, X-Hop"), ("connection", "x-other"), ("x-other", "3")]
    {
        headers.append(name, HeaderValue::from_static(value));
    }
    let replayed = replay(&seal(StatusCode::OK, &headers, &Bytes::new(), None)).unwrap();
    let names: Vec<_> = replayed.headers().keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["x-stays", "idempotent-replayed"]);
}

/// Bytes that pass the checksum and yet are no response: refused, wherever they end, never a panic.
#[test]
fn content_that_is_no_response_is_refused() {
    let content = answer(RESPONSE).open(Kind::Response).unwrap();
    for length in 0..content.len() {
        let cut = Answer::seal(Kind::Response, length, |bytes| bytes.put_slice(&content[..length]));
        assert!(replay(&cut).is_err(), "cut at {length}");
    }
    let longer = Answer::seal(Kind::Response, content.len(), |bytes| {
        bytes.put_slice(&content);
        bytes.put_u8(0);
    });
    assert!(replay(&longer).is_err());
    for at in 0..content.len() {
        for byte in [0, 0x7f, 0xff] {
            let mut changed = content.to_vec();
            changed[at] = byte;
            // Some of these are other responses, none may end the process or ask for the memory of a length that lies.
            _ = replay(&Answer::seal(Kind::Response, content.len(), |bytes| bytes.put_slice(&changed)));
        }
    }
}

fn head() -> (StatusCode, HeaderMap) {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("location", &b"/payments/1"[..]),
        ("link", b"</a>; rel=next"),
        ("link", b"</b>; rel=last"),
        ("x-name", b"caf\xe9"),
    ] {
        headers.append(name, HeaderValue::from_bytes(value).unwrap());
    }
    (StatusCode::CREATED, headers)
}

/// One value that nobody on the way may keep, and one that anybody may.
fn sensitive() -> HeaderMap {
    let mut token = HeaderValue::from_static("s");
    token.set_sensitive(true);
    [("x-token", token), ("x-name", HeaderValue::from_static("n"))]
        .into_iter()
        .map(|(name, value)| (HeaderName::from_static(name), value))
        .collect()
}

fn body() -> Bytes {
    Bytes::from_static(b"{\"id\":1}\0\xff")
}

fn hex(answer: &Answer) -> String {
    answer.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn answer(hex: &str) -> Answer {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    Answer::from_bytes((0..hex.len()).step_by(2).map(byte).collect())
}
