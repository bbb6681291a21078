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
    (
        Session,
        Jar,
        App,
        Path<(u64, u64)>,
        Paging,
        Headers,
        (Extension<A>, Extension<B>),
        [Item; 4],
        Json<Body>,
    ),
> for __idem_create {
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new(
            "orders",
        )
        .key(&[::idem_runtime::KeySource::Arguments])
        .validate();
    fn argument_key(
        arguments: &(
            Session,
            Jar,
            App,
            Path<(u64, u64)>,
            Paging,
            Headers,
            (Extension<A>, Extension<B>),
            [Item; 4],
            Json<Body>,
        ),
        source: usize,
    ) -> ::idem_runtime::private::ArgumentKey {
        #[allow(unused_variables)]
        let (
            _,
            jar,
            app,
            Path((shop, id)),
            Paging { page, size, order: by, .. },
            whole @ Headers(map),
            (Extension(a), Extension(_)),
            [first,
            ..,
            last,
            ],
            Json(body),
        ) = arguments;
        match source {
            0 => ::idem_runtime::private::argument_key(&id),
            _ => ::idem_runtime::private::ArgumentKey::Absent,
        }
    }
}
#[automatically_derived]
impl ::idem_runtime::private::KeyChosen for __idem_create {}
async fn create(
    _: (),
    _: (),
    _: (),
    _: (),
    _: (),
    _: (),
    _: (),
    _: (),
    __guarded: ::idem_runtime::private::Guarded<
        __idem_create,
        (
            Session,
            Jar,
            App,
            Path<(u64, u64)>,
            Paging,
            Headers,
            (Extension<A>, Extension<B>),
            [Item; 4],
            Json<Body>,
        ),
    >,
) -> ::idem_runtime::private::Response {
    async fn create(
        _: Session,
        mut jar: Jar,
        ref app: App,
        Path((shop, mut id)): Path<(u64, u64)>,
        Paging { page, ref size, order: mut by, .. }: Paging,
        whole @ Headers(ref map): Headers,
        (Extension(a), Extension(_)): (Extension<A>, Extension<B>),
        [first,
        ..,
        mut last,
        ]: [Item; 4],
        Json(body): Json<Body>,
    ) {}
    __guarded
        .run(|(a0, a1, a2, a3, a4, a5, a6, a7, a8)| create(
            a0,
            a1,
            a2,
            a3,
            a4,
            a5,
            a6,
            a7,
            a8,
        ))
        .await
}
