//! A file of lines that processes append to which are killed at it, while a test reads.
//!
//! The system writes a line that lies across two pages in two steps, and a reader or a `SIGKILL` may come between. Such a line is cut off
//! before its mark, and none; the next one begins on a line of its own.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::Path,
};

/// Ends a whole line.
const MARK: char = ';';

/// Adds a line, in one write: two processes do not mix theirs.
pub fn append(file: &Path, line: &str) -> io::Result<()> {
    assert!(!line.contains([MARK, '\n']), "not one line: {line:?}");
    OpenOptions::new().create(true).append(true).open(file)?.write_all(format!("\n{line}{MARK}\n").as_bytes())
}

/// Every whole line; none where there is no file yet.
pub fn lines(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| line.strip_suffix(MARK)).map(str::to_owned).collect()
}

#[test]
fn a_line_that_was_cut_off_is_none_and_leaves_the_next_one_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ledger");
    assert!(lines(&file).is_empty());
    append(&file, "begin first").expect("a line");
    let whole = fs::read(&file).expect("what was written");
    for cut in 0..whole.len() - 2 {
        fs::write(&file, [&whole[..], &whole[..cut]].concat()).expect("half a line");
        assert_eq!(lines(&file), ["begin first"], "cut at {cut}");
        append(&file, "end first").expect("a line");
        assert_eq!(lines(&file), ["begin first", "end first"], "cut at {cut}");
    }
}
