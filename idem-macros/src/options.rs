//! The option table. Parsing, duplicates, unknown names and what reaches `Policy` all derive from it.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, quote_spanned};
use syn::{
    Expr, Ident, Lit, Path, Result, Token,
    ext::IdentExt,
    parse::{ParseStream, Parser, discouraged::Speculative},
    token,
};

use crate::value::{
    Argument, Attempts, Duration, EventKey, FingerprintRule, Flag, Form, Key, KeySpace, Lease, Missing, OnAbandoned,
    OnConflict, OnStoreError, Payload, Place, Root, Runtime, Scope, StoreRule, Value, Written, error, nearest,
    suffixed,
};

// One row per option: its name, the kind of its value, an example for messages, where its value goes, and which attributes
// have it, or why the other one has not.
//   name    given to `Policy::new`
//   policy  the `Policy` method of the same name, which rustc checks at the word the user typed
//   expand  read by `expand` or `consumer` alone
options! {
    scope:          Scope           = "scope = \"payments\"",      name,   both;
    ttl:            Duration        = "ttl = \"24h\"",             policy, both;
    remember:       Duration        = "remember = \"30d\"",        policy, both;
    key:            Key             = "key = from_header",         policy, handler("");
    event_key "key": EventKey       = "key = event.id",            policy, consumer("");
    payload:        Payload         = "payload = event",           expand, consumer("a request is its own payload");
    missing:        Missing         = "missing = reject",          policy, both;
    principal:      Argument        = "principal = user.id",       expand, handler("an event has no caller");
    key_space:      KeySpace        = "key_space = endpoint",      policy, handler("an event has no endpoint");
    fingerprint:    FingerprintRule = "fingerprint = bytes",       policy, both;
    store:          StoreRule       = "store = success",           policy, handler("an `Err` is tried again and never kept");
    on_conflict:    OnConflict      = "on_conflict = reject",      policy, both;
    lease:          Lease           = "lease = \"30s\"",           policy, both;
    renew_for:      Duration        = "renew_for = \"10m\"",       policy, both;
    on_abandoned:   OnAbandoned     = "on_abandoned = retry",      policy, both;
    on_store_error: OnStoreError    = "on_store_error = reject",   policy, both;
    financial:      Flag            = "financial",                 policy, both;
    max_attempts:   Attempts        = "max_attempts = 5",          policy, consumer("a client decides for itself when to stop");
    transaction:    Flag            = "transaction",               policy,
        handler("a function keeps its signature, so nobody hands it the transaction: call `Consumer::transact`");
    runtime:        Runtime         = "runtime = extension",       expand, handler("");
    place "runtime": Place          = "runtime = self.idempotency", expand, consumer("");
    root "crate":   Root            = "crate = my_crate::idem",    expand, both;
}

/// An option as the user wrote it.
pub(crate) struct Setting<T> {
    /// The option's name, where rustc's own complaints about the value belong.
    pub(crate) name: Ident,
    /// The tokens that a complaint about the value points at.
    pub(crate) written: TokenStream,
    pub(crate) value: T,
}

/// Which attribute the options are of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Attribute {
    /// `#[idempotent]`
    #[default]
    Handler,
    /// `#[idempotent_consumer]`
    Consumer,
}

/// Everything that is wrong with one handler.
#[derive(Default)]
pub(crate) struct Errors(Option<syn::Error>);

impl Errors {
    pub(crate) fn push(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(first) => first.combine(error),
            none => *none = Some(error),
        }
    }

    /// The value, or nothing and one error more.
    pub(crate) fn keep<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    /// One `compile_error!` for each error, if there is any.
    pub(crate) fn into_compile_errors(self) -> Option<TokenStream> {
        self.0.map(|error| error.to_compile_error())
    }
}

