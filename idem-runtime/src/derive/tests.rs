use std::collections::{BTreeMap, HashMap};

use serde_json::json;

use super::*;

/// From `tests/data/golden.py`: hashlib's SHA-256 over the byte 1 and the parts, each as tag, length and bytes.
#[test]
fn golden() {
    let big: serde_json::Value = json!([1, 2.5, -1e-7, 1e21]);
    for (key, expected) in [
        (
            derive_key("order-123", "charge", json!({ "installment": 3, "amount": 1999 })),
            "7f68e5b3acdc964c609ff13c230d3ea5fa14d661cff3421053c07bf423086cc3",
        ),
        (derive_key("order-123", "charge", ()), "438f10d67856c6610e8376efd0483b75a9f9b0843c9e8dba4ef03191a64f18b1"),
        (
            derive_key("order-123", "charge", json!({})),
            "8e5d101f1603078e328372ec08c217a23edf6c2c8904e5ea3d24cae691053020",
        ),
        (derive_key(42, "refund", &big), "08a0f343e96241e294814506acda1ad9e182e75e760601d9a00a758859a7130f"),
        (
            derive_key("commande-é", "créer", json!({ "é": "日本😀/", "": "\u{1}\t\"" })),
            "46595bb06ddae7d3be820151e3506143ff3480ccff1b3b3872b9cdfd2db1a981",
        ),
        (derive_key("", "", ""), "13c0435a99891989254dd6608e60e8f9014a223ba479b20ec8e210aefd8e3a53"),
    ] {
        assert_eq!(key.as_deref(), Ok(expected));
    }
}

#[test]
fn the_order_of_fields_does_not_count() {
    #[derive(Serialize)]
    struct Params {
        z: u8,
        a: &'static str,
    }

    let expected = derive_key("o", "a", Params { z: 1, a: "x" }).unwrap();
    assert_eq!(derive_key("o".to_owned(), "a", json!({ "a": "x", "z": 1.0 })), Ok(expected));
    // Each `HashMap` has an order of its own.
    for _ in 0..20 {
        let mut params: HashMap<String, u32> = (0..50).map(|number| (number.to_string(), number)).collect();
        let sorted: BTreeMap<_, _> = params.clone().into_iter().collect();
        assert_eq!(derive_key("o", "a", &params), derive_key("o", "a", &sorted));
        params.insert("51".to_owned(), 51);
        assert_ne!(derive_key("o", "a", &params), derive_key("o", "a", &sorted));
    }
}

#[test]
fn no_two_lists_of_parts_meet() {
    let keys = [
        derive_key("a:b", "c", ()),
        derive_key("a", "b:c", ()),
        derive_key("a:b:c", "", ()),
        derive_key("", "a:b:c", ()),
        derive_key("a:b", "c", json!({})),
        derive_key("a:b", "c", json!([])),
        derive_key("a:b", "c", ""),
        derive_key("a:b", "c", 0),
        derive_key("a:b", "c", false),
        derive_key("a:b", "c:null", ()),
        derive_key("a:b", "c", "null"),
        derive_key("a:b", "c", 9_007_199_254_740_992_u64),
        derive_key("a:b", "c", 9_007_199_254_740_993_u64),
        derive_key("a:b", "c", u128::MAX),
        derive_key("a:b", "c", u128::MAX - 1),
    ];
    for (index, key) in keys.iter().enumerate() {
        assert_eq!(key.as_ref().map(String::len), Ok(64));
        assert!(!keys[..index].contains(key), "{index}");
    }
}

