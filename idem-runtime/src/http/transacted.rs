//! The guard of a handler under `transaction`: its arguments can be made again, because its transaction may be run again.

use std::{any::TypeId, future::Future, marker::PhantomData, pin::Pin, sync::Arc};

use axum::{
    extract::{FromRef, FromRequest, FromRequestParts, Request},
    response::{IntoResponse, Response},
};
use http::{StatusCode, request::Parts};

use super::{
    capture::{Keeping, capture},
    disposition::succeeded,
    fresh, guarded,
    guarded::{Endpoint, RuntimeSource, Via, attempt_slot},
    request::{Prepared, buffer, limited, prepare, restored},
};
use crate::{
    Idempotency, Tx,
    engine::{Ended, Place, Recording, Slot, Won, Work, fill},
    store::Transactions,
};

/// Where a handler under `transaction` finds the store of its `Tx` when the router's state is `S`.
#[diagnostic::on_unimplemented(
    message = "`Tx<{Self}>` finds no `{Self}` in the router's state `{S}`",
    label = "the state of this router holds no `{Self}`",
    note = "implement `FromRef<{S}> for {Self}`, or derive `FromRef` on a state that has a field of type `{Self}`"
)]
pub trait StoreSource<S>: Transactions {
    /// Finds it.
    fn find(state: &S) -> Self;
}

#[diagnostic::do_not_recommend]
impl<S, D: Transactions + FromRef<S>> StoreSource<S> for D {
    fn find(state: &S) -> Self {
        Self::from_ref(state)
    }
}

/// The argument that holds the transaction.
#[diagnostic::on_unimplemented(
    message = "the transaction of this handler is no `idem_runtime::Tx`",
    label = "not `idem_runtime::Tx<..>`",
    note = "write `mut tx: Tx<PostgresStore>` or `mut tx: Tx<SqliteStore>`"
)]
pub trait TxArgument: Send + 'static {
    /// The store that it is a transaction of.
    type Store: Transactions;
}

impl<D: Transactions> TxArgument for Tx<D> {
    type Store = D;
}

/// Compiles if a handler under `transaction` finds its store beside a state `S`, as `finds_runtime`.
pub fn finds_store<T: TxArgument<Store: StoreSource<S>>, S>() {}

/// Tells a [`Tx`] from everything else, for generated code that knows the type.
#[derive(Debug)]
pub struct IsTx<T>(PhantomData<T>);

impl<D: Transactions> IsTx<Tx<D>> {
    /// It is one.
    pub const YES: bool = true;
}

/// For every other type.
pub trait IsNoTx {
    /// It is none.
    const YES: bool = false;
}

impl<T> IsNoTx for IsTx<T> {}

/// The place of a `Tx` argument on its way through the request's extensions.
struct TxPlace<D: Transactions>(Place<D>);

impl<D: Transactions> Clone for TxPlace<D> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Sync, D: StoreSource<S>> FromRequestParts<S> for Tx<D> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let place = parts.extensions.get::<TxPlace<D>>();
        place.and_then(|TxPlace(place)| place.hand_out()).ok_or_else(|| {
            tracing::error!(
                "`Tx` is taken twice, or by a handler that is not `#[idempotent(.., transaction)]` with a `Tx` of this store"
            );
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        })
    }
}

/// The arguments of a handler under `transaction`, how to make them again, and the guard that is to be put around it.
///
/// `T` is the type of its `Tx` argument.
#[expect(missing_debug_implementations, reason = "holds a request and a handler's arguments")]
pub struct Transacted<E, A, T: TxArgument> {
    runtime: Idempotency,
    store: T::Store,
    place: Place<T::Store>,
    prepared: Option<Prepared>,
    given: Given<A>,
    again: Again<A>,
    endpoint: PhantomData<fn() -> E>,
}

/// A handler's arguments, and the slot of an `Attempt` among them.
type Given<A> = (A, Option<Slot>);

/// Extracts the arguments once more.
type Again<A> = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Given<A>, Response>> + Send>> + Send + Sync>;

/// A handler that is called once for each run.
struct Calls<H, A> {
    handler: H,
    /// Of the next run; `None`: to be extracted once more.
    given: Option<Given<A>>,
    again: Again<A>,
    keeping: Keeping,
}

