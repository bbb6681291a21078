#[doc(hidden)]
#[allow(non_camel_case_types)]
enum __idem_create {}
#[automatically_derived]
impl crate::deps::idem::private::Endpoint for __idem_create {
    type Arguments = (Path<u64>,);
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
        arguments: &Self::Arguments,
        source: usize,
    ) -> crate::deps::idem::private::ArgumentKey {
        #[allow(unused_variables)]
        let (Path(id),) = arguments;
        match source {
            1 => crate::deps::idem::private::argument_key(&(id)),
            _ => crate::deps::idem::private::ArgumentKey::Absent,
        }
    }
}
#[automatically_derived]
impl crate::deps::idem::private::KeyChosen for __idem_create {}
#[allow(private_interfaces)]
async fn create(
    guarded: crate::deps::idem::private::Guarded<__idem_create, (Path<u64>,)>,
) -> crate::deps::idem::private::Response {
    async fn create(Path(id): Path<u64>) {}
    guarded.run(|(a0,)| create(a0)).await
}
