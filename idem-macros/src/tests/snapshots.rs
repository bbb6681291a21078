//! What each shape of handler becomes: `snapshots/NAME.rs` becomes `snapshots/NAME.expanded.rs`.
//!
//! `IDEM_BLESS=1` writes what was found.

use std::{env, fs, path::Path};

use super::expand;

#[test]
fn expansions_are_the_stored_ones() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots");
    let mut inputs: Vec<_> = fs::read_dir(&folder)
        .expect("the folder of snapshots")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| !path.to_string_lossy().ends_with(".expanded.rs"))
        .collect();
    inputs.sort();
    assert!(inputs.len() >= 20, "only {} snapshots", inputs.len());
    let mut differing = Vec::new();
    for input in inputs {
        let source = fs::read_to_string(&input).expect("an input");
        let found = prettyplease::unparse(&syn::parse2(expand(&source)).expect("items"));
        let stored = input.with_extension("expanded.rs");
        if env::var_os("IDEM_BLESS").is_some() {
            fs::write(&stored, &found).expect("a writable snapshot");
        }
        let expected = fs::read_to_string(&stored).unwrap_or_default();
        if found != expected {
            differing.push(format!("{}\n--- stored\n{expected}\n--- found\n{found}", input.display()));
        }
    }
    assert!(differing.is_empty(), "IDEM_BLESS=1 stores what was found\n\n{}", differing.join("\n\n"));
}
