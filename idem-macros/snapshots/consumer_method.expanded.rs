#[instrument(skip_all)]
pub async fn ship(&self, event: OrderPaid) -> Result<Shipment, ShipError> {
    let __idem_policy = const {
        &::idem_runtime::Policy::new("ship")
            .ttl(::core::time::Duration::from_millis(604800000))
            .key(&[::idem_runtime::KeySource::Arguments])
            .validate()
    };
    let __idem_runtime = ::idem_runtime::private::runtime(&self.idempotency);
    let __idem_key = ::idem_runtime::private::argument_key(&event.id);
    let __idem_payload = ::idem_runtime::private::json_payload(&event);
    ::idem_runtime::private::consume_in_place(
            __idem_runtime,
            __idem_policy,
            __idem_key,
            __idem_payload,
            move || async move {
                if let ::core::option::Option::Some(__idem_returned) = ::core::option::Option::None::<
                    Result<Shipment, ShipError>,
                > {
                    return __idem_returned;
                }
                let label = self.print(&event).await?;
                Ok(Shipment { label })
            },
        )
        .await
}
