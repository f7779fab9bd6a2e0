//! Whole manifests: what each means, or the complete list of problems as the user sees it.
//!
//! Every file in `accepts` and `refuses` has a snapshot beside it. Values that must never be shown contain `pa55`.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod world;

use std::path::{Path, PathBuf};

use qfleet_manifest::load;
use qfleet_manifest::settings::{Manifest, Work};
use world::Table;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    files.sort();
    files
}

/// Compares with the snapshot beside the file.
fn compare(folder: &str, path: &Path, shown: &str) {
    let name = path.file_stem().unwrap().to_str().unwrap();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, shown));
}

/// Puts every part that fits on one line there.
fn compact(pretty: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in pretty.lines() {
        lines.push(line.to_owned());
        let closes = line.trim_start().starts_with([']', '}', ')']);
        let indent = |line: &str| line.len() - line.trim_start().len();
        let open = lines[..lines.len() - 1].iter().rposition(|other| indent(other) == indent(line));
        if let (true, Some(open)) = (closes, open) {
            let parts: Vec<&str> = lines[open + 1..].iter().map(|part| part.trim_start()).collect();
            let joined =
                format!("{}{}", lines[open], parts.join(" ").replace(", ]", "]").replace(", )", ")"));
            if joined.len() <= 110 {
                lines.truncate(open);
                lines.push(joined);
            }
        }
    }
    lines.join("\n")
}

/// Lanes and connections are in the manifest and again in the groups that use them; shows each once.
fn without_repetition(manifest: &mut Manifest) {
    let mut served = Vec::new();
    for group in &mut manifest.groups {
        if let Work::Queue(worker) | Work::Pool(worker) = &mut group.work {
            for lane in &worker.lanes {
                assert_eq!(
                    worker.connections.get(&lane.connection),
                    manifest.connections.get(&lane.connection)
                );
            }
            worker.connections.clear();
            served.extend(worker.lanes.iter().cloned());
        }
    }
    assert_eq!(manifest.lanes.len(), served.len());
    assert!(manifest.lanes.iter().all(|lane| served.contains(lane)), "a lane is served by no group");
    manifest.lanes.clear();
}

fn read(path: &Path) -> (String, Table) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut world = Table::new();
    world.root = !text.starts_with("# not as root");
    (text, world)
}

#[test]
fn accepted_manifests_mean_what_they_should() {
    let files = files("accepts");
    assert!(files.len() >= 5, "files are missing");
    for path in files {
        let (text, world) = read(&path);
        let mut manifest = load("config.yaml", &text, &world)
            .unwrap_or_else(|problems| panic!("{}:\n{problems}", path.display()));
        let warnings: Vec<String> = manifest.warnings.iter().map(ToString::to_string).collect();
        without_repetition(&mut manifest);
        let shown = compact(&format!("{manifest:#?}"));
        assert!(!shown.contains("pa55"), "{} shows a secret", path.display());
        let without_warnings = shown.split("\n    warnings: [").next().unwrap();
        compare("accepts", &path, &format!("{without_warnings}\n}}\n\nwarnings:\n{}", warnings.join("\n")));
    }
}

#[test]
fn refused_manifests_list_every_problem() {
    let files = files("refuses");
    assert!(files.len() >= 15, "files are missing");
    for path in files {
        let (text, world) = read(&path);
        let problems =
            load("config.yaml", &text, &world).expect_err(&format!("{} is accepted", path.display()));
        let shown = problems.to_string();
        assert!(!problems.0.is_empty(), "{} has no problem", path.display());
        assert!(!shown.contains("pa55"), "{} shows a secret:\n{shown}", path.display());
        compare("refuses", &path, &shown);
    }
}
