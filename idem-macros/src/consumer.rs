//! `#[idempotent_consumer(..)]`: the function as it was, with its body behind a guard.

use proc_macro2::{Delimiter, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{
    Path, ReturnType, Safety, Signature, Type,
    parse::{ParseStream, Parser},
    spanned::Spanned,
    visit::Visit,
};

use crate::{
    arguments::inner_attributes,
    expand::{at, borrowed, group, kept, root, takes_nothing},
    handler::{Handler, ungrouped},
    lint,
    options::{Attribute, Errors, Options},
    outliving::{held, is_its_own},
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
    if signature.asyncness.is_none() && signature.generics.lifetimes().any(|own| own.lifetime.ident == "async_trait") {
        errors.push(error(
            name,
            format!("`#[async_trait]` rewrote `{name}` before it could be guarded: guard a method of an `impl` block without a trait and call that"),
        ));
        return;
    }
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
        ReturnType::Type(_, returned) if is_no_result(returned) => errors.push(error(
            returned,
            format!("a consumer says how it ended: write `Result<{}, MyError>`", spelled(returned),),
        )),
        ReturnType::Type(_, returned) => FindImpl(errors).visit_type(returned),
    }
    if let TokenTree::Group(block) = body
        && !inner_attributes(block).0.is_empty()
    {
        errors.push(error(block, "a consumer's body cannot begin with an attribute: write it above the function"));
    }
}

/// The type as one writes it, without the spaces between its tokens.
fn spelled(written: &Type) -> String {
    let tokens = written.to_token_stream().to_string();
    [(" ,", ","), (" <", "<"), ("< ", "<"), (" >", ">"), ("& ", "&")]
        .into_iter()
        .fold(tokens, |text, (from, to)| text.replace(from, to))
}

/// Types that are no `Result` under whatever alias.
const NO_RESULTS: &[&str] = &[
    "Box", "Option", "String", "Vec", "bool", "char", "f32", "f64", "i128", "i16", "i32", "i64", "i8", "isize", "u128",
    "u16", "u32", "u64", "u8", "usize",
];

fn is_no_result(returned: &Type) -> bool {
    match ungrouped(returned) {
        Type::Array(_) | Type::Never(_) | Type::Ptr(_) | Type::Reference(_) | Type::Tuple(_) => true,
        Type::Path(path) => path
            .path
            .segments
            .first()
            .is_some_and(|only| path.path.segments.len() == 1 && NO_RESULTS.iter().any(|name| only.ident == name)),
        _ => false,
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
//         let __idem_policy = const { &Policy::new("ship").key(&[KeySource::Arguments]).validate() };
//         let __idem_runtime = private::runtime(&self.idempotency);
//         let __idem_key = private::argument_key(&event.id);
//         let __idem_payload = private::json_payload(&event);
//         private::consume_in_place(__idem_runtime, __idem_policy, __idem_key, __idem_payload, move || async move {
//             if let Some(__idem_returned) = None::<Result<Shipment, ShipError>> { return __idem_returned; }
//             ..
//         }).await
//     }
//
// A free function whose arguments are its own goes through `private::consume`, which runs it to its end. Its block begins
// with `let _ = (&event,);`, see `held`.
fn guarded(options: &Options, function: &Handler) -> TokenStream {
    let Handler { attributes, visibility, signature, body } = function;
    let TokenTree::Group(block) = body else { return function.to_token_stream() };
    let root = root(options);
    let scope = options.scope.as_ref().map(|scope| scope.value.emit(&root));
    let calls = options.policy(&root);
    let span = Span::mixed_site();
    let [policy, runtime, key, payload, returned] =
        ["policy", "runtime", "key", "payload", "returned"].map(|name| format_ident!("__idem_{name}", span = span));
    let place = options.place.as_ref().map(|place| borrowed(&place.value.0));
    let id = event_key(options, &root);
    let bytes = event_payload(options, &root);
    let output = match &signature.output {
        ReturnType::Type(_, output) => output.to_token_stream(),
        ReturnType::Default => quote!(()),
    };
    let (consume, signature, held) = if is_its_own(signature) {
        let (signature, held) = held(options, function);
        (Ident::new("consume", span), signature, held)
    } else {
        (Ident::new("consume_in_place", span), signature.clone(), TokenStream::new())
    };
    let statements = block.stream();
    // With the user's span rustc judges the body as the function's own.
    let inner = group(
        Delimiter::Brace,
        quote! {
            #held
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
            let #policy = const { &#root::Policy::new(#scope)#calls.validate() };
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
