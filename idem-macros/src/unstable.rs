//! What a retry would compute differently, as far as that can be read in an expression.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;

/// Everything in an expression, also inside macros and closures, that a retry would compute differently.
pub(crate) fn unstable(expression: TokenStream) -> Vec<(TokenStream, String)> {
    let mut found = Vec::new();
    let mut tokens = expression.into_iter().peekable();
    let mut after_dot = false;
    while let Some(token) = tokens.next() {
        let mut path = match token {
            TokenTree::Ident(first) => Words { written: first.to_token_stream(), names: vec![first.to_string()] },
            TokenTree::Group(group) => {
                found.extend(unstable(group.stream()));
                after_dot = false;
                continue;
            }
            TokenTree::Punct(dot) if dot.as_char() == '.' => {
                after_dot = true;
                continue;
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {
                after_dot = false;
                continue;
            }
        };
        // Two colons and a word go on with the path; two colons and anything else are a turbofish.
        let mut colons = TokenStream::new();
        while let Some(next) = tokens.peek() {
            match next {
                TokenTree::Punct(colon) if colon.as_char() == ':' => colons.extend(tokens.next()),
                TokenTree::Ident(name) if !colons.is_empty() => {
                    path.names.push(name.to_string());
                    path.written.extend(std::mem::take(&mut colons));
                    path.written.extend(tokens.next());
                }
                _ => break,
            }
        }
        let arguments = match tokens.peek() {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis => !group.stream().is_empty(),
            _ => false,
        };
        let called = !colons.is_empty()
            || matches!(tokens.peek(), Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis)
            || matches!(tokens.peek(), Some(TokenTree::Punct(bang)) if bang.as_char() == '!');
        if path.is_unstable(called, arguments, after_dot) {
            let name = path.names.join("::");
            let otherwise = if path.names == ["elapsed"] { OTHERWISE } else { "" };
            let message = format!(
                "`{name}` is another value on every retry, and the key would never match: \
                 write what the client repeats, such as a field of the request{otherwise}",
            );
            found.push((path.written, message));
        }
        after_dot = false;
    }
    found
}

/// A path such as `Uuid::new_v4`, or a method's name alone.
struct Words {
    written: TokenStream,
    names: Vec<String>,
}

/// Nobody but a clock is sure to have a method of this name, and nothing says of what type it is.
const OTHERWISE: &str = "; if it reads no clock, write whose it is, as in `Ride::elapsed(&ride)`";

/// Modules and types of which nothing is the same twice.
const UNSTABLE_HOMES: &[&str] = &["Instant", "SystemTime", "fastrand", "getrandom", "rand"];

/// Functions, macros and methods that give another value on each call, whoever's they are.
const UNSTABLE_CALLS: &[&str] = &[
    "fetch_add",
    "fetch_sub",
    "now",
    "now_local",
    "now_utc",
    "now_v1",
    "now_v6",
    "now_v7",
    "new_v4",
    "new_v7",
    "random",
    "thread_rng",
    "nanoid",
];

/// Functions whose own name says too little. With arguments they are somebody else's.
const UNSTABLE_FUNCTIONS: &[(&str, &str)] =
    &[("thread", "current"), ("process", "id"), ("Ulid", "new"), ("Ulid", "generate"), ("ObjectId", "new")];

impl Words {
    fn is_unstable(&self, called: bool, arguments: bool, after_dot: bool) -> bool {
        let names = || self.names.iter().map(String::as_str);
        let Some(last) = names().next_back() else { return false };
        let owner = names().nth_back(1);
        // The one constant among them: what a moment in the request is counted from.
        if last == "UNIX_EPOCH" {
            return false;
        }
        // A function may be passed on without a call, as in `unwrap_or_else(Uuid::new_v4)`.
        let is_function = called || (owner.is_some() && !after_dot);
        let is_home = owner.is_some() && names().any(|name| UNSTABLE_HOMES.contains(&name));
        // That of a clock is given nothing, and with its owner written out it is a clock's or it is not.
        let is_elapsed = last == "elapsed" && owner.is_none() && called && !arguments;
        let is_pair = !arguments && owner.is_some_and(|owner| UNSTABLE_FUNCTIONS.contains(&(owner, last)));
        is_home || is_pair || is_elapsed || (is_function && UNSTABLE_CALLS.contains(&last))
    }
}

#[cfg(test)]
mod tests {
    use super::unstable;

    fn found(expression: &str) -> Vec<String> {
        let tokens = expression.parse().expect("tokens");
        unstable(tokens).into_iter().map(|(token, _)| token.to_string().replace(' ', "")).collect()
    }

    #[test]
    fn finds_what_changes_between_retries() {
        for (expression, expected) in [
            ("Uuid::new_v4()", "Uuid::new_v4"),
            ("uuid::Uuid::now_v7().to_string()", "uuid::Uuid::now_v7"),
            ("Utc::now().timestamp()", "Utc::now"),
            ("OffsetDateTime::now_utc()", "OffsetDateTime::now_utc"),
            ("clock.now()", "now"),
            ("SystemTime::now()", "SystemTime::now"),
            ("std::time::Instant::now()", "std::time::Instant::now"),
            ("SystemTime::UNIX_EPOCH.elapsed()", "elapsed"),
            ("req.started.elapsed().as_secs()", "elapsed"),
            ("std::time::Instant::elapsed(&started)", "std::time::Instant::elapsed"),
            ("started.map(SystemTime::elapsed)", "SystemTime::elapsed"),
            ("COUNTER.fetch_add(1, Ordering::SeqCst)", "fetch_add"),
            ("id.unwrap_or_else(process::id)", "process::id"),
            ("rand::random::<u64>()", "rand::random"),
            ("random::<u64>()", "random"),
            ("thread_rng().next_u64()", "thread_rng"),
            ("rng.random::<u64>()", "random"),
            ("nanoid!()", "nanoid"),
            ("nanoid::nanoid!(10)", "nanoid::nanoid"),
            ("std::thread::current().id()", "std::thread::current"),
            ("process::id()", "process::id"),
            ("Ulid::new()", "Ulid::new"),
            ("format!(\"{}-{}\", req.id, Uuid::new_v4())", "Uuid::new_v4"),
            ("req.id.unwrap_or_else(Uuid::new_v4)", "Uuid::new_v4"),
            ("req.id.unwrap_or_else(|| { let id = Uuid::new_v4(); id })", "Uuid::new_v4"),
            ("any_of(from_header, Uuid::new_v4())", "Uuid::new_v4"),
            ("derive(\"order\", \"create\", (req.id, Utc::now()))", "Utc::now"),
        ] {
            assert_eq!(found(expression), [expected], "{expression}");
        }
        assert_eq!(found("(Uuid::new_v4(), Utc::now())"), ["Uuid::new_v4", "Utc::now"]);
    }

    #[test]
    fn leaves_what_a_retry_repeats() {
        for expression in [
            "req.id",
            "from_header",
            "req.now",
            "now",
            "now.id",
            "req.random",
            "random",
            "rand.id",
            "instant",
            "req.instant.elapsed",
            "req.ride.elapsed(Unit::Seconds)",
            "Ride::elapsed(&req.ride)",
            "req.ride.map(Ride::elapsed)",
            "elapsed(&req.ride)",
            "Uuid::new_v5(&NAMESPACE, req.id.as_bytes())",
            "Uuid::nil()",
            "req.at.duration_since(SystemTime::UNIX_EPOCH)",
            "format!(\"{}:{now}\", req.nonce)",
            "Brand::new(req.id)",
            "from_header(\"now\")",
            "process.id()",
            "process::id(order)",
            "thread::current(post)",
            "{ let ThreadId(thread) = post.thread; thread }",
        ] {
            assert_eq!(found(expression), [""; 0], "{expression}");
        }
    }
}
