use http::{HeaderName, HeaderValue};

use super::{
    KeySyntaxError::{Character, Empty, Escape, OpenQuote, QuotedCharacter, Repeated, TooLong, Trailing},
    *,
};

const NAME: &str = "idempotency-key";

fn headers(lines: &[&[u8]]) -> HeaderMap {
    let lines = lines.iter().map(|line| (HeaderName::from_static(NAME), HeaderValue::from_bytes(line).unwrap()));
    lines.collect()
}

fn parse(line: impl AsRef<[u8]>) -> Result<String, KeySyntaxError> {
    parse_key(line.as_ref()).map(Cow::into_owned)
}

#[test]
fn no_line_is_no_key_and_two_lines_are_an_error() {
    assert_eq!(parse_key_header(&HeaderMap::new(), NAME), Ok(None));
    assert_eq!(parse_key_header(&headers(&[b"abc"]), "x-event-id"), Ok(None));
    assert_eq!(parse_key_header(&headers(&[b"abc"]), NAME), Ok(Some(Cow::Borrowed("abc"))));
    assert_eq!(parse_key_header(&headers(&[b"\"abc\""]), NAME), Ok(Some(Cow::Borrowed("abc"))));
    for lines in [[&b"abc"[..], b"abc"], [b"abc", b"def"], [b"abc", b""], [b"", b"abc"]] {
        assert_eq!(parse_key_header(&headers(&lines), NAME), Err(Repeated));
    }
    assert_eq!(parse_key_header(&headers(&[b""]), NAME), Err(Empty));
}

