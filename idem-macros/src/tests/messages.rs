//! Every message, and that each mistake gives its own and nothing else.

use super::{complaints, expand};
use crate::options::{Attribute, names, rows};

/// What is said about an attribute with these options above a handler that has nothing wrong.
fn said(options: &str) -> Vec<String> {
    complaints(&format!("#[idempotent({options})] async fn create(user: User, Json(req): Json<Order>) {{}}"))
}

/// As [`said`], with a scope.
fn said_of(option: &str) -> Vec<String> {
    said(&format!("scope = \"orders\", {option}"))
}

/// As [`said_of`], above a handler that takes a transaction.
fn said_in_a_transaction(option: &str) -> Vec<String> {
    complaints(&format!(
        "#[idempotent(scope = \"orders\", {option})] async fn create(mut tx: idem_runtime::Tx<Db>, user: User) {{}}"
    ))
}

#[test]
fn every_example_is_right() {
    for (name, example) in rows(Attribute::Handler) {
        let complaints = match name {
            "scope" => said(example),
            "financial" => said_of(&format!("{example}, key = from_header")),
            "transaction" => said_in_a_transaction(example),
            _ => said_of(example),
        };
        assert!(complaints.is_empty(), "{example}: {complaints:?}");
    }
}

#[test]
fn every_option_has_a_heading_in_the_reference() {
    let reference = include_str!("../../docs/idempotent.md");
    for name in names(Attribute::Handler) {
        assert!(reference.contains(&format!("\n## `{name}`\n")), "`{name}` has no heading");
    }
}

#[test]
fn options() {
    for (options, expected) in [
        ("", "`scope` is missing: name what the handler does, as in `scope = \"payments\"`"),
        ("ttl = \"24h\"", "`scope` is missing: name what the handler does, as in `scope = \"payments\"`"),
        ("scope", "`scope` needs a value: write `scope = \"payments\"`"),
        ("scope =", "`scope` needs a value: write `scope = \"payments\"`"),
        ("scope \"orders\"", "`=` is missing: write `scope = \"orders\"`"),
        ("scope(\"orders\")", "a value follows `=`: write `scope = \"payments\"`"),
        ("scope = orders", "a scope is a string literal: write `scope = \"orders\"`"),
        (
            "scope = ORDERS",
            "a scope is a string literal, because `ORDERS` has no value yet when this is read: \
             write its text, as in `scope = \"payments\"`",
        ),
        (
            "scope = orders::NAME",
            "a scope is a string literal, because `orders::NAME` has no value yet when this is read: \
             write its text, as in `scope = \"payments\"`",
        ),
        ("scope = scope()", "a scope is a string literal: write `scope = \"payments\"`"),
        ("scope = \"a\", scope = \"b\"", "`scope` is written twice: keep one"),
        ("scope = \"a\" ttl = \"24h\"", "a comma is missing after the value of `scope`"),
        ("scope: \"a\"", "`=` comes between an option and its value: write `scope = \"a\"`"),
        ("scope = \"a\", key: from_header", "`=` comes between an option and its value: write `key = from_header`"),
        ("scope = \"a\",, ttl = \"24h\"", "an option is missing before this comma: remove the comma"),
        ("scope = \"a\", idem::ttl = \"24h\"", "expected an option, such as `ttl = \"24h\"`"),
        ("scope = \"a\", 5", "expected an option, such as `ttl = \"24h\"`"),
        ("scope = \"a\", tll = \"24h\"", "there is no option `tll`: did you mean `ttl`?"),
        ("scope = \"a\", keyspace = scope", "there is no option `keyspace`: did you mean `key_space`?"),
        ("scope = \"a\", onConflict = reject", "there is no option `onConflict`: did you mean `on_conflict`?"),
        (
            "scope = \"a\", colour = red",
            "there is no option `colour`: the options are `scope`, `ttl`, `remember`, `key`, `missing`, `principal`, \
             `key_space`, `fingerprint`, `store`, `on_conflict`, `lease`, `renew_for`, `on_abandoned`, `on_store_error`, \
             `financial`, `transaction`, `runtime`, `crate`",
        ),
        ("scope = \"a\", financial = true", "`financial` is a flag: write `financial` alone"),
        ("scope = \"a\", financial(on)", "`financial` is a flag: write `financial` alone"),
        ("scope = \"a\", financial = false", "`financial` is a flag and off when it is not written: leave it out"),
        ("scope = \"a\", crate = \"my::idem\"", "a path is written without quotes: write `crate = my::idem`"),
        (
            "scope = \"a\", crate = 5",
            "`crate` is the path at which `idem_runtime` is found: write `crate = my_crate::idem`",
        ),
        (
            "scope = \"a\", principal = \"me\"",
            "a constant `principal` is the same for every caller: write an argument's value, as in `principal = user.id`",
        ),
        (
            "scope = \"a\", principal = from_header(\"X-Account\")",
            "a header or a function of the request is named once, where the runtime is built: write \
             `.principal_from_header(..)` or `.principal_from_fn(..)` there, or an argument's value here, as in \
             `principal = user.id`",
        ),
        (
            "scope = \"a\", principal = (\"me\")",
            "a constant `principal` is the same for every caller: write an argument's value, as in `principal = user.id`",
        ),
        (
            "scope = \"a\", principal = accounts::EVERYBODY",
            "a constant `principal` is the same for every caller: write an argument's value, as in `principal = user.id`",
        ),
        // A raw name is the name: for duplicates, for rules over several options, and when it is unknown.
        ("scope = \"a\", ttl = \"48h\", r#ttl = \"1h\"", "`ttl` is written twice: keep one"),
        ("scope = \"a\", r#tll = \"1h\"", "there is no option `tll`: did you mean `ttl`?"),
        ("scope = \"a\", ttl = \"24h\"s", "a text has no suffix: write `\"24h\"`"),
        ("scope = \"a\"b, ttl = \"24h\"", "a text has no suffix: write `\"a\"`"),
    ] {
        assert_eq!(said(options), [expected], "{options}");
    }
    assert_eq!(
        said("\"orders\""),
        [
            "a value without a name: write `scope = \"orders\"`",
            "`scope` is missing: name what the handler does, as in `scope = \"payments\"`",
        ],
    );
}

