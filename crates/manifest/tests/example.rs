//! `config.example.yaml` is complete: it loads without a warning, and every setting there is is shown in its section.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use qfleet_manifest::keys::{self, Table};
use qfleet_manifest::load;
use serde::Deserialize;

/// YAML without places, as far as this test needs it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Yaml {
    Map(BTreeMap<String, Yaml>),
    List(Vec<Yaml>),
    Scalar(#[allow(dead_code)] String),
    Other(#[allow(dead_code)] serde::de::IgnoredAny),
}

fn example() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config.example.yaml");
    std::fs::read_to_string(path).unwrap()
}

/// The sections inside a section: a key and the table of what is below; `*` for free names, `[]` for elements of lists.
fn inner(table: &Table) -> Vec<(&'static str, &'static Table)> {
    let scaled = || vec![("numprocs", &keys::NUMPROCS), ("scale", &keys::SCALE)];
    let process = || vec![("limits", &keys::LIMITS), ("logs", &keys::LOGS)];
    let queue = || {
        let own = [("override", &keys::OVERRIDE), ("backoff", &keys::BACKOFF), ("handler", &keys::HANDLER)];
        let node = [("keep-completed", &keys::KEEP), ("rate-limit", &keys::RATE_LIMIT)];
        [scaled(), process(), own.to_vec(), node.to_vec(), vec![("routes[]", &keys::ROUTE)]].concat()
    };
    match table.section {
        "" => vec![
            ("redis", &keys::REDIS),
            ("connections*", &keys::CONNECTION),
            ("defaults", &keys::DEFAULTS),
            ("queues*", &keys::QUEUE),
            ("pools*", &keys::POOL),
            ("programs*", &keys::PROGRAM),
            ("schedules*", &keys::SCHEDULE),
            ("budgets*", &keys::BUDGET),
            ("failed-jobs", &keys::FAILED_JOBS),
            ("control", &keys::CONTROL),
            ("logging", &keys::LOGGING),
        ],
        "connections.NAME" => vec![("redis", &keys::REDIS), ("failed-jobs", &keys::FAILED_JOBS)],
        "defaults" | "queues.NAME" => queue(),
        "pools.NAME" => [scaled(), process()].concat(),
        "programs.NAME" => [
            process(),
            vec![("stop-signal[]", &keys::STOP_STEP), ("ready", &keys::READY), ("health", &keys::HEALTH)],
        ]
        .concat(),
        "schedules.NAME" => [process(), vec![("once", &keys::ONCE)]].concat(),
        "control" => vec![("auth[]", &keys::AUTH)],
        "queues.NAME.routes[]" => vec![("handler", &keys::HANDLER)],
        "handler" => vec![("http", &keys::HTTP), ("shell", &keys::SHELL)],
        "handler.http" => vec![("signing-keys[]", &keys::SIGNING_KEY)],
        "handler.shell" => vec![("limits", &keys::LIMITS)],
        _ => Vec::new(),
    }
}

/// Notes every key that a section of the example has.
fn note(yaml: &Yaml, table: &'static Table, seen: &mut BTreeMap<&'static str, BTreeSet<String>>) {
    let Yaml::Map(map) = yaml else { return };
    let keys = map.keys().filter(|key| *key != "<<").cloned();
    seen.entry(table.section).or_default().extend(keys);
    for (key, below) in inner(table) {
        let name = key.trim_end_matches(['*', '[', ']']);
        match map.get(name) {
            Some(Yaml::Map(named)) if key.ends_with('*') => {
                named.values().for_each(|part| note(part, below, seen));
            }
            Some(Yaml::List(items)) if key.ends_with("[]") => {
                items.iter().for_each(|item| note(item, below, seen));
            }
            Some(part) => note(part, below, seen),
            None => {}
        }
    }
}

#[test]
fn the_example_loads_without_a_warning() {
    let mut world = world::Table::new();
    world.env.remove("REDIS_URL");
    for name in ["CALLS_REDIS_PASSWORD", "CONTROL_PASSWORD", "FORUM_REDIS_PASSWORD", "REDIS_PASSWORD"] {
        world.env.insert(String::from(name), String::from("secret"));
    }
    world.env.insert(String::from("OLD_HOOK_SECRET"), world.env["HOOK_SECRET"].clone());
    let manifest = load("config.example.yaml", &example(), &world);
    let manifest = manifest.unwrap_or_else(|problems| panic!("{problems}"));
    let warnings: Vec<String> = manifest.warnings.iter().map(ToString::to_string).collect();
    assert!(warnings.is_empty(), "{}", warnings.join("\n"));
    assert_eq!(manifest.groups.len(), 15, "queues, pool, programs and schedules");
}

#[test]
fn the_example_shows_every_setting() {
    let yaml: Yaml = serde_saphyr::from_str(&example()).unwrap();
    let mut seen = BTreeMap::new();
    note(&yaml, &keys::DOCUMENT, &mut seen);
    let mut missing = Vec::new();
    for table in keys::TABLES {
        // What `defaults` can have is shown under `queues`.
        let shown = if table.section == "defaults" { "queues.NAME" } else { table.section };
        let shown = seen.get(shown).cloned().unwrap_or_default();
        missing.extend(
            table
                .names()
                .filter(|name| !shown.contains(*name))
                .map(|name| format!("{}: {name}", table.section)),
        );
    }
    assert!(missing.is_empty(), "config.example.yaml lacks\n{}", missing.join("\n"));
}

#[test]
fn every_setting_of_the_example_has_a_comment_nearby() {
    let text = example();
    let lines: Vec<&str> = text.lines().collect();
    let comment = |line: &&str| line.contains('#');
    for (at, window) in lines.windows(16).enumerate() {
        assert!(window.iter().any(comment), "no comment from line {} to {}", at + 1, at + 16);
    }
}
