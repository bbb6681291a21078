#[doc(hidden)]
#[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy)]
#[non_exhaustive]
enum __idem_wide {}
#[automatically_derived]
impl ::idem_runtime::private::Endpoint<(A, B, C, D, E, F, G, H, I, J, K, L, M, N, O, P)>
for __idem_wide {
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new("wide")
        .validate();
}
async fn wide(
    _: (),
    _: (),
    _: (),
    _: (),
    _: (),
    _: (),
    _: (),
    _: (),
    _: (),
    _: (),
    _: (),
    _: (),
    _: (),
    _: (),
    _: (),
    __idem_guarded: ::idem_runtime::private::Guarded<
        __idem_wide,
        (A, B, C, D, E, F, G, H, I, J, K, L, M, N, O, P),
    >,
) -> ::idem_runtime::private::Response {
    async fn wide(
        a: A,
        b: B,
        c: C,
        d: D,
        e: E,
        f: F,
        g: G,
        h: H,
        i: I,
        j: J,
        k: K,
        l: L,
        m: M,
        n: N,
        o: O,
        p: P,
    ) {}
    const _: () = {
        use ::idem_runtime::private::IsNoTx as _;
        let _ = ::idem_runtime::private::IsTx::<()>::YES;
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < A > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < B > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < C > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < D > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < E > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < F > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < G > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < H > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < I > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < J > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < K > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < L > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < M > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < N > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < O > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < P > ::YES,
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
                __idem_a9,
                __idem_a10,
                __idem_a11,
                __idem_a12,
                __idem_a13,
                __idem_a14,
                __idem_a15,
            )|
        wide(
            __idem_a0,
            __idem_a1,
            __idem_a2,
            __idem_a3,
            __idem_a4,
            __idem_a5,
            __idem_a6,
            __idem_a7,
            __idem_a8,
            __idem_a9,
            __idem_a10,
            __idem_a11,
            __idem_a12,
            __idem_a13,
            __idem_a14,
            __idem_a15,
        ))
        .await
}
