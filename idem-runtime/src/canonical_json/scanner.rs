//! RFC 8259, strictly: one pass over the bytes, a stack no deeper than [`MAX_DEPTH`].

use std::borrow::Cow;

use super::{
    JsonError,
    JsonErrorKind::{self, Depth, Duplicate, Encoding, End, Exponent, Surrogate, Trailing, Unexpected},
    MAX_DEPTH, Member, Number, Value,
};

pub(super) fn scan(bytes: &[u8]) -> Result<Value<'_>, JsonError> {
    let text = std::str::from_utf8(bytes).map_err(|error| JsonError::new(Encoding, error.valid_up_to()))?;
    let mut scanner = Scanner { text, at: 0 };
    scanner.skip_space();
    let value = scanner.value(MAX_DEPTH)?;
    scanner.skip_space();
    if scanner.peek().is_some() {
        return Err(scanner.error(Trailing));
    }
    Ok(value)
}

struct Scanner<'a> {
    text: &'a str,
    /// Bytes read so far; always between two characters.
    at: usize,
}

impl<'a> Scanner<'a> {
    /// `depth` is how many arrays and objects may still be opened.
    fn value(&mut self, depth: usize) -> Result<Value<'a>, JsonError> {
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'n') => self.word("null", Value::Null),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            _ => Err(self.unexpected()),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value<'a>, JsonError> {
        let start = self.at;
        let depth = self.descend(depth)?;
        let mut members = Vec::new();
        if !self.eat(b'}') {
            loop {
                if self.peek() != Some(b'"') {
                    return Err(self.unexpected());
                }
                let name = self.string()?;
                self.skip_space();
                self.need(b':')?;
                self.skip_space();
                let value = self.value(depth)?;
                members.push(Member { name, value });
                if !self.more(b'}')? {
                    break;
                }
            }
        }
        // UTF-8 sorts as its code points do.
        if !members.is_sorted_by(|one, next| one.name < next.name) {
            members.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            if !members.is_sorted_by(|one, next| one.name < next.name) {
                return Err(JsonError::new(Duplicate, start));
            }
        }
        Ok(Value::Object(members))
    }

    fn array(&mut self, depth: usize) -> Result<Value<'a>, JsonError> {
        let depth = self.descend(depth)?;
        let mut items = Vec::new();
        if !self.eat(b']') {
            loop {
                items.push(self.value(depth)?);
                if !self.more(b']')? {
                    break;
                }
            }
        }
        Ok(Value::Array(items))
    }

    /// Steps over the opening bracket, and says how many more may follow inside.
    fn descend(&mut self, depth: usize) -> Result<usize, JsonError> {
        let depth = depth.checked_sub(1).ok_or_else(|| self.error(Depth))?;
        self.at += 1;
        self.skip_space();
        Ok(depth)
    }

    /// Whether a comma follows, and so another item, or the closing bracket.
    fn more(&mut self, close: u8) -> Result<bool, JsonError> {
        self.skip_space();
        if self.eat(b',') {
            self.skip_space();
            return Ok(true);
        }
        self.need(close)?;
        Ok(false)
    }

    fn number(&mut self) -> Result<Value<'a>, JsonError> {
        let start = self.at;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _sign = self.eat(b'+') || self.eat(b'-');
            self.digits()?;
        }
        let number = Number::new(self.slice(start, self.at)).ok_or(JsonError::new(Exponent, start))?;
        Ok(Value::Number(number))
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { Err(self.unexpected()) } else { Ok(()) }
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, JsonError> {
        for byte in word.bytes() {
            self.need(byte)?;
        }
        Ok(value)
    }

    /// Borrowed unless something in it was escaped.
    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.need(b'"')?;
        let plain = self.plain();
        if self.eat(b'"') {
            return Ok(Cow::Borrowed(plain));
        }
        let mut text = plain.to_owned();
        while !self.eat(b'"') {
            text.push(self.escape()?);
            text.push_str(self.plain());
        }
        Ok(Cow::Owned(text))
    }

    /// Everything up to a quote, a backslash or what may not stand in a string.
    fn plain(&mut self) -> &'a str {
        let start = self.at;
        let rest = self.rest();
        self.at += rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).unwrap_or(rest.len());
        self.slice(start, self.at)
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let start = self.at;
        self.need(b'\\')?;
        let plain = match self.peek() {
            Some(b'u') => {
                self.at += 1;
                return self.unicode(start);
            }
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        Ok(plain)
    }

    /// The character of one `\uXXXX`, or of the two that spell one beyond U+FFFF.
    fn unicode(&mut self, start: usize) -> Result<char, JsonError> {
        let first = self.hex()?;
        let code = if (0xd800..0xdc00).contains(&first) {
            if !self.rest().starts_with(br"\u") {
                return Err(JsonError::new(Surrogate, start));
            }
            self.at += 2;
            let second = self.hex()?;
            if !(0xdc00..0xe000).contains(&second) {
                return Err(JsonError::new(Surrogate, start));
            }
            0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
        } else {
            first
        };
        // What is left to fail is a second half without a first.
        char::from_u32(code).ok_or(JsonError::new(Surrogate, start))
    }

    fn hex(&mut self) -> Result<u32, JsonError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16)).ok_or_else(|| self.unexpected())?;
            code = code << 4 | digit;
            self.at += 1;
        }
        Ok(code)
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn need(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.eat(byte) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// Both ends must lie beside an ASCII character or at an end of the text.
    fn slice(&self, start: usize, end: usize) -> &'a str {
        &self.text[start..end]
    }

    fn unexpected(&self) -> JsonError {
        self.error(if self.at < self.text.len() { Unexpected } else { End })
    }

    fn error(&self, kind: JsonErrorKind) -> JsonError {
        JsonError::new(kind, self.at)
    }
}
