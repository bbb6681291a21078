//! The syntax of a key in a header.
//!
//! The Internet-Draft for `Idempotency-Key` wants a string in double quotes ([RFC 9651]), most clients send the bare
//! text. Both are taken, and both spellings of one key are one key.
//!
//! [RFC 9651]: https://www.rfc-editor.org/rfc/rfc9651

use std::{borrow::Cow, fmt};

use http::{HeaderMap, HeaderName};

/// Why a header's value is no key. Never holds the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeySyntaxError {
    /// More than one header line.
    Repeated,
    /// No character.
    Empty,
    /// More than [`MAX_KEY`] characters.
    TooLong,
    /// Without quotes, something other than visible ASCII, or one of `"` `,` `;` `\`.
    Character,
    /// In quotes, a byte outside 0x20 to 0x7e.
    QuotedCharacter,
    /// In quotes, a backslash before something other than `"` and `\`.
    Escape,
    /// No closing quote.
    OpenQuote,
    /// Behind the closing quote, something other than parameters.
    Trailing,
}

/// The usual header, under a name that need not be read again at each request.
static DEFAULT: HeaderName = HeaderName::from_static("idempotency-key");

/// The longest key, in characters, without quotes and escapes.
pub(crate) const MAX_KEY: usize = 255;

/// The key in the header `name`, or `None` if there is no such header.
pub(crate) fn parse_key_header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<Cow<'a, str>>, KeySyntaxError> {
    let lines = if name == DEFAULT.as_str() { headers.get_all(&DEFAULT) } else { headers.get_all(name) };
    let mut lines = lines.iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(KeySyntaxError::Repeated);
    }
    parse_key(line.as_bytes()).map(Some)
}

impl KeySyntaxError {
    /// What is wrong, then what to write: a sentence, as it stands in the refusal.
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::Repeated => "The key is given in more than one header line; send one.",
            Self::Empty => "The key is empty; write 1 to 255 characters, a UUID for example.",
            Self::TooLong => "The key is longer than 255 characters; write 1 to 255, a UUID for example.",
            Self::Character => {
                "The key holds a character that cannot stand without quotes; write visible ASCII without `\"`, `,`, \
                 `;` and `\\`, or printable ASCII in double quotes."
            }
            Self::QuotedCharacter => "The quoted key holds a byte outside 0x20 to 0x7e; write printable ASCII.",
            Self::Escape => "The quoted key escapes what needs no escape; write `\\\"` for `\"` and `\\\\` for `\\`.",
            Self::OpenQuote => "The quoted key has no closing quote; end it with `\"`.",
            Self::Trailing => "Something other than parameters follows the quoted key; write nothing after it.",
        }
    }
}

impl fmt::Display for KeySyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for KeySyntaxError {}

fn parse_key(line: &[u8]) -> Result<Cow<'_, str>, KeySyntaxError> {
    let line = trim(line, |byte| matches!(byte, b' ' | b'\t'));
    let key = match line.strip_prefix(b"\"") {
        Some(quoted) => parse_quoted(quoted)?,
        None => parse_bare(line)?,
    };
    match key.len() {
        0 => Err(KeySyntaxError::Empty),
        1..=MAX_KEY => Ok(key),
        _ => Err(KeySyntaxError::TooLong),
    }
}

fn parse_bare(line: &[u8]) -> Result<Cow<'_, str>, KeySyntaxError> {
    let allowed =
        |byte: u8| byte.is_ascii_graphic() & (byte != b'"') & (byte != b',') & (byte != b';') & (byte != b'\\');
    // To its end whatever comes, so that many bytes are looked at at once.
    let all_allowed = line.iter().fold(true, |all, byte| all & allowed(*byte));
    match str::from_utf8(line) {
        Ok(key) if all_allowed => Ok(Cow::Borrowed(key)),
        _ => Err(KeySyntaxError::Character),
    }
}

/// What follows the opening quote.
fn parse_quoted(quoted: &[u8]) -> Result<Cow<'_, str>, KeySyntaxError> {
    let mut input = Input(quoted);
    let Some(key) = input.string()? else { return Err(KeySyntaxError::OpenQuote) };
    // Parameters mean nothing to us, but a line that breaks their syntax is not a key with something behind it.
    input.parameters().ok_or(KeySyntaxError::Trailing)?;
    if input.0.is_empty() { Ok(key) } else { Err(KeySyntaxError::Trailing) }
}

fn trim(mut line: &[u8], space: impl Fn(u8) -> bool) -> &[u8] {
    while let [byte, rest @ ..] = line
        && space(*byte)
    {
        line = rest;
    }
    while let [rest @ .., byte] = line
        && space(*byte)
    {
        line = rest;
    }
    line
}

