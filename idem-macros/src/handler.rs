//! What an attribute stands on: an async function that axum can call, with its body left as it is.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{
    Attribute, ExprPath, FnArg, Ident, PatType, Result, Safety, Signature, Type, Visibility,
    ext::IdentExt,
    parse::{Parse, ParseStream},
    spanned::Spanned,
    token,
    visit::{self, Visit},
};

use crate::{
    options::{self, Errors},
    value::error,
};

/// A function whose body is not parsed: rustc judges it, and an editor may be in the middle of writing it.
pub(crate) struct Handler {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) signature: Signature,
    pub(crate) body: TokenTree,
}

/// axum calls handlers of up to this many arguments.
const MAX_ARGUMENTS: usize = 16;

impl Handler {
    /// The arguments, without a receiver, which [`check`](Self::check) refuses.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = &PatType> {
        self.signature.inputs.iter().filter_map(|argument| match argument {
            FnArg::Typed(typed) => Some(typed),
            FnArg::Receiver(_) => None,
        })
    }

    /// The types of the arguments that are called `Tx`.
    pub(crate) fn tx(&self) -> impl Iterator<Item = &Type> {
        self.arguments().map(|argument| &*argument.ty).filter(|argument| match ungrouped(argument) {
            Type::Path(path) => path.path.segments.last().is_some_and(|segment| segment.ident == "Tx"),
            _ => false,
        })
    }

    /// Whether an argument gives this name to something.
    pub(crate) fn binds(&self, name: &Ident) -> bool {
        let mut search = BindingOf { name, found: false };
        for argument in self.arguments() {
            search.visit_pat(&argument.pat);
        }
        search.found
    }

    /// Whether this names what is the same for everybody: what no argument binds is a constant, a static or a function,
    /// wherever it lies. A word in lower case may be an argument that is misspelt.
    pub(crate) fn is_constant(&self, path: &ExprPath) -> bool {
        match path.path.get_ident() {
            Some(name) => is_like_a_constant(name) && !self.binds(name),
            None => true,
        }
    }

    /// Takes the attributes called `name`, under whatever path, off the function.
    pub(crate) fn take(&mut self, name: &str) -> Vec<Attribute> {
        let (taken, kept) = std::mem::take(&mut self.attributes).into_iter().partition(|a| is_called(a, name));
        self.attributes = kept;
        taken
    }

    /// Reports all that keeps the function from being a guarded handler.
    pub(crate) fn check(&self, errors: &mut Errors) {
        let signature = &self.signature;
        let name = &signature.ident;
        if signature.asyncness.is_none() {
            errors.push(error(signature.fn_token, format!("a handler is async: write `async fn {name}`")));
        }
        if let Some(constness) = signature.constness {
            errors.push(error(constness, "a handler cannot be `const`: remove the word"));
        }
        match signature.safety {
            Safety::Default => {}
            Safety::Unsafe(word) => errors.push(error(word, "a handler cannot be `unsafe`: remove the word")),
            Safety::Safe(word) => errors.push(error(word, "a handler cannot be `safe`: remove the word")),
        }
        if let Some(abi) = &signature.abi {
            errors.push(error(abi, "a handler cannot be `extern`: remove the word"));
        }
        if let Some(variadic) = &signature.variadic {
            errors.push(error(variadic, "a handler cannot be variadic: write out its arguments"));
        }
        if !signature.generics.params.is_empty() {
            errors.push(error(
                &signature.generics,
                "a guarded handler cannot be generic: write the types out, or call a generic function from it",
            ));
        }
        if let Some(clause) = &signature.generics.where_clause {
            errors.push(error(clause, "a guarded handler cannot have a `where` clause: write the types out"));
        }
        if let Some(receiver) = signature.receiver() {
            errors.push(error(
                receiver,
                "a guarded handler cannot be a method: write a free function and take what `self` has as `State`",
            ));
        }
        if let Some(extra) = self.arguments().nth(MAX_ARGUMENTS) {
            errors.push(error(
                extra,
                format!(
                    "a handler takes at most {MAX_ARGUMENTS} arguments: put several into one, as in `(a, b): (A, B)`"
                ),
            ));
        }
        for argument in self.arguments() {
            for attribute in argument.attrs.iter().filter(|a| is_called(a, "cfg") || is_called(a, "cfg_attr")) {
                errors.push(error(
                    attribute,
                    "an argument of a guarded handler cannot depend on `cfg`: write one handler for each configuration",
                ));
            }
            ArgumentTypes(errors).visit_type(&argument.ty);
            // A lifetime of the function's own was complained of above.
            if signature.generics.params.is_empty() {
                Borrowed { errors, own: Vec::new(), elided: true }.visit_type(&argument.ty);
            }
        }
    }
}

