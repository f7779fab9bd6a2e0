//! The files for Kubernetes and Compose: their manifests are valid, and fit what the files grant.

use std::path::Path;
use std::process::Command;

use qfleet_testkit::Scratch;
use serde_json::Value;

use crate::support::{QFLEET, text};

/// The documents of a YAML file below `deploy`.
fn documents(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Checks an embedded manifest as the container would, with the variables it names.
fn fits(manifest: &str, limit: &str) {
    let place = Scratch::new();
    let file = place.write("config.yaml", manifest.as_bytes());
    let mut command = Command::new(QFLEET);
    command.arg("check").arg("-c").arg(file).env("QFLEET_STOP_LIMIT", limit);
    command.env("REDIS_URL", "redis://redis:6379/0").env("APP_URL", "http://app:8080");
    command.env("HOOK_SECRET", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    let output = command.output().unwrap();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success() && said.contains("is valid: 1 queue"), "{said}");
    assert!(!said.contains("warning"), "{said}");
}

#[test]
fn the_deployment_for_kubernetes_fits_its_own_limit() {
    let documents = documents("kubernetes/qfleet.yaml");
    let of_kind = |kind: &str| documents.iter().find(|one| one["kind"] == kind).unwrap();
    let pod = &of_kind("Deployment")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let limit = container["env"].as_array().unwrap().iter().find(|one| one["name"] == "QFLEET_STOP_LIMIT");
    let limit = limit.unwrap()["value"].as_str().unwrap();
    assert_eq!(format!("{}s", pod["terminationGracePeriodSeconds"]), limit);
    assert_eq!(container["readinessProbe"]["exec"]["command"], serde_json::json!(["qfleet", "status"]));
    fits(of_kind("ConfigMap")["data"]["config.yaml"].as_str().unwrap(), limit);
}

#[test]
fn the_deployment_for_compose_fits_its_own_limit() {
    let documents = documents("compose.yaml");
    let fleet = &documents[0]["services"]["qfleet"];
    let limit = fleet["environment"]["QFLEET_STOP_LIMIT"].as_str().unwrap();
    assert_eq!(fleet["stop_grace_period"], limit);
    let manifest = documents[0]["configs"]["manifest"]["content"].as_str().unwrap();
    // As Compose hands it on.
    assert!(!manifest.replace("$$", "").contains('$'), "{manifest}");
    fits(&manifest.replace("$$", "$"), limit);
}
