//! What the attribute makes of a handler's arguments: one extractor that runs theirs and puts the guard around the rest.

use std::{any::TypeId, future::Future, marker::PhantomData};

use axum::{
    extract::{FromRef, FromRequest, FromRequestParts, Request},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use http::{StatusCode, request::Parts};

use super::{
    disposition::marked,
    rejection::{Code, Rejection},
    request::{Prepared, prepare},
    serve,
};
use crate::{
    Attempt, Idempotency, Policy,
    engine::{self, Granted, Slot, fill},
    fingerprint::{Fingerprint, ToFingerprint},
    key::{Principal, ToKey},
    recovery::{Recovering, Settlement},
};

/// What the attribute knows of one handler. Implemented by generated code only.
///
/// `A` are the handler's arguments as a tuple. They are a parameter, because an associated type of a public handler
/// could not name a private argument type.
pub trait Endpoint<A>: Send + 'static {
    /// [`FromState`] or [`FromExtension`].
    type Runtime;
    /// Every option.
    const POLICY: &'static Policy;
    /// Whether [`principal`](Self::principal) tells the caller, and not the runtime's rule.
    const PRINCIPAL: bool = false;

    /// The key that the source at this place makes of the arguments.
    fn argument_key(_arguments: &A, _source: usize) -> ArgumentKey {
        ArgumentKey::Absent
    }

    /// The caller, from the arguments.
    fn principal(_arguments: &A) -> Option<PrincipalText> {
        None
    }
}

/// The handler's `key` was written out, and no request runs without one.
pub trait KeyChosen {}

/// A key made of the arguments.
#[expect(missing_debug_implementations, reason = "holds what no log may show")]
#[derive(Clone)]
pub enum ArgumentKey {
    /// There is none.
    Absent,
    /// This one.
    Text(String),
    /// It could not be made.
    Invalid,
}

/// A caller's name made of the arguments.
#[expect(missing_debug_implementations, reason = "holds what no log may show")]
#[derive(Clone)]
pub struct PrincipalText(String);

/// The runtime is part of the router's state.
#[derive(Debug, Clone, Copy)]
pub struct FromState;

/// The runtime is an extension of the request.
#[derive(Debug, Clone, Copy)]
pub struct FromExtension;

/// Where a guarded handler finds its runtime when the router's state is `S`.
#[diagnostic::on_unimplemented(
    message = "a guarded handler finds no `Idempotency` in the router's state `{S}`",
    label = "the state of this router holds no `Idempotency`",
    note = "implement `FromRef<{S}> for Idempotency`, or derive `FromRef` on a state that has a field of type `Idempotency`",
    note = "or write `#[idempotent(.., runtime = extension)]` and add `axum::Extension(idempotency)` as a layer"
)]
pub trait RuntimeSource<S> {
    /// Finds it.
    fn find(parts: &Parts, state: &S) -> Result<Idempotency, Response>;
}

#[diagnostic::do_not_recommend]
impl<S> RuntimeSource<S> for FromState
where
    Idempotency: FromRef<S>,
{
    fn find(_: &Parts, state: &S) -> Result<Idempotency, Response> {
        Ok(Idempotency::from_ref(state))
    }
}

impl<S> RuntimeSource<S> for FromExtension {
    fn find(parts: &Parts, _: &S) -> Result<Idempotency, Response> {
        parts.extensions.get::<Idempotency>().cloned().ok_or_else(|| {
            tracing::error!("`runtime = extension` is chosen, and no layer adds `axum::Extension(idempotency)`");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        })
    }
}

/// Compiles if a guarded handler finds its runtime beside a state `S`. axum says only that such a function is no
/// handler, so generated code asks here, where `#[debug_handler]` tells it the state.
pub fn finds_runtime<R: RuntimeSource<S>, S>() {}

/// Our marker around that of the last argument, so that the two ways to extract one never meet.
#[derive(Debug)]
pub struct Via<M>(PhantomData<M>);

/// The arguments of a guarded handler, and the guard that is to be put around it.
#[expect(missing_debug_implementations, reason = "holds a request and a handler's arguments")]
pub struct Guarded<E, A> {
    runtime: Idempotency,
    prepared: Option<Prepared>,
    arguments: A,
    attempt: Option<Slot>,
    endpoint: PhantomData<fn() -> E>,
}

