#[doc(hidden)]
#[allow(
    non_camel_case_types,
    missing_copy_implementations,
    missing_debug_implementations,
    unnameable_types
)]
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
        arguments: &(Json<HashMap<String, Vec<(u64, &'static str)>>>,),
        source: usize,
    ) -> ::idem_runtime::private::ArgumentKey {
        #[allow(unused_variables)]
        let (Json(req),) = arguments;
        match source {
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
    __guarded: ::idem_runtime::private::Guarded<
        __idem_create,
        (Json<HashMap<String, Vec<(u64, &'static str)>>>,),
    >,
) -> ::idem_runtime::private::Response {
    async fn create(
        Json(req): Json<HashMap<String, Vec<(u64, &'static str)>>>,
    ) -> Result<(), Box<dyn Error>> {
        Ok(())
    }
    __guarded.run(|(a0,)| create(a0)).await
}