#[test]
fn words() {
    for (option, expected) in [
        ("missing = ignore", "`missing` cannot be `ignore`: write `reject` or `run`"),
        ("missing = rejct", "`missing` cannot be `rejct`: did you mean `reject`?"),
        ("missing = \"reject\"", "`reject` is a word, not a text: write `missing = reject`"),
        ("on_conflict = \"wait\"", "`wait` is a word, not a text: write `on_conflict = wait(\"5s\")`"),
        ("missing = \"ignore\"", "`missing` is a word: write `reject` or `run`"),
        ("missing = reject()", "`reject` takes nothing: write `reject` alone"),
        ("missing = Missing::Reject", "`missing` is a word: write `reject` or `run`"),
        ("missing = true", "`missing` is a word: write `reject` or `run`"),
        ("store = success | definitive", "`store` is a word: write `success`, `definitive` or `all`"),
        (
            "fingerprint = none",
            "`fingerprint` cannot be `none`: write `bytes`, `json`, `fields(\"/amount\")`, `from_fn(my_fingerprint)` or `off`",
        ),
        ("fingerprint = fields", "`fields` needs a value: write `fields(\"/amount\")`"),
        ("fingerprint = fields()", "which fields? write JSON pointers, as in `fields(\"/amount\", \"/currency\")`"),
        ("fingerprint = fields(\"amount\")", "a JSON pointer begins with `/`: write `fields(\"/amount\")`"),
        ("fingerprint = fields(amount)", "a JSON pointer is a string literal: write `fields(\"/order/id\")`"),
        ("fingerprint = fields(\"/a\", \"/b\", \"/a\")", "`/a` is named twice: keep one"),
        ("fingerprint = from_fn", "`from_fn` needs a value: write `from_fn(my_fingerprint)`"),
        ("fingerprint = from_fn()", "which function? name one, as in `from_fn(my_fingerprint)`"),
        (
            "fingerprint = from_fn(|request| request.body)",
            "`from_fn` takes the name of a function: write `from_fn(my_fingerprint)`",
        ),
        ("fingerprint = from_fn(\"f\")", "`from_fn` takes the name of a function: write `from_fn(my_fingerprint)`"),
        ("fingerprint = from_fn(one, two)", "one function is enough: write `from_fn(my_fingerprint)`"),
        ("on_conflict = wait", "`wait` needs a value: write `wait(\"5s\")`"),
        ("on_conflict = wait()", "how long? write a duration, as in `wait(\"5s\")`"),
        ("on_conflict = wait(\"1s\", \"2s\")", "one duration is enough: write `wait(\"5s\")`"),
        ("on_conflict = wait(5)", "`5` has no unit: write `\"5s\"` for seconds, or one of `ms`, `m`, `h`, `d`"),
        (
            "on_abandoned = give_up",
            "`on_abandoned` cannot be `give_up`: write `retry`, `refuse` or `recover(ask_the_provider)`",
        ),
        ("on_abandoned = recover", "`recover` needs a value: write `recover(ask_the_provider)`"),
        ("on_abandoned = recover()", "who is asked? name an async function, as in `recover(ask_the_provider)`"),
        ("on_abandoned = recover(a, b)", "one function is enough: write `recover(ask_the_provider)`"),
        (
            "on_abandoned = recover(|lost| ask(lost))",
            "`recover` takes the name of an async function: write `recover(ask_the_provider)`",
        ),
        ("runtime = global", "`runtime` cannot be `global`: write `state` or `extension`"),
        ("lease = \"5ms\"", "a lease is from `\"10ms\"` to `\"24h\"`: write `lease = \"30s\"`"),
        ("lease = \"2d\"", "a lease is from `\"10ms\"` to `\"24h\"`: write `lease = \"30s\"`"),
    ] {
        assert_eq!(said_of(option), [expected], "{option}");
    }
}

