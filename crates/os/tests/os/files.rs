//! Files that are locked: the map that outlives its writer, and the lock of the daemon.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use qfleet_os::lock::{InstanceLock, LockError};
use qfleet_os::locked_map::{LockedMap, Opened};

use crate::harness::{Case, own_pid, read_line, role};

pub const CASES: &[Case] = &[
    ("a_new_map_is_private_empty_and_locked", a_new_map_is_private_empty_and_locked),
    ("what_was_stored_is_there_for_the_next", what_was_stored_is_there_for_the_next),
    ("records_survive_the_kill_of_their_writer", records_survive_the_kill_of_their_writer),
    ("a_map_can_be_waited_for", a_map_can_be_waited_for),
    ("a_removed_map_is_not_handed_over", a_removed_map_is_not_handed_over),
    ("other_files_are_not_taken_for_maps", other_files_are_not_taken_for_maps),
    ("one_daemon_at_a_time", one_daemon_at_a_time),
];

fn holder(name: &str, path: &Path) -> Child {
    let child = role(&[name, path.to_str().unwrap()]).spawn().unwrap();
    assert_eq!(read_line(child.stdout.as_ref().unwrap()), "up");
    child
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn a_new_map_is_private_empty_and_locked() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("map");
    let map = LockedMap::create(&path, 4096).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    assert_eq!((map.size(), map.read(0, 4096)), (4096, vec![0; 4096]));
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1, "nothing unfinished stays");

    assert_eq!(LockedMap::create(&path, 64).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    let Opened::HeldElsewhere { pid } = LockedMap::open(&path).unwrap() else {
        panic!("the lock is not held")
    };
    assert_eq!(pid, Some(own_pid()));
    drop(map);
    assert!(matches!(LockedMap::open(&path).unwrap(), Opened::Ours(_)));
}

fn what_was_stored_is_there_for_the_next() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("map");
    let map = LockedMap::create(&path, 100).unwrap();
    assert_eq!(map.size(), 104);
    map.write(8, b"eleven byte");
    map.store(96, u64::MAX);
    drop(map);
    let Opened::Ours(map) = LockedMap::open(&path).unwrap() else { panic!("the lock is still held") };
    assert_eq!(map.read(8, 11), b"eleven byte");
    assert_eq!(map.read(0, 24), [&[0; 8][..], b"eleven byte", &[0; 5]].concat());
    assert_eq!(map.load(96), u64::MAX);
    for beyond in [104, 4] {
        let reached = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| map.load(beyond)));
        assert!(reached.is_err(), "{beyond} is outside or between words");
    }
    map.unlink().unwrap();
    assert!(matches!(LockedMap::open(&path).unwrap(), Opened::Gone));
}

fn records_survive_the_kill_of_their_writer() {
    let scratch = tempfile::tempdir().unwrap();
    let (mut published, mut last) = (0, 0);
    for round in 0..25 {
        let path = scratch.path().join(round.to_string());
        let writer = holder("map-writer", &path);
        std::thread::sleep(Duration::from_micros(700 * round));
        kill(writer);
        let Opened::Ours(map) = LockedMap::open(&path).unwrap() else {
            panic!("a dead writer holds the lock")
        };
        for record in (0..4 * 128).step_by(128) {
            let state = map.load(record);
            if state != 0 {
                assert_eq!(
                    map.read(record + 8, 120),
                    state.to_ne_bytes().repeat(15),
                    "record {record} of round {round}"
                );
                published += 1;
                last = last.max(state);
            }
        }
    }
    assert!(
        published > 25 && last > 1000,
        "{published} records, the last one {last}: the writer did too little"
    );
}

fn a_map_can_be_waited_for() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("map");
    let child = holder("map-holder", &path);
    let Opened::HeldElsewhere { pid } = LockedMap::open(&path).unwrap() else {
        panic!("the lock is not held")
    };
    assert_eq!(pid, Some(i32::try_from(child.id()).unwrap()));
    let waiting = std::thread::spawn(move || LockedMap::open_when_free(&path).unwrap());
    std::thread::sleep(Duration::from_millis(20));
    assert!(!waiting.is_finished());
    kill(child);
    assert_eq!(waiting.join().unwrap().unwrap().size(), 64);
}

fn a_removed_map_is_not_handed_over() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("map");
    let mut child = holder("map-holder", &path);
    let waiting = std::thread::spawn({
        let path = path.clone();
        move || LockedMap::open_when_free(&path).unwrap()
    });
    // It waits for the lock of the very file that is removed now.
    crate::harness::until("it to wait for the lock", || {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let inode = format!(":{} ", fs::metadata(&path).unwrap().ino());
        locks.lines().any(|line| line.contains("->") && line.contains(&inode)).then_some(())
    });
    child.stdin.take().unwrap().write_all(b"unlink\n").unwrap();
    assert!(waiting.join().unwrap().is_none());
    assert!(child.wait().unwrap().success());
    assert!(LockedMap::open_when_free(&path).unwrap().is_none());
}

fn other_files_are_not_taken_for_maps() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    drop(LockedMap::create(&path("map"), 64).unwrap());
    fs::write(path("short"), "x").unwrap();
    fs::write(path("text"), "x".repeat(200)).unwrap();
    for name in ["short", "text"] {
        assert_eq!(LockedMap::open(&path(name)).unwrap_err().kind(), ErrorKind::InvalidData, "{name}");
        assert!(fs::read_to_string(path(name)).unwrap().starts_with('x'), "it was written to");
    }
    symlink(path("map"), path("link")).unwrap();
    assert!(LockedMap::open(&path("link")).is_err());
    assert!(LockedMap::create(&path("no/such/directory"), 64).is_err());
}

fn one_daemon_at_a_time() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("lock");
    let child = holder("lock-holder", &path);
    let number = i32::try_from(child.id()).unwrap();
    match InstanceLock::take(&path) {
        Err(LockError::HeldBy(pid)) => assert_eq!(pid, Some(number)),
        other => panic!("{other:?}"),
    }
    kill(child);
    // What a killed daemon left in the file hinders nobody.
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{number}\n"));
    let lock = InstanceLock::take(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", own_pid()));
    drop(lock);
    assert_eq!(fs::read_to_string(&path).unwrap(), "");
    InstanceLock::take(&path).unwrap();
    assert!(matches!(InstanceLock::take(&path.join("under-a-file")), Err(LockError::Io(_))));
    // The file is emptied when it is taken, so nobody may point it at another one.
    let link = scratch.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(matches!(InstanceLock::take(&link), Err(LockError::Io(_))));
}
