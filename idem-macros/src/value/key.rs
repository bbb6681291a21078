//! `key`: where the idempotency key comes from.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Expr, ExprCall, ExprPath, Ident, LitStr, Path, Result, spanned::Spanned};

use super::{Value, Written, all, bare, error, is_constant, is_constant_with, name, slip, text, ungroup, word};

/// The sources of a key, in the order in which they are asked.
pub(crate) struct Key(Vec<Source>);

/// The sources of an event's id: expressions over the arguments.
pub(crate) struct EventKey(Key);

/// A key that only the handler's arguments can give.
pub(crate) enum Computed {
    /// An expression over the arguments.
    Expression(Expr),
    /// `derive(entity, action, params)`.
    Derived(Box<[Expr; 3]>),
}

enum Source {
    Header(LitStr),
    Path(LitStr),
    Query(LitStr),
    Body(LitStr),
    Function(ExprPath),
    Arguments(Computed),
}

/// What can be written for a source, beside an expression: the word and what it stands for.
const FORMS: &[(&str, &str)] = &[
    ("from_header", "from_header(\"X-Event-Id\")"),
    ("from_path", "from_path(\"id\")"),
    ("from_query", "from_query(\"token\")"),
    ("from_body", "from_body(\"/order/id\")"),
    ("from_fn", "from_fn(my_key)"),
    ("any_of", "any_of(from_header, from_body(\"/id\"))"),
    ("derive", "derive(\"order\", \"create\", req.params)"),
];

const DEFAULT_HEADER: &str = "idempotency-key";

/// Headers that whoever passes a request on makes up, a new one for each retry.
const OF_ONE_DELIVERY: &[&str] = &["request-id", "traceparent", "x-amzn-trace-id", "x-correlation-id", "x-request-id"];

impl Key {
    /// The sources that `argument_key` evaluates, each with its place in the list.
    pub(crate) fn computed(&self) -> impl Iterator<Item = (usize, &Computed)> {
        self.0.iter().enumerate().filter_map(|(at, source)| match source {
            Source::Arguments(computed) => Some((at, computed)),
            _ => None,
        })
    }