impl Options {
    /// Reads `name = value, flag, ..`; a broken option is reported and the next one is read.
    pub(crate) fn parse(attribute: Attribute, tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut options = Self { attribute, ..Self::default() };
        let parsed = (|input: ParseStream<'_>| {
            while !input.is_empty() {
                if let Err(error) = options.parse_one(input) {
                    errors.push(error);
                    skip_to_comma(input)?;
                }
                if !input.is_empty() {
                    input.parse::<Token![,]>()?;
                }
            }
            Ok(())
        })
        .parse2(tokens);
        errors.keep(parsed);
        if options.written("scope").is_none() {
            errors.push(syn::Error::new(
                Span::call_site(),
                match attribute {
                    Attribute::Handler => {
                        "`scope` is missing: name what the handler does, as in `scope = \"payments\"`"
                    }
                    Attribute::Consumer => "`scope` is missing: name the consumer, as in `scope = \"ship-orders\"`",
                },
            ));
        }
        options
    }

    /// What was written for the option, rightly or not: its name, if nothing followed.
    pub(crate) fn written(&self, name: &str) -> Option<&TokenStream> {
        self.seen.iter().find(|(seen, _)| seen == name).map(|(_, written)| written)
    }

    /// Turns `financial` on for a `#[financial]` attribute.
    pub(crate) fn set_financial(&mut self, name: Ident) {
        if self.financial.is_none() {
            self.financial = Some(Setting { written: name.to_token_stream(), name, value: Flag });
        }
    }

    fn parse_one(&mut self, input: ParseStream<'_>) -> Result<()> {
        let name = parse_name(input)?;
        if self.written(&name.to_string()).is_some() {
            return Err(error(&name, format!("`{name}` is written twice: keep one")));
        }
        let form = parse_form(self.attribute, input, &name);
        let tokens = form.as_ref().ok().and_then(Form::tokens).unwrap_or_else(|| name.to_token_stream());
        self.seen.push((name.clone(), tokens));
        self.set(name, &form?)
    }
}

fn parse_name(input: ParseStream<'_>) -> Result<Ident> {
    if input.peek(Ident::peek_any) && !input.peek2(Token![::]) {
        // `r#key` is `key`, for every rule that asks what is written.
        return Ok(input.call(Ident::parse_any)?.unraw());
    }
    if input.peek(syn::LitStr) {
        let text: syn::LitStr = input.parse()?;
        return Err(error(&text, format!("a value without a name: write `scope = {}`", text.token())));
    }
    if input.peek(Token![,]) {
        return Err(syn::Error::new(input.span(), "an option is missing before this comma: remove the comma"));
    }
    Err(syn::Error::new(input.span(), "expected an option, such as `ttl = \"24h\"`"))
}

fn parse_form(attribute: Attribute, input: ParseStream<'_>, name: &Ident) -> Result<Form> {
    if input.is_empty() || input.peek(Token![,]) {
        return Ok(Form::Alone);
    }
    if input.peek(token::Paren) {
        let list: TokenTree = input.parse()?;
        return Ok(Form::List(list.into_token_stream()));
    }
    if input.peek(Lit) {
        return Err(syn::Error::new(
            input.span(),
            format!("`=` is missing: write `{name} = {}`", input.fork().parse::<Lit>()?.to_token_stream()),
        ));
    }
    if input.peek(Token![:]) && !input.peek(Token![::]) {
        let colon: Token![:] = input.parse()?;
        let written = match (input.fork().parse::<Lit>(), example(attribute, name)) {
            (Ok(value), _) => format!("{name} = {}", value.to_token_stream()),
            (Err(_), Some(example)) => example.to_owned(),
            (Err(_), None) => format!("{name} = .."),
        };
        return Err(error(colon, format!("`=` comes between an option and its value: write `{written}`")));
    }
    if !input.peek(Token![=]) {
        return Err(syn::Error::new(input.span(), format!("a comma is missing after `{name}`")));
    }
    let equals: Token![=] = input.parse()?;
    if input.is_empty() || input.peek(Token![,]) {
        return Ok(Form::Nothing(equals.into_token_stream()));
    }
    // A broken value is left where it is: what follows in it would be a second complaint.
    let ahead = input.fork();
    let value: Expr = ahead.parse().map_err(|cause| no_expression(attribute, input, name, &cause))?;
    input.advance_to(&ahead);
    if let Some(text) = suffixed(&value) {
        return Err(error(text, format!("a text has no suffix: write `{:?}`", text.value())));
    }
    if !input.is_empty() && !input.peek(Token![,]) {
        return Err(syn::Error::new(input.span(), format!("a comma is missing after the value of `{name}`")));
    }
    Ok(Form::Value(value))
}

fn no_expression(attribute: Attribute, input: ParseStream<'_>, name: &Ident, cause: &syn::Error) -> syn::Error {
    let hint = example(attribute, name).map(|example| format!(": write `{example}`")).unwrap_or_default();
    let message = format!("the value of `{name}` is no expression, {cause}{hint}");
    if !cause.to_string().starts_with("unexpected end of input") {
        return syn::Error::new(cause.span(), message);
    }
    // The end of the input has no place of its own.
    let ahead = input.fork();
    let mut value = TokenStream::new();
    while !ahead.is_empty() && !ahead.peek(Token![,]) {
        value.extend(ahead.parse::<TokenTree>());
    }
    error(value, message)
}

/// A right way to write this option, if there is one of this name.
fn example(attribute: Attribute, name: &Ident) -> Option<&'static str> {
    ROWS.iter().find(|row| row.is_for(attribute) && *name == row.name).map(|row| row.example)
}

