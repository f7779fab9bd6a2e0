#![allow(clippy::unwrap_used)]

//! The walk in Redis and the walk here find the same, in whatever lies in a queue.

use fastrand::Rng;
use qfleet_testkit::{RedisServer, cjson_traps, laravel_payloads};

use super::{counter, splice};
use crate::laravel::held::{lower, raise};

const ASK: &str = concat!(
    include_str!("../lua/scan.lua"),
    "local found = {}\n\
     for place, payload in ipairs(ARGV) do\n\
       local at, length, count = scan(payload)\n\
       local raised = at and splice(payload, at, length, string.format('%d', count + 1)) or payload\n\
       found[place] = {at or 0, length or 0, raised}\n\
     end\n\
     return found"
);

/// Position (from 0) and length, if there is a counter, and the raised payload.
type Found = (Option<(usize, usize)>, Vec<u8>);

/// What Redis finds.
fn ask(server: &RedisServer, payloads: &[Vec<u8>]) -> Vec<Found> {
    let mut command = redis::cmd("EVAL");
    command.arg(ASK).arg(0).arg(payloads);
    let found: Vec<(usize, usize, Vec<u8>)> = command.query(&mut server.connection()).unwrap();
    found.into_iter().map(|(at, len, raised)| ((at > 0).then(|| (at - 1, len)), raised)).collect()
}

fn agree(server: &RedisServer, payloads: &[Vec<u8>]) {
    for (payload, (place, raised)) in payloads.iter().zip(ask(server, payloads)) {
        let ours = counter(payload);
        let shown = String::from_utf8_lossy(payload);
        assert_eq!(ours.map(|found| (found.at, found.len)), place, "{shown}");
        if let Some(found) = ours {
            let (ours, undo) = raise(payload, found.at, found.len, &(found.value + 1).to_string());
            assert_eq!(ours, raised, "{shown}");
            assert_eq!(splice(&ours, undo.at, undo.len, &undo.digits), *payload, "{shown}");
            if found.value < 999_999_999 {
                assert_eq!(lower(&ours).unwrap().0, *payload, "{shown}");
            }
        } else {
            assert_eq!(raised, *payload);
        }
    }
}

#[test]
fn on_random_objects_with_a_known_counter() {
    let server = RedisServer::start();
    for seed in 0..40 {
        let mut rng = Rng::with_seed(seed);
        let made: Vec<Made> = (0..50).map(|_| Made::new(&mut rng)).collect();
        let payloads: Vec<Vec<u8>> = made.iter().map(|made| made.with(made.count)).collect();
        agree(&server, &payloads);
        for (made, (_, raised)) in made.iter().zip(ask(&server, &payloads)) {
            let shown = made.with(made.count);
            assert_eq!(raised, made.with(made.count + 1), "seed {seed}: {}", String::from_utf8_lossy(&shown));
            assert!(serde_json::from_slice::<serde_json::Value>(&raised).is_ok(), "seed {seed}");
        }
    }
}

#[test]
fn on_recorded_payloads_and_traps() {
    let server = RedisServer::start();
    let recorded: Vec<Vec<u8>> =
        laravel_payloads().into_iter().flat_map(|shape| [shape.ready, shape.delayed].concat()).collect();
    assert!(recorded.iter().all(|payload| counter(payload).is_some()));
    agree(&server, &recorded);
    let traps = cjson_traps();
    agree(&server, &traps.iter().map(|trap| trap.ready.clone()).collect::<Vec<_>>());
    agree(&server, &traps.into_iter().filter_map(|trap| trap.reserved).collect::<Vec<_>>());
}

#[test]
fn on_damaged_payloads() {
    let server = RedisServer::start();
    let sound: Vec<Vec<u8>> = laravel_payloads().into_iter().flat_map(|shape| shape.ready).collect();
    let mut rng = Rng::with_seed(7);
    let mut damaged = Vec::new();
    for _ in 0..3_000 {
        let mut payload =
            if rng.bool() { Made::new(&mut rng).with(3) } else { rng.choice(&sound).unwrap().clone() };
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..payload.len());
            match rng.u8(..5) {
                0 => payload.truncate(at.max(1)),
                1 => payload[at] = *rng.choice(b"\"\\{}[]:, 0\0\xff").unwrap(),
                2 => {
                    payload.remove(at);
                }
                3 => payload.insert(at, *rng.choice(b"\"\\{}[]:,x").unwrap()),
                _ => payload.extend_from_slice(b"}"),
            }
            if payload.is_empty() {
                break;
            }
        }
        damaged.push(payload);
    }
    damaged.push((0..=255).collect());
    damaged.push(Vec::new());
    agree(&server, &damaged);
}

/// A random object, in two halves around the digits of its counter.
struct Made {
    before: Vec<u8>,
    count: u32,
    after: Vec<u8>,
}

