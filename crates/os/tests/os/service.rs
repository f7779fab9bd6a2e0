//! What systemd hears.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::time::Duration;

use qfleet_model::time::Moment;
use qfleet_os::service::Service;
use qfleet_os::tree::{MARK, variable_of};
use qfleet_os::{clock, notices};

use crate::harness::{Case, LIMIT, own_pid, until};

pub const CASES: &[Case] = &[
    ("systemd_hears_on_a_path", systemd_hears_on_a_path),
    ("systemd_hears_on_an_abstract_socket", systemd_hears_on_an_abstract_socket),
    ("a_program_is_heard", a_program_is_heard),
    ("nobody_listens_and_nothing_fails", nobody_listens_and_nothing_fails),
    ("the_watchdog_is_fed_twice_as_often_as_it_asks", the_watchdog_is_fed_twice_as_often_as_it_asks),
    ("the_clock_only_goes_forward", the_clock_only_goes_forward),
];

fn service(variables: &[(&str, String)]) -> std::io::Result<Service> {
    let variables: BTreeMap<_, _> =
        variables.iter().map(|(name, value)| (*name, OsString::from(value))).collect();
    Service::from_variables(&|name| variables.get(name).cloned())
}

fn a_program_is_heard() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("notify");
    let left_there = UnixDatagram::bind(&path).unwrap();
    let socket = notices::open(&path, None).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut bytes = [0; 8];
    let nothing = notices::receive(&socket, &mut bytes).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    service(&[("NOTIFY_SOCKET", path.display().to_string())]).unwrap().ready().unwrap();
    assert_eq!(notices::receive(&socket, &mut bytes).unwrap(), (7, own_pid()));
    assert!(bytes.starts_with(b"READY=1"), "cut off where the buffer ends: {bytes:?}");
    drop(left_there);

    // Whoever has a session of his own still descends from us, or has the mark of a tree.
    let mut children = ["of-one", "of-another"]
        .map(|mark| Command::new("setsid").args(["sleep", "1000"]).env(MARK, mark).spawn().unwrap());
    let [one, another] = [0, 1].map(|at: usize| i32::try_from(children[at].id()).unwrap());
    until("both to be executed", || {
        let marked = |pid, mark| variable_of(pid, MARK).as_deref() == Some(mark);
        (marked(one, "of-one") && marked(another, "of-another")).then_some(())
    });
    let speaks = |sender, root, mark| notices::speaks_for(sender, root, mark);
    let may = [
        speaks(own_pid(), own_pid(), None),
        speaks(one, own_pid(), None),
        speaks(one, another, Some("of-one")),
        speaks(own_pid(), one, None),
    ];
    let may_not = [
        speaks(one, another, Some("of-another")),
        speaks(one, another, None),
        speaks(0, one, Some("of-one")),
        speaks(1, one, Some("of-one")),
    ];
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!((may, may_not), ([true; 4], [false; 4]));
    assert!(speaks(one, own_pid(), None), "it cannot be asked any more");

    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    assert!(notices::open(&path, None).is_err(), "no socket");
    let long = scratch.path().join("x".repeat(120));
    assert!(notices::open(&long, None).unwrap_err().to_string().contains("longer than the 107 bytes"));
}

fn hears(socket: &UnixDatagram, address: &str) {
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let service = service(&[("NOTIFY_SOCKET", address.to_owned())]).unwrap();
    assert!(service.is_supervised());
    let heard = || {
        let mut bytes = [0; 256];
        let read = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..read].to_vec()).unwrap()
    };
    service.ready().unwrap();
    assert_eq!(heard(), "READY=1");
    service.status("draining\n3 left").unwrap();
    assert_eq!(heard(), "STATUS=draining 3 left");
    service.reloading(Moment::from_nanos(1_234_567_890)).unwrap();
    assert_eq!(heard(), "RELOADING=1\nMONOTONIC_USEC=1234567");
    service.alive().unwrap();
    assert_eq!(heard(), "WATCHDOG=1");
    service.extend(Duration::from_secs(30)).unwrap();
    assert_eq!(heard(), "EXTEND_TIMEOUT_USEC=30000000");
    service.stopping().unwrap();
    assert_eq!(heard(), "STOPPING=1");
}

fn systemd_hears_on_a_path() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("notify");
    hears(&UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap());
}

fn systemd_hears_on_an_abstract_socket() {
    let name = format!("qfleet-case-{}", own_pid());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    hears(&UnixDatagram::bind_addr(&address).unwrap(), &format!("@{name}"));
}

fn nobody_listens_and_nothing_fails() {
    let alone = service(&[]).unwrap();
    assert!(!alone.is_supervised());
    alone.ready().unwrap();
    alone.status("up").unwrap();
    assert_eq!(alone.watchdog_interval(), None);
    // One that went away is an error that the caller may ignore; one that is no address is a mistake.
    assert!(service(&[("NOTIFY_SOCKET", String::from("/no/such/socket"))]).unwrap().ready().is_err());
    assert!(service(&[("NOTIFY_SOCKET", String::from("vsock:2:1"))]).is_err());
}

fn the_watchdog_is_fed_twice_as_often_as_it_asks() {
    let interval = |variables: &[(&str, String)]| service(variables).unwrap().watchdog_interval();
    let limit = ("WATCHDOG_USEC", String::from("3000000"));
    let half = Some(Duration::from_millis(1500));
    assert_eq!(interval(std::slice::from_ref(&limit)), half);
    assert_eq!(interval(&[limit.clone(), ("WATCHDOG_PID", own_pid().to_string())]), half);
    assert_eq!(interval(&[limit, ("WATCHDOG_PID", String::from("1"))]), None);
    assert_eq!(interval(&[("WATCHDOG_USEC", String::from("0"))]), None);
    assert_eq!(interval(&[("WATCHDOG_USEC", String::from("soon"))]), None);
}

fn the_clock_only_goes_forward() {
    let uptime = || {
        let text = fs::read_to_string("/proc/uptime").unwrap();
        Duration::from_secs_f64(text.split(' ').next().unwrap().parse().unwrap())
    };
    let (earlier, now, later) = (clock::now(), clock::now(), uptime() + Duration::from_secs(1));
    assert!(now >= earlier);
    // Uptime also counts the time the machine slept, so it is only an upper bound.
    assert!(Duration::from_nanos(now.as_nanos()) <= later);
    assert!(clock::wall().as_seconds() > 1_700_000_000);
}
