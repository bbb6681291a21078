#[idempotent(scope = "orders", key = id)]
async fn create(
    _: Session,
    mut jar: Jar,
    ref app: App,
    Path((shop, mut id)): Path<(u64, u64)>,
    Paging { page, ref size, order: mut by, .. }: Paging,
    whole @ Headers(ref map): Headers,
    (Extension(a), Extension(_)): (Extension<A>, Extension<B>),
    [first, .., mut last]: [Item; 4],
    Json(body): Json<Body>,
) {
}
