//! The control socket, opened by whoever starts the daemon.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use qfleet_testkit::{Scratch, eventually};

use crate::support::{Fleet, QFLEET, SOON, text};

/// Opens what its first argument names, waits for somebody to connect when `wait` is among it, and becomes the rest of its
/// arguments, with the listeners as descriptors 3 and on.
const STARTER: &str = r"
import fcntl, os, select, socket, sys
place = os.path.dirname(os.environ['QFLEET_CONFIG'])
listeners = []
for word in sys.argv[1].split(','):
    if word.startswith('unix='):
        one = socket.socket(socket.AF_UNIX)
        one.bind(os.path.join(place, word[5:]))
    elif word.startswith('tcp='):
        one = socket.socket()
        one.bind((word[4:], 0))
        open(os.path.join(place, 'port'), 'w').write(str(one.getsockname()[1]))
    elif word == 'idle':
        listeners.append(socket.socket())
        continue
    else:
        select.select(listeners, [], [])
        continue
    one.listen()
    listeners.append(one)
high = [fcntl.fcntl(one.fileno(), fcntl.F_DUPFD, 20) for one in listeners]
for at, number in enumerate(high):
    os.dup2(number, 3 + at)
    os.close(number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(high)), LISTEN_FDNAMES='control')
os.execvp(sys.argv[2], sys.argv[2:])
";

pub(crate) fn starter(what: &str) -> [&str; 4] {
    ["python3", "-c", STARTER, what]
}

const PROGRAM: &str = "programs: {one: {command: [sh, -c, 'env > {dir}/env; ls -l /proc/self/fd > {dir}/descriptors; exec sleep 1000'], startsecs: 0}}\n";

#[test]
fn who_connects_before_the_daemon_is_up_is_answered_and_the_door_outlives_it_all() {
    // The daemon is not even executed before somebody has connected, and that is the first question of the fleet's start.
    let mut fleet = Fleet::start_through(&starter("unix=q.sock,wait"), PROGRAM);
    fleet.wait_all_running();
    let socket = fleet.dir.join("q.sock");
    let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&socket).unwrap());
    let before = inode();

    // Children hear nothing of it, and have none of it.
    eventually(SOON, "the program's lists", || {
        fleet.dir.read("descriptors").contains(" 2 -> ").then_some(())
    });
    let (variables, descriptors) = (fleet.dir.read("env"), fleet.dir.read("descriptors"));
    assert!(variables.contains("PATH=") && !variables.contains("LISTEN_"), "{variables}");
    assert!(!descriptors.contains("socket:"), "{descriptors}");

    // Over an upgrade, and when the daemon begins anew after that, in the same process.
    let (daemon, program) = (fleet.pid(), fleet.pid_of("one"));
    fleet.ok(&["upgrade"]);
    assert_eq!((fleet.pid(), fleet.pid_of("one")), (daemon, program));
    assert!(fleet.log().contains(": 1 process was kept"), "{}", fleet.log());
    begin_anew(&fleet);
    eventually(SOON, "another process", || {
        fleet.status().first().and_then(|one| one["pid"].as_i64()).filter(|pid| *pid != i64::from(program))
    });
    assert_eq!(fleet.ok(&["pid"]).trim(), daemon.to_string());
    assert_eq!(inode(), before, "it is the same socket all the time");

    assert_eq!(fleet.stop(), 0, "{}", fleet.log());
    assert_eq!(inode(), before, "its file belongs to who has made it");
    assert!(!fleet.log().contains("cannot remove"), "{}", fleet.log());
}

/// What `supervisorctl reload` asks for.
fn begin_anew(fleet: &Fleet) {
    let body = "<?xml version='1.0'?><methodCall><methodName>supervisor.restart</methodName></methodCall>";
    let mut stream = UnixStream::connect(fleet.dir.join("q.sock")).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST /RPC2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: text/xml\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("<boolean>1</boolean>"), "{answer}");
}

#[test]
fn a_tcp_door_on_loopback_is_served_beside_the_own_socket() {
    let mut fleet = Fleet::start_through(&starter("tcp=127.0.0.1"), PROGRAM);
    let port = fleet.dir.read("port");
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    write!(stream, "GET /api/v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(fleet.stop(), 0, "{}", fleet.log());
    assert!(!fleet.dir.join("q.sock").exists(), "the own socket is removed");
}

/// Starts a daemon that must refuse.
fn refused(what: &str, control: &str, code: i32) -> String {
    let place = Scratch::new();
    let manifest =
        format!("programs: {{}}\ncontrol: {control}\n").replace("{dir}", &place.path().display().to_string());
    let file = place.write("qfleet.yaml", manifest);
    let [python, words @ ..] = starter(what);
    let mut command = Command::new(python);
    command.args(words).args([QFLEET, "run"]).env("QFLEET_CONFIG", file).env_remove("QFLEET_SOCKET");
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

#[test]
fn what_cannot_be_used_is_refused_with_a_reason() {
    // The rule for `control.listen` holds for what is handed over.
    let said = refused("tcp=0.0.0.0", "{socket: {dir}/q.sock}", 78);
    assert!(said.contains("without `auth` everybody in the network could steer the fleet"), "{said}");
    let said = refused("unix=other.sock", "{socket: {dir}/q.sock}", 78);
    assert!(said.contains("other.sock") && said.contains("q.sock"), "{said}");
    let said = refused("idle", "{socket: {dir}/q.sock}", 73);
    assert!(said.contains("descriptor 3") && said.contains("Accept=no"), "{said}");
    let said = refused("unix=q.sock,unix=r.sock", "{socket: {dir}/q.sock}", 73);
    assert!(said.contains("one unix and one TCP socket"), "{said}");
}
