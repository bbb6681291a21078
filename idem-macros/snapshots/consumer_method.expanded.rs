#[instrument(skip_all)]
pub async fn ship(&self, event: OrderPaid) -> Result<Shipment, ShipError> {
    const __IDEM_POLICY: &::idem_runtime::Policy = &::idem_runtime::Policy::new("ship")
        .ttl(::core::time::Duration::from_millis(604800000))
        .key(&[::idem_runtime::KeySource::Arguments])
        .validate();
    let runtime = ::idem_runtime::private::runtime(&self.idempotency);
    let key = ::idem_runtime::private::argument_key(&event.id);
    let payload = ::idem_runtime::private::json_payload(&event);
    ::idem_runtime::private::consume_in_place(
            runtime,
            __IDEM_POLICY,
            key,
            payload,
            move || async move {
                #[allow(unreachable_code, clippy::diverging_sub_expression)]
                if let ::core::option::Option::Some(returned) = ::core::option::Option::None::<
                    Result<Shipment, ShipError>,
                > {
                    return returned;
                }
                let label = self.print(&event).await?;
                Ok(Shipment { label })
            },
        )
        .await
}
