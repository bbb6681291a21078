//! Random documents, spelled at random. Every seed is fixed, so that a failure can be run again.

use super::*;

/// xorshift64*
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        ((self.next() >> 33) as usize) % limit
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// What a document says, apart from how it is written.
#[derive(Clone, PartialEq)]
enum Model {
    Word(&'static str),
    /// Sign, digits without a zero at either end, power of ten of the last digit.
    Number(bool, String, i32),
    Text(String),
    List(Vec<Model>),
    Object(Vec<(String, Model)>),
}

fn model(random: &mut Random, depth: usize) -> Model {
    match random.below(if depth == 0 { 5 } else { 8 }) {
        0 => Model::Word(random.pick(&["null", "true", "false"])),
        1 | 2 => {
            let mut digits: String = (0..=random.below(25)).map(|_| random.pick(&['0', '1', '5', '9'])).collect();
            digits = digits.trim_matches('0').to_owned();
            let exponent = if digits.is_empty() { 0 } else { random.below(60) as i32 - 40 };
            Model::Number(!digits.is_empty() && random.below(2) == 0, digits, exponent)
        }
        3 | 4 => Model::Text(text(random)),
        5 => Model::List((0..random.below(5)).map(|_| model(random, depth - 1)).collect()),
        _ => {
            let mut members: Vec<(String, Model)> =
                (0..random.below(7)).map(|_| (text(random), model(random, depth - 1))).collect();
            members.sort_by(|one, other| one.0.cmp(&other.0));
            members.dedup_by(|one, other| one.0 == other.0);
            Model::Object(members)
        }
    }
}

fn text(random: &mut Random) -> String {
    let characters = ['a', 'b', 'Z', '0', ' ', '"', '\\', '/', '\n', '\0', '\x7f', 'é', '日', '\u{ffff}', '😀', ':'];
    (0..random.below(5)).map(|_| random.pick(&characters)).collect()
}

fn spell(model: &Model, random: &mut Random, out: &mut String) {
    space(random, out);
    match model {
        Model::Word(word) => out.push_str(word),
        Model::Number(negative, digits, exponent) => spell_number(*negative, digits, *exponent, random, out),
        Model::Text(text) => spell_text(text, random, out),
        Model::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                spell(item, random, out);
            }
            space(random, out);
            out.push(']');
        }
        Model::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            for index in (1..members.len()).rev() {
                members.swap(index, random.below(index + 1));
            }
            out.push('{');
            for (index, (name, value)) in members.into_iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                space(random, out);
                spell_text(name, random, out);
                space(random, out);
                out.push(':');
                spell(value, random, out);
            }
            space(random, out);
            out.push('}');
        }
    }
    space(random, out);
}

fn space(random: &mut Random, out: &mut String) {
    out.push_str(random.pick(&["", "", "", " ", "\t", "\n", "\r\n "]));
}

/// The digits with the point somewhere, zeros around them, and the exponent that makes up for both.
fn spell_number(negative: bool, digits: &str, exponent: i32, random: &mut Random, out: &mut String) {
    if negative || (digits.is_empty() && random.below(2) == 0) {
        out.push('-');
    }
    let appended = random.below(4);
    let digits = format!("{}{digits}{}", "0".repeat(random.below(4)), "0".repeat(appended));
    let whole = random.below(digits.len() + 1);
    let (whole, fraction) = digits.split_at(whole);
    let exponent = exponent - appended as i32 + fraction.len() as i32;
    let whole = whole.trim_start_matches('0');
    out.push_str(if whole.is_empty() { "0" } else { whole });
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    if exponent != 0 || random.below(3) == 0 {
        out.push(random.pick(&['e', 'E']));
        out.push_str(match exponent {
            ..0 => "-",
            _ => random.pick(&["", "+"]),
        });
        out.push_str(&"0".repeat(random.below(3)));
        out.push_str(&exponent.abs().to_string());
    }
}

fn spell_text(text: &str, random: &mut Random, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' | '/' if random.below(2) == 0 => out.extend(['\\', character]),
            '\n' if random.below(2) == 0 => out.push_str("\\n"),
            '"' | '\\' | '\0'..' ' => spell_escaped(character, random, out),
            _ if random.below(3) == 0 => spell_escaped(character, random, out),
            _ => out.push(character),
        }
    }
    out.push('"');
}

fn spell_escaped(character: char, random: &mut Random, out: &mut String) {
    for unit in character.encode_utf16(&mut [0; 2]) {
        out.push_str(&if random.below(2) == 0 { format!("\\u{unit:04x}") } else { format!("\\u{unit:04X}") });
    }
}

#[test]
fn every_spelling_of_a_document_is_one_and_no_two_documents_are() {
    let mut random = Random(0x1de3);
    let mut seen: Vec<(Model, String)> = Vec::new();
    for round in 0..3_000 {
        let document = model(&mut random, 4);
        let mut spelled = String::new();
        spell(&document, &mut random, &mut spelled);
        let canonical = text_of(&spelled).unwrap_or_else(|kind| panic!("round {round}: {kind:?}: {spelled}"));
        for _ in 0..3 {
            let mut other = String::new();
            spell(&document, &mut random, &mut other);
            assert_eq!(text_of(&other).as_ref(), Ok(&canonical), "round {round}: {spelled} and {other}");
        }
        assert_eq!(text_of(&canonical).as_ref(), Ok(&canonical), "round {round}");
        assert!(serde_json::from_str::<serde::de::IgnoredAny>(&canonical).is_ok(), "round {round}: {canonical}");
        seen.push((document, canonical));
    }
    seen.sort_by(|one, other| one.1.cmp(&other.1));
    for pair in seen.windows(2) {
        assert_eq!(pair[0].0 == pair[1].0, pair[0].1 == pair[1].1, "{} and {}", pair[0].1, pair[1].1);
    }
}

/// Broken at random, a text is taken by us exactly when serde_json takes it, but for what we refuse on purpose and for
/// numbers beyond a double, which it refuses.
#[test]
fn broken_texts_are_judged_as_serde_json_judges_them() {
    let mut random = Random(0xb20);
    let (mut taken, mut refused) = (0, 0);
    for round in 0..20_000 {
        let mut spelled = String::new();
        let document = model(&mut random, 3);
        spell(&document, &mut random, &mut spelled);
        let mut bytes = spelled.into_bytes();
        for _ in 0..=random.below(2) {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => drop(bytes.remove(at)),
                1 => bytes.insert(at, random.pick(b"{}[],:\"\\ue0-+.tn \n\xff\xc3\xed")),
                2 => bytes[at] = random.pick(b"{}[],:\"\\ue0-+.tn \n\xff\xa0\x00"),
                _ => bytes.truncate(at),
            }
            if bytes.is_empty() {
                break;
            }
        }
        let shown = String::from_utf8_lossy(&bytes);
        match (canonical(&bytes), serde_json::from_slice::<serde_json::Value>(&bytes)) {
            (Ok(_), Ok(_)) => taken += 1,
            (Err(_), Err(_)) => refused += 1,
            (Err(error), Ok(_)) => assert_eq!(error.kind(), Duplicate, "round {round}: {shown}"),
            (Ok(_), Err(error)) => {
                assert!(error.to_string().contains("number out of range"), "round {round}: {error}: {shown}");
            }
        }
    }
    assert!(taken > 1_000 && refused > 1_000, "{taken} taken, {refused} refused");
}
