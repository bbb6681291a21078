use super::*;

/// An answer that a store holds must be read by every later version, so these bytes must never change. They come from
/// `tests/data/golden.py`: a format byte, a kind byte, zlib's CRC-32 over both and the content in four
/// bytes, and the content.
#[test]
fn golden() {
    for (kind, content, expected) in [
        (Kind::Response, &b""[..], "01012fc51328"),
        (Kind::Value, b"", "0102b6cc4292"),
        (Kind::Value, br#"{"id":1}"#, "010203c10c627b226964223a317d"),
        (Kind::Redriven, b"", "01045fafe7a7"),
    ] {
        let answer = sealed(kind, content);
        let hex: String = answer.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
        assert_eq!(answer.open(kind).unwrap(), content);
    }
}

#[test]
fn what_was_sealed_comes_back_whatever_it_is_and_however_long() {
    for length in [0, 1, 5, 6, 7, 255, 256, 65_536, 1 << 20] {
        let content: Vec<u8> = (0..length).map(|at| (at * 31 + at / 256) as u8).collect();
        for size in [0, length, 2 * length] {
            let answer = Answer::seal(Kind::Value, size, |bytes| bytes.put_slice(&content));
            assert_eq!(answer.len(), content.len() + HEADER);
            assert_eq!(Answer::from_bytes(answer.as_bytes().clone()).open(Kind::Value).unwrap(), content);
        }
    }
}

#[test]
fn every_single_broken_bit_is_noticed() {
    let whole = sealed(Kind::Value, br#"{"id":1}"#);
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.as_bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let broken = Answer::from_bytes(bytes.into());
        assert_eq!((broken.open(Kind::Value), broken.open(Kind::Response)), (Err(Unreadable), Err(Unreadable)));
    }
}

#[test]
fn what_is_cut_short_or_goes_on_is_noticed() {
    let whole = sealed(Kind::Response, b"content");
    for length in 0..whole.len() {
        assert_eq!(Answer::from_bytes(whole.as_bytes().slice(..length)).open(Kind::Response), Err(Unreadable));
    }
    let longer = [&whole.as_bytes()[..], b"\0"].concat();
    assert_eq!(Answer::from_bytes(longer.into()).open(Kind::Response), Err(Unreadable));
}

/// The kind is part of the checksum: a value is not a response by the change of one byte.
#[test]
fn another_kind_or_format_is_not_read() {
    let value = sealed(Kind::Value, b"content");
    assert_eq!(value.open(Kind::Response), Err(Unreadable));
    for (at, byte) in [(0, 2), (0, 0), (0, 255), (1, 1), (1, 3)] {
        let mut bytes = value.as_bytes().to_vec();
        bytes[at] = byte;
        let other = Answer::from_bytes(bytes.into());
        assert_eq!((other.open(Kind::Value), other.open(Kind::Response)), (Err(Unreadable), Err(Unreadable)));
    }
}

#[test]
fn debug_shows_no_content() {
    assert_eq!(format!("{:?}", sealed(Kind::Value, b"secret")), "Answer(12 bytes)");
}

fn sealed(kind: Kind, content: &[u8]) -> Answer {
    Answer::seal(kind, content.len(), |bytes| bytes.put_slice(content))
}
