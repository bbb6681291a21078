//! Numbers as they are written, compared as what they are.

/// A JSON number by its text.
#[derive(Clone, Copy)]
pub(crate) struct Number<'a> {
    text: &'a str,
    exponent: i64,
}

/// `0.DIGITS` times ten to the power of `point`; the digits neither start nor end with a zero.
struct Decimal {
    negative: bool,
    digits: String,
    point: i64,
}

/// How far, in digits, numbers are written without an exponent: RFC 8785 takes both from ECMAScript.
const PLAIN_DIGITS: i64 = 21;
const PLAIN_ZEROS: i64 = 6;

/// At most 18 digits, so that no sum of an exponent and the length of a text can overflow.
const EXPONENTS: std::ops::Range<i64> = 1 - 10_i64.pow(18)..10_i64.pow(18);

impl<'a> Number<'a> {
    /// A number from text of RFC 8259's grammar; `None` if its exponent is out of all reason.
    pub(super) fn new(text: &'a str) -> Option<Self> {
        let exponent = match text.split_once(['e', 'E']) {
            None => 0,
            Some((_, exponent)) => exponent.parse().ok().filter(|exponent| EXPONENTS.contains(exponent))?,
        };
        Some(Self { text, exponent })
    }

    /// The digits, if it is written as a whole number: no point, no exponent.
    pub(crate) fn integer(&self) -> Option<&'a str> {
        match self.text {
            "-0" => Some("0"),
            text if text.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) => None,
            text => Some(text),
        }
    }

    /// The double next to it, as every reader that knows only doubles has it; beyond their range, infinite.
    pub(crate) fn to_f64(self) -> f64 {
        let Ok(float) = self.text.parse() else { unreachable!("every JSON number reads as a double") };
        float
    }

    /// Every digit, laid out as ECMAScript lays out a double.
    pub(super) fn write_canonical(&self, out: &mut Vec<u8>) {
        // What nearly all numbers are needs no work.
        if let Some(text) = self.canonical() {
            out.extend_from_slice(text.as_bytes());
            return;
        }
        let Some(Decimal { negative, digits, point }) = self.decimal() else {
            out.push(b'0');
            return;
        };
        let count = digits.len() as i64;
        let zeros = |out: &mut Vec<u8>, count: i64| out.extend((0..count).map(|_| b'0'));
        if negative {
            out.push(b'-');
        }
        if (count..=PLAIN_DIGITS).contains(&point) {
            out.extend_from_slice(digits.as_bytes());
            zeros(out, point - count);
        } else if (1..=PLAIN_DIGITS).contains(&point) {
            let (whole, fraction) = digits.split_at(point as usize);
            out.extend_from_slice(whole.as_bytes());
            out.push(b'.');
            out.extend_from_slice(fraction.as_bytes());
        } else if (1 - PLAIN_ZEROS..=0).contains(&point) {
            out.extend_from_slice(b"0.");
            zeros(out, -point);
            out.extend_from_slice(digits.as_bytes());
        } else {
            let (first, others) = digits.split_at(1);
            out.extend_from_slice(first.as_bytes());
            if !others.is_empty() {
                out.push(b'.');
                out.extend_from_slice(others.as_bytes());
            }
            out.extend_from_slice(format!("e{:+}", point - 1).as_bytes());
        }
    }

    /// The text, where it is easily seen to be canonical: whole or with a fraction, no exponent, not too long.
    fn canonical(&self) -> Option<&'a str> {
        if let Some(digits) = self.integer() {
            return (digits.len() < PLAIN_DIGITS as usize).then_some(digits);
        }
        let (whole, fraction) = self.text.split_once('.')?;
        let plain = whole.len() < PLAIN_DIGITS as usize && !matches!(whole, "0" | "-0");
        let digits = fraction.bytes().all(|byte| byte.is_ascii_digit()) && !fraction.ends_with('0');
        (plain && digits).then_some(self.text)
    }

    /// `None` for zero, of whatever sign and exponent.
    fn decimal(&self) -> Option<Decimal> {
        let mantissa = self.text.split(['e', 'E']).next().unwrap_or_default();
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let negative = whole.starts_with('-');
        let whole = whole.trim_start_matches('-');
        let mut digits = String::with_capacity(whole.len() + fraction.len());
        digits.push_str(whole);
        digits.push_str(fraction);
        let significant = digits.trim_start_matches('0');
        let leading = digits.len() - significant.len();
        let significant = significant.trim_end_matches('0');
        if significant.is_empty() {
            return None;
        }
        let digits = significant.to_owned();
        Some(Decimal { negative, digits, point: whole.len() as i64 - leading as i64 + self.exponent })
    }
}
