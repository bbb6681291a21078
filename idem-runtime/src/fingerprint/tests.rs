use bytes::Bytes;

use super::*;

const BODY: &[u8] = br#"{ "amount": 1999, "currency": "usd", "note": null }"#;
const REQUEST: RequestParts<'_> = RequestParts {
    method: "POST",
    path: "/payments",
    query: None,
    content_type: Some(b"application/json"),
    body: BODY,
};
const FIELDS: FingerprintRule = FingerprintRule::Fields(&["/amount", "/note", "/source", ""]);

fn of(rule: FingerprintRule, request: RequestParts<'_>) -> Fingerprint {
    made_of(rule, KeySpace::Endpoint, &request).unwrap()
}

/// Of a rule that may be a function, which sees nothing of `request` but its body.
fn made_of(
    rule: FingerprintRule,
    key_space: KeySpace,
    request: &RequestParts<'_>,
) -> Result<Fingerprint, NoFingerprint> {
    let (whole, body) = (http::Request::new(()), Bytes::copy_from_slice(request.body));
    Fingerprint::of_request(rule, key_space, request, || {
        KeyRequest::new(whole.method(), whole.uri(), whole.headers(), &body)
    })
}

/// As many bytes as the body has, or nothing of a body that is empty.
const LENGTH: FingerprintRule = FingerprintRule::Function(|request| {
    let length = u8::try_from(request.body.len()).ok()?;
    (length > 0).then_some(Fingerprint::from_bytes([length; 32]))
});

/// A record outlives the version that wrote it, so these digests must never change. They come from
/// `tests/data/golden.py`: hashlib's SHA-256 over the byte 1 and the parts, each as tag, length and bytes.
#[test]
fn golden() {
    use FingerprintRule::{Bytes, Json, Off};

    let request = |rule, key_space, request| made_of(rule, key_space, &request).unwrap();
    let nothing = RequestParts { method: "DELETE", path: "/", query: None, content_type: None, body: b"" };
    for (fingerprint, expected) in [
        (of(Bytes, REQUEST), "9230348a901bb9835711ff47c5f446c67f447ff5ef9775d5638e5041d31da838"),
        (
            of(Bytes, RequestParts { query: Some("a=1&b=2"), ..REQUEST }),
            "5796727c233b86c33243b13a749df8cceb2bc02acf2f103d569d65356e88a614",
        ),
        (of(Bytes, nothing), "a49bc838edfdd3fce336af945ae3575ceb7d6a01e2cf61700d141fb1db2ecbf3"),
        (of(Json, REQUEST), "f29240c5652cde81c19da97da4bbebd33333bc2159319d9d9a336dccf1884ec4"),
        (of(FIELDS, REQUEST), "2a00b059ca0304ada6569ef78810a392ec023df89d67ea6f06af0747a988084a"),
        (
            of(LENGTH, RequestParts { body: b"7 bytes", ..REQUEST }),
            "8755a9dee326c4d679bcea89104953a71e971c0cabf69f7685b35f40cb5c8193",
        ),
        (of(Off, REQUEST), "4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a"),
        (request(Off, KeySpace::Scope, REQUEST), "bab2eb54498004f90fa94b9421a9fbe7cb07b64d1ab22eddf4165199446df590"),
        (Fingerprint::of_bytes(b"\x00\xffinput"), "1de54aa4caaa00cae821c09307156462f30b4e947ccf133057b92929b8437a28"),
        (Fingerprint::of_bytes(&[b'a'; 254]), "ea83e6f8697adba775107218b58f6b98b06d87de0c9a6047c4b8ac361c286b1c"),
        (Fingerprint::of_bytes(&[b'a'; 255]), "e674b819dfca9dcae4b1c89568330bd377547614008a463cc939d99a6a70f967"),
        (Fingerprint::of_json_text(BODY).unwrap(), "008f650b5d63a58b1efe05243d6927d482647be1911fd4121a41606ab60d5f8e"),
        (
            Fingerprint::of_payload(Bytes, b"\x00\xffinput").unwrap(),
            "1de54aa4caaa00cae821c09307156462f30b4e947ccf133057b92929b8437a28",
        ),
        (
            Fingerprint::of_payload(Json, BODY).unwrap(),
            "008f650b5d63a58b1efe05243d6927d482647be1911fd4121a41606ab60d5f8e",
        ),
        (
            Fingerprint::of_payload(FingerprintRule::Fields(&["/amount", "/source"]), BODY).unwrap(),
            "188f08cb84b089a91ed986f269bd4af9d1be868513650f95c941a28cca805981",
        ),
        (
            Fingerprint::of_payload(Off, b"anything").unwrap(),
            "4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a",
        ),
    ] {
        let hex: String = fingerprint.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    }
}

