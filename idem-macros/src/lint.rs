//! Rules over several options, and of options with the arguments.

use proc_macro2::TokenStream;
use syn::ExprPath;

use crate::{
    handler::Handler,
    options::{Attribute, Errors, Options, Setting},
    unstable::unstable,
    value::{Argument, DAY, FingerprintRule, LEASE, Missing, OnStoreError, Payload, error, is_constant_with},
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
    check_renew_for(options, errors);
    check_sources(options, handler, errors);
    check_constants(options, handler, errors);
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
    for header in options.key.iter().flat_map(|key| key.value.of_one_delivery()) {
        errors.push(error(
            header,
            format!(
                "`{}` names one delivery, and a retry with another one is charged again: \
                 write `from_header`, or what names the payment, such as `from_header(\"X-Event-Id\")`",
                header.value(),
            ),
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

/// What a consumer cannot do with, and what it cannot do without.
fn check_consumer(options: &Options, errors: &mut Errors) {
    if let Some(written) = written_as(&options.fingerprint, |value| matches!(value, FingerprintRule::Function(_))) {
        errors.push(error(
            written,
            "`from_fn` reads a request, and an event is none: write `fingerprint = bytes`, \
             and what is to be compared as `payload = bytes(..)`",
        ));
    }
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
    for option in ["lease", "renew_for"] {
        if let Some(written) = options.written(option) {
            let message =
                format!("`transaction` holds no lease: the database sees when its owner is gone: leave `{option}` out");
            errors.push(error(written, message));
        }
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

fn check_renew_for(options: &Options, errors: &mut Errors) {
    let Some(renew_for) = &options.renew_for else { return };
    let lease = match &options.lease {
        Some(lease) => lease.value.millis(),
        // A `lease` that was written and refused says nothing about `renew_for`.
        None if options.written("lease").is_some() => return,
        None => LEASE,
    };
    if renew_for.value.millis() < lease {
        errors.push(error(
            &renew_for.written,
            "`renew_for` is shorter than `lease`, which is 30 seconds when it is not written: write at least as much",
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

/// What no argument gives is the same for everybody. A literal was complained of when it was read.
fn check_constants(options: &Options, handler: &Handler, errors: &mut Errors) {
    let is_named = |path: &ExprPath| handler.is_constant(path);
    for constant in options.key.iter().flat_map(|key| key.value.constants(is_named)) {
        let message = "a constant key makes every request a duplicate of the first: write `key = from_header`";
        errors.push(error(constant, message));
    }
    for constant in options.event_key.iter().flat_map(|key| key.value.constants(is_named)) {
        let message = "a constant key makes every event a duplicate of the first: write `key = event.id`";
        errors.push(error(constant, message));
    }
    if let Some(Argument(principal)) = options.principal.as_ref().map(|principal| &principal.value)
        && is_constant_with(principal, &is_named)
    {
        errors.push(error(
            principal,
            "a constant `principal` is the same for every caller: write an argument's value, as in `principal = user.id`",
        ));
    }
    if let Some(Payload::Json(payload) | Payload::Bytes(payload)) =
        options.payload.as_ref().map(|payload| &payload.value)
        && is_constant_with(payload, &is_named)
    {
        errors.push(error(payload, "a constant payload makes all events with one id alike: write `payload = event`"));
    }
}

fn written_as<T>(setting: &Option<Setting<T>>, is: impl Fn(&T) -> bool) -> Option<&TokenStream> {
    setting.as_ref().filter(|setting| is(&setting.value)).map(|setting| &setting.written)
}