#[test]
fn keys() {
    for (key, expected) in [
        ("from_header()", "`from_header` needs a value: write `from_header(\"X-Event-Id\")`"),
        ("from_header(1)", "a header's name is a string literal: write `from_header(\"X-Event-Id\")`"),
        ("from_header(\"A\", \"B\")", "`from_header` takes one value: for several sources write `any_of(.., ..)`"),
        ("from_path", "`from_path` needs a value: write `from_path(\"id\")`"),
        ("from_query", "`from_query` needs a value: write `from_query(\"token\")`"),
        ("from_body", "`from_body` needs a value: write `from_body(\"/order/id\")`"),
        ("from_body(\"order/id\")", "a JSON pointer begins with `/`: write `from_body(\"/order/id\")`"),
        ("from_fn", "`from_fn` needs a value: write `from_fn(my_key)`"),
        ("from_fn(|r| r.id)", "`from_fn` takes the name of a function: write `from_fn(my_key)`"),
        ("any_of", "`any_of` needs a value: write `any_of(from_header, from_body(\"/id\"))`"),
        ("any_of()", "which sources? write `any_of(from_header, from_body(\"/id\"))`"),
        ("any_of(from_fn)", "`from_fn` needs a value: write `from_fn(my_key)`"),
        ("any_of(from_header, any_of(req.id))", "`any_of` inside `any_of`: write all sources in one list"),
        ("any_of(from_header, from_header(\"Idempotency-Key\"))", "this source is named twice: keep the first"),
        ("derive", "`derive` needs a value: write `derive(\"order\", \"create\", req.params)`"),
        (
            "derive(\"order\", \"create\")",
            "`derive` takes an entity, an action and parameters, and here are 2: \
             write `derive(\"order\", \"create\", req.params)`",
        ),
        ("from_headers(\"X\")", "there is no source `from_headers`: did you mean `from_header`?"),
        ("form_header", "there is no source `form_header`: did you mean `from_header`?"),
        ("anyof(from_header)", "there is no source `anyof`: did you mean `any_of`?"),
        ("header", "there is no source `header`, and no argument of this name: write `from_header`"),
        (
            "any_of(req.id, query)",
            "there is no source `query`, and no argument of this name: write `from_query(\"token\")`",
        ),
        (
            "\"X-Event-Id\"",
            "a constant key makes every request a duplicate of the first: write `key = from_header(\"X-Event-Id\")`",
        ),
        ("\"from_header\"", "`from_header` is a word, not a text: write it without quotes, as in `key = from_header`"),
        ("7", "a constant key makes every request a duplicate of the first: write `key = from_header`"),
        (
            "o.",
            "the value of `key` is no expression, unexpected end of input, expected identifier or integer: write `key = from_header`",
        ),
        (
            "any_of(o., from_header)",
            "the value of `key` is no expression, expected identifier or integer: write `key = from_header`",
        ),
        ("any_of([from_header, req.id])", "`any_of` takes sources, not an array: leave the brackets out"),
        ("from_header(\"X-A\"foo)", "a text has no suffix: write `\"X-A\"`"),
        (
            "from_json(\"/id\")",
            "there is no source `from_json`: write `from_header(\"X-Event-Id\")`, `from_path(\"id\")`, `from_query(\"token\")`, \
             `from_body(\"/order/id\")`, `from_fn(my_key)`, `any_of(from_header, from_body(\"/id\"))`, \
             `derive(\"order\", \"create\", req.params)`, or an expression over arguments",
        ),
        (
            "(\"X-Event-Id\")",
            "a constant key makes every request a duplicate of the first: write `key = from_header(\"X-Event-Id\")`",
        ),
        (
            "any_of(from_header, &(\"X-Event-Id\"))",
            "a constant key makes every request a duplicate of the first: write `key = from_header(\"X-Event-Id\")`",
        ),
        ("KEY", "a constant key makes every request a duplicate of the first: write `key = from_header`"),
        ("keys::KEY", "a constant key makes every request a duplicate of the first: write `key = from_header`"),
        (
            "any_of(from_header, (Self::KEY, 1))",
            "a constant key makes every request a duplicate of the first: write `key = from_header`",
        ),
        (
            "derive(\"order\", ACTION, keys::ORDER.params)",
            "a constant key makes every request a duplicate of the first: write `key = from_header`",
        ),
        ("concat!(\"k\")", "a constant key makes every request a duplicate of the first: write `key = from_header`"),
        (
            "derive(\"order\", \"create\", ())",
            "a constant key makes every request a duplicate of the first: \
             write `key = derive(\"order\", \"create\", req.params)`",
        ),
        (
            "Uuid::new_v4()",
            "`Uuid::new_v4` is another value on every retry, and the key would never match: \
             write what the client repeats, such as a field of the request",
        ),
    ] {
        assert_eq!(said_of(&format!("key = {key}")), [expected], "{key}");
    }
    assert_eq!(said_of("principal = Uuid::new_v4()").len(), 1);
    assert_eq!(said_of("r#key = Uuid::new_v4()").len(), 1);
    assert_eq!(said_of("r#key = from_header, financial"), [""; 0]);
    for fine in ["from_cookie(jar)", "header(req)", "derived(req)", "req.derive(1)", "keys::any_of()", "any(a)"] {
        assert_eq!(said_of(&format!("key = {fine}")), [""; 0], "{fine}");
    }
    for fine in ["keyword", "KEYS.next()", "(req.id, KEY)", "derive(ENTITY, ACTION, req)", "Key(req.id)"] {
        assert_eq!(said_of(&format!("key = {fine}")), [""; 0], "{fine}");
    }
    let bound = "#[idempotent(scope = \"orders\", key = KEY)] async fn create(Path(KEY): Path<u64>) {}";
    assert_eq!(complaints(bound), [""; 0], "an argument");
    for argument in ["header: Header", "Named { header, .. }: Named", "(Header(header), _): (Header, Other)"] {
        let item = format!("#[idempotent(scope = \"orders\", key = header)] async fn create({argument}) {{}}");
        assert_eq!(complaints(&item), [""; 0], "{argument}");
    }
}

