//! Every message of `#[idempotent_consumer]`.

use super::{complaints, expand};
use crate::options::{Attribute, names, rows};

const WHOLE: &str = "scope = \"ship\", key = event.id, payload = event, runtime = idempotency";

/// What is said about an attribute with these options above a function that has nothing wrong.
fn said(options: &str) -> Vec<String> {
    complaints(&format!(
        "#[idempotent_consumer({options})] async fn ship(idempotency: Idempotency, event: Event) -> Result<(), MyError> {{}}"
    ))
}

/// What is said about a function under an attribute that has nothing wrong.
fn said_of(function: &str) -> Vec<String> {
    complaints(&format!("#[idempotent_consumer({WHOLE})] {function}"))
}

#[test]
fn every_example_is_right() {
    for (name, example) in rows(Attribute::Consumer) {
        let others: Vec<_> = WHOLE.split(", ").filter(|option| !option.starts_with(&format!("{name} "))).collect();
        let options = format!("{}, {example}", others.join(", "));
        assert_eq!(said(&options), [""; 0], "{options}");
    }
}

#[test]
fn every_option_has_a_heading_in_the_reference() {
    let reference = include_str!("../../docs/idempotent_consumer.md");
    for name in names(Attribute::Consumer) {
        assert!(reference.contains(&format!("\n## `{name}`\n")), "`{name}` has no heading");
    }
}

#[test]
fn what_a_consumer_cannot_do_without() {
    let key = "`key` is missing: write what tells one event from another, as in `key = event.id`";
    let financial = "`financial` needs a `key`, or every retry is charged again: write `key = event.id`";
    let runtime = "`runtime` is missing: write where the `Idempotency` is, an argument or a field of `self`, \
                   as in `runtime = self.idempotency`";
    let payload = "`payload` is missing: write what the event carries, so that an id used with another payload is seen, \
                   as in `payload = event` or `payload = bytes(event.raw)`; or write `fingerprint = off`";
    let scope = "`scope` is missing: name the consumer, as in `scope = \"ship-orders\"`";
    assert_eq!(said(""), [scope, key, runtime, payload]);
    assert_eq!(said("scope = \"a\", financial"), [financial, runtime, payload]);
    assert_eq!(said("scope = \"a\", key = event.id, runtime = idempotency"), [payload]);
    assert_eq!(said("scope = \"a\", key = event.id, runtime = idempotency, fingerprint = off"), [""; 0]);
    assert_eq!(said("scope = \"a\", key = event.id, payload = event"), [runtime]);
    let function = "`from_fn` reads a request, and an event is none: write `fingerprint = bytes`, \
                    and what is to be compared as `payload = bytes(..)`";
    let options = "scope = \"a\", key = event.id, runtime = idempotency, payload = event, fingerprint = from_fn(f)";
    assert_eq!(said(options), [function]);
    assert_eq!(said("scope = \"a\", runtime = idempotency, payload = event"), [key]);
}

#[test]
fn options() {
    let transaction = "`transaction` is no option of a consumer, because a function keeps its signature, so nobody hands it \
                       the transaction: call `Consumer::transact`: leave it out";
    for (option, expected) in [
        ("key_space = scope", "`key_space` is no option of a consumer, because an event has no endpoint: leave it out"),
        ("principal = user", "`principal` is no option of a consumer, because an event has no caller: leave it out"),
        (
            "store = all",
            "`store` is no option of a consumer, because an `Err` is tried again and never kept: leave it out",
        ),
        ("transaction", transaction),
        ("max_attempt = 5", "there is no option `max_attempt`: did you mean `max_attempts`?"),
        ("max_retries = 5", "there is no option `max_retries`: did you mean `max_attempts`?"),
        ("max_attempts = 0", "an event that is tried 0 times never runs: write at least `max_attempts = 1`"),
        ("max_attempts = \"5\"", "`max_attempts` is a whole number: write `max_attempts = 5`"),
        ("max_attempts = 5u32", "`max_attempts` is a whole number: write `max_attempts = 5`"),
        ("max_attempts = 5_000_000_000", "`max_attempts` is a whole number: write `max_attempts = 5`"),
        ("max_attempts = MAX", "`max_attempts` is a whole number: write `max_attempts = 5`"),
        ("max_attempts", "`max_attempts` needs a value: write `max_attempts = 5`"),
        (
            "remember = \"1h\"",
            "`remember` is shorter than `ttl`, which is 24 hours when it is not written: write at least as much",
        ),
        (
            "financial, missing = run",
            "`financial` cannot run without a key: write `missing = reject`, or leave `missing` out",
        ),
    ] {
        assert_eq!(said(&format!("{WHOLE}, {option}")), [expected], "{option}");
    }
}