impl<E: Endpoint<A>, A: Send + 'static, T: TxArgument> Transacted<E, A, T> {
    /// Runs the handler in a transaction unless the operation ran before, and answers.
    pub async fn run<H, F>(self, handler: H) -> Response
    where
        H: Fn(A) -> F + Send + 'static,
        F: Future<Output: IntoResponse> + Send + 'static,
    {
        let Self { runtime, store, place, prepared, given, again, .. } = self;
        let operation = match guarded::operation::<E, A>(&runtime, prepared, &given.0) {
            Ok(operation) => operation,
            Err(rejection) => return rejection.into_response(),
        };
        let keeping = Keeping::of(E::POLICY, runtime.limits());
        let calls = Calls { handler, given: Some(given), again, keeping };
        let ran = runtime.engine().transact(store, place, operation, calls).await;
        let key = operation.map(|operation| operation.key);
        fresh(&runtime, E::POLICY, key, ran).unwrap_or_else(|response| response)
    }
}

impl<H, A, F> Work for Calls<H, A>
where
    H: Fn(A) -> F + Send + 'static,
    A: Send + 'static,
    F: Future<Output: IntoResponse> + Send + 'static,
{
    type Value = Response;

    async fn ready(&mut self) -> Result<(), Response> {
        if self.given.is_none() {
            // While no transaction is open: an extractor may need a connection of the same pool.
            self.given = Some((self.again)().await?);
        }
        Ok(())
    }

    #[expect(clippy::expect_used, reason = "the engine makes ready for every run but the first, which has its own")]
    async fn run(&mut self, won: Won) -> Ended<Response> {
        let (arguments, attempt) = self.given.take().expect("arguments for this run");
        if let Some(slot) = attempt {
            fill(&slot, won);
        }
        let response = (self.handler)(arguments).await.into_response();
        let undo = !succeeded(&response);
        let settled = capture(response, self.keeping).await;
        if !undo && matches!(settled.recording, Recording::Release) {
            tracing::warn!(
                "`Disposition::Release` on an answer that says it succeeded: its transaction is rolled back"
            );
        }
        Ended { settled, undo }
    }
}

macro_rules! transacted {
    ($($leading:ident)*; $last:ident) => {
        #[allow(non_snake_case, reason = "an argument is named as its type")]
        impl<E, S, M, T, $($leading,)* $last> FromRequest<S, Via<M>> for Transacted<E, ($($leading,)* $last,), T>
        where
            E: Endpoint<($($leading,)* $last,)>,
            E::Runtime: RuntimeSource<S>,
            T: TxArgument<Store: StoreSource<S>>,
            S: Clone + Send + Sync + 'static,
            $($leading: FromRequestParts<S> + Send + 'static,)*
            $last: FromRequest<S, M> + Send + 'static,
        {
            type Rejection = Response;

            async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
                let (mut parts, body) = request.into_parts();
                let runtime = E::Runtime::find(&parts, state)?;
                let store = T::Store::find(state);
                let place = Place::default();
                parts.extensions.insert(TxPlace::<T::Store>(place.clone()));
                let kept = parts.clone();
                let arguments = [$(TypeId::of::<$leading>(),)* TypeId::of::<$last>()];
                let attempt = attempt_slot(&arguments, &mut parts);
                $(
                    let $leading =
                        $leading::from_request_parts(&mut parts, state).await.map_err(IntoResponse::into_response)?;
                )*
                let (prepared, body) = prepare(&runtime, E::POLICY, &mut parts, body, !E::PRINCIPAL).await?;
                let (body, trailers) = buffer(&runtime, limited(&mut parts.extensions, body)).await?;
                let request = Request::from_parts(parts, restored(body.clone(), trailers.clone()));
                let $last = $last::from_request(request, state).await.map_err(IntoResponse::into_response)?;
                let given = (($($leading,)* $last,), attempt);
                let state = state.clone();
                let again: Again<($($leading,)* $last,)> = Arc::new(move || {
                    let (mut parts, state) = (kept.clone(), state.clone());
                    let body = restored(body.clone(), trailers.clone());
                    Box::pin(async move {
                        let attempt = attempt_slot(&arguments, &mut parts);
                        $(
                            let $leading = $leading::from_request_parts(&mut parts, &state)
                                .await
                                .map_err(IntoResponse::into_response)?;
                        )*
                        let request = Request::from_parts(parts, body);
                        let $last = $last::from_request(request, &state).await.map_err(IntoResponse::into_response)?;
                        Ok((($($leading,)* $last,), attempt))
                    })
                });
                Ok(Self { runtime, store, place, prepared, given, again, endpoint: PhantomData })
            }
        }
    };
}

guarded::for_every_arity!(transacted);