fn skip_to_comma(input: ParseStream<'_>) -> Result<()> {
    while !input.is_empty() && !input.peek(Token![,]) {
        input.parse::<TokenTree>()?;
    }
    Ok(())
}

/// What options are called in other libraries, too far from our name to be taken for a slip.
const OTHER_NAMES: &[(&str, &str)] =
    &[("attempts", "max_attempts"), ("max_retries", "max_attempts"), ("retries", "max_attempts")];

/// The name of an option that this attribute has not: the other one's, or nobody's.
fn unknown(attribute: Attribute, name: &Ident) -> syn::Error {
    let text = name.unraw().to_string();
    let other = ROWS.iter().find(|row| row.name == text).and_then(|row| row.only);
    if let Some((_, why)) = other {
        let whose = match attribute {
            Attribute::Handler => "is an option of `#[idempotent_consumer]`",
            Attribute::Consumer => "is no option of a consumer",
        };
        return error(name, format!("`{text}` {whose}, because {why}: leave it out"));
    }
    let names = names(attribute);
    let elsewhere = OTHER_NAMES.iter().find(|(other, _)| *other == text).map(|(_, known)| *known);
    let hint = match elsewhere.filter(|known| names.contains(known)).or_else(|| nearest(&text, &names)) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("the options are {}", names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")),
    };
    error(name, format!("there is no option `{text}`: {hint}"))
}

/// Every option of an attribute, in the order of the reference text.
pub(crate) fn names(attribute: Attribute) -> Vec<&'static str> {
    ROWS.iter().filter(|row| row.is_for(attribute)).map(|row| row.name).collect()
}

/// What is said of an option that is known.
pub(crate) struct Row {
    name: &'static str,
    /// A right way to write it.
    example: &'static str,
    /// The one attribute that has it, and why the other has not.
    only: Option<(Attribute, &'static str)>,
}

impl Row {
    fn is_for(&self, attribute: Attribute) -> bool {
        self.only.is_none_or(|(only, _)| only == attribute)
    }
}

/// Every row of an attribute.
#[cfg(test)]
pub(crate) fn rows(attribute: Attribute) -> impl Iterator<Item = (&'static str, &'static str)> {
    ROWS.iter().filter(move |row| row.is_for(attribute)).map(|row| (row.name, row.example))
}

/// Builds [`Options`] from the rows.
macro_rules! options {
    (@called $field:ident) => { stringify!($field) };
    (@called $field:ident $called:literal) => { $called };

    (@emit name $setting:ident $root:ident) => { None };
    (@emit expand $setting:ident $root:ident) => { None };
    (@emit policy $setting:ident $root:ident) => {{
        let Setting { name, value, .. } = $setting;
        let value = value.emit($root);
        Some(quote_spanned!(name.span()=> .#name(#value)))
    }};

    (@only both) => { None };
    (@only handler $why:literal) => { Some((Attribute::Handler, $why)) };
    (@only consumer $why:literal) => { Some((Attribute::Consumer, $why)) };

    ($($field:ident $($called:literal)?: $kind:ident = $example:literal, $whom:ident, $only:ident $(($why:literal))?;)*) => {
        const ROWS: &[Row] = &[$(Row {
            name: options!(@called $field $($called)?),
            example: $example,
            only: options!(@only $only $($why)?),
        }),*];

        /// The options of one handler; what the user left out is `None`.
        #[derive(Default)]
        pub(crate) struct Options {
            pub(crate) attribute: Attribute,
            seen: Vec<(Ident, TokenStream)>,
            $(pub(crate) $field: Option<Setting<$kind>>,)*
        }

        impl Options {
            fn set(&mut self, name: Ident, form: &Form) -> Result<()> {
                let text = name.unraw().to_string();
                let is = |called: &str, only: Option<(Attribute, &str)>| {
                    text == called && only.is_none_or(|(only, _)| only == self.attribute)
                };
                match () {
                    $(() if is(options!(@called $field $($called)?), options!(@only $only $($why)?)) => {
                        let value = <$kind as Value>::parse(&Written { name: &name, form, example: $example })?;
                        let written = form.tokens().unwrap_or_else(|| name.to_token_stream());
                        self.$field = Some(Setting { name, written, value });
                        Ok(())
                    })*
                    () => Err(unknown(self.attribute, &name)),
                }
            }

            /// The calls on `Policy` that the rows ask for: `.ttl(..).key(..)`.
            pub(crate) fn policy(&self, root: &Path) -> TokenStream {
                let calls = [$(
                    self.$field.as_ref().and_then(|setting| {
                        let (_setting, _root) = (setting, root);
                        options!(@emit $whom _setting _root)
                    })
                ),*];
                calls.into_iter().flatten().collect()
            }
        }
    };
}
use options;