#[test]
fn financial() {
    for (options, expected) in [
        ("financial", "`financial` needs a `key`, or every retry is charged again: write `key = from_header`"),
        (
            "financial, key = from_header, missing = run",
            "`financial` cannot run without a key: write `missing = reject`, or leave `missing` out",
        ),
        (
            "financial, key = from_header, on_store_error = run",
            "`financial` cannot run while nobody can tell a retry: write `on_store_error = reject`, or leave it out",
        ),
        (
            "financial, key = from_header, ttl = \"23h\"",
            "`financial` keeps an answer for at least 24 hours, because clients retry that long: write `ttl = \"24h\"`",
        ),
        (
            "financial, key = from_header, fingerprint = off",
            "`financial` must tell a retry from another payment under the same key: \
             write `fingerprint = bytes`, or leave it out",
        ),
    ] {
        assert_eq!(said_of(options), [expected], "{options}");
    }
    for (key, name) in [
        ("from_header(\"X-Request-Id\")", "x-request-id"),
        ("from_header(\"request-id\")", "request-id"),
        ("any_of(from_header, from_header(\"X-Correlation-ID\"))", "x-correlation-id"),
        ("any_of(from_header(\"TraceParent\"), from_body(\"/id\"))", "traceparent"),
        ("from_header(\"X-Amzn-Trace-Id\")", "x-amzn-trace-id"),
    ] {
        let expected = format!(
            "`{name}` names one delivery, and a retry with another one is charged again: \
             write `from_header`, or what names the payment, such as `from_header(\"X-Event-Id\")`"
        );
        assert_eq!(said_of(&format!("financial, key = {key}")), [expected], "{key}");
        // Where no money moves it may be the id that a client chose.
        assert_eq!(said_of(&format!("key = {key}")), [""; 0], "{key}");
    }
    assert_eq!(said_of("financial, missing = run, ttl = \"1h\", fingerprint = off, on_store_error = run").len(), 5);
    // The author wrote it out, and knows what the effect does when it runs twice.
    assert_eq!(said_of("financial, key = from_header, on_abandoned = retry"), [""; 0]);
    // A broken key is a key: one complaint is enough.
    assert_eq!(said_of("financial, key = from_path").len(), 1);
}

