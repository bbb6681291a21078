#[doc(hidden)]
#[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy)]
#[non_exhaustive]
enum __idem_create {}
#[automatically_derived]
impl crate::deps::idem::private::Endpoint<(Path<u64>,)> for __idem_create {
    type Runtime = crate::deps::idem::private::FromState;
    const POLICY: &'static crate::deps::idem::Policy = &crate::deps::idem::Policy::new(
            "orders",
        )
        .key(
            &[
                crate::deps::idem::KeySource::Function(|__idem_request| crate::deps::idem::private::function_key(
                    &key(__idem_request),
                )),
                crate::deps::idem::KeySource::Arguments,
            ],
        )
        .validate();
    fn argument_key(
        __idem_arguments: &(Path<u64>,),
        __idem_source: ::core::primitive::usize,
    ) -> crate::deps::idem::private::ArgumentKey {
        let (Path(id),) = __idem_arguments;
        let _ = (&id,);
        match __idem_source {
            1 => crate::deps::idem::private::argument_key(&id),
            _ => crate::deps::idem::private::ArgumentKey::Absent,
        }
    }
}
#[automatically_derived]
impl crate::deps::idem::private::KeyChosen for __idem_create {}
async fn create(
    __idem_guarded: crate::deps::idem::private::Guarded<__idem_create, (Path<u64>,)>,
) -> crate::deps::idem::private::Response {
    async fn create(Path(id): Path<u64>) {
        let _ = (&id,);
    }
    const _: () = {
        use crate::deps::idem::private::IsNoTx as _;
        let _ = crate::deps::idem::private::IsTx::<()>::YES;
        ::core::assert!(
            ! crate ::deps::idem::private::IsTx:: < Path < u64 > > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
    };
    __idem_guarded.run(|(__idem_a0,)| create(__idem_a0)).await
}
