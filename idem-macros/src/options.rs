//! The option table. Parsing, duplicates, unknown names and what reaches `Policy` all derive from it.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, quote_spanned};
use syn::{
    Expr, Ident, Lit, Path, Result, Token,
    ext::IdentExt,
    parse::{ParseStream, Parser},
    token,
};

use crate::value::{
    Argument, Duration, FingerprintRule, Flag, Form, Key, KeySpace, Lease, Missing, OnAbandoned, OnConflict,
    OnStoreError, Root, Runtime, Scope, StoreRule, Value, Written, error, nearest,
};

// One row per option: its name, the kind of its value, an example for messages, and who it is for.
//   name    given to `Policy::new`
//   policy  the `Policy` method of the same name, which rustc checks at the word the user typed
//   handler read by `expand` alone
options! {
    scope:          Scope           = "scope = \"payments\"",      name;
    ttl:            Duration        = "ttl = \"24h\"",             policy;
    remember:       Duration        = "remember = \"30d\"",        policy;
    key:            Key             = "key = from_header",         policy;
    missing:        Missing         = "missing = reject",          policy;
    principal:      Argument        = "principal = user.id",       handler;
    key_space:      KeySpace        = "key_space = endpoint",      policy;
    fingerprint:    FingerprintRule = "fingerprint = bytes",       policy;
    store:          StoreRule       = "store = success",           policy;
    on_conflict:    OnConflict      = "on_conflict = reject",      policy;
    lease:          Lease           = "lease = \"30s\"",           policy;
    on_abandoned:   OnAbandoned     = "on_abandoned = retry",      policy;
    on_store_error: OnStoreError    = "on_store_error = reject",   policy;
    financial:      Flag            = "financial",                 policy;
    transaction:    Flag            = "transaction",               policy;
    runtime:        Runtime         = "runtime = extension",       handler;
    root "crate":   Root            = "crate = my_crate::idem",    handler;
}

/// An option as the user wrote it.
pub(crate) struct Setting<T> {
    /// The option's name, where rustc's own complaints about the value belong.
    pub(crate) name: Ident,
    /// The tokens that a complaint about the value points at.
    pub(crate) written: TokenStream,
    pub(crate) value: T,
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
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut options = Self::default();
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
                "`scope` is missing: name what the handler does, as in `scope = \"payments\"`",
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
        let form = parse_form(input, &name);
        let tokens = form.as_ref().ok().and_then(Form::tokens).unwrap_or_else(|| name.to_token_stream());
        self.seen.push((name.clone(), tokens));
        self.set(name, &form?)
    }
}

fn parse_name(input: ParseStream<'_>) -> Result<Ident> {
    if input.peek(Ident::peek_any) && !input.peek2(Token![::]) {
        return input.call(Ident::parse_any);
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

fn parse_form(input: ParseStream<'_>, name: &Ident) -> Result<Form> {
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
    if !input.peek(Token![=]) {
        return Err(syn::Error::new(input.span(), format!("a comma is missing after `{name}`")));
    }
    let equals: Token![=] = input.parse()?;
    if input.is_empty() || input.peek(Token![,]) {
        return Ok(Form::Nothing(equals.into_token_stream()));
    }
    let value: Expr = input.parse()?;
    if !input.is_empty() && !input.peek(Token![,]) {
        return Err(syn::Error::new(input.span(), format!("a comma is missing after the value of `{name}`")));
    }
    Ok(Form::Value(value))
}

fn skip_to_comma(input: ParseStream<'_>) -> Result<()> {
    while !input.is_empty() && !input.peek(Token![,]) {
        input.parse::<TokenTree>()?;
    }
    Ok(())
}

fn unknown(name: &Ident) -> syn::Error {
    let text = name.unraw().to_string();
    let hint = match nearest(&text, NAMES) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("the options are {}", NAMES.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")),
    };
    error(name, format!("there is no option `{text}`: {hint}"))
}

/// Builds [`Options`] from the rows.
macro_rules! options {
    (@called $field:ident) => { stringify!($field) };
    (@called $field:ident $called:literal) => { $called };

    (@emit name $setting:ident $root:ident) => { None };
    (@emit handler $setting:ident $root:ident) => { None };
    (@emit policy $setting:ident $root:ident) => {{
        let Setting { name, value, .. } = $setting;
        let value = value.emit($root);
        Some(quote_spanned!(name.span()=> .#name(#value)))
    }};

    ($($field:ident $($called:literal)?: $kind:ident = $example:literal, $whom:ident;)*) => {
        /// Every option's name, in the order of the reference text.
        pub(crate) const NAMES: &[&str] = &[$(options!(@called $field $($called)?)),*];

        /// Every option's example, in the order of [`NAMES`].
        #[cfg(test)]
        pub(crate) const EXAMPLES: &[&str] = &[$($example),*];

        /// The options of one handler; what the user left out is `None`.
        #[derive(Default)]
        pub(crate) struct Options {
            seen: Vec<(Ident, TokenStream)>,
            $(pub(crate) $field: Option<Setting<$kind>>,)*
        }

        impl Options {
            fn set(&mut self, name: Ident, form: &Form) -> Result<()> {
                match name.unraw().to_string().as_str() {
                    $(options!(@called $field $($called)?) => {
                        let value = <$kind as Value>::parse(&Written { name: &name, form, example: $example })?;
                        let written = form.tokens().unwrap_or_else(|| name.to_token_stream());
                        self.$field = Some(Setting { name, written, value });
                        Ok(())
                    })*
                    _ => Err(unknown(&name)),
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
