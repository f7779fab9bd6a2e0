//! Descriptors and sockets of the daemon itself.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{close, getgid, getuid};
use qfleet_os::cores::{self, Cores};
use qfleet_os::descriptors::{self, OpenFiles};
use qfleet_os::{prepare, socket, users};

use crate::harness::{Case, own_pid};

pub const CASES: &[Case] = &[
    ("closed_standard_descriptors_are_filled", closed_standard_descriptors_are_filled),
    (
        "the_number_of_descriptors_is_raised_and_remembered",
        the_number_of_descriptors_is_raised_and_remembered,
    ),
    ("no_core_dump_is_left_until_that_is_taken_back", no_core_dump_is_left_until_that_is_taken_back),
    ("the_socket_has_its_mode_and_group", the_socket_has_its_mode_and_group),
    ("an_old_socket_is_replaced_and_nothing_else", an_old_socket_is_replaced_and_nothing_else),
    ("a_served_socket_is_told_from_one_that_is_left", a_served_socket_is_told_from_one_that_is_left),
    ("a_socket_path_may_be_as_long_as_clients_can_reach", a_socket_path_may_be_as_long_as_clients_can_reach),
    ("the_peer_is_known", the_peer_is_known),
    ("without_a_daemon_there_is_no_link", without_a_daemon_there_is_no_link),
];

fn closed_standard_descriptors_are_filled() {
    close(0).unwrap();
    close(2).unwrap();
    descriptors::ensure_standard().unwrap();
    for number in [0, 2] {
        assert_eq!(fs::read_link(format!("/proc/self/fd/{number}")).unwrap(), PathBuf::from("/dev/null"));
    }
    let next = fs::File::open("/dev/null").unwrap();
    assert_eq!(std::os::fd::AsRawFd::as_raw_fd(&next), 3, "nothing more stays open");
}

fn the_number_of_descriptors_is_raised_and_remembered() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
    assert_eq!(descriptors::raise_open_files().unwrap(), OpenFiles { soft: 64, hard });
    assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
}

fn no_core_dump_is_left_until_that_is_taken_back() {
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE).unwrap();
    let before = Cores { soft: hard.min(65_536), hard };
    cores::restore(before).unwrap();
    assert_eq!(cores::forbid().unwrap(), before);
    assert_eq!(getrlimit(Resource::RLIMIT_CORE).unwrap(), (hard.min(1), hard));
    cores::restore(before).unwrap();
    assert_eq!(getrlimit(Resource::RLIMIT_CORE).unwrap(), (before.soft, hard));
}

fn the_socket_has_its_mode_and_group() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("socket");
    // Neither a wide nor a narrow mask has a say in it.
    for (mask, mode) in [(0o000, 0o600), (0o077, 0o660), (0o777, 0o666)] {
        umask(Mode::from_bits_truncate(mask));
        let group = if users::am_root() { 54_321 } else { getgid().as_raw() };
        let listener = socket::listen(&path, mode, Some(group)).unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.mode() & 0o7777, found.gid(), found.uid()), (mode, group, getuid().as_raw()));
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1, "nothing temporary stays");
        UnixStream::connect(&path).unwrap();
        listener.accept().unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

fn an_old_socket_is_replaced_and_nothing_else() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("socket");
    drop(socket::listen(&path, 0o600, None).unwrap());
    assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let _listener = socket::listen(&path, 0o600, None).unwrap();
    UnixStream::connect(&path).unwrap();

    let file = scratch.path().join("file");
    fs::write(&file, "precious").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(socket::listen(&file, 0o600, None).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

fn a_served_socket_is_told_from_one_that_is_left() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("socket");
    assert!(!socket::is_served(&path), "nothing is there");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    // Also when nobody accepts, and no more may wait for it.
    assert!((0..5000).all(|_| socket::is_served(&path)));
    drop(listener);
    assert!(!socket::is_served(&path), "nobody is there");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    assert!(!socket::is_served(&path), "it is no socket");
}

fn a_socket_path_may_be_as_long_as_clients_can_reach() {
    let scratch = tempfile::tempdir().unwrap();
    let room = socket::LONGEST_PATH - scratch.path().as_os_str().len() - 1;
    let longest = scratch.path().join("s".repeat(room));
    let _listener = socket::listen(&longest, 0o600, None).unwrap();
    UnixStream::connect(&longest).unwrap();
    let longer = scratch.path().join("s".repeat(room + 1));
    assert_eq!(socket::listen(&longer, 0o600, None).unwrap_err().kind(), ErrorKind::InvalidInput);
}

fn the_peer_is_known() {
    let (one, _other) = UnixStream::pair().unwrap();
    let peer = socket::peer(&one).unwrap();
    assert_eq!((peer.pid, peer.uid, peer.gid), (own_pid(), getuid().as_raw(), getgid().as_raw()));
    assert!(socket::peer(&fs::File::open("/dev/null").unwrap()).is_err());
}

fn without_a_daemon_there_is_no_link() {
    let error = prepare::take_link().unwrap_err();
    assert!(error.to_string().contains("started by the daemon"), "{error}");
}
