//! Tests of the whole crate: what each attribute becomes, and what is said when it is wrong.

mod consumers;
mod messages;
mod snapshots;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{
    Attribute, Meta,
    parse::{ParseStream, Parser},
};

use crate::{consumer, expand, handler::is_called};

/// Expands the attribute at the top of the item, as rustc would.
fn expand(item: &str) -> TokenStream {
    let split = |input: ParseStream<'_>| {
        let attributes = input.call(Attribute::parse_outer)?;
        Ok((attributes, input.parse::<TokenStream>()?))
    };
    let (mut attributes, item) = split.parse_str(item).expect("an item");
    let ours = ["idempotent", "idempotent_consumer", "financial"];
    let is_ours = |a: &Attribute| ours.iter().any(|name| is_called(a, name));
    let first = attributes.remove(attributes.iter().position(is_ours).expect("an attribute of ours"));
    let options = match &first.meta {
        Meta::List(list) => list.tokens.clone(),
        _ => TokenStream::new(),
    };
    let item = quote!(#(#attributes)* #item);
    match first.path().segments.last().map(|segment| segment.ident.to_string()).as_deref() {
        Some("idempotent") => expand::idempotent(options, item),
        Some("idempotent_consumer") => consumer::idempotent_consumer(options, item),
        _ => expand::financial(options, item),
    }
}

/// What the attribute at the top of the item complains about.
fn complaints(item: &str) -> Vec<String> {
    let text = expand(item).into_token_stream().to_string();
    let (_, errors) = text.split_once(":: core :: compile_error ! {").unwrap_or_default();
    errors
        .split(":: core :: compile_error ! {")
        .map(str::trim)
        .filter(|error| !error.is_empty())
        .map(|error| {
            let literal = error.strip_suffix('}').expect("the end of an error");
            syn::parse_str::<syn::LitStr>(literal).expect("a message").value()
        })
        .collect()
}
