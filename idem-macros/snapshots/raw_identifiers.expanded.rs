#[doc(hidden)]
#[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy)]
#[non_exhaustive]
enum __idem_move {}
#[automatically_derived]
impl ::idem_runtime::private::Endpoint<(Path<String>,)> for __idem_move {
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new("moves")
        .key(&[::idem_runtime::KeySource::Arguments])
        .validate();
    fn argument_key(
        __idem_arguments: &(Path<String>,),
        __idem_source: ::core::primitive::usize,
    ) -> ::idem_runtime::private::ArgumentKey {
        let (Path(r#type),) = __idem_arguments;
        let _ = (&r#type,);
        match __idem_source {
            0 => ::idem_runtime::private::argument_key(&r#type),
            _ => ::idem_runtime::private::ArgumentKey::Absent,
        }
    }
}
#[automatically_derived]
impl ::idem_runtime::private::KeyChosen for __idem_move {}
async fn r#move(
    __idem_guarded: ::idem_runtime::private::Guarded<__idem_move, (Path<String>,)>,
) -> ::idem_runtime::private::Response {
    async fn r#move(Path(r#type): Path<String>) {
        let _ = (&r#type,);
    }
    const _: () = {
        use ::idem_runtime::private::IsNoTx as _;
        let _ = ::idem_runtime::private::IsTx::<()>::YES;
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < Path < String > > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
    };
    __idem_guarded.run(|(__idem_a0,)| r#move(__idem_a0)).await
}
