//! `#[idempotent_consumer(..)]`: the function as it was, with its body behind a guard.

use proc_macro2::{Delimiter, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::{
    FnArg, Path, ReturnType, Safety, Signature, Type,
    parse::{ParseStream, Parser},
    spanned::Spanned,
    visit::{self, Visit},
};

use crate::{
    expand::{at, borrowed, group, has_inner_attributes, kept, root, takes_nothing},
    handler::Handler,
    lint,
    options::{Attribute, Errors, Options},
    value::{Computed, Payload, Value, error},
};

/// The guarded function, or the function as it was and every error.
pub(crate) fn idempotent_consumer(options: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let mut options = Options::parse(Attribute::Consumer, options, &mut errors);
    let parse = |input: ParseStream<'_>| Handler::parse_as(Attribute::Consumer, input);
    let mut function = match parse.parse2(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            errors.push(error);
            return kept(item, errors);
        }
    };
    for second in function.take("idempotent_consumer") {
        errors.push(error(
            second.path(),
            "`#[idempotent_consumer]` is written twice: keep one and put all options into it",
        ));
    }
    for handler in function.take("idempotent") {
        errors.push(error(
            handler.path(),
            "`#[idempotent]` guards a handler of requests, and `#[idempotent_consumer]` one of events: keep one",
        ));
    }
    for financial in function.take("financial") {
        if !matches!(financial.meta, syn::Meta::Path(_)) {
            errors.push(takes_nothing(&financial.meta));
        }
        if let Some(last) = financial.path().segments.last() {
            options.set_financial(last.ident.clone());
        }
    }
    check(&function.signature, &function.body, &mut errors);
    lint::check(&options, &function, &mut errors);
    match errors.into_compile_errors() {
        Some(errors) => quote!(#function #errors),
        None => guarded(&options, &function),
    }
}

/// Reports all that keeps a function from being guarded.
fn check(signature: &Signature, body: &TokenTree, errors: &mut Errors) {
    let name = &signature.ident;
    if signature.asyncness.is_none() {
        errors.push(error(signature.fn_token, format!("a consumer is async: write `async fn {name}`")));
    }
    if let Some(constness) = signature.constness {
        errors.push(error(constness, "a consumer cannot be `const`: remove the word"));
    }
    if let Safety::Unsafe(word) = signature.safety {
        errors.push(error(word, "a consumer cannot be `unsafe`: remove the word"));
    }
    if let Some(abi) = &signature.abi {
        errors.push(error(abi, "a consumer cannot be `extern`: remove the word"));
    }
    if let Some(variadic) = &signature.variadic {
        errors.push(error(variadic, "a consumer cannot be variadic: write out its arguments"));
    }
    match &signature.output {
        ReturnType::Default => errors.push(error(
            &signature.ident,
            format!("a consumer says how it ended: write `async fn {name}(..) -> Result<(), MyError>`"),
        )),
        ReturnType::Type(_, returned) => FindImpl(errors).visit_type(returned),
    }
    if let TokenTree::Group(block) = body
        && has_inner_attributes(block)
    {
        errors.push(error(block, "a consumer's body cannot begin with an attribute: write it above the function"));
    }
}

/// Finds what has no name, so that nothing can be read back as it.
struct FindImpl<'a>(&'a mut Errors);

impl<'ast> Visit<'ast> for FindImpl<'_> {
    fn visit_type_impl_trait(&mut self, found: &'ast syn::TypeImplTrait) {
        self.0.push(error(
            found,
            "a duplicate is given the first value, and nothing can be read back as `impl Trait`: write the type",
        ));
    }
}

