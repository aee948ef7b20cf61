//! The lints of the workspace, and that every crate takes them.

use crate::{
    Violation, expect_none,
    source::{files, read},
};

/// What must be denied, by the section it stands in.
const LINTS: [(&str, &[&str]); 3] = [
    (
        "[workspace.lints.rust]",
        &["missing_debug_implementations", "missing_docs", "unreachable_pub", "unsafe_code"],
    ),
    ("[workspace.lints.rustdoc]", &["broken_intra_doc_links"]),
    (
        "[workspace.lints.clippy]",
        &[
            "await_holding_lock",
            "cast_possible_truncation",
            "cast_sign_loss",
            "dbg_macro",
            "disallowed_methods",
            "todo",
            "unimplemented",
            "unwrap_used",
        ],
    ),
];

/// The lines of a section of TOML, without comments and blank lines.
fn section<'a>(manifest: &'a str, name: &str) -> Vec<&'a str> {
    let lines = manifest.lines().map(str::trim).skip_while(|line| *line != name).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// Whether it is the root of a workspace: that of the libraries, and that of what is fuzzed.
fn is_workspace(manifest: &str) -> bool {
    manifest.lines().any(|line| line.trim() == "[workspace]")
}

fn lints_missing(path: &str, manifest: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    for (name, lints) in LINTS {
        let lines = section(manifest, name);
        for lint in lints {
            let levels = ["deny", "forbid"].map(|level| format!("{lint} = \"{level}\""));
            if !lines.iter().any(|line| levels.iter().any(|wanted| wanted == line)) {
                let message = format!("{name} lacks `{}`", levels[0]);
                found.push(Violation::new(path, 0, message));
            }
        }
    }
    found
}

fn lints_not_taken(path: &str, manifest: &str) -> Vec<Violation> {
    let is_crate = manifest.lines().any(|line| line.trim() == "[package]");
    if !is_crate || section(manifest, "[lints]") == ["workspace = true"] {
        return Vec::new();
    }
    let message = "`[lints]` must be `workspace = true` and nothing else";
    vec![Violation::new(path, 0, message)]
}

#[test]
fn the_workspace_denies_its_lints() {
    let manifests = files(&["toml"]).into_iter().filter(|(_, text)| is_workspace(text));
    let manifests: Vec<_> = manifests.collect();
    assert!(manifests.iter().any(|(path, _)| path == "Cargo.toml"), "the root is a workspace");
    expect_none(manifests.iter().flat_map(|(path, text)| lints_missing(path, text)));
}

#[test]
fn each_crate_takes_the_lints_of_the_workspace() {
    let manifests = files(&["toml"]).into_iter().filter(|(path, _)| path.ends_with("Cargo.toml"));
    let manifests: Vec<_> = manifests.collect();
    assert!(manifests.len() >= 6, "{} manifests are too few", manifests.len());
    expect_none(manifests.iter().flat_map(|(path, text)| lints_not_taken(path, text)));
}

#[test]
fn lints_that_are_missing_are_seen() {
    let manifest = read("Cargo.toml");
    for (_, lints) in LINTS {
        for lint in lints {
            let planted = manifest.replace(&format!("\n{lint} = \"deny\""), "");
            assert_eq!(lints_missing("a", &planted).len(), 1, "{lint}");
        }
    }
    let warned = manifest.replace("unsafe_code = \"deny\"", "unsafe_code = \"warn\"");
    assert_eq!(lints_missing("a", &warned).len(), 1);
}

#[test]
fn crates_without_the_lints_are_seen() {
    let package = "[package]\nname = \"a\"\n";
    let taken = format!("{package}\n[lints]\n# All.\nworkspace = true\n\n[features]\n");
    assert!(lints_not_taken("a", &taken).is_empty());
    assert!(lints_not_taken("a", "[workspace]\n").is_empty());
    let other = format!("{package}[lints.rust]\nunsafe_code = \"allow\"\n");
    for bad in [package, &other] {
        assert_eq!(lints_not_taken("a", bad).len(), 1);
    }
}