/// What is left to read, by the parsing algorithms of RFC 9651, section 4.2. `None` is a failure of the syntax.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// A string behind its opening quote, decoded; `None` if it never closes.
    fn string(&mut self) -> Result<Option<Cow<'a, str>>, KeySyntaxError> {
        let start = self.0;
        let mut escapes = false;
        let mut length = 0;
        loop {
            match self.next() {
                None => return Ok(None),
                Some(b'"') => break,
                Some(b'\\') => match self.next() {
                    None => return Ok(None),
                    Some(b'"' | b'\\') => escapes = true,
                    Some(_) => return Err(KeySyntaxError::Escape),
                },
                Some(0x20..=0x7e) => {}
                Some(_) => return Err(KeySyntaxError::QuotedCharacter),
            }
            length = start.len() - self.0.len();
        }
        // All of it is ASCII by now.
        let text = start.get(..length).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default();
        if !escapes {
            return Ok(Some(Cow::Borrowed(text)));
        }
        let mut decoded = String::with_capacity(text.len());
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            decoded.extend(if character == '\\' { characters.next() } else { Some(character) });
        }
        Ok(Some(Cow::Owned(decoded)))
    }

    fn parameters(&mut self) -> Option<()> {
        while self.eat(b';') {
            while self.eat(b' ') {}
            self.expect(|byte| matches!(byte, b'a'..=b'z' | b'*'))?;
            self.skip(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*'));
            if self.eat(b'=') {
                self.bare_item()?;
            }
        }
        Some(())
    }

    fn bare_item(&mut self) -> Option<()> {
        match self.peek()? {
            b'-' | b'0'..=b'9' => self.number().map(drop),
            b'"' => {
                self.next();
                self.string().ok()?.map(drop)
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'*' => {
                self.skip(|byte| is_token(byte) || matches!(byte, b':' | b'/'));
                Some(())
            }
            b':' => self.byte_sequence(),
            b'?' => {
                self.next();
                self.expect(|byte| matches!(byte, b'0' | b'1'))
            }
            b'@' => {
                self.next();
                // A date is whole seconds.
                self.number()?.then_some(())
            }
            b'%' => self.display_string(),
            _ => None,
        }
    }

    /// Whether it is an integer rather than a decimal.
    fn number(&mut self) -> Option<bool> {
        self.eat(b'-');
        let whole = self.skip(|byte| byte.is_ascii_digit());
        if !self.eat(b'.') {
            return (1..=15).contains(&whole).then_some(true);
        }
        let fraction = self.skip(|byte| byte.is_ascii_digit());
        ((1..=12).contains(&whole) && (1..=3).contains(&fraction)).then_some(false)
    }

    /// Base64 between colons. Padding may be missing, as the RFC asks parsers to allow.
    fn byte_sequence(&mut self) -> Option<()> {
        self.expect(|byte| byte == b':')?;
        let digits = self.skip(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
        let padding = self.skip(|byte| byte == b'=');
        let whole = digits % 4 != 1 && (padding == 0 || (padding <= 2 && (digits + padding).is_multiple_of(4)));
        self.expect(|byte| byte == b':').filter(|()| whole)
    }

    /// UTF-8, percent-encoded in lower case, in quotes.
    fn display_string(&mut self) -> Option<()> {
        self.expect(|byte| byte == b'%')?;
        self.expect(|byte| byte == b'"')?;
        let mut text = Vec::new();
        loop {
            match self.next()? {
                b'"' => break,
                b'%' => {
                    let digits = [self.next()?, self.next()?];
                    let [high, low] = digits.map(|digit| match digit {
                        b'0'..=b'9' => Some(digit - b'0'),
                        b'a'..=b'f' => Some(digit - b'a' + 10),
                        _ => None,
                    });
                    text.push(high? << 4 | low?);
                }
                byte @ 0x20..=0x7e => text.push(byte),
                _ => return None,
            }
        }
        str::from_utf8(&text).ok().map(drop)
    }

    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn next(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn eat(&mut self, wanted: u8) -> bool {
        self.expect(|byte| byte == wanted).is_some()
    }

    fn expect(&mut self, wanted: impl Fn(u8) -> bool) -> Option<()> {
        if wanted(self.peek()?) {
            self.next();
            Some(())
        } else {
            None
        }
    }

    /// How many bytes were skipped.
    fn skip(&mut self, skipped: impl Fn(u8) -> bool) -> usize {
        let count = self.0.iter().take_while(|byte| skipped(**byte)).count();
        self.0 = self.0.get(count..).unwrap_or_default();
        count
    }
}

/// `tchar` of RFC 9110.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

#[cfg(test)]
mod tests;
