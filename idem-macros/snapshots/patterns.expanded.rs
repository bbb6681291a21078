#[doc(hidden)]
#[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy)]
#[non_exhaustive]
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
        __idem_arguments: &(
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
        __idem_source: ::core::primitive::usize,
    ) -> ::idem_runtime::private::ArgumentKey {
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
        ) = __idem_arguments;
        let _ = (
            &jar,
            &app,
            &shop,
            &id,
            &page,
            &size,
            &by,
            &whole,
            &map,
            &a,
            &first,
            &last,
            &body,
        );
        match __idem_source {
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
    __idem_guarded: ::idem_runtime::private::Guarded<
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
    ) {
        let _ = (&id,);
    }
    const _: () = {
        use ::idem_runtime::private::IsNoTx as _;
        let _ = ::idem_runtime::private::IsTx::<()>::YES;
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < Session > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < Jar > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < App > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < Path < (u64, u64) > > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < Paging > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < Headers > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < (Extension < A >, Extension < B >) >
            ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < [Item; 4] > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < Json < Body > > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
    };
    __idem_guarded
        .run(|
            (
                __idem_a0,
                __idem_a1,
                __idem_a2,
                __idem_a3,
                __idem_a4,
                __idem_a5,
                __idem_a6,
                __idem_a7,
                __idem_a8,
            )|
        create(
            __idem_a0,
            __idem_a1,
            __idem_a2,
            __idem_a3,
            __idem_a4,
            __idem_a5,
            __idem_a6,
            __idem_a7,
            __idem_a8,
        ))
        .await
}
