//! Commands find the socket of a daemon even when the rest of its manifest is in trouble.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod world;

use std::path::PathBuf;

use qfleet_manifest::control_socket;
use world::Table;

#[test]
fn the_socket_is_found_whatever_else_is_wrong() {
    for (text, socket) in [
        ("control: {socket: /run/x.sock}", Some("/run/x.sock")),
        (
            "queus: 1\ncontrol: {socket: /run/x.sock, mode: 1, banana: 2}\nredis: [\"${NOT_SET}\"]",
            Some("/run/x.sock"),
        ),
        ("control: {socket: \"/run/${N}.sock\"}", Some("/run/4.sock")),
        ("control: {mode: 5}", None),
        ("control:", None),
        ("control: 5", None),
        ("- a", None),
        ("", None),
    ] {
        let found = control_socket("config.yaml", text, &Table::new());
        assert_eq!(found, Ok(socket.map(PathBuf::from)), "{text}");
    }
}

#[test]
fn a_socket_that_is_wrong_is_told() {
    for text in [
        "control: {socket: relative}",
        "control: {socket: \"${NOT_SET}\"}",
        "control: {socket: [a]}",
        "control: {",
    ] {
        let problems = control_socket("config.yaml", text, &Table::new()).expect_err(text);
        assert_eq!(problems.0.len(), 1, "{problems}");
    }
}
