//! Signals: to whole groups of children that do not want to go, and to ourselves.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::libc;
use qfleet_model::start::Preparation;
use qfleet_os::exit::Exit;
use qfleet_os::signal::{Incoming, Received, SendError};
use qfleet_os::{signal, usage};

use crate::harness::{Case, LIMIT, end_of, own_pid, read_line, reaper, runtime, script, start, until};

pub const CASES: &[Case] = &[
    ("a_stubborn_child_ends_by_force", a_stubborn_child_ends_by_force),
    ("a_stopped_child_hears_that_it_shall_end", a_stopped_child_hears_that_it_shall_end),
    ("a_group_ends_as_a_whole", a_group_ends_as_a_whole),
    (
        "the_rest_of_a_group_is_reached_before_its_number_is_free",
        the_rest_of_a_group_is_reached_before_its_number_is_free,
    ),
    ("a_child_without_group_yet_is_reached", a_child_without_group_yet_is_reached),
    ("nobody_there_is_told_from_not_permitted", nobody_there_is_told_from_not_permitted),
    ("our_own_signals_are_a_stream", our_own_signals_are_a_stream),
];

fn a_stubborn_child_ends_by_force() {
    let (_runtime, reaper) = reaper();
    let text = "trap 'echo no' TERM; echo up; while :; do sleep 0.01; done";
    let child = start(Preparation::default(), &script(text));
    assert_eq!(read_line(&child.stdout), "up");
    signal::send(child.pid, libc::SIGTERM).unwrap();
    assert_eq!(read_line(&child.stdout), "no");
    signal::send_child(child.pid, libc::SIGKILL).unwrap();
    assert_eq!(end_of(&reaper, child.pid).how, Exit::Signal { number: libc::SIGKILL, core: false });
}

fn a_stopped_child_hears_that_it_shall_end() {
    let (_runtime, reaper) = reaper();
    let child = start(Preparation::default(), &script("echo up; exec sleep 1000"));
    assert_eq!(read_line(&child.stdout), "up");
    signal::send_child(child.pid, libc::SIGSTOP).unwrap();
    until("it to stop", || (usage::of(child.pid).unwrap().state == 'T').then_some(()));
    assert!(reaper.next_ended().unwrap().is_none(), "a stop is no end");
    signal::send_child(child.pid, libc::SIGTERM).unwrap();
    assert_eq!(end_of(&reaper, child.pid).how, Exit::Signal { number: libc::SIGTERM, core: false });
}

fn a_group_ends_as_a_whole() {
    let (_runtime, reaper) = reaper();
    let child = start(Preparation::default(), &script("sleep 1000 & sleep 1000 & echo up; wait"));
    assert_eq!(read_line(&child.stdout), "up");
    assert_eq!(usage::group_members(child.pid).unwrap().len(), 3);
    signal::send_child(child.pid, libc::SIGTERM).unwrap();
    let mut ends = BTreeMap::new();
    until("all three", || {
        ends.extend(reaper.next_ended().unwrap().map(|ended| (ended.pid, ended.how)));
        (ends.len() == 3).then_some(())
    });
    assert!(ends.values().all(|how| *how == Exit::Signal { number: libc::SIGTERM, core: false }), "{ends:?}");
    assert!(!signal::group_exists(child.pid));
}

fn the_rest_of_a_group_is_reached_before_its_number_is_free() {
    let (_runtime, reaper) = reaper();
    let child = start(Preparation::default(), &script("sleep 1000 & echo $!"));
    let rest: i32 = read_line(&child.stdout).parse().unwrap();
    let leader = until("the leader's end", || reaper.peek_ended().unwrap());
    assert_eq!((leader.pid, leader.how), (child.pid, Exit::Code(0)));
    // It is still there, and again the first to be named.
    assert_eq!(reaper.peek_ended().unwrap(), Some(leader));
    assert_eq!(usage::of(child.pid).unwrap().state, 'Z');
    assert_eq!(usage::group_members(child.pid).unwrap(), [rest]);
    signal::send_group(child.pid, libc::SIGKILL).unwrap();
    reaper.release(child.pid).unwrap();
    assert_eq!(end_of(&reaper, rest).how, Exit::Signal { number: libc::SIGKILL, core: false });
    assert!(reaper.release(child.pid).is_err());
}

fn a_child_without_group_yet_is_reached() {
    let (_runtime, reaper) = reaper();
    for _ in 0..30 {
        let child = start(Preparation::default(), &["sleep", "1000"]);
        signal::send_child(child.pid, libc::SIGTERM).unwrap();
        assert_eq!(end_of(&reaper, child.pid).how, Exit::Signal { number: libc::SIGTERM, core: false });
    }
}

fn nobody_there_is_told_from_not_permitted() {
    assert!(matches!(signal::send(i32::MAX, 0), Err(SendError::NoSuchProcess)));
    assert!(matches!(signal::send_group(i32::MAX, 15), Err(SendError::NoSuchProcess)));
    assert!(matches!(signal::send_child(i32::MAX, 15), Err(SendError::NoSuchProcess)));
    assert!(matches!(signal::send(own_pid(), 999), Err(SendError::Other(_))));
}

fn our_own_signals_are_a_stream() {
    runtime().block_on(async {
        let mut received = Received::register().unwrap();
        let table = [
            (libc::SIGTERM, Incoming::Term),
            (libc::SIGINT, Incoming::Int),
            (libc::SIGQUIT, Incoming::Quit),
            (libc::SIGHUP, Incoming::Hup),
            (libc::SIGUSR1, Incoming::Usr1),
            (libc::SIGUSR2, Incoming::Usr2),
        ];
        for (number, expected) in table {
            signal::send(own_pid(), number).unwrap();
            assert_eq!(tokio::time::timeout(LIMIT, received.next()).await.unwrap(), expected);
        }
        let silence = tokio::time::timeout(Duration::from_millis(20), received.next()).await;
        assert!(silence.is_err(), "{silence:?}");
    });
}
