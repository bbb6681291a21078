#[doc(hidden)]
#[allow(
    non_camel_case_types,
    missing_copy_implementations,
    missing_debug_implementations,
    unnameable_types
)]
enum __idem_create {}
#[automatically_derived]
impl crate::deps::idem::private::Endpoint<(Path<u64>,)> for __idem_create {
    type Runtime = crate::deps::idem::private::FromState;
    const POLICY: &'static crate::deps::idem::Policy = &crate::deps::idem::Policy::new(
            "orders",
        )
        .key(
            &[
                crate::deps::idem::KeySource::Function(|request| crate::deps::idem::private::function_key(
                    &key(request),
                )),
                crate::deps::idem::KeySource::Arguments,
            ],
        )
        .validate();
    fn argument_key(
        arguments: &(Path<u64>,),
        source: usize,
    ) -> crate::deps::idem::private::ArgumentKey {
        #[allow(unused_variables)]
        let (Path(id),) = arguments;
        match source {
            1 => crate::deps::idem::private::argument_key(&id),
            _ => crate::deps::idem::private::ArgumentKey::Absent,
        }
    }
}
#[automatically_derived]
impl crate::deps::idem::private::KeyChosen for __idem_create {}
async fn create(
    __guarded: crate::deps::idem::private::Guarded<__idem_create, (Path<u64>,)>,
) -> crate::deps::idem::private::Response {
    async fn create(Path(id): Path<u64>) {}
    __guarded.run(|(a0,)| create(a0)).await
}
