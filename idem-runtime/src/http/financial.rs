//! A router that only takes handlers which cannot charge twice.

use axum::{
    Router,
    handler::Handler,
    routing::{self, MethodRouter},
};

use super::{
    guarded::{Guarded, KeyChosen, Via},
    transacted::{Transacted, TxArgument},
};

/// A router for routes that move money, with `.post(path, handler)`, `.put`, `.patch`, `.delete` and `.get`: what it mounts
/// under all but GET is `#[idempotent(.., key = ..)]` and requires that key, or it does not compile.
///
/// It has no `.route(..)`. [`into_router`](Self::into_router) makes an [`axum::Router`] of it, to be merged into the one
/// that has everything else.
///
/// ```
/// use axum::{Router, routing::get};
/// use idem_runtime::{FinancialRouter, Idempotency, MemoryStore, financial, idempotent};
///
/// #[financial]
/// #[idempotent(scope = "payments", key = from_header)]
/// async fn create_payment(body: String) -> String {
///     body
/// }
///
/// let idempotency = Idempotency::builder(MemoryStore::new()).principal_from_header("x-account").build();
/// let payments = FinancialRouter::new().post("/payments", create_payment);
/// let app: Router = Router::new()
///     .route("/health", get(|| async { "up" }))
///     .merge(payments.into_router())
///     .with_state(idempotency);
/// ```
///
/// A handler without a guard:
///
/// ```compile_fail
/// # use idem_runtime::{FinancialRouter, Idempotency};
/// async fn create_payment(body: String) -> String {
///     body
/// }
///
/// let app: FinancialRouter<Idempotency> = FinancialRouter::new().post("/payments", create_payment);
/// ```
#[derive(Debug, Clone)]
pub struct FinancialRouter<S = ()>(Router<S>);

/// A handler's marker that says: guarded, its key source was chosen, and a key is required.
#[diagnostic::on_unimplemented(
    message = "this handler could charge twice: it was given no `key`, or runs without one",
    label = "no `key`, or `missing = run`",
    note = "write `key`, as in `#[idempotent(scope = \"..\", key = from_header, financial)]`, and no `missing = run`"
)]
pub trait HasKeySource {}

/// [`HasKeySource`] of the marker `T`, said of the handler, so that the complaint points at it.
#[diagnostic::on_unimplemented(
    message = "this handler could charge twice: it was given no `key`, or runs without one",
    label = "no `key`, or `missing = run`",
    note = "write `key`, as in `#[idempotent(scope = \"..\", key = from_header, financial)]`, and no `missing = run`"
)]
pub trait FinancialHandler<T> {}

#[diagnostic::do_not_recommend]
impl<H, T: HasKeySource> FinancialHandler<T> for H {}

/// Nobody's: it says what to write instead of [`FinancialRouter::route`].
#[diagnostic::on_unimplemented(
    message = "a `FinancialRouter` has no `route`: it sees what guards a handler, and not what is inside a `MethodRouter`",
    label = "write `.post(path, handler)`",
    note = "or `.put`, `.patch`, `.delete`, `.get`; routes that move no money belong to the `Router` that `.into_router()` is merged into"
)]
pub trait TakesMethodRouters {}

/// Never an argument. Without a second candidate rustc takes any handler's marker for a guarded one, and complains
/// about the handler's arguments instead of the missing guard.
#[derive(Debug)]
pub enum Undecided {}

/// A guarded handler takes as many arguments as the user wrote, all of them `()` but the last.
macro_rules! guarded_after {
    () => {};
    ($one:tt $($others:tt)*) => {
        #[diagnostic::do_not_recommend]
        impl<M, E: KeyChosen, A> HasKeySource for (Via<M>, $($others,)* Guarded<E, A>) {}

        #[diagnostic::do_not_recommend]
        impl<M, E: KeyChosen, A, T: TxArgument> HasKeySource for (Via<M>, $($others,)* Transacted<E, A, T>) {}

        #[diagnostic::do_not_recommend]
        impl<M> HasKeySource for (Via<M>, $($others,)* Undecided) {}

        guarded_after!($($others)*);
    };
}

guarded_after!(()()()()()()()()()()()()()()()());

impl<S: Clone + Send + Sync + 'static> FinancialRouter<S> {
    /// A router without routes.
    #[must_use]
    pub fn new() -> Self {
        Self(Router::new())
    }

    /// GET changes nothing, so any handler may answer it.
    #[must_use]
    pub fn get<H, T>(self, path: &str, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.mount(path, routing::get(handler))
    }

    /// Never to be called: it is here to say what to write. The binder keeps rustc from refusing the bound right here.
    #[doc(hidden)]
    #[must_use]
    pub fn route(self, path: &str, method_router: MethodRouter<S>) -> Self
    where
        for<'missing> Self: TakesMethodRouters,
    {
        self.mount(path, method_router)
    }

    /// The router with everything mounted so far, to be nested, merged or served.
    pub fn into_router(self) -> Router<S> {
        self.0
    }

    fn mount(self, path: &str, method: MethodRouter<S>) -> Self {
        Self(self.0.route(path, method))
    }
}

macro_rules! guarded_methods {
    ($($method:ident $name:literal)*) => {
        impl<S: Clone + Send + Sync + 'static> FinancialRouter<S> {
            $(
                #[doc = concat!("Mounts a guarded handler for ", $name, ".")]
                #[must_use]
                pub fn $method<H, T>(self, path: &str, handler: H) -> Self
                where
                    H: Handler<T, S> + FinancialHandler<T>,
                    T: 'static,
                {
                    self.mount(path, routing::$method(handler))
                }
            )*
        }
    };
}

guarded_methods!(post "POST" put "PUT" patch "PATCH" delete "DELETE");

impl<S: Clone + Send + Sync + 'static> Default for FinancialRouter<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> From<FinancialRouter<S>> for Router<S> {
    fn from(router: FinancialRouter<S>) -> Self {
        router.0
    }
}
