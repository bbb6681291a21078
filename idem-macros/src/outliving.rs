//! A function that outlives its caller: which one can, and what it takes along.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::{
    FnArg, Pat, PatType, Path, Signature, Type, parse_quote,
    spanned::Spanned,
    visit::{self, Visit},
};

use crate::{
    arguments::{bound, is_silent, names, reads},
    expand::is_outer,
    handler::{Handler, is_called, is_like_a_constant},
    options::Options,
};

/// Whether nothing that the function works on can be somebody else's, so that it can outlive its caller.
pub(crate) fn is_its_own(signature: &Signature) -> bool {
    let mut borrows = Borrows(false);
    for argument in &signature.inputs {
        match argument {
            FnArg::Receiver(_) => return false,
            FnArg::Typed(argument) => {
                borrows.visit_pat(&argument.pat);
                borrows.visit_type(&argument.ty);
            }
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

    fn visit_pat_ident(&mut self, binding: &'ast syn::PatIdent) {
        self.0 |= binding.by_ref.is_some();
        visit::visit_pat_ident(self, binding);
    }

    // What `Self` is, and whether it borrows, is said elsewhere.
    fn visit_path(&mut self, path: &'ast Path) {
        self.0 |= path.segments.first().is_some_and(|first| first.ident == "Self");
        visit::visit_path(self, path);
    }

    fn visit_lifetime(&mut self, found: &'ast syn::Lifetime) {
        self.0 |= found.ident != "static";
    }
}

/// What lets every argument live as long as the body of a function that outlives its caller. A block takes along only the
/// places that it names: a permit that nobody names would be given back while the body still runs.
pub(crate) fn held(options: &Options, function: &Handler) -> (Signature, TokenStream) {
    let mut signature = function.signature.clone();
    // Another attribute may read the arguments, or show each by its name.
    let alone = function.attributes.iter().all(is_inert);
    let mut read: TokenStream =
        ["key", "payload", "runtime"].into_iter().filter_map(|option| options.written(option)).cloned().collect();
    function.body.to_tokens(&mut read);
    let unread = |argument: &PatType, name: &Ident| {
        alone
            && argument.attrs.is_empty()
            && !is_silent(name)
            && !is_like_a_constant(name)
            && !names(read.clone(), name)
    };
    for (at, argument) in signature.inputs.iter_mut().enumerate() {
        if let FnArg::Typed(argument) = argument
            && let Pat::Wild(unnamed) = &*argument.pat
            && alone
        {
            let name = format_ident!("__idem_a{at}", span = unnamed.span().resolved_at(Span::mixed_site()));
            *argument.pat = parse_quote!(#name);
        }
    }
    let (mut held, mut moved) = (Vec::new(), Vec::new());
    for argument in signature.inputs.iter().filter_map(typed) {
        let (unread, read): (Vec<_>, Vec<_>) = bound([argument]).into_iter().partition(|name| unread(argument, name));
        held.extend(read);
        moved.extend(unread);
    }
    // A name that says that it is not used is used here, which clippy would tell the user.
    let quiet = held.iter().any(|name| is_silent(name)).then(|| quote!(#[allow(clippy::used_underscore_binding)]));
    let held = reads(held);
    // Under its own name, so that rustc still says that it is unused.
    let statements = quote!(#quiet #held #(let #moved = #moved;)*);
    (signature, statements)
}

fn typed(argument: &FnArg) -> Option<&PatType> {
    match argument {
        FnArg::Typed(typed) => Some(typed),
        FnArg::Receiver(_) => None,
    }
}

/// Attributes that change nothing in a function and do not look into it.
fn is_inert(attribute: &syn::Attribute) -> bool {
    !is_called(attribute, "cfg_attr")
        && (is_outer(attribute) || ["inline", "cold"].iter().any(|name| attribute.path().is_ident(name)))
}