#[test]
fn keys_payloads_and_runtimes() {
    let request = |word: &str| {
        format!("`{word}` reads a request, and an event is none: write an expression, as in `key = event.id`")
    };
    let unstable = |what: &str| {
        format!(
            "`{what}` is another value on every retry, and the key would never match: write what the client repeats, such as \
             a field of the request"
        )
    };
    let constant = "a constant key makes every event a duplicate of the first: write `key = event.id`";
    let unsaid = "a constant payload makes all events with one id alike: write `payload = event`";
    for (option, expected) in [
        ("key = from_header", request("from_header")),
        ("key = from_header(\"X-Event-Id\")", request("from_header")),
        ("key = from_path(\"id\")", request("from_path")),
        ("key = from_query(\"id\")", request("from_query")),
        ("key = from_body(\"/id\")", request("from_body")),
        ("key = from_fn(my_key)", request("from_fn")),
        ("key = any_of(event.id, from_header)", request("from_header")),
        ("key = from_json(\"/id\")", request("from_json")),
        ("key = (\"evt\")", constant.to_owned()),
        ("key = any_of(event.id, \"evt\")", constant.to_owned()),
        ("key = any_of((\"evt\"))", constant.to_owned()),
        ("key = derive(\"order\", \"ship\", ())", constant.to_owned()),
        (
            "key = UNIX_EPOCH.elapsed()",
            format!("{}; if it reads no clock, write whose it is, as in `Ride::elapsed(&ride)`", unstable("elapsed")),
        ),
        ("payload = (Ride::elapsed(&event), Instant::elapsed(&event.at))", unstable("Instant::elapsed")),
        ("key = KEY", constant.to_owned()),
        ("key = any_of(event.id, Self::KEY)", constant.to_owned()),
        ("payload = PAYLOAD", unsaid.to_owned()),
        ("payload = bytes(Self::PAYLOAD)", unsaid.to_owned()),
        ("payload = ()", unsaid.to_owned()),
        ("payload = (\"x\")", unsaid.to_owned()),
        ("payload = bytes(b\"x\")", unsaid.to_owned()),
        ("key = any_of()", "which sources? write `any_of(event.id, event.order)`".to_owned()),
        ("key = \"evt\"", constant.to_owned()),
        ("key = Uuid::new_v4()", unstable("Uuid::new_v4")),
        ("payload = (event, Utc::now())", unstable("Utc::now")),
        ("payload = \"payload\"", unsaid.to_owned()),
        ("payload = bytes()", "`bytes` takes one value: write `payload = bytes(event.raw)`".to_owned()),
        ("payload = bytes(a, b)", "`bytes` takes one value: write `payload = bytes(event.raw)`".to_owned()),
        (
            "runtime = \"self\"",
            "`runtime` is an expression, the `Idempotency` to ask: write `runtime = self.idempotency`".to_owned(),
        ),
    ] {
        let (name, _) = option.split_once(' ').expect("a name");
        let others: Vec<_> = WHOLE.split(", ").filter(|other| !other.starts_with(&format!("{name} "))).collect();
        assert_eq!(said(&format!("{}, {option}", others.join(", "))), [expected], "{option}");
    }
    assert_eq!(
        said(
            "scope = \"a\", key = any_of(event.id, derive(\"o\", \"c\", event.order)), payload = bytes(event.raw), runtime = app.idempotency()"
        ),
        [""; 0]
    );
}

#[test]
fn functions() {
    for (function, expected) in [
        ("fn ship(e: E) -> Result<(), E> {}", "a consumer is async: write `async fn ship`"),
        ("async unsafe fn ship(e: E) -> Result<(), E> {}", "a consumer cannot be `unsafe`: remove the word"),
        ("async extern \"C\" fn ship(e: E) -> Result<(), E> {}", "a consumer cannot be `extern`: remove the word"),
        ("async fn ship(e: E) {}", "a consumer says how it ended: write `async fn ship(..) -> Result<(), MyError>`"),
        ("async fn ship(e: E) -> Option<u64> {}", "a consumer says how it ended: write `Result<Option<u64>, MyError>`"),
        ("async fn ship(e: E) -> (u64, u64) {}", "a consumer says how it ended: write `Result<(u64, u64), MyError>`"),
        (
            "fn ship<'life0, 'async_trait>(&'life0 self, e: E) -> Pin<Box<dyn Future<Output = R> + Send + 'async_trait>> {}",
            "`#[async_trait]` rewrote `ship` before it could be guarded: guard a method of an `impl` block without a trait and \
             call that",
        ),
        (
            "async fn ship(e: E) -> Result<impl Display, E> {}",
            "a duplicate is given the first value, and nothing can be read back as `impl Trait`: write the type",
        ),
        (
            "async fn ship(e: E) -> Result<(), E> { #![allow(unused)] Ok(()) }",
            "a consumer's body cannot begin with an attribute: write it above the function",
        ),
        (
            "async fn ship(e: E) -> Result<(), E>;",
            "a consumer needs a body: put the attribute where the function has one",
        ),
        ("struct S;", "only an async function can be guarded, and this is a struct: put the attribute on a function"),
        (
            "#[idempotent(scope = \"b\")] async fn ship(e: E) -> Result<(), E> {}",
            "`#[idempotent]` guards a handler of requests, and `#[idempotent_consumer]` one of events: keep one",
        ),
        (
            "#[idempotent_consumer(scope = \"b\")] async fn ship(e: E) -> Result<(), E> {}",
            "`#[idempotent_consumer]` is written twice: keep one and put all options into it",
        ),
    ] {
        assert_eq!(said_of(function), [expected], "{function}");
    }
}

#[test]
fn options_of_a_consumer_are_none_of_a_handler() {
    for (option, why) in [
        ("max_attempts = 5", "a client decides for itself when to stop"),
        ("payload = req", "a request is its own payload"),
    ] {
        let name = option.split(' ').next().expect("a name");
        assert_eq!(
            complaints(&format!("#[idempotent(scope = \"a\", {option})] async fn create(req: Req) {{}}")),
            [format!("`{name}` is an option of `#[idempotent_consumer]`, because {why}: leave it out")]
        );
    }
}

#[test]
fn a_function_with_errors_stays_as_it_was() {
    let found = expand("#[idempotent_consumer] #[instrument] async fn f(&self) -> R { half. ; body + }").to_string();
    assert!(found.starts_with("# [instrument] async fn f (& self) -> R { half . ; body + }"), "{found}");
}