    /// The sources that are one key for all requests, where these paths are constants.
    pub(crate) fn constants(&self, is_named: impl Fn(&ExprPath) -> bool) -> impl Iterator<Item = TokenStream> {
        self.computed().filter_map(move |(_, computed)| {
            let parts = match computed {
                Computed::Expression(expression) => std::slice::from_ref(expression),
                Computed::Derived(parts) => parts.as_slice(),
            };
            parts.iter().all(|part| is_constant_with(part, &is_named)).then(|| quote!(#(#parts),*))
        })
    }

    /// The headers among the sources that name one delivery of a request, and not what it asks for.
    pub(crate) fn of_one_delivery(&self) -> impl Iterator<Item = &LitStr> {
        self.0.iter().filter_map(|source| match source {
            Source::Header(name) if OF_ONE_DELIVERY.contains(&name.value().as_str()) => Some(name),
            _ => None,
        })
    }

    /// The words that would be a source with `from_` before them, each with what was meant, if it is no argument.
    pub(crate) fn half_written(&self) -> impl Iterator<Item = (&Ident, &'static str)> {
        self.computed().filter_map(|(_, computed)| {
            let Computed::Expression(expression) = computed else { return None };
            let word = word(expression)?;
            let meant = format!("from_{word}");
            if meant == "from_header" {
                return Some((word, "from_header"));
            }
            FORMS.iter().find(|(form, _)| *form == meant).map(|(_, example)| (word, *example))
        })
    }
}

impl Value for Key {
    fn parse(written: &Written<'_>) -> Result<Self> {
        let value = written.value()?;
        let Expr::Call(call) = value else { return source(value).map(|source| Self(vec![source])) };
        if word(&call.func).is_none_or(|word| word != "any_of") {
            return source(value).map(|source| Self(vec![source]));
        }
        if call.args.is_empty() {
            return Err(error(call, "which sources? write `any_of(from_header, from_body(\"/id\"))`"));
        }
        let sources = all(call.args.iter().map(listed))?;
        no_source_twice(call, &sources)?;
        Ok(Self(sources))
    }

    fn emit(&self, root: &Path) -> TokenStream {
        let sources = self.0.iter().map(|source| source.emit(root));
        quote!(&[#(#sources),*])
    }
}

impl EventKey {
    /// As [`Key::constants`].
    pub(crate) fn constants(&self, is_named: impl Fn(&ExprPath) -> bool) -> impl Iterator<Item = TokenStream> {
        self.0.constants(is_named)
    }

    /// The sources, in the order in which they are asked.
    pub(crate) fn computed(&self) -> impl Iterator<Item = &Computed> {
        self.0.computed().map(|(_, computed)| computed)
    }
}

impl Value for EventKey {
    fn parse(written: &Written<'_>) -> Result<Self> {
        let value = written.value()?;
        match value {
            Expr::Call(call) if word(&call.func).is_some_and(|word| word == "any_of") => {
                if call.args.is_empty() {
                    return Err(error(call, "which sources? write `any_of(event.id, event.order)`"));
                }
                all(call.args.iter().map(of_an_event))?;
            }
            value => of_an_event(value)?,
        }
        Key::parse(written).map(Self)
    }

    fn emit(&self, root: &Path) -> TokenStream {
        self.0.emit(root)
    }
}

/// Refuses what only a request has, and what is the same for every event.
fn of_an_event(value: &Expr) -> Result<()> {
    let value = ungroup(value);
    if is_same_for_all(value) {
        return Err(error(value, "a constant key makes every event a duplicate of the first: write `key = event.id`"));
    }
    let found = match value {
        Expr::Call(call) => word(&call.func),
        value => word(value),
    };
    match found {
        Some(word)
            if word != "any_of"
                && word != "derive"
                && (FORMS.iter().any(|(form, _)| word == form) || is_like_a_source(value)) =>
        {
            Err(error(
                value,
                format!("`{word}` reads a request, and an event is none: write an expression, as in `key = event.id`"),
            ))
        }
        _ => Ok(()),
    }
}

impl Source {
    fn emit(&self, root: &Path) -> TokenStream {
        match self {
            Self::Header(name) => quote!(#root::KeySource::Header(#name)),
            Self::Path(name) => quote!(#root::KeySource::Path(#name)),
            Self::Query(name) => quote!(#root::KeySource::Query(#name)),
            Self::Body(pointer) => quote!(#root::KeySource::Body(#pointer)),
            Self::Function(path) => {
                let request = Ident::new("__idem_request", Span::mixed_site());
                // With the user's span, a complaint about what the function returns points at its name.
                let key = quote_spanned!(path.span()=> &#path(#request));
                quote!(#root::KeySource::Function(|#request| #root::private::function_key(#key)))
            }
            Self::Arguments(_) => quote!(#root::KeySource::Arguments),
        }
    }

    /// What makes two sources the same one, as far as that can be read.
    fn identity(&self) -> Option<(u8, String)> {
        match self {
            Self::Header(name) => Some((0, name.value())),
            Self::Path(name) => Some((1, name.value())),
            Self::Query(name) => Some((2, name.value())),
            Self::Body(pointer) => Some((3, pointer.value())),
            Self::Function(_) | Self::Arguments(_) => None,
        }
    }
}

/// A source in a list of them.
fn listed(value: &Expr) -> Result<Source> {
    match bare(value) {
        Expr::Array(_) => Err(error(value, "`any_of` takes sources, not an array: leave the brackets out")),
        _ => source(value),
    }
}

fn source(value: &Expr) -> Result<Source> {
    let value = ungroup(value);
    if is_same_for_all(value) {
        return Err(error(value, constant(value)));
    }
    match value {
        Expr::Call(call) => match word(&call.func) {
            Some(word) => from_call(word, call, value),
            None => Ok(expression(value)),
        },
        _ => match word(value) {
            Some(word) => from_word(word, value),
            None => Ok(expression(value)),
        },
    }
}

fn from_call(word: &Ident, call: &ExprCall, value: &Expr) -> Result<Source> {
    match word.to_string().as_str() {
        "from_header" => name::header(only(word, call)?).map(Source::Header),
        "from_path" => name::path_parameter(only(word, call)?).map(Source::Path),
        "from_query" => name::query_parameter(only(word, call)?).map(Source::Query),
        "from_body" => name::pointer(only(word, call)?, "from_body").map(Source::Body),
        "from_fn" => function(only(word, call)?).map(Source::Function),
        "any_of" => Err(error(call, "`any_of` inside `any_of`: write all sources in one list")),
        "derive" => derive(call),
        other => match misspelt(other) {
            Some(hint) => Err(error(word, hint)),
            None if is_like_a_source(value) => {
                let sources: Vec<_> = FORMS.iter().map(|(_, example)| format!("`{example}`")).collect();
                Err(error(
                    word,
                    format!(
                        "there is no source `{other}`: write {}, or an expression over arguments",
                        sources.join(", ")
                    ),
                ))
            }
            None => Ok(expression(value)),
        },
    }
}

/// Whether this looks like a source and is none: a function of the user's is given something of the request.
fn is_like_a_source(value: &Expr) -> bool {
    matches!(value, Expr::Call(call)
        if word(&call.func).is_some_and(|word| word.to_string().starts_with("from_")) && call.args.iter().all(is_constant))
}

/// Whether all requests have this key.
fn is_same_for_all(value: &Expr) -> bool {
    is_constant(value)
        || matches!(value, Expr::Call(call)
            if word(&call.func).is_some_and(|word| word == "derive")
                && call.args.len() == 3
                && call.args.iter().all(is_constant))
}

fn from_word(word: &Ident, value: &Expr) -> Result<Source> {
    let name = word.to_string();
    if name == "from_header" {
        return Ok(Source::Header(LitStr::new(DEFAULT_HEADER, word.span())));
    }
    if let Some((_, example)) = FORMS.iter().find(|(form, _)| *form == name) {
        return Err(error(word, format!("`{name}` needs a value: write `{example}`")));
    }
    match misspelt(&name) {
        Some(hint) => Err(error(word, hint)),
        None => Ok(expression(value)),
    }
}

fn expression(value: &Expr) -> Source {
    Source::Arguments(Computed::Expression(value.clone()))
}

/// The one argument of a form.
fn only<'a>(word: &Ident, call: &'a ExprCall) -> Result<&'a Expr> {
    let example = FORMS.iter().find(|(form, _)| word == form).map_or("", |(_, example)| example);
    let mut arguments = call.args.iter();
    match (arguments.next(), arguments.next()) {
        (Some(argument), None) => Ok(argument),
        (None, _) => Err(error(call, format!("`{word}` needs a value: write `{example}`"))),
        (Some(_), Some(second)) => {
            Err(error(second, format!("`{word}` takes one value: for several sources write `any_of(.., ..)`")))
        }
    }
}

fn function(value: &Expr) -> Result<ExprPath> {
    match ungroup(value) {
        Expr::Path(path) => Ok(path.clone()),
        other => Err(error(other, "`from_fn` takes the name of a function: write `from_fn(my_key)`")),
    }
}

fn derive(call: &ExprCall) -> Result<Source> {
    let mut arguments = call.args.iter().cloned();
    match (arguments.next(), arguments.next(), arguments.next(), arguments.next()) {
        (Some(entity), Some(action), Some(params), None) => {
            Ok(Source::Arguments(Computed::Derived(Box::new([entity, action, params]))))
        }
        _ => Err(error(
            call,
            format!(
                "`derive` takes an entity, an action and parameters, and here are {}: write `derive(\"order\", \"create\", req.params)`",
                call.args.len(),
            ),
        )),
    }
}

fn no_source_twice(call: &ExprCall, sources: &[Source]) -> Result<()> {
    let mut seen = Vec::new();
    all(call.args.iter().zip(sources).map(|(written, source)| {
        let Some(identity) = source.identity() else { return Ok(()) };
        if seen.contains(&identity) {
            return Err(error(written, "this source is named twice: keep the first"));
        }
        seen.push(identity);
        Ok(())
    }))
    .map(|_| ())
}

/// A literal is one key for all requests, and mostly meant as a header's name.
fn constant(value: &Expr) -> String {
    let value = bare(value);
    let written = text(value);
    if let Some(source) = written.filter(|text| FORMS.iter().any(|(form, _)| text.value() == *form)) {
        let source = source.value();
        return format!("`{source}` is a word, not a text: write it without quotes, as in `key = from_header`");
    }
    let header = written.filter(|_| name::header(value).is_ok());
    let example = match header {
        Some(name) => format!("from_header({})", name.token()),
        None if matches!(value, Expr::Call(_)) => "derive(\"order\", \"create\", req.params)".to_owned(),
        None => "from_header".to_owned(),
    };
    format!("a constant key makes every request a duplicate of the first: write `key = {example}`")
}

fn misspelt(written: &str) -> Option<String> {
    // `derived` and the like are good names for a function of the user's.
    let known: Vec<_> = FORMS.iter().map(|(form, _)| *form).filter(|form| *form != "derive").collect();
    slip(written, &known).map(|form| format!("there is no source `{written}`: did you mean `{form}`?"))
}
