//! The import arrows of ARCHITECTURE.md, checked against the workspace.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

/// Which of our crates each crate may import, tests aside.
const MAY_IMPORT: [(&str, &[&str]); 9] = [
    ("model", &[]),
    ("testkit", &[]),
    ("manifest", &["model"]),
    ("os", &["model"]),
    ("queue", &["manifest", "model"]),
    ("worker", &["queue", "os", "manifest", "model"]),
    ("supervisor", &["os", "manifest", "model"]),
    ("api", &["supervisor", "queue", "os", "manifest", "model"]),
    ("app", &["api", "supervisor", "worker", "queue", "os", "manifest", "model"]),
];

/// Our crates named in `[dependencies]` of a crate.
fn imports(crates: &Path, name: &str) -> BTreeSet<String> {
    let manifest = std::fs::read_to_string(crates.join(name).join("Cargo.toml")).unwrap();
    manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.strip_prefix("qfleet-"))
        .map(|line| line.split(['.', ' ', '=']).next().unwrap().to_owned())
        .collect()
}

#[test]
fn crates_import_only_what_lies_below_them() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let listed: BTreeSet<String> = MAY_IMPORT.iter().map(|(name, _)| (*name).to_owned()).collect();
    let found: BTreeSet<String> = std::fs::read_dir(crates)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, listed, "every crate has its row");
    for (name, may) in MAY_IMPORT {
        let allowed = may.iter().map(|below| (*below).to_owned()).collect();
        let real = imports(crates, name);
        assert!(real.is_subset(&allowed), "`{name}` imports {:?}", real.difference(&allowed));
    }
}

#[test]
fn only_the_os_crate_allows_unsafe_code() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut pending = vec![crates.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|end| end == "rs")
                && !path.starts_with(crates.join("os/src"))
            {
                let text = std::fs::read_to_string(&path).unwrap();
                assert!(!text.contains(concat!("allow(", "unsafe_code)")), "{}", path.display());
            }
        }
    }
}
