#[doc(hidden)]
#[allow(
    non_camel_case_types,
    missing_copy_implementations,
    missing_debug_implementations,
    unnameable_types
)]
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
    __guarded: ::idem_runtime::private::Guarded<
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
    __guarded
        .run(|(a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15)| wide(
            a0,
            a1,
            a2,
            a3,
            a4,
            a5,
            a6,
            a7,
            a8,
            a9,
            a10,
            a11,
            a12,
            a13,
            a14,
            a15,
        ))
        .await
}
