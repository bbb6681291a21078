//! The attributes of `idem-runtime`, which re-exports them. Depend on that crate and not on this one.

mod arguments;
mod consumer;
mod expand;
mod handler;
mod lint;
mod options;
mod outliving;
#[cfg(test)]
mod tests;
mod unstable;
mod value;

use proc_macro::TokenStream;

#[doc = include_str!("../docs/idempotent.md")]
#[proc_macro_attribute]
pub fn idempotent(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::idempotent(options.into(), item.into()).into()
}

#[doc = include_str!("../docs/idempotent_consumer.md")]
#[proc_macro_attribute]
pub fn idempotent_consumer(options: TokenStream, item: TokenStream) -> TokenStream {
    consumer::idempotent_consumer(options.into(), item.into()).into()
}

#[doc = include_str!("../docs/financial.md")]
#[proc_macro_attribute]
pub fn financial(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::financial(options.into(), item.into()).into()
}
