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

/// As above, for events.
#[test]
fn golden_of_events() {
    use sha2::{Digest, Sha256};

    let ship = Policy::new("ship");
    let payload: [u8; 32] = Sha256::digest(b"payload").into();
    let parked = StorageKey::from_bytes(std::array::from_fn(|at| u8::try_from(at).unwrap()));
    let pepper = Pepper::new(b"pepper");
    for (policy, event, pepper, expected) in [
        (ship, EventName::Id("evt_1"), None, "cd1a295666021866d43a13cc8eb9252c78f106f235a3b9158d21f59dcdc4343e"),
        (
            Policy::new("a.b_c-9"),
            EventName::Id("é:日本"),
            None,
            "85c5c4fe3e5a659475508b1e0b3ba3e399545d1c4dc875b1f05a649a448ae4b5",
        ),
        (
            ship,
            EventName::Id("evt_1"),
            Some(&pepper),
            "3fa3acfe95d50c9be2e1312446b4725585b90a1a1fd540d2a38d905147bfc0a1",
        ),
        (
            ship,
            EventName::Reused { id: "evt_1", payload: &payload },
            None,
            "f63448a3176297507dd688b1df5c6f6c87e230f06eef68cae8697b19bc2c45c9",
        ),
        (
            ship,
            EventName::Anonymous(&payload),
            None,
            "6d5c711c82af7fe60434af7aa552d9d3ef554f828c0958f894d11440a0553f04",
        ),
        (
            ship,
            EventName::Undecodable(&payload),
            None,
            "eb4e78acd28558156971bed4e1841a5f65ba830fe3a3d365e37d0cb1fb3773a1",
        ),
        (ship, EventName::Redriven(&parked), None, "a805a64fb92c7022dc8e025ec27ec22a5c707580a905b8fff0b98bd026572742"),
    ] {
        let key = StorageKey::of_event(&policy, event, pepper);
        let hex: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    }
}

/// Not even where a text is as long as a digest, and not a request's key with the same parts.
#[test]
fn no_event_meets_another_or_a_request() {
    let policy = Policy::new("ship");
    let digest = [b'a'; 32];
    let text = "a".repeat(32);
    let mut keys = vec![
        StorageKey::of_event(&policy, EventName::Id(&text), None),
        StorageKey::of_event(&policy, EventName::Id(""), None),
        StorageKey::of_event(&policy, EventName::Reused { id: &text, payload: &digest }, None),
        StorageKey::of_event(&policy, EventName::Reused { id: "", payload: &digest }, None),
        StorageKey::of_event(&policy, EventName::Anonymous(&digest), None),
        StorageKey::of_event(&policy, EventName::Undecodable(&digest), None),
        StorageKey::of_event(&policy, EventName::Redriven(&StorageKey::from_bytes(digest)), None),
        StorageKey::of_event(&Policy::new("bill"), EventName::Id(&text), None),
    ];
    for principal in [Principal::SHARED, Principal::new(""), Principal::new(text.as_str())] {
        for key in ["", &text] {
            for endpoint in [None, POST] {
                keys.push(StorageKey::of(&policy, &principal, key, endpoint, None));
            }
        }
    }
    let distinct: HashSet<_> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len());
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
