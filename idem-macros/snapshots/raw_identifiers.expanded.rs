#[doc(hidden)]
#[allow(
    non_camel_case_types,
    missing_copy_implementations,
    missing_debug_implementations,
    unnameable_types
)]
enum __idem_move {}
#[automatically_derived]
impl ::idem_runtime::private::Endpoint<(Path<String>,)> for __idem_move {
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new("moves")
        .key(&[::idem_runtime::KeySource::Arguments])
        .validate();
    fn argument_key(
        arguments: &(Path<String>,),
        source: usize,
    ) -> ::idem_runtime::private::ArgumentKey {
        #[allow(unused_variables)]
        let (Path(r#type),) = arguments;
        match source {
            0 => ::idem_runtime::private::argument_key(&r#type),
            _ => ::idem_runtime::private::ArgumentKey::Absent,
        }
    }
}
#[automatically_derived]
impl ::idem_runtime::private::KeyChosen for __idem_move {}
async fn r#move(
    __guarded: ::idem_runtime::private::Guarded<__idem_move, (Path<String>,)>,
) -> ::idem_runtime::private::Response {
    async fn r#move(Path(r#type): Path<String>) {}
    __guarded.run(|(a0,)| r#move(a0)).await
}