impl<E: Endpoint<A>, A: Send + 'static> Guarded<E, A> {
    /// Runs the handler unless the operation ran before, and answers.
    pub fn run<H, F>(self, handler: H) -> impl Future<Output = Response> + Send
    where
        H: FnOnce(A) -> F + Send + 'static,
        F: Future<Output: IntoResponse> + Send + 'static,
    {
        // Taken apart before the future begins, which would keep room for the whole beside its parts; and the operation is looked
        // at where it lies, for the same reason.
        let Self { runtime, prepared, arguments, attempt, .. } = self;
        let operation = operation::<E, A>(&runtime, prepared, &arguments);
        async move {
            match &operation {
                Err(rejection) => rejection.clone().into_response(),
                Ok(None) => {
                    if let Some(slot) = attempt {
                        runtime.engine().fill_unclaimed(&slot);
                    }
                    handler(arguments).await.into_response()
                }
                Ok(Some(operation)) => {
                    let effect = move |granted: Granted<'_>| {
                        if let Some(slot) = &attempt {
                            fill(slot, granted.keep());
                        }
                        handler(arguments).map(move |answer| Ok(marked(answer.into_response(), attempt.as_ref())))
                    };
                    let Ok(response) =
                        serve::<std::convert::Infallible, _, _>(&runtime, E::POLICY, operation, effect).await;
                    response
                }
            }
        }
    }
}

/// The operation, if the request has a key.
pub(super) fn operation<E: Endpoint<A>, A>(
    runtime: &Idempotency,
    prepared: Option<Prepared>,
    arguments: &A,
) -> Result<Option<engine::Operation>, Rejection> {
    let Some(prepared) = prepared else { return Ok(None) };
    let argument_key = |place| match E::argument_key(arguments, place) {
        ArgumentKey::Absent => Ok(None),
        ArgumentKey::Text(key) => Ok(Some(key)),
        ArgumentKey::Invalid => Err(Rejection::from(Code::KeyInvalid)),
    };
    let principal = || E::principal(arguments).map(|PrincipalText(name)| Principal::new(name));
    prepared.operation(runtime, E::POLICY, argument_key, principal)
}

impl ArgumentKey {
    /// This key, or that of the next source if there is none.
    #[must_use]
    pub fn or_else(self, next: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Absent => next(),
            found => found,
        }
    }
}

/// A key source's value, for generated code.
pub fn argument_key<K: ToKey + ?Sized>(key: &K) -> ArgumentKey {
    key.to_key().map_or(ArgumentKey::Absent, |key| ArgumentKey::Text(key.into_owned()))
}

/// `derive(entity, action, params)`, for generated code.
pub fn derived_key<E, A, P>(entity: &E, action: &A, params: &P) -> ArgumentKey
where
    E: ToKey + ?Sized,
    A: ToKey + ?Sized,
    P: serde::Serialize + ?Sized,
{
    let (Some(entity), Some(action)) = (entity.to_key(), action.to_key()) else {
        return ArgumentKey::Absent;
    };
    crate::derive_key(&entity, &action, params).map_or(ArgumentKey::Invalid, ArgumentKey::Text)
}

/// A recovery function's future, for generated code.
pub fn recovering(asked: impl Future<Output = Option<Settlement>> + Send + 'static) -> Recovering {
    Box::pin(asked)
}

/// A key function's value, for generated code.
pub fn function_key<K: ToKey + ?Sized>(key: &K) -> Option<String> {
    key.to_key().map(std::borrow::Cow::into_owned)
}

/// A fingerprint function's value, for generated code.
pub fn function_fingerprint(made: impl ToFingerprint) -> Option<Fingerprint> {
    made.to_fingerprint()
}

/// `principal = ..`, for generated code.
pub fn principal<K: ToKey + ?Sized>(name: &K) -> Option<PrincipalText> {
    name.to_key().filter(|name| !name.is_empty()).map(|name| PrincipalText(name.into_owned()))
}

/// The slot of an `Attempt` argument on its way through the request's extensions.
#[derive(Clone)]
pub(super) struct AttemptSlot(pub(super) Slot);

