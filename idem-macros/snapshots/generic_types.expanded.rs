#[doc(hidden)]
#[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy)]
#[non_exhaustive]
enum __idem_create {}
#[automatically_derived]
impl ::idem_runtime::private::Endpoint<
    (Json<HashMap<String, Vec<(u64, &'static str)>>>,),
> for __idem_create {
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new(
            "orders",
        )
        .key(&[::idem_runtime::KeySource::Arguments])
        .validate();
    fn argument_key(
        __idem_arguments: &(Json<HashMap<String, Vec<(u64, &'static str)>>>,),
        __idem_source: ::core::primitive::usize,
    ) -> ::idem_runtime::private::ArgumentKey {
        let (Json(req),) = __idem_arguments;
        let _ = (&req,);
        match __idem_source {
            0 => {
                ::idem_runtime::private::argument_key(
                    &pick::<u64, String>(&req, |a, b| a == b),
                )
            }
            _ => ::idem_runtime::private::ArgumentKey::Absent,
        }
    }
}
#[automatically_derived]
impl ::idem_runtime::private::KeyChosen for __idem_create {}
async fn create(
    __idem_guarded: ::idem_runtime::private::Guarded<
        __idem_create,
        (Json<HashMap<String, Vec<(u64, &'static str)>>>,),
    >,
) -> ::idem_runtime::private::Response {
    async fn create(
        Json(req): Json<HashMap<String, Vec<(u64, &'static str)>>>,
    ) -> Result<(), Box<dyn Error>> {
        let _ = (&req,);
        Ok(())
    }
    const _: () = {
        use ::idem_runtime::private::IsNoTx as _;
        let _ = ::idem_runtime::private::IsTx::<()>::YES;
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < Json < HashMap < String, Vec < (u64, &
            'static str) > > > > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
    };
    __idem_guarded.run(|(__idem_a0,)| create(__idem_a0)).await
}
