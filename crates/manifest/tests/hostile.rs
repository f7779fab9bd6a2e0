//! Hostile and broken input: always an answer, soon, and never a panic.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod world;

use std::path::Path;
use std::time::{Duration, Instant};

use qfleet_manifest::{control_socket, load};
use world::Table;

/// Far more than any of these takes in a debug build, far less than a hang.
const SOON: Duration = Duration::from_secs(30);

fn answer(text: &str) -> Result<usize, String> {
    let start = Instant::now();
    let world = Table::new();
    let socket = control_socket("config.yaml", text, &world);
    let loaded = load("config.yaml", text, &world);
    assert!(start.elapsed() < SOON, "took {:?}", start.elapsed());
    if let Err(problems) = &loaded {
        assert!(!problems.0.is_empty(), "refused without a reason");
        let lines = 1 + text.matches(['\n', '\r']).count();
        for problem in &problems.0 {
            assert!(problem.line <= lines, "line {} of {lines}", problem.line);
            assert!(problem.text.chars().count() < 200, "a line that long is no help");
            assert!(problem.at.chars().count() + problem.what.chars().count() < 700, "words without end");
            assert!(!problem.to_string().chars().any(|c| c.is_control() && c != '\n'), "{problem}");
        }
    }
    drop(socket);
    loaded.map(|manifest| manifest.groups.len()).map_err(|problems| problems.to_string())
}

fn refused(text: &str) -> String {
    answer(text).expect_err("was accepted")
}

#[test]
fn a_billion_laughs_are_not_heard() {
    let mut text = String::from("x-0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("x-{level}: &a{level} [{aliases}]\n"));
    }
    assert!(refused(&text).contains("too many values, aliases or levels"), "{}", refused(&text));

    let mut text = String::from("x-0: &m0 {k: v}\n");
    for level in 1..30 {
        text.push_str(&format!("x-{level}: &m{level} {{<<: [*m{0}, *m{0}], k{level}: *m{0}}}\n", level - 1));
    }
    assert!(answer(&text).is_ok() || refused(&text).contains("too many"), "merge keys");
}

#[test]
fn nesting_ends_before_the_stack_does() {
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        format!("queues: {}", "[".repeat(100_000)),
        "- ".repeat(100_000),
        "? ".repeat(100_000),
        (0..3_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect::<String>(),
        format!("queues: {{a: {{queue: \"{}\"}}}}", "${A:-".repeat(100_000)),
    ] {
        refused(&text);
    }
}

#[test]
fn size_is_no_trouble() {
    let large = "x".repeat(5 * 1024 * 1024);
    assert!(refused(&format!("queues: {large}")).contains("bytes"));
    let large = "x".repeat(1024 * 1024);
    for text in [
        format!("queues: {large}"),
        format!("{large}: {{}}"),
        format!("queues: {{a: {{queue: {large}, handler: {{http: {large}}}}}}}"),
        format!("queues: {{{large}: {{handler: {{shell: x}}}}}}"),
        format!("redis: {{url: \"redis://{large}\", pass: {large}}}"),
        format!("programs: {{a: {{command: \"{}\"}}}}", "'a' ".repeat(200_000)),
        format!("programs: {{a: {{command: \"{}\"}}}}", "\\\\".repeat(200_000)),
        "#".repeat(1024 * 1024),
        "\n".repeat(1024 * 1024),
        format!("queues: {{a: {{timeout: {}}}}}", "9".repeat(1_000_000)),
    ] {
        let _ = answer(&text);
    }
}

#[test]
fn thousands_of_queues_are_read() {
    let mut text = String::from("queues:\n");
    for number in 0..2_000 {
        text.push_str(&format!("  q{number}: {{handler: {{http: \"http://127.0.0.1/{number}\"}}}}\n"));
    }
    assert_eq!(answer(&text), Ok(2_000));
    let wrong = text.replace("handler", "handlr");
    assert!(refused(&wrong).lines().count() > 2_000);
}