impl<S: Sync> FromRequestParts<S> for Attempt {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        parts.extensions.get::<AttemptSlot>().map(|slot| Self::of(slot.0.clone())).ok_or_else(|| {
            tracing::error!("`Attempt` is an argument of a handler that is neither `#[idempotent]` nor for POST, PUT, PATCH or DELETE under a layer");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        })
    }
}

/// One slot, if one of the arguments is an `Attempt`: the others pay nothing for it. Where a layer has left its own, for what takes an
/// `Attempt` out of sight: it is this guard's that the handler runs under.
pub(super) fn attempt_slot(arguments: &[TypeId], parts: &mut Parts) -> Option<Slot> {
    let wanted = arguments.contains(&TypeId::of::<Attempt>()) || parts.extensions.get::<AttemptSlot>().is_some();
    wanted.then(|| {
        let slot = Slot::default();
        parts.extensions.insert(AttemptSlot(slot.clone()));
        slot
    })
}

macro_rules! guarded {
    ($($leading:ident)*; $last:ident) => {
        #[allow(non_snake_case, reason = "an argument is named as its type")]
        impl<E, S, M, $($leading,)* $last> FromRequest<S, Via<M>> for Guarded<E, ($($leading,)* $last,)>
        where
            E: Endpoint<($($leading,)* $last,)>,
            E::Runtime: RuntimeSource<S>,
            S: Send + Sync,
            $($leading: FromRequestParts<S> + Send + 'static,)*
            $last: FromRequest<S, M> + Send + 'static,
        {
            type Rejection = Response;

            fn from_request(request: Request, state: &S) -> impl Future<Output = Result<Self, Response>> + Send {
                // Taken apart before the future begins, as above.
                let (mut parts, body) = request.into_parts();
                async move {
                    let runtime = E::Runtime::find(&parts, state)?;
                    let arguments = [$(TypeId::of::<$leading>(),)* TypeId::of::<$last>()];
                    let attempt = attempt_slot(&arguments, &mut parts);
                    // Whoever may no longer call the route is refused here, before any replay.
                    $(
                        let $leading =
                            $leading::from_request_parts(&mut parts, state).await.map_err(IntoResponse::into_response)?;
                    )*
                    let (prepared, body) = prepare(&runtime, E::POLICY, &mut parts, body, !E::PRINCIPAL).await?;
                    // An invalid body never touches the store and never burns a key.
                    let request = Request::from_parts(parts, body);
                    // In a box: together with it, the handler's own would be too large for the allocator's quick path.
                    let extracting = Box::pin($last::from_request(request, state));
                    let $last = extracting.await.map_err(IntoResponse::into_response)?;
                    Ok(Self { runtime, prepared, arguments: ($($leading,)* $last,), attempt, endpoint: PhantomData })
                }
            }
        }
    };
}

impl<E, S> FromRequest<S, Via<()>> for Guarded<E, ()>
where
    E: Endpoint<()>,
    E::Runtime: RuntimeSource<S>,
    S: Send + Sync,
{
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let runtime = E::Runtime::find(&parts, state)?;
        let (prepared, _) = prepare(&runtime, E::POLICY, &mut parts, body, !E::PRINCIPAL).await?;
        Ok(Self { runtime, prepared, arguments: (), attempt: None, endpoint: PhantomData })
    }
}

/// Calls a macro with the names of one argument to sixteen.
macro_rules! for_every_arity {
    ($implement:ident) => {
        $implement!(; A1);
        $implement!(A1; A2);
        $implement!(A1 A2; A3);
        $implement!(A1 A2 A3; A4);
        $implement!(A1 A2 A3 A4; A5);
        $implement!(A1 A2 A3 A4 A5; A6);
        $implement!(A1 A2 A3 A4 A5 A6; A7);
        $implement!(A1 A2 A3 A4 A5 A6 A7; A8);
        $implement!(A1 A2 A3 A4 A5 A6 A7 A8; A9);
        $implement!(A1 A2 A3 A4 A5 A6 A7 A8 A9; A10);
        $implement!(A1 A2 A3 A4 A5 A6 A7 A8 A9 A10; A11);
        $implement!(A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11; A12);
        $implement!(A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11 A12; A13);
        $implement!(A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11 A12 A13; A14);
        $implement!(A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11 A12 A13 A14; A15);
        $implement!(A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11 A12 A13 A14 A15; A16);
    };
}
pub(super) use for_every_arity;

for_every_arity!(guarded);
