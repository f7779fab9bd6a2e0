//! Payloads recorded from real Laravel applications; `fixtures/laravel/README.md` says how.

use serde_json::Value;

const PAYLOADS: [(u32, &str); 4] = [
    (8, include_str!("../fixtures/laravel/payloads-v8.json")),
    (10, include_str!("../fixtures/laravel/payloads-v10.json")),
    (11, include_str!("../fixtures/laravel/payloads-v11.json")),
    (13, include_str!("../fixtures/laravel/payloads-v13.json")),
];
const TRAPS: &str = include_str!("../fixtures/laravel/cjson-traps.json");

/// One kind of job, as one major version of Laravel writes it.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The major version.
    pub version: u32,
    /// What kind of job, in words.
    pub name: String,
    /// Payloads that lay in the ready list, in order.
    pub ready: Vec<Vec<u8>>,
    /// Payloads that lay in the delayed set.
    pub delayed: Vec<Vec<u8>>,
}

/// An awkward payload, and what Laravel's own pop makes of it.
#[derive(Debug, Clone)]
pub struct CjsonTrap {
    /// What is awkward, in words.
    pub name: String,
    /// As it was pushed.
    pub ready: Vec<u8>,
    /// As Laravel's pop put it into the reserved set; none where the job vanished.
    pub reserved: Option<Vec<u8>>,
}

/// Every recorded kind of job of Laravel 8, 10, 11 and 13.
#[must_use]
pub fn laravel_payloads() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for (version, text) in PAYLOADS {
        let file = parse(text);
        for shape in list(&file["shapes"]) {
            shapes.push(Shape {
                version,
                name: text_of(&shape["name"]),
                ready: list(&shape["ready"]).iter().map(bytes_of).collect(),
                delayed: list(&shape["delayed"]).iter().map(bytes_of).collect(),
            });
        }
    }
    shapes
}

/// Awkward payloads: empty arrays, large integers, deep nesting, missing or odd attempts, text that is no JSON.
#[must_use]
pub fn cjson_traps() -> Vec<CjsonTrap> {
    let file = parse(TRAPS);
    list(&file["cases"])
        .iter()
        .map(|case| CjsonTrap {
            name: text_of(&case["name"]),
            ready: bytes_of(&case["ready"]),
            reserved: case["reserved"].as_str().map(|text| text.as_bytes().to_vec()),
        })
        .collect()
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).expect("a fixture file is JSON")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list in a fixture file")
}

fn text_of(value: &Value) -> String {
    value.as_str().expect("a text in a fixture file").to_owned()
}

fn bytes_of(value: &Value) -> Vec<u8> {
    text_of(value).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_has_its_shapes() {
        let shapes = laravel_payloads();
        for (version, count) in [(8, 15), (10, 15), (11, 16), (13, 16)] {
            assert_eq!(shapes.iter().filter(|shape| shape.version == version).count(), count);
        }
        assert!(shapes.iter().all(|shape| !shape.ready.is_empty() || !shape.delayed.is_empty()));
        assert!(
            shapes.iter().flat_map(|shape| &shape.ready).all(|payload| payload.starts_with(b"{\"uuid\":"))
        );
        assert_eq!(shapes.iter().map(|shape| shape.delayed.len()).sum::<usize>(), 4 * 2 + 3);
    }

    #[test]
    fn traps_show_what_a_pop_destroys() {
        let traps = cjson_traps();
        let find = |name: &str| traps.iter().find(|trap| trap.name == name).expect("a case of that name");
        assert!(find("empty array becomes object").ready.windows(6).any(|part| part == b"\"e\":[]"));
        assert!(find("not JSON").reserved.is_none());
    }
}
