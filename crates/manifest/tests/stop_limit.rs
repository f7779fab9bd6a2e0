//! What the outside grants, against what the end of a fleet may take.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod world;

use std::time::Duration;

use qfleet_manifest::load;
use qfleet_manifest::stop_limit::{StopLimit, too_short};
use world::Table;

fn said(manifest: &str, granted: u64, gives_more: bool) -> Option<String> {
    let manifest = load("config.yaml", manifest, &Table::new()).unwrap();
    let limit =
        StopLimit { granted: Duration::from_millis(granted), by: String::from("`--stop-limit`"), gives_more };
    too_short(&manifest, "config.yaml", &limit).map(|problem| problem.to_string())
}

#[test]
fn a_limit_below_the_longest_stop_is_told() {
    let fleet = "programs: {a: {command: x, stop-wait: 20s}, db: {command: x, priority: 1, stop-wait: 8s}}";
    // Both waves, and the last answers.
    assert_eq!(said(fleet, 30_000, false), None);
    let told = said(fleet, 29_999, false).unwrap();
    assert!(told.starts_with("config.yaml: the end may take 30s, but `--stop-limit` grants "), "{told}");
    assert!(told.contains("or stay below it with `shutdown-timeout: "), "{told}");
    // What is proposed is enough.
    assert_eq!(said(&format!("{fleet}\nshutdown-timeout: 8s"), 10_000, false), None);
    assert!(said(&format!("{fleet}\nshutdown-timeout: 9s"), 10_000, false).is_some());
    // Where nothing is left below the limit, nothing is proposed.
    let told = said(fleet, 2_500, false).unwrap();
    assert!(told.contains("`docker stop -t`") && !told.contains("shutdown-timeout"), "{told}");
}

#[test]
fn a_limit_that_grows_when_it_is_asked_to_is_told_as_that() {
    let told = said("programs: {a: {command: x, stop-wait: 5m}}", 90_000, true).unwrap();
    assert!(told.contains("as long as the daemon asks for more time") && !told.contains("killed"), "{told}");
}

#[test]
fn an_empty_fleet_needs_no_time() {
    assert_eq!(said("programs: {}", 0, false), None);
}
