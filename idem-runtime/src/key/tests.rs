use std::collections::HashSet;

use super::*;

const POLICY: Policy = Policy::new("payments");
const POST: Option<EndpointName<'_>> = Some(EndpointName { method: "POST", path: "/payments" });

/// A key that a store holds must be found by every later version, so these digests must never change. They come from
/// `tests/data/golden.py`: hashlib's SHA-256, or hmac with a pepper, over the byte 1 and the parts, each as tag, length and
/// bytes.
#[test]
fn golden() {
    let acct = Principal::new("acct_1");
    let odd = Some(EndpointName { method: "PATCH", path: "/caf%C3%A9" });
    let long = Pepper::new(&(0..200).collect::<Vec<u8>>());
    for (key, expected) in [
        (
            StorageKey::of(&POLICY, &Principal::SHARED, "k-1", POST, None),
            "ac199fb82633ef671ad9c2f44cde40ac02e134fceb2d689d05d030c83128d72d",
        ),
        (
            StorageKey::of(&POLICY, &acct, "k-1", POST, None),
            "e2af78800ff50cc58741866602f1364d0c1ddb9cce7481b06ce7653563f11003",
        ),
        (
            StorageKey::of(&POLICY, &Principal::new(""), "k-1", POST, None),
            "30cbdef8384b884f4e6b06d4130798b35ef560d5af3c381e25ae6dda2046ef30",
        ),
        (
            StorageKey::of(&POLICY.key_space(KeySpace::Scope), &acct, "k-1", POST, None),
            "62d9f34fc346ab9472b15ea73bf34e06d96fbf3a245e84a2f99cf3bd4dd96c4a",
        ),
        (
            StorageKey::of(&Policy::new("a.b_c-9"), &Principal::new("commerçant"), "clé-日本", odd, None),
            "067c53188ad5db09057a8f18017d31b458462d082f81fa334f08c453ef13539a",
        ),
        (
            StorageKey::of(&Policy::new("s"), &Principal::SHARED, "", None, None),
            "d06424c1b84addb4ec91d9f7513893c047a8a8483a4edcec5be086c71043f85e",
        ),
        (
            StorageKey::of(&POLICY, &acct, "k-1", POST, Some(&Pepper::new(b"pepper"))),
            "c26022712def9d642fc11b306c81b49efb3e31b7c8aac597dc761186690c2ebd",
        ),
        (
            StorageKey::of(&POLICY, &acct, "k-1", POST, Some(&long)),
            "5be0d46a717f710a0e392ef1287b71a336696151b1008d7abfbac09a21e0e32b",
        ),
    ] {
        let hex: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    }
}

/// Every way to spread a few letters and separators over the parts of a key is a key of its own: under two scopes, with
/// and without a principal, an endpoint and a pepper.
#[test]
fn no_two_lists_of_parts_meet() {
    let texts = ["", "a", ":", "a:", ":a", "\0", "a:b", "b:c", "b", "c"];
    let principals: Vec<_> = [Principal::SHARED].into_iter().chain(texts.map(Principal::new)).collect();
    let mut endpoints = vec![None];
    for method in ["POST", ""] {
        endpoints.extend(texts.map(|path| Some(EndpointName { method, path })));
    }
    let peppers = [None, Some(Pepper::new(b"")), Some(Pepper::new(b"a")), Some(Pepper::new(b"b"))];
    let (mut met, mut keys) = (0, HashSet::new());
    for policy in [Policy::new("a"), Policy::new("aa")] {
        for principal in &principals {
            for key in texts {
                for endpoint in &endpoints {
                    for pepper in &peppers {
                        met += 1;
                        keys.insert(StorageKey::of(&policy, principal, key, *endpoint, pepper.as_ref()));
                    }
                }
            }
        }
    }
    assert_eq!(keys.len(), met);
}

/// The pair that a joined string gets wrong, in so many words.
#[test]
fn a_principal_with_a_separator_does_not_meet_a_key_with_one() {
    let of = |principal: &str, key| StorageKey::of(&POLICY, &Principal::new(principal), key, POST, None);
    assert_ne!(of("a:b", "c"), of("a", "b:c"));
    assert_eq!(of("a:b", "c"), of("a:b", "c"));
}

#[test]
fn a_key_space_of_the_scope_leaves_the_endpoint_out() {
    let policy = POLICY.key_space(KeySpace::Scope);
    let other = Some(EndpointName { method: "PUT", path: "/refunds" });
    let of = |endpoint| StorageKey::of(&policy, &Principal::SHARED, "k", endpoint, None);
    assert_eq!(of(POST), of(other));
    assert_eq!(of(POST), of(None));
}

#[test]
fn nothing_prints_what_it_digests() {
    let principal = Principal::new("acct_secret");
    let key = StorageKey::of(&POLICY, &principal, "k-1", POST, None);
    assert_eq!(format!("{principal:?} {:?}", Principal::SHARED), "Principal(..) Principal(shared)");
    assert_eq!(format!("{:?}", Pepper::new(b"secret")), "Pepper(..)");
    let hex: String = key.as_bytes()[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(format!("{key} {key:?}"), format!("{hex} StorageKey({hex})"));
}