#[test]
fn transaction() {
    let missing = "`transaction` needs the transaction as an argument: \
                   write `mut tx: Tx<PostgresStore>` or `mut tx: Tx<SqliteStore>`";
    assert_eq!(said_of("transaction"), [missing]);
    let lease = "`transaction` holds no lease: the database sees when its owner is gone: leave `lease` out";
    let renew_for = "`transaction` holds no lease: the database sees when its owner is gone: leave `renew_for` out";
    let abandoned = "`transaction` leaves nothing abandoned: what breaks off is rolled back: leave `on_abandoned` out";
    let run = "`transaction` writes the effect to the store itself, and cannot run without it: \
               write `on_store_error = reject`, or leave it out";
    for (option, expected) in [
        ("lease = \"10s\"", lease),
        ("renew_for = \"10m\"", renew_for),
        ("on_abandoned = retry", abandoned),
        ("on_abandoned = refuse", abandoned),
        ("on_abandoned = recover(ask)", abandoned),
        ("on_store_error = run", run),
    ] {
        assert_eq!(said_in_a_transaction(&format!("transaction, {option}")), [expected], "{option}");
        assert_eq!(said_in_a_transaction(option), [""; 0], "without `transaction`: {option}");
    }
    for option in
        ["on_store_error = reject", "on_conflict = wait(\"5s\")", "store = definitive", "key = from_header, financial"]
    {
        assert_eq!(said_in_a_transaction(&format!("transaction, {option}")), [""; 0], "{option}");
    }
    assert_eq!(
        complaints("#[idempotent(scope = \"orders\", transaction)] async fn create(a: Tx<Db>, b: idem::Tx<Other>) {}"),
        ["one request has one transaction: keep one `Tx`"]
    );
    assert_eq!(
        complaints("#[idempotent(scope = \"orders\", transaction)] async fn create(a: State<Tx<Db>>) {}"),
        [missing]
    );
}

