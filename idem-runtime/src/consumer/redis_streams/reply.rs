//! Entries out of replies.
//!
//! By hand, and from bytes: one entry with a field name that is no text must not make a whole reply unreadable, again and
//! again.

use redis::Value;

/// One entry of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: Vec<u8>,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Not what the command is documented to answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unexpected;

impl Entry {
    /// The value of the first field of this name.
    pub(super) fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find_map(|(field, value)| (field == name.as_bytes()).then_some(&**value))
    }
}

/// What `XREADGROUP` on one stream answered.
pub(super) fn read(reply: Value) -> Result<Vec<Entry>, Unexpected> {
    let of_stream = match reply {
        Value::Nil => return Ok(Vec::new()),
        // RESP3.
        Value::Map(streams) => streams.into_iter().next().map(|(_, entries)| entries),
        Value::Array(streams) => match streams.into_iter().next() {
            Some(Value::Array(stream)) => stream.into_iter().nth(1),
            Some(_) => return Err(Unexpected),
            None => return Ok(Vec::new()),
        },
        _ => return Err(Unexpected),
    };
    entries(of_stream.ok_or(Unexpected)?)
}

/// What `XAUTOCLAIM` answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Autoclaimed {
    /// Where to go on.
    pub(super) next: Vec<u8>,
    /// The entries that changed hands.
    pub(super) claimed: Vec<Entry>,
    /// How many were pending that are in the stream no longer.
    pub(super) vanished: usize,
}

pub(super) fn autoclaimed(reply: Value) -> Result<Autoclaimed, Unexpected> {
    let Value::Array(parts) = reply else { return Err(Unexpected) };
    let mut parts = parts.into_iter();
    match (parts.next().and_then(bytes), parts.next(), parts.next()) {
        (Some(next), Some(claimed), deleted) => {
            let vanished = if let Some(Value::Array(deleted)) = deleted { deleted.len() } else { 0 };
            Ok(Autoclaimed { next, claimed: entries(claimed)?, vanished })
        }
        _ => Err(Unexpected),
    }
}

fn entries(value: Value) -> Result<Vec<Entry>, Unexpected> {
    let Value::Array(entries) = value else { return Err(Unexpected) };
    entries.into_iter().filter_map(|value| entry(value).transpose()).collect()
}

/// `None`: it was deleted from the stream while it was pending.
fn entry(value: Value) -> Result<Option<Entry>, Unexpected> {
    let parts = match value {
        Value::Nil => return Ok(None),
        Value::Array(parts) => parts,
        _ => return Err(Unexpected),
    };
    let mut parts = parts.into_iter();
    match (parts.next().and_then(bytes), parts.next()) {
        (Some(_), Some(Value::Nil)) => Ok(None),
        (Some(id), Some(Value::Array(texts))) => {
            let mut texts = texts.into_iter().map(|text| bytes(text).ok_or(Unexpected));
            let mut fields = Vec::with_capacity(texts.len() / 2);
            while let (Some(name), Some(value)) = (texts.next().transpose()?, texts.next().transpose()?) {
                fields.push((name, value));
            }
            Ok(Some(Entry { id, fields }))
        }
        _ => Err(Unexpected),
    }
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::*;

    fn parse(reply: &[u8]) -> Value {
        parse_redis_value(reply).expect("a reply")
    }

    #[test]
    fn a_field_name_that_is_no_text_spoils_nothing() {
        let reply = parse(
            b"*1\r\n*2\r\n$1\r\ns\r\n*2\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$2\r\n\xff\xfe\r\n$1\r\nx\r\n\
              *2\r\n$3\r\n2-0\r\n*4\r\n$2\r\nid\r\n$1\r\na\r\n$2\r\nid\r\n$1\r\nb\r\n",
        );
        let entries = read(reply).expect("entries");
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[0].id.as_slice(), entries[0].field("id")), (&b"1-0"[..], None));
        assert_eq!(entries[1].field("id"), Some(&b"a"[..]));
    }

    #[test]
    fn both_protocols_are_read() {
        let stream = "$1\r\ns\r\n*1\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$2\r\nid\r\n$1\r\na\r\n";
        let old = read(parse(format!("*1\r\n*2\r\n{stream}").as_bytes())).expect("entries");
        let new = read(parse(format!("%1\r\n{stream}").as_bytes())).expect("entries");
        assert_eq!((old.len(), &old), (1, &new));
        assert_eq!(read(Value::Nil), Ok(Vec::new()));
        assert_eq!(read(Value::Okay), Err(Unexpected));
    }

    #[test]
    fn deleted_entries_are_passed_over() {
        let reply = parse(
            b"*3\r\n$3\r\n0-0\r\n*2\r\n$-1\r\n*2\r\n$3\r\n2-0\r\n*2\r\n$2\r\nid\r\n$1\r\na\r\n*1\r\n$3\r\n1-0\r\n",
        );
        let Autoclaimed { next, claimed, vanished } = autoclaimed(reply).expect("entries");
        assert_eq!((next.as_slice(), claimed.len(), vanished), (&b"0-0"[..], 1, 1));
    }
}