#[test]
fn both_spellings_of_a_key_are_one_key() {
    for (line, key) in [
        ("\"abc\"", "abc"),
        ("abc", "abc"),
        (r#""a\"b\\c""#, r#"a"b\c"#),
        ("\"a,b;c d\"", "a,b;c d"),
        ("\" \"", " "),
        (r#""\\""#, r"\"),
        (r#""\"""#, "\""),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ("'DROP:*{}--", "'DROP:*{}--"),
        ("\"'; DROP TABLE\"", "'; DROP TABLE"),
        ("a=b&c?d/e", "a=b&c?d/e"),
    ] {
        assert_eq!(parse(line).as_deref(), Ok(key), "{line}");
    }
    assert_ne!(parse("ABC"), parse("abc"));
    // Nothing is copied unless something was escaped.
    assert!(matches!(parse_key(b"\"abc\""), Ok(Cow::Borrowed(_))));
    assert!(matches!(parse_key(b"\"a\\\\c\""), Ok(Cow::Owned(_))));
}

#[test]
fn space_around_the_value_belongs_to_http() {
    for line in [" abc", "abc ", "\tabc\t", " \t abc \t ", " \"abc\" ", "\t\"abc\"\t", "\"abc\";v=1 "] {
        assert_eq!(parse(line).as_deref(), Ok("abc"), "{line:?}");
    }
    for line in ["", " ", "\t\t"] {
        assert_eq!(parse(line), Err(Empty), "{line:?}");
    }
    assert_eq!(parse("\" abc \"").as_deref(), Ok(" abc "));
    assert_eq!(parse("a b"), Err(Character));
}

#[test]
fn what_is_not_a_key_is_refused() {
    for (line, error) in [
        ("\"\"", Empty),
        ("\"\";v=1", Empty),
        ("a, b", Character),
        ("a,b", Character),
        ("a;v=1", Character),
        ("a\"b", Character),
        ("abc\"", Character),
        ("a\\b", Character),
        ("a\x7fb", Character),
        ("a\tb", Character),
        ("clé", Character),
        ("\"a\\x\"", Escape),
        ("\"a\\u0041\"", Escape),
        ("\"a\\ \"", Escape),
        ("\"", OpenQuote),
        ("\"abc", OpenQuote),
        ("\"abc\\\"", OpenQuote),
        ("\"abc\\", OpenQuote),
        ("\"a\tb\"", QuotedCharacter),
        ("\"a\x7f\"", QuotedCharacter),
        ("\"clé\"", QuotedCharacter),
        ("\"a\" b", Trailing),
        ("\"a\"b", Trailing),
        ("\"a\", \"b\"", Trailing),
        ("\"a\",", Trailing),
        ("\"a\"\"b\"", Trailing),
    ] {
        assert_eq!(parse(line), Err(error), "{line:?}");
    }
    for byte in 0..=0xff_u8 {
        let bare = [b'a', byte, b'b'];
        let fine = (0x21..=0x7e).contains(&byte) && !b"\",;\\".contains(&byte);
        assert_eq!(parse_key(&bare).is_ok(), fine, "{byte:#x}");
        let quoted = [b'"', b'a', byte, b'b', b'"'];
        let fine = (0x20..=0x7e).contains(&byte) && byte != b'"' && byte != b'\\';
        assert_eq!(parse_key(&quoted).is_ok(), fine, "{byte:#x}");
        let escaped = [b'"', b'\\', byte, b'"'];
        assert_eq!(parse_key(&escaped).is_ok(), byte == b'"' || byte == b'\\', "{byte:#x}");
    }
}

#[test]
fn the_length_is_that_of_the_key_and_not_of_its_spelling() {
    let key = |length| "k".repeat(length);
    assert_eq!(parse(key(255)), Ok(key(255)));
    assert_eq!(parse(key(256)), Err(TooLong));
    assert_eq!(parse(format!("\"{}\"", key(255))), Ok(key(255)));
    assert_eq!(parse(format!("\"{}\"", key(256))), Err(TooLong));
    assert_eq!(parse(format!("\"{}\"", "\\\\".repeat(255))), Ok("\\".repeat(255)));
    assert_eq!(parse(format!("\"{}\"", "\\\\".repeat(256))), Err(TooLong));
    assert_eq!(parse(format!("\"{}\";v=\"{}\"", key(255), key(999))), Ok(key(255)));
}

/// Each kind of bare item of RFC 9651, section 3.3, whole and broken.
#[test]
fn parameters_are_read_and_ignored() {
    for parameters in [
        ";v=1",
        ";v",
        ";v;w",
        ";v=1;v=2",
        ";  v=1",
        ";*a=1",
        ";a-b_c.d*0=1",
        ";v=-1",
        ";v=0",
        ";v=999999999999999",
        ";v=1.5",
        ";v=-123456789012.123",
        ";v=\"\"",
        ";v=\"a\\\"b\\\\\"",
        ";v=tok",
        ";v=*tok",
        ";v=T!#$%&'*+-.^_`|~0:/",
        ";v=::",
        ";v=:aGk=:",
        ";v=:aGk:",
        ";v=:aGVsbG8h:",
        ";v=:aA==:",
        ";v=:aA:",
        ";v=?0",
        ";v=?1",
        ";v=@1659578233",
        ";v=@-1",
        ";v=%\"\"",
        ";v=%\"This is intended for display to %c3%bcsers.\"",
        ";v=%\"%f0%9f%98%80\"",
    ] {
        assert_eq!(parse(format!("\"abc\"{parameters}")).as_deref(), Ok("abc"), "{parameters}");
    }
    for parameters in [
        ";",
        ";;v",
        ";v=",
        ";V=1",
        ";1=1",
        ";-a",
        "; ",
        ";\tv",
        " ;v=1",
        ";v =1",
        ";v= 1",
        ";v=1,",
        ";v=1 ;w",
        ";v=1 x",
        ";v=(1)",
        ";v=-",
        ";v=--1",
        ";v=+1",
        ";v=1.",
        ";v=.5",
        ";v=1.2345",
        ";v=1234567890123.0",
        ";v=1000000000000000",
        ";v=1.2.3",
        ";v=1e5",
        ";v=\"a",
        ";v=\"a\\x\"",
        ";v=\"é\"",
        ";v=é",
        ";v=:aGk=",
        ";v=:a:",
        ";v=:aGk==:",
        ";v=:aG=k:",
        ";v=:aG k:",
        ";v=:====:",
        ";v=:=:",
        ";v=:a-_b:",
        ";v=?",
        ";v=?2",
        ";v=?true",
        ";v=@",
        ";v=@1.5",
        ";v=@x",
        ";v=%",
        ";v=%a",
        ";v=%\"a",
        ";v=%\"%C3%BC\"",
        ";v=%\"%c3\"",
        ";v=%\"%c\"",
        ";v=%\"%\"",
        ";v=%\"\t\"",
        ";v=%\"é\"",
        ";v=%\"%ed%a0%80\"",
    ] {
        assert_eq!(parse(format!("\"abc\"{parameters}")), Err(Trailing), "{parameters}");
    }
}

/// xorshift64*, from a fixed seed.
fn random(state: &mut u64) -> usize {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize
}

#[test]
fn every_printable_key_survives_its_quotes() {
    let mut state = 0x5eed;
    for _ in 0..20_000 {
        let length = 1 + random(&mut state) % 255;
        let key: String = (0..length).map(|_| char::from(b' ' + (random(&mut state) % 95) as u8)).collect();
        let quoted = format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""));
        assert_eq!(parse(&quoted).as_ref(), Ok(&key));
        assert_eq!(parse(format!("{quoted};v=1")).as_ref(), Ok(&key));
        let bare = key.bytes().all(|byte| byte != b' ' && !b"\",;\\".contains(&byte));
        if bare {
            assert_eq!(parse(&key).as_ref(), Ok(&key));
        }
    }
}

#[test]
fn no_bytes_panic_and_no_other_bytes_pass() {
    let mut state = 0xf0_22;
    let (mut keys, mut errors) = (0, 0);
    for round in 0..300_000 {
        let alphabet: &[u8] =
            if round % 2 == 0 { b"\"\"\"\\;;==ab1 .:%?@*-,\t" } else { b"\"\\;=ab\x00\x7f\x80\xc3\xa9\xff0:%c" };
        let mut line: Vec<u8> =
            (0..random(&mut state) % 14).map(|_| alphabet[random(&mut state) % alphabet.len()]).collect();
        if round % 3 == 0 {
            line.splice(0..0, *b"\"ab\"");
        }
        match parse_key(&line) {
            Ok(key) => {
                keys += 1;
                assert!((1..=MAX_KEY).contains(&key.len()));
                assert!(key.bytes().all(|byte| (0x20..=0x7e).contains(&byte)));
            }
            Err(error) => {
                errors += 1;
                // Two sentences in one: what is wrong, and what to write.
                assert!(error.to_string().contains("; "));
            }
        }
    }
    assert!(keys > 1_000 && errors > 1_000, "{keys} keys, {errors} errors");
}

#[test]
fn errors_never_hold_the_key() {
    for line in ["\"secret", "secret,", "\"secret\\x\"", "\"secret\" x", "\"secr\u{e9}t\"", "sécret"] {
        let error = parse(line).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secr"), "{error}");
    }
}
