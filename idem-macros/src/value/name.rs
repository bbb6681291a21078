//! Names of parts of a request: headers, parameters, JSON pointers.

use syn::{Expr, LitStr, Result};

use super::{error, text};

/// A header's name, in the lower case that HTTP/2 and every lookup use.
pub(super) fn header(value: &Expr) -> Result<LitStr> {
    let example = "from_header(\"X-Event-Id\")";
    let literal = literal(value, "a header's name", example)?;
    let name = literal.value();
    let complaint = match name.chars().find(|&c| !is_token(c)) {
        Some(stray) => format!("a header's name cannot contain `{}`: write `{example}`", stray.escape_default()),
        None if name.is_empty() => format!("a header's name cannot be empty: write `{example}`"),
        None => return Ok(LitStr::new(&name.to_ascii_lowercase(), literal.span())),
    };
    Err(error(literal, complaint))
}

/// A parameter's name in the route's path: `id` for `/orders/{id}`.
pub(super) fn path_parameter(value: &Expr) -> Result<LitStr> {
    let literal = literal(value, "a parameter's name", "from_path(\"id\")")?;
    let name = literal.value();
    let bare = name.trim_matches(|c| matches!(c, '{' | '}' | '/' | ':' | '*'));
    let complaint = if bare.is_empty() {
        "a parameter needs a name: write `from_path(\"id\")` for `/orders/{id}`".to_owned()
    } else if bare.contains(['{', '}', '/']) {
        "a parameter is named alone, without the rest of the path: write `from_path(\"id\")` for `/orders/{id}`"
            .to_owned()
    } else if bare != name {
        format!("a parameter is named without braces, colon or slash: write `from_path(\"{bare}\")`")
    } else {
        return Ok(literal.clone());
    };
    Err(error(literal, complaint))
}

/// A parameter's name in the query: `token` for `?token=1`.
pub(super) fn query_parameter(value: &Expr) -> Result<LitStr> {
    let literal = literal(value, "a parameter's name", "from_query(\"token\")")?;
    let name = literal.value();
    let bare = name.trim_matches(|c| matches!(c, '?' | '&' | '='));
    let complaint = if bare.is_empty() {
        "a parameter needs a name: write `from_query(\"token\")` for `?token=1`".to_owned()
    } else if bare.contains(['?', '&', '=']) {
        "a parameter is named alone: write `from_query(\"token\")` for `?token=1`".to_owned()
    } else if bare != name {
        format!("a parameter is named alone: write `from_query(\"{bare}\")`")
    } else {
        return Ok(literal.clone());
    };
    Err(error(literal, complaint))
}

/// A JSON pointer (RFC 6901) to a member, as in `/order/id`.
pub(super) fn pointer(value: &Expr, form: &str) -> Result<LitStr> {
    let literal = literal(value, "a JSON pointer", &format!("{form}(\"/order/id\")"))?;
    let pointer = literal.value();
    let complaint = if pointer.is_empty() {
        format!("an empty JSON pointer is the whole body: name a member, as in `{form}(\"/order/id\")`")
    } else if !pointer.starts_with('/') {
        let better = pointer.trim_start_matches('$').replace('.', "/");
        format!("a JSON pointer begins with `/`: write `{form}(\"/{}\")`", better.trim_start_matches('/'))
    } else if has_stray_tilde(&pointer) {
        "`~` in a JSON pointer is followed by `0` or `1`: write `~0` for `~` and `~1` for `/`".to_owned()
    } else {
        return Ok(literal.clone());
    };
    Err(error(literal, complaint))
}

fn literal<'a>(value: &'a Expr, what: &str, example: &str) -> Result<&'a LitStr> {
    text(value).ok_or_else(|| error(value, format!("{what} is a string literal: write `{example}`")))
}

/// RFC 9110, section 5.6.2.
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

fn has_stray_tilde(pointer: &str) -> bool {
    pointer.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1']))
}

#[cfg(test)]
mod tests {
    use syn::{Expr, LitStr, Result, parse_quote};

    use super::{header, path_parameter, pointer, query_parameter};

    fn said(result: Result<LitStr>) -> String {
        match result {
            Ok(literal) => format!("ok {}", literal.value()),
            Err(error) => error.to_string(),
        }
    }

    fn quoted(text: &str) -> Expr {
        parse_quote!(#text)
    }

    #[test]
    fn headers() {
        for (name, expected) in [
            ("X-Event-Id", "ok x-event-id"),
            ("x_1!", "ok x_1!"),
            ("", "a header's name cannot be empty: write `from_header(\"X-Event-Id\")`"),
            ("X Id", "a header's name cannot contain ` `: write `from_header(\"X-Event-Id\")`"),
            ("X-Id:", "a header's name cannot contain `:`: write `from_header(\"X-Event-Id\")`"),
            ("X-É", "a header's name cannot contain `\\u{c9}`: write `from_header(\"X-Event-Id\")`"),
        ] {
            assert_eq!(said(header(&quoted(name))), expected);
        }
        assert_eq!(
            said(header(&parse_quote!(1))),
            "a header's name is a string literal: write `from_header(\"X-Event-Id\")`",
        );
    }

    #[test]
    fn parameters() {
        for (name, expected) in [
            ("id", "ok id"),
            ("order-id", "ok order-id"),
            ("{id}", "a parameter is named without braces, colon or slash: write `from_path(\"id\")`"),
            (":id", "a parameter is named without braces, colon or slash: write `from_path(\"id\")`"),
            ("{*rest}", "a parameter is named without braces, colon or slash: write `from_path(\"rest\")`"),
            ("", "a parameter needs a name: write `from_path(\"id\")` for `/orders/{id}`"),
            (
                "/orders/{id}",
                "a parameter is named alone, without the rest of the path: write `from_path(\"id\")` for `/orders/{id}`",
            ),
        ] {
            assert_eq!(said(path_parameter(&quoted(name))), expected);
        }
        for (name, expected) in [
            ("token", "ok token"),
            ("?token=", "a parameter is named alone: write `from_query(\"token\")`"),
            ("a=b", "a parameter is named alone: write `from_query(\"token\")` for `?token=1`"),
            ("", "a parameter needs a name: write `from_query(\"token\")` for `?token=1`"),
        ] {
            assert_eq!(said(query_parameter(&quoted(name))), expected);
        }
    }

    #[test]
    fn pointers() {
        for (text, expected) in [
            ("/order/id", "ok /order/id"),
            ("/a~1b/~0c/0", "ok /a~1b/~0c/0"),
            ("/", "ok /"),
            ("", "an empty JSON pointer is the whole body: name a member, as in `from_body(\"/order/id\")`"),
            ("order/id", "a JSON pointer begins with `/`: write `from_body(\"/order/id\")`"),
            ("order.id", "a JSON pointer begins with `/`: write `from_body(\"/order/id\")`"),
            ("$.order.id", "a JSON pointer begins with `/`: write `from_body(\"/order/id\")`"),
            ("/a~b", "`~` in a JSON pointer is followed by `0` or `1`: write `~0` for `~` and `~1` for `/`"),
            ("/a~", "`~` in a JSON pointer is followed by `0` or `1`: write `~0` for `~` and `~1` for `/`"),
        ] {
            assert_eq!(said(pointer(&quoted(text), "from_body")), expected);
        }
    }
}