impl Parse for Handler {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        Self::parse_as(options::Attribute::Handler, input)
    }
}

impl Handler {
    /// Parses a function for this attribute.
    pub(crate) fn parse_as(whose: options::Attribute, input: ParseStream<'_>) -> Result<Self> {
        let (place, body) = match whose {
            options::Attribute::Handler => ("a handler", "a handler needs a body: only a free function can be guarded"),
            options::Attribute::Consumer => {
                ("a function", "a consumer needs a body: put the attribute where the function has one")
            }
        };
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        if let Some(what) = another_item(input) {
            return Err(syn::Error::new(
                input.span(),
                format!("only an async function can be guarded, and this is {what}: put the attribute on {place}"),
            ));
        }
        let signature = input.parse()?;
        if !input.peek(token::Brace) {
            return Err(error(&signature, body));
        }
        Ok(Self { attributes, visibility, signature, body: block(input.parse()?) })
    }
}

/// The function as it was written, without the attributes that were taken off.
impl ToTokens for Handler {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Self { attributes, visibility, signature, body } = self;
        tokens.extend(quote!(#(#attributes)* #visibility #signature #body));
    }
}

/// The block inside the invisible group that `macro_rules` puts around `$body:block`.
fn block(mut body: TokenTree) -> TokenTree {
    while let TokenTree::Group(group) = &body
        && group.delimiter() == Delimiter::None
    {
        let mut inside = group.stream().into_iter();
        match (inside.next(), inside.next()) {
            (Some(only), None) => body = only,
            _ => break,
        }
    }
    body
}

/// The type inside the invisible group that `macro_rules` puts around `$argument:ty`, or inside parentheses.
pub(crate) fn ungrouped(mut argument: &Type) -> &Type {
    loop {
        argument = match argument {
            Type::Group(group) => &group.elem,
            Type::Paren(paren) => &paren.elem,
            other => return other,
        };
    }
}

/// Whether a name is written as those of constants are, and `Self` and types.
pub(crate) fn is_like_a_constant(name: &Ident) -> bool {
    name.unraw().to_string().starts_with(char::is_uppercase)
}

/// Whether this is `#[name]` or `#[some::path::name]`.
pub(crate) fn is_called(attribute: &Attribute, name: &str) -> bool {
    attribute.path().segments.last().is_some_and(|segment| segment.ident == name)
}

/// Names the item that stands where a function should.
fn another_item(input: ParseStream<'_>) -> Option<&'static str> {
    let ahead = input.fork();
    let word = ahead.call(Ident::parse_any).ok()?.to_string();
    let next = ahead.call(Ident::parse_any).map(|next| next.to_string()).unwrap_or_default();
    match (word.as_str(), next.as_str()) {
        ("struct", _) => Some("a struct"),
        ("enum", _) => Some("an enum"),
        ("union", _) if !next.is_empty() => Some("a union"),
        ("trait", _) | ("unsafe" | "auto", "trait") => Some("a trait"),
        ("impl", _) | ("unsafe", "impl") => Some("an `impl` block"),
        ("mod", _) | ("unsafe", "mod") => Some("a module"),
        ("use", _) => Some("a `use`"),
        ("extern", "crate") => Some("an `extern crate`"),
        ("type", _) => Some("a type alias"),
        ("static", _) => Some("a static"),
        ("const", next) if !matches!(next, "fn" | "async" | "unsafe" | "extern") => Some("a constant"),
        ("let", _) => Some("a statement"),
        ("macro_rules", _) => Some("a macro"),
        _ => None,
    }
}

/// Finds a name in patterns.
struct BindingOf<'a> {
    name: &'a Ident,
    found: bool,
}

impl<'ast> Visit<'ast> for BindingOf<'_> {
    fn visit_pat_ident(&mut self, binding: &'ast syn::PatIdent) {
        self.found |= binding.ident == *self.name;
        visit::visit_pat_ident(self, binding);
    }

