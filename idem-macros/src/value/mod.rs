//! Kinds of values: how each is written, what it becomes, and what is said when it is wrong.

mod choice;
mod constant;
mod duration;
mod key;
mod name;
mod scope;
mod suggest;

use std::fmt::Display;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::{Expr, ExprLit, Ident, Lit, LitStr, Path, Result};

pub(crate) use self::{
    choice::{FingerprintRule, KeySpace, Missing, OnAbandoned, OnConflict, OnStoreError, Runtime, StoreRule},
    constant::{is_constant_with, suffixed},
    duration::{DAY, Duration, LEASE, Lease},
    key::{Computed, EventKey, Key},
    scope::Scope,
    suggest::nearest,
};
use self::{
    constant::{bare, is_constant},
    suggest::slip,
};

/// One kind of value.
pub(crate) trait Value: Sized {
    /// Reads the value, or says what is wrong with it and what to write.
    fn parse(written: &Written<'_>) -> Result<Self>;

    /// The value as an argument of the `Policy` method; empty for a flag.
    fn emit(&self, root: &Path) -> TokenStream;
}

/// An option as it was found.
pub(crate) struct Written<'a> {
    pub(crate) name: &'a Ident,
    pub(crate) form: &'a Form,
    /// A right way to write this option.
    pub(crate) example: &'static str,
}

/// What follows an option's name.
pub(crate) enum Form {
    /// `name`
    Alone,
    /// `name =`
    Nothing(TokenStream),
    /// `name = value`
    Value(Expr),
    /// `name(..)`
    List(TokenStream),
}

/// An option that is on when it is written.
pub(crate) struct Flag;

/// An expression over the handler's arguments.
pub(crate) struct Argument(pub(crate) Expr);

/// An expression that is the runtime.
pub(crate) struct Place(pub(crate) Expr);

/// How often an event is tried.
pub(crate) struct Attempts(syn::LitInt);

/// What an event carries.
pub(crate) enum Payload {
    /// A value, to be written as JSON.
    Json(Expr),
    /// `bytes(..)`: bytes as they are.
    Bytes(Expr),
}

/// The path under which generated code finds the runtime.
pub(crate) struct Root(pub(crate) Path);

impl Written<'_> {
    /// The value after `=`, which every kind but a flag needs.
    pub(crate) fn value(&self) -> Result<&Expr> {
        let Self { name, example, .. } = self;
        match self.form {
            Form::Value(value) => Ok(ungroup(value)),
            Form::Alone => Err(error(name, format!("`{name}` needs a value: write `{example}`"))),
            Form::Nothing(equals) => Err(error(equals, format!("`{name}` needs a value: write `{example}`"))),
            Form::List(list) => Err(error(list, format!("a value follows `=`: write `{example}`"))),
        }
    }
}

impl Form {
    /// The tokens of the value, if there are any.
    pub(crate) fn tokens(&self) -> Option<TokenStream> {
        match self {
            Self::Alone | Self::Nothing(_) => None,
            Self::Value(value) => Some(value.to_token_stream()),
            Self::List(list) => Some(list.clone()),
        }
    }
}

impl Value for Flag {
    fn parse(written: &Written<'_>) -> Result<Self> {
        let Written { name, form, .. } = written;
        match form {
            Form::Alone => Ok(Self),
            Form::Value(Expr::Lit(ExprLit { lit: Lit::Bool(lit), .. })) if !lit.value => {
                Err(error(lit, format!("`{name}` is a flag and off when it is not written: leave it out")))
            }
            Form::Value(value) => Err(error(value, format!("`{name}` is a flag: write `{name}` alone"))),
            Form::Nothing(rest) | Form::List(rest) => {
                Err(error(rest, format!("`{name}` is a flag: write `{name}` alone")))
            }
        }
    }

    fn emit(&self, _: &Path) -> TokenStream {
        TokenStream::new()
    }
}

impl Value for Argument {
    fn parse(written: &Written<'_>) -> Result<Self> {
        match written.value()? {
            constant if is_constant(constant) => {
                let Written { name, example, .. } = written;
                Err(error(
                    constant,
                    format!(
                        "a constant `{name}` is the same for every caller: write an argument's value, as in `{example}`"
                    ),
                ))
            }
            Expr::Call(call)
                if word(&call.func).is_some_and(|source| source == "from_header" || source == "from_fn") =>
            {
                let Written { example, .. } = written;
                Err(error(
                    call,
                    format!(
                        "a header or a function of the request is named once, where the runtime is built: write \
                         `.principal_from_header(..)` or `.principal_from_fn(..)` there, or an argument's value here, as in \
                         `{example}`"
                    ),
                ))
            }
            value => Ok(Self(value.clone())),
        }
    }