#[test]
fn odd_characters_are_answered() {
    for text in [
        "\0",
        "queues: \0",
        "queues: {\"a\\0\": {handler: {shell: x}}}",
        "queues: {a: {handler: {shell: \"\\0\"}}}",
        "queues: {a: {queue: \"x\\x1b[2J\", handler: {shell: \"true\"}}}",
        "queues: {a: {\"\\e[2J\": 1}}",
        "queues: {\"\\u202e\": 1, \"\\r\\n\": 2}",
        "\u{feff}queues: {a: {handlr: 1}}",
        "queues:\r\n  a:\r\n    handlr: 1\r\n",
        "queues:\r  a:\r    handlr: 1\r",
        "é: ü\nqueues: {ä: {handlr: ö}}",
        "queues: {a: {tries: ٣, handler: {shell: \"true\"}}}",
        "queues: {a: {timeout: １０, handler: {shell: \"true\"}}}",
        "%YAML 1.1\n---\nqueues: 1",
        "---\n...\n",
        "!!binary aGVsbG8=",
        "? {a: b}\n: c",
        "? |\n  block key\n: 1",
        "queues: &a\n  a: *a\n",
        "<<: 5",
        "<<: [1, 2]",
        "queues: {<<: {a: {handler: {shell: \"true\"}}}}",
        "x-a: &a {handler: {shell: \"true\"}}\nqueues: {a: *a, b: {<<: *a}}",
    ] {
        let _ = answer(text);
    }
    assert_eq!(answer(""), Ok(0));
}

/// Seeded random changes of good files: whatever comes out, it is an answer.
#[test]
fn no_change_of_a_good_file_makes_it_panic() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut good = vec![std::fs::read_to_string(root.join("../../config.example.yaml")).unwrap()];
    for entry in std::fs::read_dir(root.join("tests/accepts")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "yaml") {
            good.push(std::fs::read_to_string(path).unwrap());
        }
    }
    let (mut accepted, mut refused) = (0, 0);
    for seed in 0..1_500_u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let text = change(&good[random.usize(..good.len())], &mut random);
        let outcome = std::panic::catch_unwind(|| answer(&text));
        match outcome {
            Ok(Ok(_)) => accepted += 1,
            Ok(Err(_)) => refused += 1,
            Err(_) => panic!("seed {seed} panics with\n{text}"),
        }
    }
    assert!(
        accepted > 20 && refused > 200,
        "{accepted} accepted, {refused} refused: the changes miss the point"
    );
}

fn change(text: &str, random: &mut fastrand::Rng) -> String {
    const PIECES: &[&str] = &[
        ":",
        "- ",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "'",
        "#",
        "&a",
        "*a",
        "|",
        ">",
        "\t",
        "\n",
        "  ",
        "~",
        "null",
        "${",
        "$$",
        "${N}",
        "${NOT_SET}",
        "\0",
        "\u{1b}",
        "é",
        "0",
        "-1",
        "99999999999999999999",
        "1e999",
        ".nan",
        "true",
        "!!int ",
        "<<: ",
        "unix:",
        "http://",
        "whsec_",
        "{name}",
        ", ",
        "?",
        "012",
        "1:30",
        "\r\n",
        "\u{feff}",
        "---\n",
        "%",
    ];
    let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(..lines.len().max(1)).min(lines.len().saturating_sub(1));
        if lines.is_empty() {
            lines.push(String::new());
        }
        let other = lines[random.usize(..lines.len())].clone();
        let line = &mut lines[at];
        let places: Vec<usize> = line.char_indices().map(|(at, _)| at).chain([line.len()]).collect();
        let (from, to) = (places[random.usize(..places.len())], places[random.usize(..places.len())]);
        match random.u8(..7) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, other),
            2 => line.insert_str(from, PIECES[random.usize(..PIECES.len())]),
            3 => line.replace_range(from.min(to)..from.max(to), ""),
            4 => line.replace_range(from.min(to)..from.max(to), PIECES[random.usize(..PIECES.len())]),
            5 => {
                let value = line.find(':').map_or(line.len(), |colon| colon + 1);
                line.truncate(value);
                line.push(' ');
                line.push_str(PIECES[random.usize(..PIECES.len())]);
            }
            _ => line.insert_str(0, ["  ", " ", "\t", "# "][random.usize(..4)]),
        }
    }
    lines.join("\n")
}
