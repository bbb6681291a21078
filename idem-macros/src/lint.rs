//! Rules over several options, and over what a key is made of.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;

use crate::{
    handler::Handler,
    options::{Attribute, Errors, Options, Setting},
    value::{DAY, FingerprintRule, Missing, OnStoreError, error},
};

/// Reports every contradiction between options, and with the arguments, each at the word to change.
pub(crate) fn check(options: &Options, handler: &Handler, errors: &mut Errors) {
    if let Some(financial) = &options.financial {
        check_financial(&financial.name, options, errors);
    }
    if let Some(transaction) = &options.transaction {
        check_transaction(&transaction.name, options, handler, errors);
    }
    if options.attribute == Attribute::Consumer {
        check_consumer(options, errors);
    }
    check_remember(options, errors);
    check_sources(options, handler, errors);
    for expression in ["key", "principal", "payload"].into_iter().filter_map(|option| options.written(option)) {
        for (token, message) in unstable(expression.clone()) {
            errors.push(error(token, message));
        }
    }
}

/// What must not stand beside `financial`.
fn check_financial(financial: &syn::Ident, options: &Options, errors: &mut Errors) {
    if options.written("key").is_none() {
        let example = match options.attribute {
            Attribute::Handler => "from_header",
            Attribute::Consumer => "event.id",
        };
        errors.push(error(
            financial,
            format!("`financial` needs a `key`, or every retry is charged again: write `key = {example}`"),
        ));
    }
    if let Some(written) = written_as(&options.missing, |value| matches!(value, Missing::Run)) {
        errors.push(error(
            written,
            "`financial` cannot run without a key: write `missing = reject`, or leave `missing` out",
        ));
    }
    if let Some(written) = written_as(&options.on_store_error, |value| matches!(value, OnStoreError::Run)) {
        errors.push(error(
            written,
            "`financial` cannot run while nobody can tell a retry: write `on_store_error = reject`, or leave it out",
        ));
    }
    if let Some(written) = written_as(&options.ttl, |value| value.millis() < DAY) {
        errors.push(error(
            written,
            "`financial` keeps an answer for at least 24 hours, because clients retry that long: write `ttl = \"24h\"`",
        ));
    }
    if let Some(written) = written_as(&options.fingerprint, |value| matches!(value, FingerprintRule::Off)) {
        errors.push(error(
            written,
            "`financial` must tell a retry from another payment under the same key: \
             write `fingerprint = bytes`, or leave it out",
        ));
    }
}

/// What a consumer cannot do without.
fn check_consumer(options: &Options, errors: &mut Errors) {
    let mut missing = |message| errors.push(syn::Error::new(proc_macro2::Span::call_site(), message));
    if options.written("key").is_none() && options.financial.is_none() {
        missing("`key` is missing: write what tells one event from another, as in `key = event.id`");
    }
    if options.written("runtime").is_none() {
        missing(
            "`runtime` is missing: write where the `Idempotency` is, an argument or a field of `self`, \
             as in `runtime = self.idempotency`",
        );
    }
    if options.written("payload").is_none()
        && written_as(&options.fingerprint, |value| matches!(value, FingerprintRule::Off)).is_none()
    {
        missing(
            "`payload` is missing: write what the event carries, so that an id used with another payload is seen, \
             as in `payload = event` or `payload = bytes(event.raw)`; or write `fingerprint = off`",
        );
    }
}

/// What must, and what must not, stand beside `transaction`.
fn check_transaction(transaction: &syn::Ident, options: &Options, handler: &Handler, errors: &mut Errors) {
    if handler.tx().next().is_none() {
        errors.push(error(
            transaction,
            "`transaction` needs the transaction as an argument: write `mut tx: Tx<PostgresStore>` or `mut tx: Tx<SqliteStore>`",
        ));
    }
    if let Some(second) = handler.tx().nth(1) {
        errors.push(error(second, "one request has one transaction: keep one `Tx`"));
    }
    if let Some(written) = options.written("lease") {
        errors.push(error(
            written,
            "`transaction` holds no lease: the database sees when its owner is gone: leave `lease` out",
        ));
    }
    if let Some(written) = options.written("on_abandoned") {
        errors.push(error(
            written,
            "`transaction` leaves nothing abandoned: what breaks off is rolled back: leave `on_abandoned` out",
        ));
    }
    if let Some(written) = written_as(&options.on_store_error, |value| matches!(value, OnStoreError::Run)) {
        errors.push(error(
            written,
            "`transaction` writes the effect to the store itself, and cannot run without it: \
             write `on_store_error = reject`, or leave it out",
        ));
    }
}

fn check_remember(options: &Options, errors: &mut Errors) {
    let Some(remember) = &options.remember else { return };
    let ttl = match &options.ttl {
        Some(ttl) => ttl.value.millis(),
        // A `ttl` that was written and refused says nothing about `remember`.
        None if options.written("ttl").is_some() => return,
        None => DAY,
    };
    if remember.value.millis() < ttl {
        errors.push(error(
            &remember.written,
            "`remember` is shorter than `ttl`, which is 24 hours when it is not written: write at least as much",
        ));
    }
}

/// A word alone is an argument; if it is none, rustc would only say that it cannot be found.
fn check_sources(options: &Options, handler: &Handler, errors: &mut Errors) {
    let Some(key) = &options.key else { return };
    for (word, meant) in key.value.half_written().filter(|(word, _)| !handler.binds(word)) {
        errors.push(error(word, format!("there is no source `{word}`, and no argument of this name: write `{meant}`")));
    }
}

fn written_as<T>(setting: &Option<Setting<T>>, is: impl Fn(&T) -> bool) -> Option<&TokenStream> {
    setting.as_ref().filter(|setting| is(&setting.value)).map(|setting| &setting.written)
}

/// Everything in an expression, also inside macros and closures, that a retry would compute differently.
fn unstable(expression: TokenStream) -> Vec<(TokenStream, String)> {
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
            let message = format!(
                "`{name}` is another value on every retry, and the key would never match: \
                 write what the client repeats, such as a field of the request",
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

/// Modules and types of which nothing is the same twice.
const UNSTABLE_HOMES: &[&str] = &["Instant", "SystemTime", "fastrand", "getrandom", "rand"];

/// Functions, macros and methods that give another value on each call, whoever's they are.
const UNSTABLE_CALLS: &[&str] = &[
    "elapsed",
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
        let is_pair = !arguments && owner.is_some_and(|owner| UNSTABLE_FUNCTIONS.contains(&(owner, last)));
        is_home || is_pair || (is_function && UNSTABLE_CALLS.contains(&last))
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