    fn emit(&self, _: &Path) -> TokenStream {
        self.0.to_token_stream()
    }
}

impl Value for Place {
    fn parse(written: &Written<'_>) -> Result<Self> {
        match written.value()? {
            Expr::Lit(literal) => Err(error(
                literal,
                format!("`runtime` is an expression, the `Idempotency` to ask: write `{}`", written.example),
            )),
            value => Ok(Self(value.clone())),
        }
    }

    fn emit(&self, _: &Path) -> TokenStream {
        self.0.to_token_stream()
    }
}

impl Value for Attempts {
    fn parse(written: &Written<'_>) -> Result<Self> {
        let value = written.value()?;
        let Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) = value else {
            return Err(error(value, format!("`max_attempts` is a whole number: write `{}`", written.example)));
        };
        match number.base10_parse::<u32>() {
            Ok(0) => Err(error(number, "an event that is tried 0 times never runs: write at least `max_attempts = 1`")),
            Ok(_) if number.suffix().is_empty() => Ok(Self(number.clone())),
            _ => Err(error(number, format!("`max_attempts` is a whole number: write `{}`", written.example))),
        }
    }

    fn emit(&self, _: &Path) -> TokenStream {
        self.0.to_token_stream()
    }
}

impl Value for Payload {
    fn parse(written: &Written<'_>) -> Result<Self> {
        let value = written.value()?;
        let constant = |constant| {
            error(
                constant,
                format!("a constant payload makes all events with one id alike: write `{}`", written.example),
            )
        };
        match value {
            value if is_constant(value) => Err(constant(value)),
            Expr::Call(call) if word(&call.func).is_some_and(|word| word == "bytes") => {
                let mut arguments = call.args.iter();
                match (arguments.next(), arguments.next()) {
                    (Some(bytes), None) if is_constant(bytes) => Err(constant(bytes)),
                    (Some(bytes), None) => Ok(Self::Bytes(bytes.clone())),
                    _ => Err(error(call, "`bytes` takes one value: write `payload = bytes(event.raw)`")),
                }
            }
            value => Ok(Self::Json(value.clone())),
        }
    }

    fn emit(&self, _: &Path) -> TokenStream {
        match self {
            Self::Json(value) | Self::Bytes(value) => value.to_token_stream(),
        }
    }
}

impl Value for Root {
    fn parse(written: &Written<'_>) -> Result<Self> {
        match written.value()? {
            Expr::Path(path) if path.qself.is_none() => Ok(Self(path.path.clone())),
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => {
                Err(error(text, format!("a path is written without quotes: write `crate = {}`", text.value())))
            }
            other => Err(error(
                other,
                format!("`crate` is the path at which `idem_runtime` is found: write `{}`", written.example),
            )),
        }
    }

    fn emit(&self, _: &Path) -> TokenStream {
        self.0.to_token_stream()
    }
}

/// An error that underlines all of `tokens`.
pub(crate) fn error(tokens: impl ToTokens, message: impl Display) -> syn::Error {
    syn::Error::new_spanned(tokens, message)
}

/// The expression inside the invisible group that `macro_rules` puts around `$value:expr`.
fn ungroup(mut expr: &Expr) -> &Expr {
    while let Expr::Group(group) = expr {
        expr = &group.expr;
    }
    expr
}

/// The identifier, if the expression is one alone.
fn word(expr: &Expr) -> Option<&Ident> {
    match ungroup(expr) {
        Expr::Path(path) if path.qself.is_none() => path.path.get_ident(),
        _ => None,
    }
}

/// The string literal, if the expression is one.
fn text(expr: &Expr) -> Option<&LitStr> {
    match ungroup(expr) {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text),
        _ => None,
    }
}

/// All results, or all errors in one.
fn all<T>(results: impl IntoIterator<Item = Result<T>>) -> Result<Vec<T>> {
    let mut values = Vec::new();
    let mut failed: Option<syn::Error> = None;
    for result in results {
        match (result, &mut failed) {
            (Ok(value), _) => values.push(value),
            (Err(error), Some(first)) => first.combine(error),
            (Err(error), none) => *none = Some(error),
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(values),
    }
}

/// `{root}::{name}::{variant}`, or with an argument.
fn variant(root: &Path, name: &str, variant: &str, argument: Option<TokenStream>) -> TokenStream {
    let span = Span::mixed_site();
    let (name, variant) = (Ident::new(name, span), Ident::new(variant, span));
    match argument {
        Some(argument) => quote!(#root::#name::#variant(#argument)),
        None => quote!(#root::#name::#variant),
    }
}
