//! Options with a few named values, some of which carry a value of their own: `wait("5s")`.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Expr, ExprCall, ExprPath, Ident, LitStr, Path, Result, spanned::Spanned};

use super::{Duration, Value, Written, all, error, name, nearest, text, ungroup, variant, word};

// Each kind, the path under the runtime in which its variants live, and what is written for each of them.
choices! {
    Missing in Missing { reject => Reject, run => Run }
    KeySpace in KeySpace { endpoint => Endpoint, scope => Scope }
    FingerprintRule in FingerprintRule { bytes => Bytes, json => Json, fields(Fields) => Fields, from_fn(Maker) => Function, off => Off }
    StoreRule in StoreRule { success => Success, definitive => Definitive, all => All }
    OnConflict in OnConflict { reject => Reject, wait(Duration) => Wait }
    OnAbandoned in OnAbandoned { retry => Retry, refuse => Refuse, recover(Recovery) => Recover }
    OnStoreError in OnStoreError { reject => Reject, run => Run }
    Runtime in private { state => FromState, extension => FromExtension }
}

/// The JSON pointers of `fields("/amount", "/currency")`.
pub(crate) struct Fields(Vec<LitStr>);

/// The function of `from_fn(my_fingerprint)`.
pub(crate) struct Maker(ExprPath);

/// The function of `recover(ask_the_provider)`.
pub(crate) struct Recovery(ExprPath);

/// What stands in the parentheses behind a word.
trait Payload: Sized {
    const EXAMPLE: &'static str;

    fn parse(call: &ExprCall) -> Result<Self>;

    fn emit(&self, root: &Path) -> TokenStream;
}

impl Payload for Duration {
    const EXAMPLE: &'static str = "\"5s\"";

    fn parse(call: &ExprCall) -> Result<Self> {
        let mut arguments = call.args.iter();
        match (arguments.next(), arguments.next()) {
            (Some(duration), None) => Self::from_expr(duration),
            (None, _) => Err(error(call, "how long? write a duration, as in `wait(\"5s\")`")),
            (Some(_), Some(second)) => Err(error(second, "one duration is enough: write `wait(\"5s\")`")),
        }
    }

    fn emit(&self, root: &Path) -> TokenStream {
        Value::emit(self, root)
    }
}

impl Payload for Fields {
    const EXAMPLE: &'static str = "\"/amount\"";

    fn parse(call: &ExprCall) -> Result<Self> {
        if call.args.is_empty() {
            return Err(error(call, "which fields? write JSON pointers, as in `fields(\"/amount\", \"/currency\")`"));
        }
        let pointers = all(call.args.iter().map(|value| name::pointer(value, "fields")))?;
        let mut seen: Vec<String> = Vec::new();
        all(pointers.into_iter().map(|pointer| {
            let value = pointer.value();
            if seen.contains(&value) {
                return Err(error(&pointer, format!("`{value}` is named twice: keep one")));
            }
            seen.push(value);
            Ok(pointer)
        }))
        .map(Self)
    }

