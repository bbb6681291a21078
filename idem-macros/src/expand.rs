//! The rewritten function.

use proc_macro2::{Delimiter, Group, Literal, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{
    Attribute, Expr, ExprReference, GenericArgument, Ident, Meta, Path, PathArguments, Signature, Token, Type,
    parse_quote, spanned::Spanned,
};

use crate::{
    arguments::{bound, by_reference, is_silent, names, reading, reads},
    handler::{Handler, is_called, ungrouped},
    lint,
    options::{self, Errors, Options},
    value::{Computed, Missing, Value, error},
};

/// `#[idempotent(..)]`: the guarded function, or the function as it was and every error.
pub(crate) fn idempotent(options: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let mut options = Options::parse(options::Attribute::Handler, options, &mut errors);
    let mut handler: Handler = match syn::parse2(item.clone()) {
        Ok(handler) => handler,
        Err(error) => {
            errors.push(error);
            return kept(item, errors);
        }
    };
    for second in handler.take("idempotent") {
        errors.push(error(second.path(), "`#[idempotent]` is written twice: keep one and put all options into it"));
    }
    for (at, financial) in handler.take("financial").iter().enumerate() {
        if !matches!(financial.meta, Meta::Path(_)) {
            errors.push(takes_nothing(&financial.meta));
        }
        if at > 0 {
            errors.push(error(financial.path(), "`#[financial]` is written twice: keep one"));
        }
        if let Some(last) = financial.path().segments.last() {
            options.set_financial(last.ident.clone());
        }
    }
    handler.check(&mut errors);
    lint::check(&options, &handler, &mut errors);
    match errors.into_compile_errors() {
        Some(errors) => quote!(#handler #errors),
        None => guarded(&options, handler),
    }
}

/// `#[financial]` above `#[idempotent(..)]` or `#[idempotent_consumer(..)]` goes below it, where that attribute reads it.
pub(crate) fn financial(options: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    if !options.is_empty() {
        errors.push(takes_nothing(options));
    }
    let mut handler: Handler = match syn::parse2(item.clone()) {
        Ok(handler) => handler,
        Err(error) => {
            errors.push(error);
            return kept(item, errors);
        }
    };
    let guards =
        |attribute: &Attribute| ["idempotent", "idempotent_consumer"].iter().any(|name| is_called(attribute, name));
    match handler.attributes.iter().position(guards) {
        Some(at) => {
            let flag = Ident::new("financial", Span::call_site());
            handler.attributes.insert(at + 1, parse_quote!(#[#flag]));
        }
        None => errors.push(syn::Error::new(
            Span::call_site(),
            "`#[financial]` guards nothing by itself: \
             write `#[idempotent(scope = \"payments\", key = from_header)]` below it",
        )),
    }
    kept(handler.to_token_stream(), errors)
}

pub(crate) fn takes_nothing(options: impl ToTokens) -> syn::Error {
    error(options, "`#[financial]` takes nothing: write the options in `#[idempotent(..)]`")
}

pub(crate) fn kept(item: TokenStream, errors: Errors) -> TokenStream {
    let errors = errors.into_compile_errors();
    quote!(#item #errors)
}

// In:
//     #[idempotent(scope = "orders", key = req.id)]
//     #[instrument]
//     pub async fn create(State(app): State<App>, Json(mut req): Json<NewOrder>) -> Result<Json<Order>, ApiError> { .. }
//
// Out:
//     pub enum __idem_create {}
//
//     impl private::Endpoint<(State<App>, Json<NewOrder>)> for __idem_create { .. }
//     impl private::KeyChosen for __idem_create {}
//
//     pub async fn create(_: (), __idem_guarded: private::Guarded<__idem_create, (State<App>, Json<NewOrder>)>) -> private::Response {
//         #[instrument]
//         async fn create(State(app): State<App>, Json(mut req): Json<NewOrder>) -> Result<Json<Order>, ApiError> { .. }
//         __idem_guarded.run(|(__idem_a0, __idem_a1)| create(__idem_a0, __idem_a1)).await
//     }
//
// Under `transaction` the extractor is `private::Transacted<__idem_create, (..), Tx<PostgresStore>>`, which may call it again.
fn guarded(options: &Options, handler: Handler) -> TokenStream {
    let root = root(options);
    let name = &handler.signature.ident;
    let endpoint = format_ident!("__idem_{}", name, span = name.span().resolved_at(Span::mixed_site()));
    let marker = marker(&handler, &endpoint);
    let implementation = implementation(options, &handler, &endpoint, &root);
    let function = function(options, &handler, &endpoint, &root);
    quote!(#marker #implementation #function)
}

/// The name of this endpoint among types: as visible as the function whose argument has it, and empty, because nobody
/// needs a value of it.
fn marker(handler: &Handler, endpoint: &Ident) -> TokenStream {
    let visibility = &handler.visibility;
    let lints = handler.attributes.iter().filter_map(quiet);
    quote! {
        #[doc(hidden)]
        #[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy)]
        #[non_exhaustive]
        #(#lints)*
        #visibility enum #endpoint {}
    }
}

fn implementation(options: &Options, handler: &Handler, endpoint: &Ident, root: &Path) -> TokenStream {
    let lints = handler.attributes.iter().filter_map(quiet);
    let types = types(handler);
    let runtime = runtime(options, root);
    let scope = options.scope.as_ref().map(|scope| scope.value.emit(root));
    let policy = options.policy(root);
    let argument_key = argument_key(options, handler, root);
    let principal = principal(options, handler, root);
    let runs_without = options.missing.as_ref().is_some_and(|missing| matches!(missing.value, Missing::Run));
    let key_chosen = options.key.as_ref().filter(|_| !runs_without).map(|_| {
        quote! {
            #[automatically_derived]
            impl #root::private::KeyChosen for #endpoint {}
        }
    });
    quote! {
        #(#lints)*
        #[automatically_derived]
        impl #root::private::Endpoint<#types> for #endpoint {
            type Runtime = #runtime;
            const POLICY: &'static #root::Policy = &#root::Policy::new(#scope)#policy.validate();
            #argument_key
            #principal
        }
        #key_chosen
    }
}

/// `argument_key`, if a source of the key is an expression.
fn argument_key(options: &Options, handler: &Handler, root: &Path) -> Option<TokenStream> {
    let arms: Vec<_> =
        options.key.as_ref()?.value.computed().map(|(at, computed)| computed_arm(at, computed, root)).collect();
    if arms.is_empty() {
        return None;
    }
    let span = Span::mixed_site();
    let (arguments, source) = (Ident::new("__idem_arguments", span), Ident::new("__idem_source", span));
    let (types, bindings) = (types(handler), bindings(handler, &arguments));
    Some(quote! {
        fn argument_key(#arguments: &#types, #source: ::core::primitive::usize) -> #root::private::ArgumentKey {
            #bindings
            match #source {
                #(#arms)*
                _ => #root::private::ArgumentKey::Absent,
            }
        }
    })
}

fn computed_arm(at: usize, computed: &Computed, root: &Path) -> TokenStream {
    let at = Literal::usize_unsuffixed(at);
    match computed {
        Computed::Expression(expression) => {
            let key = borrowed(expression);
            quote!(#at => #root::private::argument_key(#key),)
        }
        Computed::Derived(parts) => {
            let [entity, action, params] = parts.each_ref().map(borrowed);
            quote!(#at => #root::private::derived_key(#entity, #action, #params),)
        }
    }
}

/// A reference to an expression, with the user's span, so that a complaint about its type points at it.
pub(crate) fn borrowed(expression: &Expr) -> ExprReference {
    let span = expression.span();
    ExprReference {
        attrs: Vec::new(),
        and_token: Token![&](span),
        mutability: None,
        expr: Box::new(expression.clone()),
    }
}

/// `principal`, if it is an expression.
fn principal(options: &Options, handler: &Handler, root: &Path) -> Option<TokenStream> {
    let name = borrowed(&options.principal.as_ref()?.value.0);
    let arguments = Ident::new("__idem_arguments", Span::mixed_site());
    let (types, bindings) = (types(handler), bindings(handler, &arguments));
    Some(quote! {
        const PRINCIPAL: ::core::primitive::bool = true;
        fn principal(#arguments: &#types) -> ::core::option::Option<#root::private::PrincipalText> {
            #bindings
            #root::private::principal(#name)
        }
    })
}

/// The types of the arguments, as a tuple.
fn types(handler: &Handler) -> TokenStream {
    let types = handler.arguments().map(|argument| &argument.ty);
    quote!((#(#types,)*))
}

/// Binds what the user's own patterns bind, by reference.
fn bindings(handler: &Handler, arguments: &Ident) -> TokenStream {
    let patterns = handler.arguments().map(|argument| by_reference(&argument.pat));
    let reads = reads(bound(handler.arguments()).into_iter().filter(|name| !is_silent(name)));
    quote! {
        let (#(#patterns,)*) = #arguments;
        #reads
    }
}

fn function(options: &Options, handler: &Handler, endpoint: &Ident, root: &Path) -> TokenStream {
    let Handler { attributes, visibility, signature, body } = handler;
    let (outer, inner): (Vec<&Attribute>, Vec<&Attribute>) = attributes.iter().partition(|a| is_outer(a));
    let name = &signature.ident;
    // Complaints about the function's future and its answer point at its name.
    let span = name.span().resolved_at(Span::mixed_site());
    let guarded = Ident::new("__idem_guarded", span);
    let passed: Vec<_> =
        (0..handler.arguments().count()).map(|at| format_ident!("__idem_a{at}", span = span)).collect();
    // As many arguments as were written, so that a call that another attribute generates still fits.
    let places = handler.arguments().skip(1).map(|_| quote!(_: (),));
    let run = quote_spanned! {span=>
        #guarded.run(|(#(#passed,)*)| #name(#(#passed),*)).await
    };
    let extractor = extractor(options, handler, endpoint, root);
    // Delimiters have the user's spans: with ours rustc takes the function for foreign, and mutes lints about it.
    let arguments =
        group(Delimiter::Parenthesis, quote!(#(#places)* #guarded: #extractor,), signature.paren_token.span.join());
    let checks = checks(options, handler, root);
    let body = reading(body, &read_by_options(options, handler));
    let block = group(Delimiter::Brace, quote!(#(#inner)* #signature #body #checks #run), body.span());
    let Signature { asyncness, fn_token, .. } = signature;
    quote! {
        #(#outer)*
        #visibility #asyncness #fn_token #name #arguments -> #root::private::Response #block
    }
}

/// What the handler's patterns bind and the attribute's expressions read: used, even if the body does not use it.
fn read_by_options<'a>(options: &Options, handler: &'a Handler) -> Vec<&'a Ident> {
    let mut read = TokenStream::new();
    for (_, computed) in options.key.iter().flat_map(|key| key.value.computed()) {
        match computed {
            Computed::Expression(expression) => expression.to_tokens(&mut read),
            Computed::Derived(parts) => parts.iter().for_each(|part| part.to_tokens(&mut read)),
        }
    }
    if let Some(principal) = &options.principal {
        principal.value.0.to_tokens(&mut read);
    }
    bound(handler.arguments()).into_iter().filter(|name| names(read.clone(), name)).collect()
}

/// The state, if `#[debug_handler]` below is told of it or finds it in the only `State<..>`.
fn state(handler: &Handler) -> Option<Type> {
    let attribute = handler.attributes.iter().find(|attribute| is_called(attribute, "debug_handler"))?;
    let mut state = None;
    // Whatever else the attribute does not understand, it says itself.
    let _ = attribute.parse_nested_meta(|meta| {
        state = Some(meta.value()?.parse()?);
        Ok(())
    });
    if state.is_some() {
        return state;
    }
    let mut states: Vec<&Type> = handler.arguments().filter_map(|argument| inside_state(&argument.ty)).collect();
    states.dedup_by_key(|state| state.to_token_stream().to_string());
    match *states {
        [only] => Some(only.clone()),
        _ => None,
    }
}

/// `App` for `State<App>`.
fn inside_state(argument: &Type) -> Option<&Type> {
    let Type::Path(path) = ungrouped(argument) else { return None };
    let last = path.path.segments.last().filter(|segment| segment.ident == "State")?;
    let PathArguments::AngleBracketed(generics) = &last.arguments else { return None };
    match generics.args.first() {
        Some(GenericArgument::Type(state)) => Some(state),
        _ => None,
    }
}

/// What rustc is asked about types here, because it would say it badly elsewhere.
fn checks(options: &Options, handler: &Handler, root: &Path) -> TokenStream {
    let transaction = options.transaction.is_some();
    let mut checks = TokenStream::new();
    if let Some(state) = state(handler) {
        let runtime = runtime(options, root);
        checks.extend(at(state.span(), quote!(const _: fn() = #root::private::finds_runtime::<#runtime, #state>;)));
        for tx in handler.tx().filter(|_| transaction) {
            checks.extend(at(state.span(), quote!(const _: fn() = #root::private::finds_store::<#tx, #state>;)));
        }
    }
    if !transaction && !handler.signature.inputs.is_empty() {
        checks.extend(no_tx(handler, root));
    }
    checks
}

/// Any argument may be a `Tx`, under whatever name: without `transaction` there is none to be had.
fn no_tx(handler: &Handler, root: &Path) -> TokenStream {
    let checks = handler.arguments().map(|argument| {
        let argument = &argument.ty;
        quote_spanned! {argument.span().resolved_at(Span::mixed_site())=>
            ::core::assert!(
                !#root::private::IsTx::<#argument>::YES,
                "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
            );
        }
    });
    // A `Tx` answers without the trait, so something else has to use the import.
    quote! {
        const _: () = {
            use #root::private::IsNoTx as _;
            let _ = #root::private::IsTx::<()>::YES;
            #(#checks)*
        };
    }
}

/// All of it at one place, or the complaint points at the attribute. All but `$crate`, which is what its own place says.
pub(crate) fn at(span: Span, tokens: TokenStream) -> TokenStream {
    tokens
        .into_iter()
        .map(|token| match token {
            TokenTree::Group(inside) => group(inside.delimiter(), at(span, inside.stream()), span).into(),
            TokenTree::Ident(name) if name == "$crate" => name.into(),
            mut token => {
                token.set_span(span);
                token
            }
        })
        .collect()
}

/// The one argument that axum extracts.
fn extractor(options: &Options, handler: &Handler, endpoint: &Ident, root: &Path) -> TokenStream {
    let types = types(handler);
    match handler.tx().next().filter(|_| options.transaction.is_some()) {
        // At the argument, where it is said that this is no `Tx`.
        Some(tx) => {
            // Resolved as ours, or lints take it for a type that the user wrote.
            let span = tx.span().resolved_at(Span::mixed_site());
            let transacted = at(span, quote!(#root::private::Transacted));
            quote_spanned!(span=> #transacted<#endpoint, #types, #tx>)
        }
        None => quote!(#root::private::Guarded<#endpoint, #types>),
    }
}

fn runtime(options: &Options, root: &Path) -> TokenStream {
    match &options.runtime {
        Some(runtime) => runtime.value.emit(root),
        None => quote!(#root::private::FromState),
    }
}

pub(crate) fn group(delimiter: Delimiter, tokens: TokenStream, span: Span) -> Group {
    let mut group = Group::new(delimiter, tokens);
    group.set_span(span);
    group
}

/// Attributes that speak of the function as others see it. A lint level holds for all that is inside.
pub(crate) fn is_outer(attribute: &Attribute) -> bool {
    ["doc", "cfg", "cfg_attr", "deprecated", "must_use"].iter().any(|name| attribute.path().is_ident(name))
        || is_lint_level(attribute)
}

fn is_lint_level(attribute: &Attribute) -> bool {
    ["allow", "expect", "warn", "deny", "forbid"].iter().any(|name| attribute.path().is_ident(name))
}

/// The lints that the user silenced for the function, for the code that repeats its types and expressions.
fn quiet(attribute: &Attribute) -> Option<TokenStream> {
    let list = attribute.meta.require_list().ok()?;
    let is_quiet = list.path.is_ident("allow") || list.path.is_ident("expect");
    let lints = &list.tokens;
    is_quiet.then(|| quote!(#[allow(#lints)]))
}

pub(crate) fn root(options: &Options) -> Path {
    match &options.root {
        Some(root) => root.value.0.clone(),
        None => parse_quote!(::idem_runtime),
    }
}
