//! The names that a function's patterns give to its arguments: which there are, who reads them, and how they are read.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{
    Attribute, FieldPat, Ident, Pat, PatIdent, PatType,
    ext::IdentExt,
    visit::{self, Visit},
    visit_mut::{self, VisitMut},
};

use crate::{expand::group, handler::is_called};

/// The names that these arguments bind. A constant in a pattern is taken for one: it can be read as well.
pub(crate) fn bound<'a>(arguments: impl IntoIterator<Item = &'a PatType>) -> Vec<&'a Ident> {
    let mut bound = Bound(Vec::new());
    for argument in arguments.into_iter().filter(|argument| !argument.attrs.iter().any(is_conditional)) {
        bound.visit_pat(&argument.pat);
    }
    bound.0
}

struct Bound<'a>(Vec<&'a Ident>);

impl<'a> Visit<'a> for Bound<'a> {
    fn visit_pat_ident(&mut self, binding: &'a PatIdent) {
        self.0.push(&binding.ident);
        visit::visit_pat_ident(self, binding);
    }

    fn visit_field_pat(&mut self, field: &'a FieldPat) {
        // What is not there in every configuration cannot be read.
        if !field.attrs.iter().any(is_conditional) {
            visit::visit_field_pat(self, field);
        }
    }
}

fn is_conditional(attribute: &Attribute) -> bool {
    is_called(attribute, "cfg") || is_called(attribute, "cfg_attr")
}

/// Whether rustc says nothing when this name is not used.
pub(crate) fn is_silent(name: &Ident) -> bool {
    name.to_string().starts_with('_')
}

/// Whether these tokens have this name in them, also inside the text of a `format!`.
pub(crate) fn names(tokens: TokenStream, name: &Ident) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == *name,
        TokenTree::Group(group) => names(group.stream(), name),
        TokenTree::Literal(literal) => {
            let (text, name) = (literal.to_string(), name.unraw());
            [format!("{{{name}}}"), format!("{{{name}:"), format!("{name}$")].iter().any(|form| text.contains(form))
        }
        TokenTree::Punct(_) => false,
    })
}

/// A statement that reads these names, so that nobody is told that they are unused.
pub(crate) fn reads<'a>(names: impl IntoIterator<Item = &'a Ident>) -> TokenStream {
    let names: Vec<_> = names.into_iter().collect();
    if names.is_empty() { TokenStream::new() } else { quote!(let _ = (#(&#names,)*);) }
}

/// The body, which first reads these names: behind its inner attributes, which come before all statements.
pub(crate) fn reading(body: &TokenTree, names: &[&Ident]) -> TokenTree {
    let TokenTree::Group(block) = body else { return body.clone() };
    if names.is_empty() {
        return body.clone();
    }
    let (attributes, statements) = inner_attributes(block);
    let reads = reads(names.iter().copied());
    group(Delimiter::Brace, quote!(#attributes #reads #statements), block.span()).into()
}

/// The `#![..]` at the beginning of a block, and what follows them.
pub(crate) fn inner_attributes(block: &Group) -> (TokenStream, TokenStream) {
    let mut attributes = TokenStream::new();
    let mut rest = block.stream().into_iter();
    loop {
        let mut ahead = rest.clone();
        match (ahead.next(), ahead.next(), ahead.next()) {
            (Some(TokenTree::Punct(hash)), Some(TokenTree::Punct(bang)), Some(TokenTree::Group(inside)))
                if hash.as_char() == '#' && bang.as_char() == '!' =>
            {
                attributes.extend([hash.into_token_stream(), bang.into_token_stream(), inside.into_token_stream()]);
                rest = ahead;
            }
            _ => return (attributes, rest.collect()),
        }
    }
}

/// The pattern as it is matched against a reference: without `mut`, `ref` and `&`.
pub(crate) fn by_reference(pattern: &Pat) -> Pat {
    let mut pattern = pattern.clone();
    ByReference.visit_pat_mut(&mut pattern);
    pattern
}

struct ByReference;

impl VisitMut for ByReference {
    fn visit_pat_mut(&mut self, pattern: &mut Pat) {
        while let Pat::Reference(reference) = pattern {
            *pattern = (*reference.pat).clone();
        }
        visit_mut::visit_pat_mut(self, pattern);
    }

    fn visit_pat_ident_mut(&mut self, binding: &mut PatIdent) {
        binding.by_ref = None;
        binding.mutability = None;
        visit_mut::visit_pat_ident_mut(self, binding);
    }
}
