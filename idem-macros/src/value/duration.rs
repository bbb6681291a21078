//! Durations: `"500ms"`, `"30s"`, `"90m"`, `"24h"`, `"7d"`.

use proc_macro2::{Literal, Span, TokenStream};
use quote::quote_spanned;
use syn::{Expr, ExprLit, Lit, Path, Result};

use super::{Value, Written, error, text, ungroup};

/// A positive whole number of one unit, at most ten years.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Duration {
    millis: u64,
    span: Span,
}

/// How long a claim may hold without a sign of life: 10 milliseconds to 24 hours.
pub(crate) struct Lease(Duration);

/// The lease of a handler that has none written, in milliseconds, as in `Policy`.
pub(crate) const LEASE: u64 = 30 * 1000;

/// 24 hours, in milliseconds.
pub(crate) const DAY: u64 = 24 * 60 * 60 * 1000;

/// Longer than this is a mistake, and `Policy::validate` refuses it as well.
const MAX_DAYS: u64 = 3660;

/// Each unit, its milliseconds, and what it is called elsewhere.
const UNITS: &[(&str, u64, &[&str])] = &[
    ("ms", 1, &["milli", "millis", "millisecond", "milliseconds", "msec"]),
    ("s", 1000, &["sec", "secs", "second", "seconds"]),
    ("m", 60 * 1000, &["min", "mins", "minute", "minutes"]),
    ("h", 60 * 60 * 1000, &["hr", "hrs", "hour", "hours"]),
    ("d", DAY, &["day", "days"]),
];

impl Duration {
    pub(crate) fn millis(self) -> u64 {
        self.millis
    }

    /// Reads the literal behind `example`'s place, as in `ttl = "24h"` or `wait("5s")`.
    pub(super) fn from_expr(value: &Expr) -> Result<Self> {
        match text(value) {
            Some(literal) => match parse(&literal.value()) {
                Ok(millis) => Ok(Self { millis, span: literal.span() }),
                Err(complaint) => Err(error(literal, complaint)),
            },
            None => Err(error(value, not_text(value))),
        }
    }
}

impl Lease {
    pub(crate) fn millis(&self) -> u64 {
        self.0.millis
    }
}

impl Value for Duration {
    fn parse(written: &Written<'_>) -> Result<Self> {
        Self::from_expr(written.value()?)
    }

    fn emit(&self, _: &Path) -> TokenStream {
        let millis = Literal::u64_unsuffixed(self.millis);
        let span = self.span.resolved_at(Span::mixed_site());
        quote_spanned!(span=> ::core::time::Duration::from_millis(#millis))
    }
}

impl Value for Lease {
    fn parse(written: &Written<'_>) -> Result<Self> {
        let duration = Duration::parse(written)?;
        if !(10..=DAY).contains(&duration.millis) {
            return Err(error(written.value()?, "a lease is from `\"10ms\"` to `\"24h\"`: write `lease = \"30s\"`"));
        }
        Ok(Self(duration))
    }

    fn emit(&self, root: &Path) -> TokenStream {
        self.0.emit(root)
    }
}

fn not_text(value: &Expr) -> String {
    let literal = match ungroup(value) {
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => number.token().to_string(),
        Expr::Lit(ExprLit { lit: Lit::Float(number), .. }) => number.token().to_string(),
        _ => return "a duration is a string literal: write a whole number and a unit, as in `\"24h\"`".to_owned(),
    };
    match parse(&literal) {
        Ok(_) => format!("a duration is written in quotes: write `\"{literal}\"`"),
        Err(complaint) => complaint,
    }
}

/// Milliseconds, or what is wrong and what to write.
fn parse(text: &str) -> std::result::Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let Some((_, factor, _)) = UNITS.iter().find(|(name, ..)| *name == unit) else {
        return Err(complaint(text));
    };
    if number.is_empty() {
        return Err(format!("`{text}` has no number: write `\"1{text}\"`"));
    }
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor)) {
        Some(0) => Err(format!("`{text}` is no time at all: write at least `\"1ms\"`")),
        Some(millis) if millis <= MAX_DAYS * DAY => Ok(millis),
        _ => Err(format!("`{text}` is too long: write at most ten years, `\"{MAX_DAYS}d\"`")),
    }
}

/// What is wrong with a text that is not a number and a unit.
fn complaint(text: &str) -> String {
    let usual = "write a whole number and one of `ms`, `s`, `m`, `h`, `d`, as in `\"24h\"`";
    if text.is_empty() {
        return format!("an empty duration: {usual}");
    }
    if text.starts_with('-') {
        return format!("`{text}` is negative: {usual}");
    }
    if text.chars().all(|c| c.is_ascii_digit()) {
        return format!("`{text}` has no unit: write `\"{text}s\"` for seconds, or one of `ms`, `m`, `h`, `d`");
    }
    match sum(text) {
        Some(millis) => format!("`{text}` is not one whole number and one unit: write `\"{}\"`", shortest(millis)),
        None => format!("`{text}` is not a duration: {usual}"),
    }
}

