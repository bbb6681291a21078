use super::{
    JsonErrorKind::{
        self, Depth, Duplicate, Encoding, End, Exponent, NotFinite, Pointer, Surrogate, Trailing, Unexpected,
        Unserializable,
    },
    *,
};

mod random;

fn text_of(json: impl AsRef<[u8]>) -> Result<String, JsonErrorKind> {
    let canonical = canonical(json.as_ref()).map_err(|error| error.kind())?;
    Ok(String::from_utf8_lossy(&canonical).into_owned())
}

#[track_caller]
fn same(spellings: &[&str], expected: &str) {
    for spelling in spellings {
        assert_eq!(text_of(spelling).as_deref(), Ok(expected), "{spelling}");
    }
}

#[track_caller]
fn refused(text: impl AsRef<[u8]>, kind: JsonErrorKind, offset: usize) {
    let text = text.as_ref();
    let shown = String::from_utf8_lossy(text.get(..40).unwrap_or(text));
    assert_eq!(canonical(text).map(drop), Err(JsonError::new(kind, offset)), "{shown}");
}

#[test]
fn space_and_order_do_not_count() {
    same(&["{\"a\":1,\"b\":[true,null]}", " {\t\"b\" :\r\n[ true , null ] , \"a\":1 } "], r#"{"a":1,"b":[true,null]}"#);
    same(&["[]", " [ ] "], "[]");
    same(&["{}", "{\n}"], "{}");
    assert_ne!(text_of("[1,2]"), text_of("[2,1]"));
}

#[test]
fn members_are_sorted_by_code_point_and_not_by_utf16() {
    same(
        &["{\"\u{1f600}\":1,\"\u{fb33}\":2,\"\":3,\"Z\":4,\"a\":5}"],
        "{\"\":3,\"Z\":4,\"a\":5,\"\u{fb33}\":2,\"\u{1f600}\":1}",
    );
    // Sorted as they are meant, not as they are written.
    same(&[r#"{"\u0062":1,"a":2}"#], r#"{"a":2,"b":1}"#);
}

#[test]
fn a_string_has_one_spelling() {
    same(&[r#""A\u0041\u00e9/""#, r#""AAé\/""#], "\"AAé/\"");
    same(&[r#""\ud83d\ude00""#, r#""\uD83D\uDE00""#, "\"\u{1f600}\""], "\"\u{1f600}\"");
    same(&[r#""\b\f\n\r\t\"\\\u0008\u000C\u000a\u000D\u0009\u0022\u005c""#], r#""\b\f\n\r\t\"\\\b\f\n\r\t\"\\""#);
    same(&[r#""\u0000\u001F\u007f""#], "\"\\u0000\\u001f\u{7f}\"");
    // Composed and decomposed are two strings: JSON does not normalise.
    assert_ne!(text_of("\"\u{e9}\""), text_of("\"e\u{301}\""));
}

#[test]
fn a_number_is_its_value() {
    same(&["1", "1.0", "10e-1", "0.1e1", "1e0", "1E+00", "100.000e-2"], "1");
    same(&["0", "-0", "0.0", "-0.0", "0e5", "-0.000e-999999"], "0");
    same(&["12.5", "125e-1", "0.0125E3", "12.500"], "12.5");
    same(&["-2000", "-2e3", "-2.0e+3"], "-2000");
    same(&["0.000001", "1e-6", "10e-7"], "0.000001");
    same(&["1e-7", "0.0000001"], "1e-7");
    same(&["100000000000000000000", "1e20"], "100000000000000000000");
    same(&["999999999999999999999"], "999999999999999999999");
    same(&["1000000000000000000000", "1e21"], "1e+21");
}

#[test]
fn no_number_is_rounded() {
    same(&["9007199254740992"], "9007199254740992");
    same(&["9007199254740993", "9007199254740993.0"], "9007199254740993");
    same(&["0.1000000000000000055511151231257827"], "0.1000000000000000055511151231257827");
    let digits = "9".repeat(1000);
    assert_eq!(text_of(&digits), Ok(format!("9.{}e+999", "9".repeat(999))));
    assert_eq!(text_of(format!("{digits}.5")), Ok(format!("9.{}5e+999", "9".repeat(999))));
}

/// The samples of RFC 8785, appendix B, which are in ECMAScript's layout.
#[test]
fn numbers_are_laid_out_as_in_rfc_8785() {
    for number in [
        "0",
        "5e-324",
        "-5e-324",
        "1.7976931348623157e+308",
        "-1.7976931348623157e+308",
        "9007199254740992",
        "-9007199254740992",
        "295147905179352830000",
        "9.999999999999997e+22",
        "1e+23",
        "1.0000000000000001e+23",
        "999999999999999700000",
        "999999999999999900000",
        "1e+21",
        "9.999999999999997e-7",
        "0.000001",
        "333333333.3333332",
        "333333333.33333325",
        "333333333.3333333",
        "333333333.3333334",
        "333333333.33333343",
        "-0.0000033333333333333333",
        "1424953923781206.2",
    ] {
        same(&[number], number);
    }
}

#[test]
fn an_exponent_costs_nothing() {
    same(&["1e999999999", "10e999999998", "0.1e1000000000"], "1e+999999999");
    same(&["1e-999999999"], "1e-999999999");
    same(&["12e999999999999999999"], "1.2e+1000000000000000000");
    same(&["0.01e-999999999999999999"], "1e-1000000000000000001");
    same(&["1e000000000000000000000000005"], "100000");
    refused("[1e1000000000000000000]", Exponent, 1);
    refused("1e-99999999999999999999999999999", Exponent, 0);
}

#[test]
fn what_rfc_8259_does_not_allow_is_refused() {
    for (text, offset) in [
        ("nul", 3),
        ("[", 1),
        ("{\"a\"", 4),
        ("{\"a\":", 5),
        ("[1,", 3),
        ("\"a", 2),
        ("\"\\", 2),
        ("\"\\u12", 5),
        ("-", 1),
        ("1.", 2),
        ("1e", 2),
        ("1e+", 3),
        ("", 0),
        (" ", 1),
    ] {
        refused(text, End, offset);
    }
    for (text, offset) in [
        ("nulL", 3),
        ("True", 0),
        ("[1,]", 3),
        ("[,1]", 1),
        ("[1 2]", 3),
        ("{,}", 1),
        ("{\"a\":1,}", 7),
        ("{a:1}", 1),
        ("{1:1}", 1),
        ("{\"a\" 1}", 5),
        ("{\"a\":}", 5),
        ("[1}", 2),
        ("'a'", 0),
        ("+1", 0),
        (".5", 0),
        ("-.5", 1),
        ("1.e5", 2),
        ("1.x", 2),
        ("1ex", 2),
        ("--1", 1),
        ("-Infinity", 1),
        ("NaN", 0),
        ("\"\t\"", 1),
        ("\"a\nb\"", 2),
        ("\"\\x41\"", 2),
        ("\"\\U0041\"", 2),
        ("\"\\u00g0\"", 5),
        ("\"\\u+041\"", 3),
        ("//\n1", 0),
        ("\u{feff}1", 0),
        ("\u{a0}1", 0),
        ("\x0c1", 0),
        ("]", 0),
    ] {
        refused(text, Unexpected, offset);
    }
    for (text, offset) in
        [("1 2", 2), ("{} x", 3), ("[]]", 2), ("01", 1), ("-00", 2), ("0x10", 1), ("1\0", 1), ("nullx", 4)]
    {
        refused(text, Trailing, offset);
    }
    refused(b"\"\xff\"", Encoding, 1);
    // A surrogate and an overlong slash, encoded.
    refused(b"\"\xed\xa0\x80\"", Encoding, 1);
    refused(b"[\"\xc0\xaf\"]", Encoding, 2);
}

#[test]
fn half_a_surrogate_pair_is_refused() {
    for text in [
        r#""\ud83d""#,
        r#""\ud83dx""#,
        r#""\ud83d\n""#,
        r#""\ud83d\u0041""#,
        r#""\ud83d\ud83d""#,
        r#""\ude00""#,
        r#""\ude00\ud83d""#,
    ] {
        refused(text, Surrogate, 1);
    }
    refused(r#"{"\ud83d":1}"#, Surrogate, 2);
}

#[test]
fn a_member_given_twice_is_refused() {
    refused(r#"{"a":1,"a":1}"#, Duplicate, 0);
    refused(r#"{"a":1,"b":2,"\u0061":3}"#, Duplicate, 0);
    refused(r#"[{"b":{"x":1,"y":2,"x":3}}]"#, Duplicate, 6);
    same(&[r#"[{"a":1},{"a":{"a":1}}]"#], r#"[{"a":1},{"a":{"a":1}}]"#);
}

#[test]
fn nesting_ends_at_the_limit() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = |depth| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        assert_eq!(text_of(nested(MAX_DEPTH)), Ok(nested(MAX_DEPTH)));
        refused(nested(MAX_DEPTH + 1), Depth, MAX_DEPTH * open.len());
        refused(open.repeat(1_000_000), Depth, MAX_DEPTH * open.len());
    }
}

#[test]
fn errors_name_no_content() {
    for text in ["{\"secret\":1,\"secret\":2}", "\"secret", "secret", "[1e9999999999999999999, \"secret\"]"] {
        let error = canonical(text.as_bytes()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
    assert_eq!(
        canonical(b"{\"a\":1,\"a\":2}").unwrap_err().to_string(),
        "a member stands twice in the object at byte 0; write each name once"
    );
}

#[test]
fn pointers_find_what_rfc_6901_says() {
    let document = r#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8,"~1":9,
        "o":{"id":"x","list":[{"id":10}]},"\u00e9":11}"#;
    let value = Value::parse(document.as_bytes()).unwrap();
    let at = |pointer: &str| {
        value.pointer(pointer).unwrap().map(|value| {
            let mut out = Vec::new();
            value.write_canonical(&mut out);
            String::from_utf8(out).unwrap()
        })
    };
    for (pointer, expected) in [
        ("/foo", r#"["bar","baz"]"#),
        ("/foo/0", r#""bar""#),
        ("/foo/1", r#""baz""#),
        ("/", "0"),
        ("/a~1b", "1"),
        ("/c%d", "2"),
        ("/e^f", "3"),
        ("/g|h", "4"),
        (r"/i\j", "5"),
        ("/k\"l", "6"),
        ("/ ", "7"),
        ("/m~0n", "8"),
        ("/~01", "9"),
        ("/o/id", r#""x""#),
        ("/o/list/0/id", "10"),
        ("/é", "11"),
    ] {
        assert_eq!(at(pointer).as_deref(), Some(expected), "{pointer}");
    }
    assert_eq!(at(""), text_of(document).ok());
    for absent in [
        "/x",
        "/foo/2",
        "/foo/-",
        "/foo/00",
        "/foo/01",
        "/foo/+1",
        "/foo/ 1",
        "/foo/",
        "/foo/99999999999999999999",
        "/foo/0/0",
        "//",
        "/o/id/0",
        "/a~1b/",
        "/FOO",
    ] {
        assert_eq!(at(absent), None, "{absent}");
    }
    for wrong in ["foo", "foo/0", " /foo", "/~", "/~2", "/a~/b", "#/foo"] {
        assert!(!is_pointer(wrong), "{wrong}");
        assert_eq!(value.pointer(wrong).map(drop), Err(JsonError::new(Pointer, 0)), "{wrong}");
    }
}

#[test]
fn a_key_in_a_body_is_text_or_a_whole_number() {
    let body = r#"{"order":{"id":"o-\u0031"},"n":42,"big":123456789012345678901234567890,"zero":-0,"minus":-7,"null":null,
        "float":1.0,"exponent":1e3,"true":true,"list":[],"object":{},"empty":""}"#;
    let key = |pointer| match body_key(body.as_bytes(), pointer).unwrap() {
        BodyKey::Absent => "absent".to_owned(),
        BodyKey::Text(text) => format!("={text}"),
        BodyKey::Unusable => "unusable".to_owned(),
    };
    for (pointer, expected) in [
        ("/order/id", "=o-1"),
        ("/n", "=42"),
        ("/big", "=123456789012345678901234567890"),
        ("/zero", "=0"),
        ("/minus", "=-7"),
        ("/empty", "="),
        ("/null", "absent"),
        ("/none", "absent"),
        ("/order/id/0", "absent"),
        ("/float", "unusable"),
        ("/exponent", "unusable"),
        ("/true", "unusable"),
        ("/list", "unusable"),
        ("/object", "unusable"),
        ("", "unusable"),
    ] {
        assert_eq!(key(pointer), expected, "{pointer}");
    }
    assert!(body_key(b"{\"id\":1,\"x\":1,\"x\":1}", "/id").is_err());
    assert!(body_key(b"{\"id\":1", "/id").is_err());
    assert!(body_key(b"{}", "id").is_err());
}

#[test]
fn values_become_the_json_that_serde_json_writes() {
    use std::collections::{BTreeMap, HashMap};

    #[derive(serde::Serialize)]
    struct Params<'a> {
        unit: (),
        pair: (f32, f64),
        text: &'a str,
        bytes: &'a [u8],
        choice: Choice,
        other: Choice,
        maybe: Option<u128>,
        map: BTreeMap<u64, char>,
    }

    #[derive(serde::Serialize)]
    enum Choice {
        Tuple(i8, f64),
        Struct { float: f64 },
    }

    let params = |first, second, third| Params {
        unit: (),
        pair: (first, 1e16),
        text: "é",
        bytes: &[1, 2],
        choice: Choice::Tuple(-1, second),
        other: Choice::Struct { float: third },
        maybe: Some(u128::MAX),
        map: BTreeMap::from([(10, 'a'), (9, 'b')]),
    };
    let fine = params(0.1, 2.5, -0.0);
    assert_eq!(to_json(&fine).unwrap(), serde_json::to_vec(&fine).unwrap());
    for wrong in [params(f32::NAN, 1.0, 1.0), params(1.0, f64::INFINITY, 1.0), params(1.0, 1.0, f64::NEG_INFINITY)] {
        assert_eq!(to_json(&wrong), Err(JsonError::new(NotFinite, 0)));
    }
    assert_eq!(to_json(&HashMap::from([("a", Some(f64::NAN))])), Err(JsonError::new(NotFinite, 0)));
    assert_eq!(to_json(&[[f64::NAN]]), Err(JsonError::new(NotFinite, 0)));
    assert_eq!(to_json(&HashMap::from([([1], 2)])), Err(JsonError::new(Unserializable, 0)));
}

#[test]
fn a_value_that_refuses_is_not_quoted() {
    struct Refusing;

    impl serde::Serialize for Refusing {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("secret"))
        }
    }

    let error = to_json(&Refusing).unwrap_err();
    assert_eq!(error, JsonError::new(Unserializable, 0));
    assert!(!format!("{error} {error:?}").contains("secret"));
}
