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
            "01c177c6b3e4ec0f7b71ef020514821685d6a78bd187abb12d25bc7237eae902",
        ),
        (
            StorageKey::of(&POLICY, &acct, "k-1", POST, None),
            "6af678c474726c49c0914c4ae877d4e64c23881e22a9be9555ce5541377ed3bd",
        ),
        (
            StorageKey::of(&POLICY, &Principal::new(""), "k-1", POST, None),
            "a7326c7bcceecc4c58157718b327d5b5809f78cb127c88154331e3bab5d5766e",
        ),
        (
            StorageKey::of(&POLICY.key_space(KeySpace::Scope), &acct, "k-1", POST, None),
            "9681b6d8a09c902b2b3d8d9bd6a60182bacb577904e9a63cea57b6f4d2c377a7",
        ),
        (
            StorageKey::of(&Policy::new("a.b_c-9"), &Principal::new("commerçant"), "clé-日本", odd, None),
            "374f893020102c035455a1556620dcae569caf906c07d2b65389477770901245",
        ),
        (
            StorageKey::of(&Policy::new("s"), &Principal::SHARED, "", None, None),
            "d05f7b51b450b2d097a53404261d9ea0e01dc3e7b7e1285437438e7c29682d32",
        ),
        (
            StorageKey::of(&POLICY, &acct, "k-1", POST, Some(&Pepper::new(b"pepper"))),
            "3f1f4e471bc4853b8c0b152e76802169a42291cd5876f82d34a8e0136f316cab",
        ),
        (
            StorageKey::of(&POLICY, &acct, "k-1", POST, Some(&long)),
            "9e414ef86c53fb8d1816e849b9f0b5b18cc95a456ccdc1dcb71b809039eb9868",
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
        (ship, EventName::Id("evt_1"), None, "0eb7cc643c6641f69123788f994585495eb8c5d92d173adee17921a0fd4b7e5b"),
        (
            Policy::new("a.b_c-9"),
            EventName::Id("é:日本"),
            None,
            "ab26825414c106699161ead34af0302863aedf92300416145a88033e9dec3a67",
        ),
        (
            ship,
            EventName::Id("evt_1"),
            Some(&pepper),
            "41a4c97bee7861b6dd40f4668b6ecdc9267aacedd61a43553a63b1c202667eff",
        ),
        (
            ship,
            EventName::Reused { id: "evt_1", payload: &payload },
            None,
            "125d82ed71572b2855868e30996fa33d354623b2a45601b92e72843c968bbf49",
        ),
        (
            ship,
            EventName::Anonymous(&payload),
            None,
            "6fed69b632525b1bbc2e184a0b07ec7e403594a434925c5c4a3b5d5bfc19f971",
        ),
        (
            ship,
            EventName::Undecodable { id: None, payload: &payload },
            None,
            "a097c38d6c025017cb3256898130655b09ea15f5fc12311fd3082e85931c7d39",
        ),
        (
            ship,
            EventName::Undecodable { id: Some("evt_1"), payload: &payload },
            None,
            "c7aa79efe11c637e71880992cba14c457d44994452db97e97e1a88905971b877",
        ),
        (ship, EventName::Redriven(&parked), None, "1e840a64c61bf88426b8f34d0e24d1c5511fb1f62e5ae0b0491fabf2b965a890"),
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
        StorageKey::of_event(&policy, EventName::Undecodable { id: None, payload: &digest }, None),
        StorageKey::of_event(&policy, EventName::Undecodable { id: Some(&text), payload: &digest }, None),
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

/// An operator looks for the record in the store by these.
#[test]
fn a_storage_key_is_written_in_full_where_that_is_asked_for() {
    let mut bytes = [0; 32];
    (bytes[0], bytes[31]) = (0x0a, 0xf1);
    assert_eq!(format!("{:x}", StorageKey::from_bytes(bytes)), format!("0a{}f1", "00".repeat(30)));
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

/// What stores keep of a fingerprint under a pepper is frozen as well.
#[test]
fn golden_of_sealed_fingerprints() {
    let fingerprint = Fingerprint::from_bytes(std::array::from_fn(|at| u8::try_from(at).unwrap()));
    let sealed = Pepper::new(b"pepper").seal(fingerprint);
    let hex: String = sealed.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "adc42de447ef856fd4b1919ccbc4591596697eaf1d4935956b7628603d3cafbd");
    assert_ne!(sealed, Pepper::new(b"another").seal(fingerprint));
}
