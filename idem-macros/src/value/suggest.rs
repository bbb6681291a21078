//! "Did you mean": the nearest of the known words.

/// The known word that `written` most likely meant, if any is near enough.
pub(crate) fn nearest<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    within(written, known, |word| match word.len() {
        0..=6 => 1,
        7..=9 => 2,
        _ => 3,
    })
}

/// The known word that `written` is one slip of the keyboard away from.
///
/// For places where an unknown word may well be the user's own.
pub(crate) fn slip<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    within(written, known, |_| 1)
}

fn within<'a>(written: &str, known: &[&'a str], allowed: impl Fn(&str) -> usize) -> Option<&'a str> {
    let written = plain(written);
    known
        .iter()
        .map(|&word| (distance(&written, &plain(word)), word))
        .filter(|&(distance, word)| distance <= allowed(word))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, word)| word)
}

/// Case and separators are the slips that cost nothing: `onConflict`, `on-conflict`.
fn plain(word: &str) -> Vec<char> {
    word.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// How many letters must be put in, taken out, replaced or swapped with their neighbour.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    let mut last = None;
    for (&letter, row) in from.iter().zip(1..) {
        let mut current = vec![row];
        let mut left = row;
        let mut previous = None;
        let corners = above.iter().zip(above.iter().skip(1));
        // The cell two up and two left exists from the second row and column on.
        let swaps = std::iter::once(None).chain(before.iter().copied().map(Some)).chain(std::iter::repeat(None));
        for ((&other, (&corner, &up)), swap) in to.iter().zip(corners).zip(swaps) {
            let mut cell = (corner + usize::from(letter != other)).min(up + 1).min(left + 1);
            if let (Some(swap), true) = (swap, last == Some(other) && previous == Some(letter)) {
                cell = cell.min(swap + 1);
            }
            current.push(cell);
            left = cell;
            previous = Some(other);
        }
        before = std::mem::replace(&mut above, current);
        last = Some(letter);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest, slip};

    #[test]
    fn counts_edits() {
        for (from, to, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("ttl", "ttl", 0),
            ("tll", "ttl", 1),
            ("tlt", "ttl", 1),
            ("form", "from", 1),
            ("kitten", "sitting", 3),
        ] {
            let letters = |word: &str| word.chars().collect::<Vec<_>>();
            assert_eq!(distance(&letters(from), &letters(to)), expected, "{from} to {to}");
        }
    }

    #[test]
    fn finds_the_word_that_was_meant() {
        let known = ["scope", "ttl", "key", "key_space", "on_conflict"];
        for (written, expected) in [
            ("scpoe", Some("scope")),
            ("TTL", Some("ttl")),
            ("onConflict", Some("on_conflict")),
            ("key-space", Some("key_space")),
            ("keys", Some("key")),
            ("timeout", None),
        ] {
            assert_eq!(nearest(written, &known), expected, "{written}");
        }
    }

    #[test]
    fn leaves_words_of_the_user() {
        let known = ["from_header", "from_path", "any_of"];
        for (written, expected) in [
            ("from_headers", Some("from_header")),
            ("fromHeader", Some("from_header")),
            ("form_header", Some("from_header")),
            ("from_auth", None),
            ("any", None),
        ] {
            assert_eq!(slip(written, &known), expected, "{written}");
        }
    }
}