#[test]
fn remember() {
    let complaint =
        "`remember` is shorter than `ttl`, which is 24 hours when it is not written: write at least as much";
    assert_eq!(said_of("remember = \"23h\""), [complaint]);
    assert_eq!(said_of("ttl = \"7d\", remember = \"6d\""), [complaint]);
    assert_eq!(said_of("ttl = \"1h\", remember = \"1h\""), [""; 0]);
    assert_eq!(said_of("ttl = \"1y\", remember = \"1h\"").len(), 1, "the `ttl` is what is wrong");
}

#[test]
fn renew_for() {
    let complaint =
        "`renew_for` is shorter than `lease`, which is 30 seconds when it is not written: write at least as much";
    assert_eq!(said_of("renew_for = \"29s\""), [complaint]);
    assert_eq!(said_of("lease = \"10s\", renew_for = \"9s\""), [complaint]);
    assert_eq!(said_of("renew_for = \"30s\""), [""; 0]);
    assert_eq!(said_of("lease = \"10s\", renew_for = \"10s\""), [""; 0]);
    assert_eq!(said_of("lease = \"5ms\", renew_for = \"1ms\"").len(), 1, "the `lease` is what is wrong");
}

#[test]
fn the_financial_attribute() {
    let needs_key = "`financial` needs a `key`, or every retry is charged again: write `key = from_header`";
    let takes_nothing = "`#[financial]` takes nothing: write the options in `#[idempotent(..)]`";
    for (item, expected) in [
        ("#[idempotent(scope = \"a\")] #[financial] async fn f() {}", needs_key),
        ("#[idempotent(scope = \"a\")] #[idem_runtime::financial] async fn f() {}", needs_key),
        ("#[idempotent(scope = \"a\", key = from_header)] #[financial(ttl = \"24h\")] async fn f() {}", takes_nothing),
        ("#[financial(strict)] #[idempotent(scope = \"a\", key = from_header)] async fn f() {}", takes_nothing),
        (
            "#[idempotent(scope = \"a\", key = from_header)] #[financial] #[financial] async fn f() {}",
            "`#[financial]` is written twice: keep one",
        ),
        (
            "#[financial] async fn f() {}",
            "`#[financial]` guards nothing by itself: \
             write `#[idempotent(scope = \"payments\", key = from_header)]` below it",
        ),
        (
            "#[financial] struct S;",
            "only an async function can be guarded, and this is a struct: put the attribute on a handler",
        ),
    ] {
        assert_eq!(complaints(item), [expected], "{item}");
    }
    // Both ways to say it at once are one.
    assert_eq!(
        complaints("#[idempotent(scope = \"a\", key = from_header, financial)] #[financial] async fn f() {}"),
        [""; 0]
    );
}

const BORROWED: &str =
    "a guarded handler owns its arguments, and this is borrowed: write an owned type, as `String` for `&str`";

