//! What the attributes accept and refuse, as rustc shows it: `ui/pass` and `ui/fail`, one file for each form or mistake.
//!
//! Passing cases also send requests. `TRYBUILD=overwrite` stores the messages that were found.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what goes wrong here fails a test")]

use std::{fs, path::Path};

#[test]
fn forms() {
    trybuild::TestCases::new().pass("ui/pass/*.rs");
}

/// Apart from the forms: cases that must only be checked are checked all at once, a minute instead of five.
#[test]
fn mistakes() {
    trybuild::TestCases::new().compile_fail("ui/fail/*.rs");
}

#[test]
fn every_mistake_has_its_message() {
    let mistakes = files("fail", "rs");
    assert!(files("pass", "rs").len() >= 25 && mistakes.len() >= 40, "cases are missing");
    assert_eq!(mistakes, files("fail", "stderr"));
}

fn files(folder: &str, extension: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("ui").join(folder);
    let mut names: Vec<_> = fs::read_dir(folder)
        .expect("the folder of cases")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    names
}
