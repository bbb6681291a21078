//! `scope`: the namespace of an operation.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{Expr, Ident, LitStr, Path, Result};

use super::{Value, Written, error, text, word};

/// A literal of 1 to 64 characters `a-z A-Z 0-9 . _ -`.
pub(crate) struct Scope(LitStr);

const MAX_LENGTH: usize = 64;

impl Value for Scope {
    fn parse(written: &Written<'_>) -> Result<Self> {
        let value = written.value()?;
        let Some(literal) = text(value) else {
            return Err(error(value, not_a_literal(value, written.example)));
        };
        match complaint(&literal.value()) {
            Some(complaint) => Err(error(literal, complaint)),
            None => Ok(Self(literal.clone())),
        }
    }

    fn emit(&self, _: &Path) -> TokenStream {
        self.0.to_token_stream()
    }
}

/// A word in lower case is a scope without its quotes; any other path names a constant, whose text no macro sees.
fn not_a_literal(value: &Expr, example: &str) -> String {
    match (word(value).map(Ident::to_string), value) {
        (Some(word), _) if word.contains(char::is_lowercase) => {
            format!("a scope is a string literal: write `scope = \"{word}\"`")
        }
        (_, Expr::Path(path)) => format!(
            "a scope is a string literal, because `{}` has no value yet when this is read: write its text, as in `{example}`",
            path.to_token_stream().to_string().replace(' ', ""),
        ),
        _ => format!("a scope is a string literal: write `{example}`"),
    }
}

fn complaint(scope: &str) -> Option<String> {
    if scope.is_empty() {
        return Some("a scope cannot be empty: name what the handler does, as in `scope = \"payments\"`".to_owned());
    }
    if let Some(stray) = scope.chars().find(|&c| !is_allowed(c)) {
        let better: String = scope.chars().map(|c| if is_allowed(c) { c } else { '-' }).take(MAX_LENGTH).collect();
        return Some(format!(
            "a scope cannot contain `{}`, only `a-z A-Z 0-9 . _ -`: write `scope = \"{better}\"`",
            stray.escape_default(),
        ));
    }
    if scope.len() > MAX_LENGTH {
        return Some(format!("a scope has at most {MAX_LENGTH} characters and this one {}: shorten it", scope.len()));
    }
    None
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

#[cfg(test)]
mod tests {
    use super::complaint;

    #[test]
    fn takes_names() {
        for scope in ["a", "payments", "Payments.v2_refunds-eu", &"x".repeat(64)] {
            assert_eq!(complaint(scope), None, "{scope}");
        }
    }

    #[test]
    fn says_what_is_wrong_with_a_scope() {
        for (scope, expected) in [
            ("", "a scope cannot be empty: name what the handler does, as in `scope = \"payments\"`"),
            ("my payments", "a scope cannot contain ` `, only `a-z A-Z 0-9 . _ -`: write `scope = \"my-payments\"`"),
            ("a:b", "a scope cannot contain `:`, only `a-z A-Z 0-9 . _ -`: write `scope = \"a-b\"`"),
            ("é", "a scope cannot contain `\\u{e9}`, only `a-z A-Z 0-9 . _ -`: write `scope = \"-\"`"),
            (&"x".repeat(65), "a scope has at most 64 characters and this one 65: shorten it"),
        ] {
            assert_eq!(complaint(scope).as_deref(), Some(expected));
        }
    }
}