/// The given vectors once more, as values of the program instead of text.
#[test]
fn the_recipe_takes_values() {
    /// Floats as `str::parse` reads them, exactly, which serde_json by default does not.
    fn exact(value: &Value<'_>) -> serde_json::Value {
        match value {
            Value::Null => json!(null),
            Value::Bool(truth) => json!(truth),
            Value::Number(number) => match number.integer().map(str::parse::<i128>) {
                Some(whole) => {
                    let whole = whole.unwrap();
                    u64::try_from(whole).map_or_else(|_| json!(i64::try_from(whole).unwrap()), |whole| json!(whole))
                }
                None => json!(number.to_f64()),
            },
            Value::String(text) => json!(text),
            Value::Array(items) => items.iter().map(exact).collect(),
            Value::Object(members) => {
                members.iter().map(|member| (member.name.clone().into_owned(), exact(&member.value))).collect()
            }
        }
    }

    let vectors = Value::parse(include_bytes!("../../tests/data/python_recipe_keys.json")).unwrap();
    let Value::Array(vectors) = vectors else { panic!("not a list") };
    assert_eq!(vectors.len(), 59);
    for vector in &vectors {
        let vector = exact(vector);
        let text = |name: &str| vector[name].as_str().unwrap().to_owned();
        let key = python_recipe_key(text("entity"), text("action"), &vector["params"]);
        assert_eq!(key, Ok(text("key")), "{vector}");
    }
}

/// Halfway between two shortest texts: the even one, in Python, in JavaScript and in what serde_json writes.
#[test]
fn a_float_between_two_texts_is_the_even_one() {
    for (float, text) in
        [(3526329097421449.0 / 4.0, "881582274355362.2"), (5330515429203109.0 / 4.0, "1332628857300777.2")]
    {
        let value = Value::parse(text.as_bytes()).unwrap();
        assert_eq!(python::dumps(&value), text);
        assert_eq!(canonical_json::to_json(&float), Ok(text.as_bytes().to_vec()));
        assert_ne!(format!("{float:?}"), text);
    }
}

/// What the documentation of the recipe says about it, and why `derive_key` exists.
#[test]
fn the_recipe_collides_where_it_says_so() {
    let none = python_recipe_key("a:b", "c", ());
    assert_eq!(none.as_ref().map(String::len), Ok(32));
    assert_eq!(none, python_recipe_key("a", "b:c", ()));
    for empty in [json!({}), json!([]), json!(""), json!(0), json!(0.0), json!(-0.0), json!(false), json!(null)] {
        assert_eq!(none, python_recipe_key("a:b", "c", &empty), "{empty}");
    }
    let params = python_recipe_key("a", "b", json!({ "x": 1 }));
    assert_eq!(params, python_recipe_key("a", "b:{\"x\": 1}", ()));
    assert_ne!(params, python_recipe_key("a", "b", json!({ "x": 1.0 })));
}

#[test]
fn there_is_no_key_of_nothing() {
    assert_eq!(derive_key(None::<&str>, "a", ()), Err(DeriveKeyError::NoEntity));
    assert_eq!(derive_key("o", None::<u8>, ()), Err(DeriveKeyError::NoAction));
    assert_eq!(python_recipe_key(None::<&str>, "a", ()), Err(DeriveKeyError::NoEntity));
    assert_eq!(python_recipe_key_from_json("o", None::<u8>, "{}"), Err(DeriveKeyError::NoAction));
    assert_eq!(derive_key(Some("o"), Some("a"), ()), derive_key("o", "a", ()));
}

#[test]
fn params_that_json_cannot_say_make_no_key() {
    assert!(matches!(derive_key("o", "a", f64::NAN), Err(DeriveKeyError::Params(_))));
    assert!(matches!(derive_key("o", "a", HashMap::from([((1, 2), 3)])), Err(DeriveKeyError::Params(_))));
    assert!(matches!(python_recipe_key("o", "a", [f32::INFINITY]), Err(DeriveKeyError::Params(_))));
    for text in ["", "{", "{\"a\":1,\"a\":1}", "[NaN]", "\"\\ud83d\"", "{} {}"] {
        let error = python_recipe_key_from_json("o", "a", text).unwrap_err();
        assert!(error.to_string().starts_with("no key can be made of the params: "), "{error}");
    }
}
