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
    Fingerprint::of_request(rule, KeySpace::Endpoint, &request).unwrap()
}

/// A record outlives the version that wrote it, so these digests must never change. They come from
/// `tests/data/golden.py`: hashlib's SHA-256 over the byte 1 and the parts, each as tag, length and bytes.
#[test]
fn golden() {
    use FingerprintRule::{Bytes, Json, Off};

    let request = |rule, key_space, request| Fingerprint::of_request(rule, key_space, &request).unwrap();
    let nothing = RequestParts { method: "DELETE", path: "/", query: None, content_type: None, body: b"" };
    for (fingerprint, expected) in [
        (of(Bytes, REQUEST), "8cd15245337be2177a66dfd61f65cc1e5598b87e5e2da1326fcae10e47b0de21"),
        (
            of(Bytes, RequestParts { query: Some("a=1&b=2"), ..REQUEST }),
            "b0c12f4520ea669eb20598dc85f3af7b87a8099b2e4ea0585c381258aa3bed76",
        ),
        (of(Bytes, nothing), "f742888cedec722ee0884716b685272080473c358432a714e875d379d46d5f30"),
        (of(Json, REQUEST), "9ab200340a5a47482b583a6f5965dbe02fcf3b3cd8efc1f1af53766151cf02aa"),
        (of(FIELDS, REQUEST), "17543585164ea03e8c45f75b5a4329dab6702935cea56c8e194a78f38545c7e7"),
        (of(Off, REQUEST), "4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a"),
        (request(Off, KeySpace::Scope, REQUEST), "9655212aa0643b024d6d4b6435ace89dfc17581b4bd0b853917e449b58ad1d93"),
        (Fingerprint::of_bytes(b"\x00\xffinput"), "bf113295aa388faaf7f2787a78bb6bcdd5edebb1e0f4d0a2265a5adbd8154b69"),
        (Fingerprint::of_json_text(BODY).unwrap(), "e17a40d8f9d36fb65afef45b425580b7d4908ee076b172ba86cc272ed8ce3dd6"),
        (
            Fingerprint::of_payload(Bytes, b"\x00\xffinput").unwrap(),
            "bf113295aa388faaf7f2787a78bb6bcdd5edebb1e0f4d0a2265a5adbd8154b69",
        ),
        (
            Fingerprint::of_payload(Json, BODY).unwrap(),
            "e17a40d8f9d36fb65afef45b425580b7d4908ee076b172ba86cc272ed8ce3dd6",
        ),
        (
            Fingerprint::of_payload(FingerprintRule::Fields(&["/amount", "/source"]), BODY).unwrap(),
            "70cfa7f266f783758abbae809fea5e6b5ac8343cb39cf7cd24dc63d3947537e0",
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
    let of = |key_space, path| {
        Fingerprint::of_request(FingerprintRule::Off, key_space, &RequestParts { path, ..REQUEST }).unwrap()
    };
    assert_eq!(of(KeySpace::Endpoint, "/a"), of(KeySpace::Endpoint, "/b"));
    assert_ne!(of(KeySpace::Scope, "/a"), of(KeySpace::Scope, "/b"));
    let other = RequestParts { body: b"not json", query: Some("x"), content_type: None, ..REQUEST };
    assert_eq!(
        Fingerprint::of_request(FingerprintRule::Off, KeySpace::Scope, &other).unwrap(),
        of(KeySpace::Scope, "/payments")
    );
}

#[test]
fn a_body_that_is_not_json_is_an_error_only_where_json_is_read() {
    for body in [&b""[..], b"{", b"{\"a\":1,\"a\":2}", b"\xff"] {
        let request = RequestParts { body, ..REQUEST };
        for rule in [FingerprintRule::Json, FIELDS] {
            assert!(Fingerprint::of_request(rule, KeySpace::Endpoint, &request).is_err());
        }
        of(FingerprintRule::Bytes, request);
    }
    // A rule that can never find anything is no rule.
    assert!(Fingerprint::of_request(FingerprintRule::Fields(&["amount"]), KeySpace::Endpoint, &REQUEST).is_err());
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
