//! The declared minimum Rust version is true as far as metadata can tell: nothing a user compiles asks for a later one.
//! CI compiles with that version as well.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what goes wrong here fails a test")]

use std::{
    collections::{BTreeSet, HashMap},
    process::Command,
};

use serde_json::Value;

#[test]
fn no_dependency_asks_for_a_later_rust() {
    let metadata = metadata();
    let packages: HashMap<&str, &Value> = array(&metadata["packages"]).iter().map(|p| (text(&p["id"]), p)).collect();
    let ours = |name: &str| packages.values().find(|p| p["name"] == name && p["source"].is_null());
    let runtime = ours("idem-runtime").expect("`idem-runtime` is in the workspace");
    let declared = version(text(&runtime["rust_version"]));

    let compiled = normal_dependencies(&metadata, text(&runtime["id"]));
    assert!(compiled.len() > 30, "only {} packages found: the walk is broken", compiled.len());
    let later: Vec<String> = compiled
        .iter()
        .filter_map(|id| packages.get(id.as_str()))
        .filter(|package| package["rust_version"].as_str().is_some_and(|needs| version(needs) > declared))
        .map(|package| format!("{} {} needs {}", package["name"], package["version"], package["rust_version"]))
        .collect();
    assert!(later.is_empty(), "`rust-version` is {}, but: {later:#?}", runtime["rust_version"]);
}

#[test]
fn both_crates_have_one_version_and_the_runtime_pins_it() {
    let metadata = metadata();
    let find = |name: &str| {
        array(&metadata["packages"])
            .iter()
            .find(|p| p["name"] == name && p["source"].is_null())
            .expect("in the workspace")
    };
    let (macros, runtime) = (find("idem-macros"), find("idem-runtime"));
    assert_eq!(macros["version"], runtime["version"]);
    assert_eq!(macros["rust_version"], runtime["rust_version"]);
    let pin = array(&runtime["dependencies"]).iter().find(|d| d["name"] == "idem-macros").expect("a dependency");
    assert_eq!(text(&pin["req"]), format!("={}", text(&macros["version"])));
}

/// Every feature, on the machine's own platform: other platforms' packages may not be on this machine.
fn metadata() -> Value {
    let rustc = run(Command::new("rustc").arg("-vV"));
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).expect("`rustc -vV` names the host");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let json = run(Command::new(cargo)
        .args(["metadata", "--format-version=1", "--all-features", "--locked", "--filter-platform", host])
        .current_dir(env!("CARGO_MANIFEST_DIR")));
    serde_json::from_str(&json).expect("`cargo metadata` prints JSON")
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The ids of all packages that building `root` compiles, build scripts' and procedural macros' included.
fn normal_dependencies(metadata: &Value, root: &str) -> BTreeSet<String> {
    let nodes: HashMap<&str, &Value> =
        array(&metadata["resolve"]["nodes"]).iter().map(|node| (text(&node["id"]), node)).collect();
    let mut seen = BTreeSet::new();
    let mut open = vec![root.to_owned()];
    while let Some(id) = open.pop() {
        let dependencies = array(&nodes[id.as_str()]["deps"])
            .iter()
            .filter(|dependency| array(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev"));
        open.extend(dependencies.map(|dependency| text(&dependency["pkg"]).to_owned()).filter(|id| !seen.contains(id)));
        seen.insert(id);
    }
    seen
}

/// `1.94` and `1.94.0` are one version.
fn version(text: &str) -> (u64, u64, u64) {
    let mut parts = text.split('.').map(|part| part.parse().expect("a version of numbers"));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