// In:
//     #[idempotent_consumer(scope = "ship", key = event.id, payload = event, runtime = self.idempotency)]
//     #[instrument]
//     pub async fn ship(&self, event: OrderPaid) -> Result<Shipment, ShipError> { .. }
//
// Out:
//     #[instrument]
//     pub async fn ship(&self, event: OrderPaid) -> Result<Shipment, ShipError> {
//         const POLICY: &Policy = &Policy::new("ship").key(&[KeySource::Arguments]).validate();
//         let runtime = private::runtime(&self.idempotency);
//         let key = private::argument_key(&event.id);
//         let payload = private::json_payload(&event);
//         private::consume_in_place(runtime, POLICY, key, payload, move || async move {
//             if let Some(returned) = None::<Result<Shipment, ShipError>> { return returned; }
//             ..
//         }).await
//     }
//
// A free function whose arguments are its own goes through `private::consume`, which runs it to its end.
fn guarded(options: &Options, function: &Handler) -> TokenStream {
    let Handler { attributes, visibility, signature, body } = function;
    let root = root(options);
    let scope = options.scope.as_ref().map(|scope| scope.value.emit(&root));
    let calls = options.policy(&root);
    let span = Span::mixed_site();
    let [policy, runtime, key, payload, returned] =
        ["__IDEM_POLICY", "runtime", "key", "payload", "returned"].map(|name| Ident::new(name, span));
    let place = options.place.as_ref().map(|place| borrowed(&place.value.0));
    let id = event_key(options, &root);
    let bytes = event_payload(options, &root);
    let output = match &signature.output {
        ReturnType::Type(_, output) => output.to_token_stream(),
        ReturnType::Default => quote!(()),
    };
    let consume = Ident::new(if is_its_own(signature) { "consume" } else { "consume_in_place" }, span);
    let TokenTree::Group(block) = body else { return function.to_token_stream() };
    let statements = block.stream();
    // With the user's span rustc judges the body as the function's own.
    let inner = group(
        Delimiter::Brace,
        quote! {
            #[allow(unreachable_code, clippy::diverging_sub_expression)]
            if let ::core::option::Option::Some(#returned) = ::core::option::Option::None::<#output> {
                return #returned;
            }
            #statements
        },
        block.span(),
    );
    // Complaints about what is returned point at its type.
    let returned_at = output.span().resolved_at(span);
    let consume = at(returned_at, quote!(#root::private::#consume));
    let guard = quote_spanned! {returned_at=>
        #consume(#runtime, #policy, #key, #payload, move || async move #inner).await
    };
    let outer = group(
        Delimiter::Brace,
        quote! {
            const #policy: &#root::Policy = &#root::Policy::new(#scope)#calls.validate();
            let #runtime = #root::private::runtime(#place);
            let #key = #id;
            let #payload = #bytes;
            #guard
        },
        block.span(),
    );
    quote!(#(#attributes)* #visibility #signature #outer)
}

/// The first source that has a key.
fn event_key(options: &Options, root: &Path) -> TokenStream {
    let sources = options.event_key.iter().flat_map(|key| key.value.computed()).map(|computed| match computed {
        Computed::Expression(expression) => {
            let key = borrowed(expression);
            quote!(#root::private::argument_key(#key))
        }
        Computed::Derived(parts) => {
            let [entity, action, params] = parts.each_ref().map(borrowed);
            quote!(#root::private::derived_key(#entity, #action, #params))
        }
    });
    sources
        .reduce(|first, next| quote!(#first.or_else(|| #next)))
        .unwrap_or_else(|| quote!(#root::private::ArgumentKey::Absent))
}

fn event_payload(options: &Options, root: &Path) -> TokenStream {
    match options.payload.as_ref().map(|payload| &payload.value) {
        None => quote!(#root::private::no_payload()),
        Some(Payload::Json(value)) => {
            let value = borrowed(value);
            quote!(#root::private::json_payload(#value))
        }
        Some(Payload::Bytes(value)) => {
            let value = borrowed(value);
            quote!(#root::private::bytes_payload(#value))
        }
    }
}

/// Whether nothing that the function works on can be somebody else's, so that it can outlive its caller.
fn is_its_own(signature: &Signature) -> bool {
    let mut borrows = Borrows(false);
    for argument in &signature.inputs {
        match argument {
            FnArg::Receiver(_) => return false,
            FnArg::Typed(argument) => borrows.visit_type(&argument.ty),
        }
    }
    signature.generics.params.is_empty() && !borrows.0
}

struct Borrows(bool);

impl<'ast> Visit<'ast> for Borrows {
    fn visit_type(&mut self, found: &'ast Type) {
        self.0 |= matches!(found, Type::Reference(_) | Type::ImplTrait(_) | Type::Ptr(_));
        visit::visit_type(self, found);
    }

    fn visit_lifetime(&mut self, found: &'ast syn::Lifetime) {
        self.0 |= found.ident != "static";
    }
}
