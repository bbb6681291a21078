//! Python and this crate make one key of one operation.
//!
//! `data/python_recipe_keys.json` was given; `data/golden.py` wrote the other files, and prints them again.

use idem_runtime::{python_recipe_key, python_recipe_key_from_json};
use serde::Deserialize;

#[derive(Deserialize)]
struct Vector {
    entity: String,
    action: String,
    key: String,
}

#[derive(Deserialize)]
struct Text {
    entity: String,
    action: String,
    text: String,
    printed: String,
    key: String,
}

const VECTORS: &str = include_str!("data/python_recipe_keys.json");

#[test]
fn the_vectors() {
    let vectors: Vec<Vector> = serde_json::from_str(VECTORS).unwrap();
    // The params as the file spells them: serde_json would read some of the floats as their neighbour.
    let texts = VECTORS.split("\"params\": ").skip(1).map(|rest| rest.split(",\n\"key\":").next().unwrap());
    let mut tried = 0;
    for (Vector { entity, action, key }, text) in vectors.into_iter().zip(texts) {
        assert_eq!(python_recipe_key_from_json(&entity, &action, text), Ok(key), "{entity} {text}");
        tried += 1;
    }
    assert_eq!(tried, 59);
}

/// Numbers as no Python would write them, whole ones beyond 64 bits, every escape, and nesting.
#[test]
fn texts_of_every_kind() {
    let texts: Vec<Text> = serde_json::from_str(include_str!("data/python_recipe_texts.json")).unwrap();
    assert_eq!(texts.len(), 300);
    for Text { entity, action, text, printed, key } in texts {
        assert_eq!(python_recipe_key_from_json(&entity, &action, &text), Ok(key), "{text} should print as {printed}");
        // `Infinity` is what Python prints and nobody else reads.
        if !printed.contains("Infinity") {
            assert_eq!(
                python_recipe_key_from_json(&entity, &action, &printed),
                python_recipe_key_from_json(&entity, &action, &text)
            );
        }
    }
}

/// The file holds `repr` of floats of every size. The recipe joins its parts, so that the key of a float is the key of
/// an action that ends in what Python prints for it.
#[test]
fn floats_are_printed_as_python_prints_them() {
    let floats = include_str!("data/python_floats.txt");
    assert!(floats.lines().count() > 2_000);
    for printed in floats.lines() {
        let float: f64 = printed.parse().unwrap();
        let expected = python_recipe_key("o", format!("a:[{printed}]"), ()).unwrap();
        assert_eq!(python_recipe_key("o", "a", [float]), Ok(expected.clone()), "{printed}");
        let more_digits = format!("[{float:.1100}]");
        assert_eq!(python_recipe_key_from_json("o", "a", &more_digits), Ok(expected), "{printed}");
    }
}