#[test]
fn functions() {
    for (function, expected) in [
        ("fn f() {}", vec!["a handler is async: write `async fn f`"]),
        (
            "const fn f() {}",
            vec!["a handler is async: write `async fn f`", "a handler cannot be `const`: remove the word"],
        ),
        ("async unsafe fn f() {}", vec!["a handler cannot be `unsafe`: remove the word"]),
        ("async extern \"C\" fn f() {}", vec!["a handler cannot be `extern`: remove the word"]),
        (
            "unsafe extern \"C\" fn f(args: ...) {}",
            vec![
                "a handler is async: write `async fn f`",
                "a handler cannot be `unsafe`: remove the word",
                "a handler cannot be `extern`: remove the word",
                "a handler cannot be variadic: write out its arguments",
            ],
        ),
        (
            "async fn f<T>(Json(t): Json<T>) where T: DeserializeOwned {}",
            vec![
                "a guarded handler cannot be generic: write the types out, or call a generic function from it",
                "a guarded handler cannot have a `where` clause: write the types out",
            ],
        ),
        (
            "async fn f<'a>(a: &'a str) {}",
            vec!["a guarded handler cannot be generic: write the types out, or call a generic function from it"],
        ),
        (
            "async fn f<const N: usize>(a: [u8; N]) {}",
            vec!["a guarded handler cannot be generic: write the types out, or call a generic function from it"],
        ),
        (
            "async fn f(Json(body): Json<impl DeserializeOwned>) -> impl IntoResponse {}",
            vec!["a guarded handler cannot take `impl Trait`: write the type"],
        ),
        (
            "async fn f(&self, body: Bytes) {}",
            vec!["a guarded handler cannot be a method: write a free function and take what `self` has as `State`"],
        ),
        ("async fn f(a: &str) {}", vec![BORROWED]),
        ("async fn f(a: Cow<'_, str>) {}", vec![BORROWED]),
        ("async fn f(a: Json<(u8, &'_ str)>) {}", vec![BORROWED]),
        ("async fn f(a: &'static str, b: fn(&str) -> &str, c: Box<dyn Fn(&str, Cow<'_, str>)>) {}", vec![]),
        ("async fn f(a: Box<dyn for<'a> Fn(&'a str) -> &'a str>, b: for<'a> fn(Cow<'a, str>)) {}", vec![]),
        (
            "async fn f(State(app): State<Self>) {}",
            vec!["a guarded handler cannot be inside an `impl` block: write a free function and name the type"],
        ),
        (
            "async fn f(a: A, b: A, c: A, d: A, e: A, f: A, g: A, h: A, i: A, j: A, k: A, l: A, m: A, n: A, o: A, p: A, q: A) {}",
            vec!["a handler takes at most 16 arguments: put several into one, as in `(a, b): (A, B)`"],
        ),
        (
            "async fn f(#[cfg(unix)] a: A, b: B) {}",
            vec!["an argument of a guarded handler cannot depend on `cfg`: write one handler for each configuration"],
        ),
        (
            "#[idem_runtime::idempotent(scope = \"b\")] async fn f() {}",
            vec!["`#[idempotent]` is written twice: keep one and put all options into it"],
        ),
        ("async fn f();", vec!["a handler needs a body: only a free function can be guarded"]),
        ("let x = 5;", vec![&*another("a statement")]),
        ("pub struct S;", vec![&*another("a struct")]),
        ("enum E {}", vec![&*another("an enum")]),
        ("union U { a: u8 }", vec![&*another("a union")]),
        ("unsafe trait T {}", vec![&*another("a trait")]),
        ("impl S {}", vec![&*another("an `impl` block")]),
        ("mod m {}", vec![&*another("a module")]),
        ("use a::b;", vec![&*another("a `use`")]),
        ("type A = B;", vec![&*another("a type alias")]),
        ("static A: B = C;", vec![&*another("a static")]),
        ("pub const A: B = C;", vec![&*another("a constant")]),
    ] {
        assert_eq!(complaints(&format!("#[idempotent(scope = \"a\")] {function}")), expected, "{function}");
    }
}

fn another(what: &str) -> String {
    format!("only an async function can be guarded, and this is {what}: put the attribute on a handler")
}

#[test]
fn every_error_of_a_handler_is_reported_at_once() {
    let errors = complaints(
        "#[idempotent(scope = \"a b\", ttl = 5, tll = \"1h\", missing = \"run\", key = any_of(from_path, Utc::now()), financial = yes)]
         #[idempotent]
         fn create<T>(a: impl Into<T>) {}",
    );
    assert_eq!(errors.len(), 11, "{errors:#?}");
}

#[test]
fn a_function_with_errors_stays_as_it_was() {
    let found =
        expand("#[idempotent] #[financial] /// Docs.\n #[instrument] pub async fn f(a: A) -> B { half. ; body + }");
    let found = found.to_string();
    let kept = "# [doc = \" Docs.\"] # [instrument] pub async fn f (a : A) -> B { half . ; body + }";
    assert!(found.starts_with(kept), "{found}");
    assert!(
        !expand("#[idempotent(scope = \"a\")] async fn f() { half. ; body + }").to_string().contains("compile_error")
    );
}
