//! A listener that keeps what it is told of spans.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tracing::{
    Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::DefaultGuard,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

/// Every span that this thread enters anew. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct Spans {
    seen: Arc<Mutex<Vec<Span>>>,
    /// Of which nothing is wanted.
    deaf_to: Option<&'static str>,
}

/// One span.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "named as the parts of a span")]
pub struct Span {
    id: span::Id,
    pub name: &'static str,
    pub parent: Option<&'static str>,
    pub fields: BTreeMap<&'static str, String>,
    pub is_closed: bool,
}

impl Spans {
    /// Listens in this thread, as long as the guard lives.
    #[must_use]
    pub fn listen(&self) -> DefaultGuard {
        tracing::subscriber::set_default(tracing_subscriber::registry().with(self.clone()))
    }

    /// Not to spans and events of this target.
    #[must_use]
    pub fn but(self, target: &'static str) -> Self {
        Self { deaf_to: Some(target), ..self }
    }

    /// Those of this name, in the order in which they were made.
    #[must_use]
    pub fn named(&self, name: &str) -> Vec<Span> {
        self.seen().iter().filter(|span| span.name == name).cloned().collect()
    }

    /// This field of each of them, where it was said.
    #[must_use]
    pub fn each(&self, name: &str, field: &str) -> Vec<Option<String>> {
        self.named(name).iter().map(|span| span.fields.get(field).cloned()).collect()
    }

    fn seen(&self) -> MutexGuard<'_, Vec<Span>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An id is given again once its span is closed.
    fn with_open(&self, id: &span::Id, change: impl FnOnce(&mut Span)) {
        if let Some(span) = self.seen().iter_mut().rev().find(|span| span.id == *id && !span.is_closed) {
            change(span);
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.deaf_to != Some(metadata.target())
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let parent = context.span(id).and_then(|span| Some(span.parent()?.name()));
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let name = attributes.metadata().name();
        self.seen().push(Span { id: id.clone(), name, parent, fields: fields.0, is_closed: false });
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, _: Context<'_, S>) {
        self.with_open(id, |span| {
            let mut fields = Fields::default();
            values.record(&mut fields);
            for (name, value) in fields.0 {
                let before = span.fields.insert(name, value);
                assert!(before.is_none(), "`{name}` of `{}` is said twice", span.name);
            }
        });
    }

    fn on_close(&self, id: span::Id, _: Context<'_, S>) {
        self.with_open(&id, |span| span.is_closed = true);
    }
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}