/// Reads what people write elsewhere, `1h 30m`, `1.5h`, `2 hours`, `1w`, to be able to say how it is written here.
fn sum(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let unit = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '_');
        let number = rest.strip_suffix(unit)?.replace('_', "");
        let unit = unit.trim_start();
        let next = unit.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        let factor = factor(&unit.strip_suffix(next)?.to_ascii_lowercase())?;
        let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
        let tenths = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let scaled = format!("{whole}{fraction}").parse::<u64>().ok()?.checked_mul(factor)?;
        if !scaled.is_multiple_of(tenths) {
            return None;
        }
        total = total.checked_add(scaled / tenths)?;
        rest = next.trim_start();
    }
    (1..=MAX_DAYS * DAY).contains(&total).then_some(total)
}

fn factor(unit: &str) -> Option<u64> {
    if matches!(unit, "w" | "week" | "weeks") {
        return Some(7 * DAY);
    }
    UNITS.iter().find(|(name, _, others)| *name == unit || others.contains(&unit)).map(|(_, factor, _)| *factor)
}

/// The duration in the largest unit that divides it.
fn shortest(millis: u64) -> String {
    UNITS
        .iter()
        .rev()
        .find(|(_, factor, _)| millis.is_multiple_of(*factor))
        .map(|(unit, factor, _)| format!("{}{unit}", millis / factor))
        .unwrap_or_else(|| format!("{millis}ms"))
}

#[cfg(test)]
mod tests {
    use syn::{Expr, parse_quote};

    use super::{DAY, Duration, parse};

    #[test]
    fn takes_a_whole_number_of_one_unit() {
        for (text, millis) in [
            ("500ms", 500),
            ("1s", 1000),
            ("30s", 30_000),
            ("90m", 90 * 60 * 1000),
            ("24h", DAY),
            ("7d", 7 * DAY),
            ("007s", 7000),
            ("3660d", 3660 * DAY),
        ] {
            assert_eq!(parse(text), Ok(millis), "{text}");
        }
    }

    #[test]
    fn says_what_to_write() {
        for (text, expected) in [
            ("", "an empty duration: write a whole number and one of `ms`, `s`, `m`, `h`, `d`, as in `\"24h\"`"),
            ("24", "`24` has no unit: write `\"24s\"` for seconds, or one of `ms`, `m`, `h`, `d`"),
            ("h", "`h` has no number: write `\"1h\"`"),
            ("0s", "`0s` is no time at all: write at least `\"1ms\"`"),
            ("1.5h", "`1.5h` is not one whole number and one unit: write `\"90m\"`"),
            ("1h30m", "`1h30m` is not one whole number and one unit: write `\"90m\"`"),
            ("1h 30m", "`1h 30m` is not one whole number and one unit: write `\"90m\"`"),
            ("24 h", "`24 h` is not one whole number and one unit: write `\"1d\"`"),
            ("24H", "`24H` is not one whole number and one unit: write `\"1d\"`"),
            ("2 hours", "`2 hours` is not one whole number and one unit: write `\"2h\"`"),
            ("1w", "`1w` is not one whole number and one unit: write `\"7d\"`"),
            ("1_000ms", "`1_000ms` is not one whole number and one unit: write `\"1s\"`"),
            (
                "0.3ms",
                "`0.3ms` is not a duration: write a whole number and one of `ms`, `s`, `m`, `h`, `d`, as in `\"24h\"`",
            ),
            ("-5s", "`-5s` is negative: write a whole number and one of `ms`, `s`, `m`, `h`, `d`, as in `\"24h\"`"),
            (
                "5us",
                "`5us` is not a duration: write a whole number and one of `ms`, `s`, `m`, `h`, `d`, as in `\"24h\"`",
            ),
            (
                "soon",
                "`soon` is not a duration: write a whole number and one of `ms`, `s`, `m`, `h`, `d`, as in `\"24h\"`",
            ),
            ("3661d", "`3661d` is too long: write at most ten years, `\"3660d\"`"),
            ("99999999999999999999d", "`99999999999999999999d` is too long: write at most ten years, `\"3660d\"`"),
            ("18446744073709551615d", "`18446744073709551615d` is too long: write at most ten years, `\"3660d\"`"),
        ] {
            assert_eq!(parse(text), Err(expected.to_owned()));
        }
    }

    #[test]
    fn says_what_to_write_for_what_is_not_text() {
        let cases: [(Expr, &str); 5] = [
            (parse_quote!(24h), "a duration is written in quotes: write `\"24h\"`"),
            (parse_quote!(3600), "`3600` has no unit: write `\"3600s\"` for seconds, or one of `ms`, `m`, `h`, `d`"),
            (parse_quote!(1.5h), "`1.5h` is not one whole number and one unit: write `\"90m\"`"),
            (parse_quote!(DAY), "a duration is a string literal: write a whole number and a unit, as in `\"24h\"`"),
            (
                parse_quote!(Duration::from_secs(1)),
                "a duration is a string literal: write a whole number and a unit, as in `\"24h\"`",
            ),
        ];
        for (value, expected) in cases {
            assert_eq!(
                Duration::from_expr(&value).map(Duration::millis).map_err(|e| e.to_string()),
                Err(expected.to_owned())
            );
        }
    }
}
