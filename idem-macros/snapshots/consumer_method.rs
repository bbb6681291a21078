#[idempotent_consumer(scope = "ship", ttl = "7d", key = event.id, payload = event, runtime = self.idempotency)]
#[instrument(skip_all)]
pub async fn ship(&self, event: OrderPaid) -> Result<Shipment, ShipError> {
    let label = self.print(&event).await?;
    Ok(Shipment { label })
}
