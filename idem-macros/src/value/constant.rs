//! Values in which there is nothing of the request: every caller has the same.

use proc_macro2::{TokenStream, TokenTree};
use syn::{Expr, ExprLit, ExprPath, Lit, Stmt, visit::Visit};

/// Macros that make text out of what stands in them.
const MACROS: &[&str] = &["concat", "env", "file", "format", "include_str", "line", "module_path", "stringify"];

/// Whether a value is a constant, as far as that can be read without knowing what a path names.
pub(super) fn is_constant(value: &Expr) -> bool {
    is_constant_with(value, &|_| false)
}

/// Whether a value is a constant, where these paths are.
pub(crate) fn is_constant_with(value: &Expr, is_named: &dyn Fn(&ExprPath) -> bool) -> bool {
    let is_constant = |value: &Expr| is_constant_with(value, is_named);
    match value {
        Expr::Lit(_) => true,
        Expr::Path(path) => is_named(path),
        Expr::Array(array) => array.elems.iter().all(is_constant),
        Expr::Binary(binary) => is_constant(&binary.left) && is_constant(&binary.right),
        Expr::Block(block) => matches!(&*block.block.stmts, [Stmt::Expr(value, None)] if is_constant(value)),
        Expr::Cast(cast) => is_constant(&cast.expr),
        Expr::Field(field) => is_constant(&field.base),
        Expr::Group(group) => is_constant(&group.expr),
        Expr::Macro(call) => {
            let name = call.mac.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default();
            MACROS.contains(&&*name) && (name == "stringify" || !has_names(call.mac.tokens.clone()))
        }
        // Of a static, such as a counter, a method may well tell something else each time.
        Expr::MethodCall(call) => self::is_constant(&call.receiver) && call.args.iter().all(is_constant),
        Expr::Paren(paren) => is_constant(&paren.expr),
        Expr::Reference(reference) => is_constant(&reference.expr),
        Expr::Tuple(tuple) => tuple.elems.iter().all(is_constant),
        Expr::Unary(unary) => is_constant(&unary.expr),
        _ => false,
    }
}

/// The value itself, without parentheses and `&` around it.
pub(super) fn bare(mut value: &Expr) -> &Expr {
    loop {
        value = match value {
            Expr::Group(group) => &group.expr,
            Expr::Paren(paren) => &paren.expr,
            Expr::Reference(reference) => &reference.expr,
            other => return other,
        };
    }
}

/// Whether these tokens have a name in them, also inside the text of a `format!`.
fn has_names(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(_) => true,
        TokenTree::Group(group) => has_names(group.stream()),
        TokenTree::Literal(literal) => {
            let text = literal.to_string().replace("{{", "");
            text.split('{').skip(1).any(|rest| rest.starts_with(|c: char| c.is_alphabetic() || c == '_'))
        }
        TokenTree::Punct(_) => false,
    })
}

/// The first text with a suffix, as in `"24h"s`, which rustc takes from nobody but a macro.
pub(crate) fn suffixed(value: &Expr) -> Option<&syn::LitStr> {
    let mut texts = Suffixed(None);
    texts.visit_expr(value);
    texts.0
}

struct Suffixed<'a>(Option<&'a syn::LitStr>);

impl<'a> Visit<'a> for Suffixed<'a> {
    fn visit_expr_lit(&mut self, literal: &'a ExprLit) {
        if let Lit::Str(text) = &literal.lit
            && !text.suffix().is_empty()
        {
            self.0.get_or_insert(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{is_constant, is_constant_with};

    fn constant(text: &str) -> bool {
        is_constant(&syn::parse_str(text).expect("an expression"))
    }

    #[test]
    fn sees_a_constant() {
        for value in [
            "\"k\"",
            "(\"k\")",
            "&\"k\"",
            "&(&\"k\")",
            "{ \"k\" }",
            "()",
            "(1, (2, \"k\"))",
            "[1, 2]",
            "-1",
            "1 + 2u64",
            "1 as u64",
            "\"k\".to_owned()",
            "concat!(\"a\", 1)",
            "std::concat!(\"k\")",
            "format!(\"{}{{id}}\", \"k\")",
            "stringify!(k)",
            "env!(\"K\")",
        ] {
            assert!(constant(value), "{value}");
        }
    }

    #[test]
    fn sees_a_constant_by_its_name() {
        let constant = |text: &str| {
            let value = syn::parse_str(text).expect("an expression");
            is_constant_with(&value, &|path| path.path.segments.last().is_some_and(|last| last.ident == "K"))
        };
        for value in ["K", "&K", "keys::K", "<T as Keyed>::K", "(1, K)", "K.0", "K as u64", "-K", "*K", "[K, K]"] {
            assert!(constant(value), "{value}");
        }
        for value in ["id", "(id, K)", "K.next()", "K(id)", "id.K", "keys::K(1)", "K[id]"] {
            assert!(!constant(value), "{value}");
        }
    }

    #[test]
    fn leaves_what_may_be_of_the_request() {
        for value in [
            "id",
            "K",
            "keys::K",
            "(1, id)",
            "1 + id",
            "\"k\".repeat(n)",
            "concat(\"k\")",
            "make!(\"k\")",
            "format!(\"{id}\")",
            "format!(\"{}\", id)",
            "{ let id = 5; id }",
            "String::from(\"k\")",
        ] {
            assert!(!constant(value), "{value}");
        }
    }
}