    // What a macro makes of a pattern nobody sees: it may bind anything.
    fn visit_macro(&mut self, _: &'ast syn::Macro) {
        self.found = true;
    }
}

/// Finds what an argument's type cannot have once it stands in a tuple.
struct ArgumentTypes<'a>(&'a mut Errors);

impl<'ast> Visit<'ast> for ArgumentTypes<'_> {
    fn visit_type_impl_trait(&mut self, found: &'ast syn::TypeImplTrait) {
        self.0.push(error(found, "a guarded handler cannot take `impl Trait`: write the type"));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if let Some(first) = path.segments.first().filter(|segment| segment.ident == "Self") {
            self.0.push(syn::Error::new(
                first.span(),
                "a guarded handler cannot be inside an `impl` block: write a free function and name the type",
            ));
        }
        visit::visit_path(self, path);
    }
}

/// Finds what is borrowed from whoever calls: the arguments outlive the request they came with.
struct Borrowed<'a> {
    errors: &'a mut Errors,
    /// Lifetimes that the type itself introduces: `for<'a> fn(&'a str)`.
    own: Vec<syn::Lifetime>,
    /// Whether a lifetime that is not written would be the function's, and not that of a `Fn(&str)`.
    elided: bool,
}

impl Borrowed<'_> {
    fn complain(&mut self, found: impl ToTokens) {
        self.errors.push(error(
            found,
            "a guarded handler owns its arguments, and this is borrowed: write an owned type, as `String` for `&str`",
        ));
    }

    fn inside(&mut self, visit: impl FnOnce(&mut Self)) {
        let elided = std::mem::replace(&mut self.elided, false);
        visit(self);
        self.elided = elided;
    }
}

impl<'ast> Visit<'ast> for Borrowed<'_> {
    fn visit_type_reference(&mut self, reference: &'ast syn::TypeReference) {
        let is_borrowed = match &reference.lifetime {
            Some(lifetime) => is_the_functions(lifetime, self),
            None => self.elided,
        };
        if is_borrowed { self.complain(reference) } else { self.visit_type(&reference.elem) }
    }

    fn visit_lifetime(&mut self, lifetime: &'ast syn::Lifetime) {
        if is_the_functions(lifetime, self) {
            self.complain(lifetime);
        }
    }

    fn visit_bound_lifetimes(&mut self, lifetimes: &'ast syn::BoundLifetimes) {
        self.own.extend(lifetimes.lifetimes.iter().filter_map(|parameter| match parameter {
            syn::GenericParam::Lifetime(own) => Some(own.lifetime.clone()),
            _ => None,
        }));
    }

    fn visit_type_fn_ptr(&mut self, function: &'ast syn::TypeFnPtr) {
        self.inside(|within| visit::visit_type_fn_ptr(within, function));
    }

    fn visit_parenthesized_generic_arguments(&mut self, arguments: &'ast syn::ParenthesizedGenericArguments) {
        self.inside(|within| visit::visit_parenthesized_generic_arguments(within, arguments));
    }
}

fn is_the_functions(lifetime: &syn::Lifetime, borrowed: &Borrowed<'_>) -> bool {
    match lifetime.ident.to_string().as_str() {
        "static" => false,
        "_" => borrowed.elided,
        _ => !borrowed.own.contains(lifetime),
    }
}