    fn emit(&self, _: &Path) -> TokenStream {
        let pointers = &self.0;
        quote!(&[#(#pointers),*])
    }
}

impl Payload for Maker {
    const EXAMPLE: &'static str = "my_fingerprint";

    fn parse(call: &ExprCall) -> Result<Self> {
        one_function(
            call,
            "`from_fn` takes the name of a function: write `from_fn(my_fingerprint)`",
            "which function? name one, as in `from_fn(my_fingerprint)`",
            "one function is enough: write `from_fn(my_fingerprint)`",
        )
        .map(Self)
    }

    fn emit(&self, root: &Path) -> TokenStream {
        let path = &self.0;
        let request = Ident::new("__idem_request", Span::mixed_site());
        // With the user's span, a complaint about what the function returns points at its name.
        let made = quote_spanned!(path.span()=> #path(#request));
        quote!(|#request| #root::private::function_fingerprint(#made))
    }
}

impl Payload for Recovery {
    const EXAMPLE: &'static str = "ask_the_provider";

    fn parse(call: &ExprCall) -> Result<Self> {
        one_function(
            call,
            "`recover` takes the name of an async function: write `recover(ask_the_provider)`",
            "who is asked? name an async function, as in `recover(ask_the_provider)`",
            "one function is enough: write `recover(ask_the_provider)`",
        )
        .map(Self)
    }

    fn emit(&self, root: &Path) -> TokenStream {
        let path = &self.0;
        let unsettled = Ident::new("__idem_unsettled", Span::mixed_site());
        // With the user's span, a complaint about what the function returns points at its name.
        let asked = quote_spanned!(path.span()=> #path(#unsettled));
        quote!(#root::Recover::new(|#unsettled| #root::private::recovering(#asked)))
    }
}

/// A word that can be written, and an example of what its parentheses hold.
struct Word {
    name: &'static str,
    payload: Option<&'static str>,
}

impl Word {
    /// As it is written: `wait("5s")`.
    fn spelled(&self) -> String {
        self.payload.map_or_else(|| self.name.to_owned(), |payload| format!("{}({payload})", self.name))
    }
}

/// The word that was written.
struct Choice<'a> {
    word: &'a Ident,
    call: Option<&'a ExprCall>,
    payload: Option<&'static str>,
}

impl<'a> Choice<'a> {
    fn read(written: &'a Written<'_>, words: &[Word]) -> Result<Self> {
        let value = written.value()?;
        let (found, call) = match value {
            Expr::Call(call) => (word(&call.func), Some(call)),
            _ => (word(value), None),
        };
        let choices = spell(words);
        let Some(found) = found else {
            let quoted =
                text(value).and_then(|text| Some((text, words.iter().find(|word| text.value() == word.name)?)));
            if let Some((literal, word)) = quoted {
                let message =
                    format!("`{}` is a word, not a text: write `{} = {}`", word.name, written.name, word.spelled());
                return Err(error(literal, message));
            }
            return Err(error(value, format!("`{}` is a word: write {choices}", written.name)));
        };
        let name = found.to_string();
        if let Some(known) = words.iter().find(|word| word.name == name) {
            return Ok(Self { word: found, call, payload: known.payload });
        }
        let names: Vec<_> = words.iter().map(|word| word.name).collect();
        let hint = match nearest(&name, &names) {
            Some(known) => format!("did you mean `{known}`?"),
            None => format!("write {choices}"),
        };
        Err(error(found, format!("`{}` cannot be `{name}`: {hint}", written.name)))
    }

    fn bare(&self) -> Result<()> {
        match self.call {
            Some(call) => Err(error(call, format!("`{0}` takes nothing: write `{0}` alone", self.word))),
            None => Ok(()),
        }
    }

    fn payload<T: Payload>(&self) -> Result<T> {
        match self.call {
            Some(call) => T::parse(call),
            None => {
                let (word, example) = (self.word, self.payload.unwrap_or_default());
                Err(error(word, format!("`{word}` needs a value: write `{word}({example})`")))
            }
        }
    }
}

/// `` `reject` or `wait("5s")` ``
fn spell(words: &[Word]) -> String {
    let forms: Vec<String> = words.iter().map(|word| format!("`{}`", word.spelled())).collect();
    match forms.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

macro_rules! choices {
    (@payload) => { None };
    (@payload $payload:ident) => { Some(<$payload as Payload>::EXAMPLE) };

    (@read $choice:ident $variant:ident) => { $choice.bare().map(|()| Self::$variant) };
    (@read $choice:ident $variant:ident $payload:ident) => { $choice.payload::<$payload>().map(Self::$variant) };

    (@emit $self:ident $root:ident $home:ident $variant:ident) => {
        matches!($self, Self::$variant).then(|| variant($root, stringify!($home), stringify!($variant), None))
    };
    (@emit $self:ident $root:ident $home:ident $variant:ident $payload:ident) => {
        match $self {
            Self::$variant(payload) => {
                Some(variant($root, stringify!($home), stringify!($variant), Some(Payload::emit(payload, $root))))
            }
            _ => None,
        }
    };

    ($($kind:ident in $home:ident { $($word:ident $(($payload:ident))? => $variant:ident),* })*) => {$(
        #[doc = concat!("The values of an option of the kind `", stringify!($kind), "`.")]
        pub(crate) enum $kind {
            $($variant $(($payload))?,)*
        }

        impl Value for $kind {
            fn parse(written: &Written<'_>) -> Result<Self> {
                let words = [$(Word { name: stringify!($word), payload: choices!(@payload $($payload)?) }),*];
                let choice = Choice::read(written, &words)?;
                match choice.word.to_string().as_str() {
                    $(stringify!($word) => choices!(@read choice $variant $($payload)?),)*
                    // `Choice::read` let only these words through.
                    other => Err(error(choice.word, format!("`{other}` is unknown: write {}", spell(&words)))),
                }
            }

            fn emit(&self, root: &Path) -> TokenStream {
                [$(choices!(@emit self root $home $variant $($payload)?)),*].into_iter().flatten().collect()
            }
        }
    )*};
}
use choices;

/// The function that is named, or what is said of something else, of nothing, and of a second one.
fn one_function(call: &ExprCall, something_else: &str, nothing: &str, a_second: &str) -> Result<ExprPath> {
    let mut arguments = call.args.iter().map(ungroup);
    match (arguments.next(), arguments.next()) {
        (Some(Expr::Path(path)), None) => Ok(path.clone()),
        (Some(other), None) => Err(error(other, something_else)),
        (None, _) => Err(error(call, nothing)),
        (Some(_), Some(second)) => Err(error(second, a_second)),
    }
}