#[test]
fn bytes_covers_all_of_the_request() {
    let first = of(FingerprintRule::Bytes, REQUEST);
    for other in [
        RequestParts { method: "PUT", ..REQUEST },
        RequestParts { path: "/refunds", ..REQUEST },
        RequestParts { query: Some("a=1"), ..REQUEST },
        RequestParts { content_type: Some(b"text/plain"), ..REQUEST },
        RequestParts { content_type: None, ..REQUEST },
        RequestParts { body: b"", ..REQUEST },
        RequestParts { body: br#"{"amount":1999,"currency":"usd","note":null}"#, ..REQUEST },
    ] {
        assert_ne!(of(FingerprintRule::Bytes, other), first);
    }
    assert_eq!(of(FingerprintRule::Bytes, RequestParts { query: Some(""), ..REQUEST }), first);
}

#[test]
fn no_bytes_move_from_one_part_to_the_next() {
    let of = |path, query, content_type: &'static str, body: &'static str| {
        let (content_type, body) = (Some(content_type.as_bytes()), body.as_bytes());
        of(FingerprintRule::Bytes, RequestParts { method: "POST", path, query: Some(query), content_type, body })
    };
    let all = [
        of("/ab", "", "", ""),
        of("/a", "b", "", ""),
        of("/a", "", "b", ""),
        of("/a", "", "", "b"),
        of("/", "a", "b", ""),
    ];
    for (index, one) in all.iter().enumerate() {
        assert!(!all[..index].contains(one), "{index}");
    }
}

#[test]
fn json_covers_what_the_body_says() {
    let json = |body| of(FingerprintRule::Json, RequestParts { body, ..REQUEST });
    let first = json(br#"{"amount":1999,"list":[1,9007199254740993]}"#);
    assert_eq!(first, json(b"{ \"list\" : [1.0, 9007199254740993], \"\\u0061mount\":19.99e2 }\n"));
    assert_ne!(first, json(br#"{"amount":1999,"list":[1,9007199254740992]}"#));
    assert_ne!(first, json(br#"{"amount":1999,"list":[9007199254740993,1]}"#));
    assert_ne!(first, json(br#"{"amount":"1999","list":[1,9007199254740993]}"#));
    let query = RequestParts { query: Some("dry"), ..REQUEST };
    assert_ne!(of(FingerprintRule::Json, REQUEST), of(FingerprintRule::Json, query));
}

#[test]
fn fields_covers_the_fields_and_the_endpoint() {
    const AMOUNT: FingerprintRule = FingerprintRule::Fields(&["/amount", "/note"]);
    let with = |body| of(AMOUNT, RequestParts { body, ..REQUEST });
    let first = with(br#"{"amount":1999,"sent":"12:00"}"#);
    assert_eq!(first, with(br#"{"sent":"12:01","amount":1999.0}"#));
    assert_ne!(first, with(br#"{"amount":2000}"#));
    assert_ne!(first, with(br#"{"sent":"12:00"}"#));
    assert_ne!(first, with(br#"{"amount":1999,"note":null}"#));
    assert_ne!(with(br#"{"amount":1}"#), with(br#"{"note":1}"#));
    let body = br#"{"amount":1999}"#;
    assert_eq!(first, of(AMOUNT, RequestParts { query: Some("a=1"), content_type: None, body, ..REQUEST }));
    assert_ne!(first, of(AMOUNT, RequestParts { path: "/refunds", body, ..REQUEST }));
}

#[test]
fn off_tells_endpoints_apart_only_where_they_share_keys() {
    let of = |key_space, path| made_of(FingerprintRule::Off, key_space, &RequestParts { path, ..REQUEST }).unwrap();
    assert_eq!(of(KeySpace::Endpoint, "/a"), of(KeySpace::Endpoint, "/b"));
    assert_ne!(of(KeySpace::Scope, "/a"), of(KeySpace::Scope, "/b"));
    let other = RequestParts { body: b"not json", query: Some("x"), content_type: None, ..REQUEST };
    assert_eq!(made_of(FingerprintRule::Off, KeySpace::Scope, &other).unwrap(), of(KeySpace::Scope, "/payments"));
}

#[test]
fn a_function_is_asked_and_the_endpoint_is_covered_beside_it() {
    let first = of(LENGTH, REQUEST);
    assert_eq!(first, of(LENGTH, RequestParts { body: &[b'a'; BODY.len()], query: Some("a=1"), ..REQUEST }));
    assert_ne!(first, of(LENGTH, RequestParts { body: b"a", ..REQUEST }));
    assert_ne!(first, of(LENGTH, RequestParts { method: "PUT", ..REQUEST }));
    assert_ne!(first, of(LENGTH, RequestParts { path: "/refunds", ..REQUEST }));
    let refused = made_of(LENGTH, KeySpace::Endpoint, &RequestParts { body: b"", ..REQUEST });
    assert!(matches!(refused, Err(NoFingerprint::Function)));
}

#[test]
fn a_body_that_is_not_json_is_an_error_only_where_json_is_read() {
    for body in [&b""[..], b"{", b"{\"a\":1,\"a\":2}", b"\xff"] {
        let request = RequestParts { body, ..REQUEST };
        for rule in [FingerprintRule::Json, FIELDS] {
            assert!(made_of(rule, KeySpace::Endpoint, &request).is_err());
        }
        of(FingerprintRule::Bytes, request);
    }
    // A rule that can never find anything is no rule.
    assert!(made_of(FingerprintRule::Fields(&["amount"]), KeySpace::Endpoint, &REQUEST).is_err());
}

#[test]
fn a_value_and_its_text_are_one_input() {
    #[derive(Serialize)]
    struct Input {
        note: Option<()>,
        currency: &'static str,
        amount: f64,
    }

    let value = Fingerprint::of_json(&Input { note: None, currency: "usd", amount: 1999.0 });
    assert_eq!(value, Fingerprint::of_json_text(BODY));
    assert_ne!(value, Ok(Fingerprint::of_bytes(BODY)));
    assert!(Fingerprint::of_json(&f64::NAN).is_err());
    // serde_json alone would write both as `null`.
    assert!(Fingerprint::of_json(&None::<u8>).is_ok());
}

#[test]
fn debug_shows_eight_digits() {
    assert_eq!(format!("{:?}", Fingerprint::from_bytes([0xab; 32])), "Fingerprint(abababab)");
}
