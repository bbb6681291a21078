//! Asking what became of an operation whose owner vanished: the question, who answers it, and the answer.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::BufMut;
use serde::Serialize;

use crate::{
    derive::downstream_key,
    key::StorageKey,
    record::{Answer, Kind},
    store::{Fence, Verdict},
};

/// A function that finds out whether an operation took effect, for
/// [`OnAbandoned::Recover`](crate::OnAbandoned::Recover).
///
/// ```
/// use idem_runtime::{OnAbandoned, Policy, Recover, Settlement, Unsettled};
///
/// # #[derive(Clone)] struct Provider;
/// # impl Provider {
/// #     async fn was_charged(&self, _: &str) -> Result<bool, ()> { Ok(true) }
/// # }
/// async fn ask(unsettled: Unsettled) -> Option<Settlement> {
///     let provider = unsettled.context::<Provider>()?;
///     match provider.was_charged(&unsettled.attempt().downstream_key("charge")).await {
///         Ok(true) => Some(Settlement::executed()),
///         Ok(false) => Some(Settlement::not_executed()),
///         Err(_) => None,
///     }
/// }
///
/// const PAYMENTS: Policy =
///     Policy::new("payments").on_abandoned(OnAbandoned::Recover(Recover::new(|lost| Box::pin(ask(lost))))).validate();
/// ```
#[derive(Clone, Copy)]
pub struct Recover(fn(Unsettled) -> Recovering);

/// The answer of a recovery function under way; `None`: nobody can tell yet.
pub type Recovering = Pin<Box<dyn Future<Output = Option<Settlement>> + Send>>;

/// An operation of which nobody knows whether it took effect.
#[derive(Debug, Clone)]
pub struct Unsettled {
    lost: LostAttempt,
    context: Context,
}

/// The attempt whose outcome is unknown: what [`Attempt`](crate::Attempt) told the run that was lost.
#[derive(Debug, Clone, Copy)]
pub struct LostAttempt {
    key: StorageKey,
    fence: Fence,
    number: u32,
}

/// What somebody found out about an operation whose outcome was unknown.
///
/// Given by a recovery function, or by an operator to [`Idempotency::resolve`](crate::Idempotency::resolve).
#[derive(Clone, PartialEq, Eq)]
#[must_use = "a settlement settles nothing until it is returned or resolved"]
pub struct Settlement(Found);

#[derive(Clone, PartialEq, Eq)]
enum Found {
    NotExecuted,
    Executed,
    Answered(Answer),
}

/// What recovery functions reach the world through, one value for each type.
#[derive(Clone, Default)]
pub(crate) struct Context(Arc<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

impl Recover {
    /// Asks this function: a closure that captures nothing and boxes the future of an `async fn`.
    pub const fn new(ask: fn(Unsettled) -> Recovering) -> Self {
        Self(ask)
    }

    pub(crate) fn ask(self, unsettled: Unsettled) -> Recovering {
        self.0(unsettled)
    }
}

/// By the address of the function: two copies that the compiler made of one are not equal.
impl PartialEq for Recover {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::fn_addr_eq(self.0, other.0)
    }
}

impl Eq for Recover {}

impl fmt::Debug for Recover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recover(..)")
    }
}

impl Unsettled {
    pub(crate) const fn new(key: StorageKey, fence: Fence, number: u32, context: Context) -> Self {
        Self { lost: LostAttempt { key, fence, number }, context }
    }

    /// For a test of a recovery function: the attempt of this number and fence at some operation, without a context.
    ///
    /// ```
    /// use idem_runtime::{Settlement, StorageKey, Unsettled, store::Fence};
    ///
    /// /// Knows under which key it charged.
    /// struct Provider {
    ///     charged: String,
    /// }
    ///
    /// async fn ask(lost: Unsettled) -> Option<Settlement> {
    ///     let provider = lost.context::<Provider>()?;
    ///     let charged = provider.charged == lost.attempt().downstream_key("charge");
    ///     Some(if charged { Settlement::executed() } else { Settlement::not_executed() })
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let one = Unsettled::for_test(StorageKey::from_bytes([1; 32]), Fence::new(7), 2);
    /// let another = Unsettled::for_test(StorageKey::from_bytes([2; 32]), Fence::new(7), 2);
    /// let charged = || Provider { charged: one.attempt().downstream_key("charge") };
    ///
    /// assert_eq!(ask(one.clone().with_context(charged())).await, Some(Settlement::executed()));
    /// assert_eq!(ask(another.with_context(charged())).await, Some(Settlement::not_executed()));
    /// assert_eq!(ask(one).await, None);
    /// # }
    /// ```
    pub fn for_test(operation: StorageKey, fence: Fence, number: u32) -> Self {
        Self::new(operation, fence, number, Context::default())
    }

    /// For a test: with this value besides, as [`context`](crate::IdempotencySetup::context) of the runtime's builder gives it. One value
    /// for each type; a second one replaces the first.
    #[must_use]
    pub fn with_context<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.context.insert(value);
        self
    }

    /// The attempt that was lost.
    pub const fn attempt(&self) -> &LostAttempt {
        &self.lost
    }

    /// What [`context`](crate::IdempotencySetup::context) was given when the runtime was built; `None`: nothing of this type.
    pub fn context<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.context.0.get(&TypeId::of::<T>())?.downcast_ref()
    }
}

impl LostAttempt {
    /// Which attempt at the operation it was, from 1.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// The fence the attempt had.
    pub const fn fence(&self) -> Fence {
        self.fence
    }

    /// The key under which the attempt took this step at somebody else's service.
    pub fn downstream_key(&self, step: &str) -> String {
        downstream_key(&self.key, step)
    }
}

impl Settlement {
    /// It did not take effect: a retry runs.
    pub const fn not_executed() -> Self {
        Self(Found::NotExecuted)
    }

    /// It took effect, and its answer is not known: retries get 409 `response-not-kept`.
    pub const fn executed() -> Self {
        Self(Found::Executed)
    }

    /// It took effect and returned this value: later calls of [`execute`](crate::Idempotency::execute) get it.
    ///
    /// A value that cannot be written as JSON settles as [`executed`](Self::executed).
    pub fn returned(value: &(impl Serialize + ?Sized)) -> Self {
        serde_json::to_vec(value).map_or(Self::executed(), |json| {
            Self::answered(Answer::seal(Kind::Value, json.len(), |bytes| bytes.put_slice(&json)))
        })
    }

    pub(crate) const fn answered(answer: Answer) -> Self {
        Self(Found::Answered(answer))
    }

    /// What a store is told.
    pub(crate) fn verdict(self, ttl: Duration, remember: Duration) -> Verdict {
        match self.0 {
            Found::NotExecuted => Verdict::NotExecuted,
            Found::Executed => Verdict::Completed { answer: None, ttl, remember },
            Found::Answered(answer) => Verdict::Completed { answer: Some(answer), ttl, remember },
        }
    }
}

/// Never the answer.
impl fmt::Debug for Settlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Found::NotExecuted => "Settlement(not executed)",
            Found::Executed => "Settlement(executed)",
            Found::Answered(_) => "Settlement(answered)",
        })
    }
}

impl Context {
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        Arc::make_mut(&mut self.0).insert(TypeId::of::<T>(), Arc::new(value));
    }
}

/// Never the values: a client of a provider may hold its password.
impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({} types)", self.0.len())
    }
}
