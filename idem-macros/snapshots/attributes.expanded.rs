#[doc(hidden)]
#[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy)]
#[non_exhaustive]
#[allow(deprecated, clippy::unused_async)]
#[allow(unused_mut)]
pub enum __idem_create {}
#[allow(deprecated, clippy::unused_async)]
#[allow(unused_mut)]
#[automatically_derived]
impl ::idem_runtime::private::Endpoint<(Json<NewOrder>,)> for __idem_create {
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new(
            "orders",
        )
        .key(&[::idem_runtime::KeySource::Arguments])
        .validate();
    fn argument_key(
        __idem_arguments: &(Json<NewOrder>,),
        __idem_source: ::core::primitive::usize,
    ) -> ::idem_runtime::private::ArgumentKey {
        let (Json(req),) = __idem_arguments;
        let _ = (&req,);
        match __idem_source {
            0 => ::idem_runtime::private::argument_key(&req.legacy_id),
            _ => ::idem_runtime::private::ArgumentKey::Absent,
        }
    }
}
#[automatically_derived]
impl ::idem_runtime::private::KeyChosen for __idem_create {}
/// Makes an order.
///
/// # Errors
/// When there is no stock.
#[deprecated = "use `create_order`"]
#[must_use]
#[allow(deprecated, clippy::unused_async)]
#[expect(unused_mut)]
#[deny(unused_variables)]
pub async fn create(
    __idem_guarded: ::idem_runtime::private::Guarded<__idem_create, (Json<NewOrder>,)>,
) -> ::idem_runtime::private::Response {
    #[instrument(skip_all)]
    #[inline]
    async fn create(#[allow(unused)] Json(mut req): Json<NewOrder>) -> StatusCode {
        #![allow(unreachable_code)]
        let _ = (&req,);
        StatusCode::CREATED
    }
    const _: () = {
        use ::idem_runtime::private::IsNoTx as _;
        let _ = ::idem_runtime::private::IsTx::<()>::YES;
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < Json < NewOrder > > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
    };
    __idem_guarded.run(|(__idem_a0,)| create(__idem_a0)).await
}