impl Made {
    fn new(rng: &mut Rng) -> Self {
        let count = if rng.bool() { rng.u32(..12) } else { rng.u32(..999_999_999) };
        let spaced = rng.u8(..4) == 0;
        let space =
            |rng: &mut Rng| if spaced { *rng.choice(&["", " ", "\n", "\t \r\n"]).unwrap() } else { "" };
        let (mut before, mut after) = (space(rng).to_owned() + "{" + space(rng), String::new());
        let members = rng.usize(..6);
        let place = if rng.bool() { members } else { rng.usize(..=members) };
        if rng.bool() {
            before += &format!(r#""uuid":"{:x}-{:x}","#, rng.u64(..), rng.u64(..));
        }
        for member in 0..=members {
            let text = if member < place { &mut before } else { &mut after };
            if member == place {
                before.push_str("\"attempts\"");
                before.push_str(space(rng));
                before.push(':');
                before.push_str(space(rng));
                match rng.u8(..6) {
                    0 => {
                        before.push('"');
                        after.push('"');
                    }
                    1 => after.push_str(".0"),
                    _ => {}
                }
            } else {
                let key = if member < place && rng.u8(..4) == 0 { "\"attempts\"".into() } else { key(rng) };
                text.push_str(&key);
                text.push_str(space(rng));
                text.push(':');
                text.push_str(space(rng));
                text.push_str(&value(rng, 4));
            }
            let text = if member < place { &mut before } else { &mut after };
            text.push_str(space(rng));
            if member < members {
                text.push(',');
                text.push_str(space(rng));
            }
        }
        if rng.u8(..4) == 0 {
            after.push_str(r#","delay":null"#);
        }
        if rng.u8(..4) == 0 {
            let tags: Vec<String> = (0..rng.usize(..3)).map(|_| string(rng)).collect();
            let silenced = if rng.bool() { r#","silenced":false"# } else { "" };
            let tags = tags.join(",");
            after += &format!(r#","type":"job","tags":[{tags}]{silenced},"pushedAt":"1795219986.6184""#);
        }
        after += &format!("}}{}", space(rng));
        Self { before: before.into_bytes(), count, after: after.into_bytes() }
    }

    fn with(&self, count: u32) -> Vec<u8> {
        [&self.before[..], count.to_string().as_bytes(), &self.after].concat()
    }
}

/// Any key but `attempts`.
fn key(rng: &mut Rng) -> String {
    match rng.u8(..4) {
        0 => (*rng
            .choice(&["\"data\"", "\"id\"", "\"retry_of\"", "\"attempts \"", "\"Attempts\"", "\"\""])
            .unwrap())
        .into(),
        _ => loop {
            let text = string(rng);
            if text != "\"attempts\"" {
                return text;
            }
        },
    }
}

fn value(rng: &mut Rng, depth: u32) -> String {
    match rng.u8(..if depth == 0 { 6 } else { 10 }) {
        0 => "null".into(),
        1 => {
            (*rng.choice(&["true", "false", "0", "-1", "9007199254740993", "-9223372036854775808"]).unwrap())
                .into()
        }
        2 => (*rng.choice(&["1.0", "3.141592653589793", "1e-7", "1.0E+25", "0.1"]).unwrap()).into(),
        3 => (*rng
            .choice(&["[]", "{}", "[{}]", "{\"attempts\":5}", "[\"attempts\",{\"attempts\":1}]"])
            .unwrap())
        .into(),
        4 | 5 => string(rng),
        6 => "[".repeat(40) + &"]".repeat(40),
        7 => {
            let items: Vec<String> = (0..rng.usize(..4)).map(|_| value(rng, depth - 1)).collect();
            format!("[{}]", items.join(","))
        }
        _ => {
            let items: Vec<String> = (0..rng.usize(..4))
                .map(|_| {
                    let key = if rng.bool() { "\"attempts\"".into() } else { string(rng) };
                    format!("{key}:{}", value(rng, depth - 1))
                })
                .collect();
            format!("{{{}}}", items.join(","))
        }
    }
}

/// A JSON string with everything that could confuse a walk.
fn string(rng: &mut Rng) -> String {
    const PIECES: [&str; 22] = [
        "attempts",
        "\\\"",
        "\\\\",
        "\\\\\\\"",
        "\\/",
        "\\n",
        "\\u0000",
        "\\ud83d\\ude00",
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\\\"attempts\\\":7",
        "é",
        "日本",
        "😀",
        "\u{2028}",
        "a",
        "0",
        "\u{7f}",
    ];
    let pieces: String = (0..rng.usize(..6)).map(|_| *rng.choice(&PIECES).unwrap()).collect();
    format!("\"{pieces}\"")
}
