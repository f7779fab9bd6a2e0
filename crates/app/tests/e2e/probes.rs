//! Readiness, health and memory of programs, with the real daemon, real ports and a real Redis.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use qfleet_testkit::{eventually, free_port};

use crate::support::{Fleet, SOON};

#[test]
fn a_queue_waits_for_its_redis_and_is_drained_before_it_goes() {
    let port = free_port();
    let manifest = format!(
        "redis: redis://127.0.0.1:{port}
connections: {{a: {{driver: laravel, prefix: \"\"}}}}
queues:
  slow:
    handler: {{shell: \"echo begun >> {{dir}}/begun; sleep 1; echo done >> {{dir}}/done\"}}
    depends-on: [redis]
programs:
  redis:
    command: sh -c 'until test -e {{dir}}/go; do sleep 0.02; done; exec redis-server --port {port} --save \"\" --dir {{dir}}'
    ready: {{tcp: \"127.0.0.1:{port}\"}}
    startsecs: 0
"
    );
    let mut fleet = Fleet::start(&manifest);
    assert_eq!(fleet.process("slow:slow_00")["description"], "waiting for `redis`");
    let described =
        |text: &str| fleet.process("redis")["description"].as_str().is_some_and(|it| it.contains(text));
    eventually(SOON, "what is waited for in the status", || {
        described("not ready yet: connecting to").then_some(())
    });
    fleet.dir.write("go", "");
    fleet.wait_all_running();
    fleet.ok(&["push", "slow", "Job@fire"]);
    eventually(SOON, "the job to run", || fleet.dir.join("begun").exists().then_some(()));
    assert_eq!(fleet.stop(), 0, "{}", fleet.log());
    assert_eq!(fleet.dir.read("done").trim(), "done", "the job was finished");
    let log = fleet.log();
    let at = |what: &str, process: &str| {
        log.lines().position(|line| line.contains(what) && line.contains(&format!("process={process}")))
    };
    let (queue, redis) = (at("ended", "slow:slow_00"), at("stopping", "redis"));
    assert!(queue.is_some() && queue < redis, "redis was asked before the queue was down:\n{log}");
}

/// A server of one file: answers `/up` with what stands in `answer`, after a while.
const SERVER: &str = r#"
import http.server, os, sys, time
time.sleep(0.5)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(open(sys.argv[2]).read()))
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"#;

#[test]
fn one_that_turns_unhealthy_is_replaced_and_one_that_is_never_ready_is_given_up() {
    let (port, nobody) = (free_port(), free_port());
    let manifest = format!(
        "programs:
  web:
    command: python3 {{dir}}/server.py {port} {{dir}}/answer
    ready: {{http: \"http://127.0.0.1:{port}/up\"}}
    health: {{http: \"http://127.0.0.1:{port}/up\", interval: 100ms, failures: 2}}
    startsecs: 0
    autostart: false
  never:
    command: sleep 1000
    ready: {{tcp: \"127.0.0.1:{nobody}\", within: 300ms}}
    startretries: 0
"
    );
    let mut fleet = Fleet::start(&manifest);
    fleet.dir.write("server.py", SERVER);
    fleet.dir.write("answer", "200");
    assert!(fleet.ok(&["start", "web"]).contains("web: started"), "it is answered when it is ready");
    let first = fleet.pid_of("web");
    fleet.dir.write("answer", "500");
    let log = eventually(SOON, "the reason in the log", || {
        Some(fleet.log()).filter(|log| log.contains("answered 500, 2 times in a row; it is replaced"))
    });
    assert!(log.contains(&format!("unhealthy: GET http://127.0.0.1:{port}/up: answered 500")), "{log}");
    fleet.dir.write("answer", "204");
    eventually(SOON, "another process that is ready", || {
        let process = fleet.process("web");
        (process["state"] == "RUNNING" && process["pid"] != first).then_some(())
    });
    fleet.wait_state("never", "FATAL");
    let never = fleet.process("never");
    let description = never["description"].as_str().unwrap();
    assert!(description.starts_with("not ready within 0.3 s; tried once more in "), "{description}");
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn one_that_takes_too_much_memory_is_replaced() {
    let mut fleet = Fleet::start_and_wait(
        "programs:
  hog:
    command: python3 -c 'import os,time; first = not os.path.exists(\"{dir}/seen\"); open(\"{dir}/seen\", \"w\"); x = b\"x\" * (200 << 20) if first else 0; time.sleep(1000)'
    memory: 100MiB
    startsecs: 0
",
    );
    let first = fleet.pid_of("hog");
    eventually(SOON, "another process", || {
        let process = fleet.process("hog");
        (process["state"] == "RUNNING" && process["pid"] != first).then_some(())
    });
    assert!(fleet.log().contains("wants to be replaced: `memory` reached"), "{}", fleet.log());
    assert_eq!(fleet.stop(), 0);
}

/// Says what it is doing, and that it is ready when there is a file `go`; by another process, as a script would.
const SPEAKER: &str = r#"
import os, socket, sys, time
def say(text):
    if os.fork() == 0:
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(text, os.environ["NOTIFY_SOCKET"])
        os._exit(0)
    os.wait()
say(b"STATUS=reading its rules")
while not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
say(b"READY=1\nSTATUS=takes requests")
time.sleep(1000)
"#;

/// Sockets of programs that lie in the state directory, which a daemon removes at its end.
fn sockets(fleet: &Fleet) -> Vec<PathBuf> {
    let entries = fleet.dir.join("q.sock.slots").read_dir().into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(".notify.")).collect()
}

#[test]
fn one_says_itself_that_it_is_ready_and_nobody_says_it_in_its_place() {
    let mut fleet = Fleet::start(
        "programs:
  gateway:
    command: [sh, -c, 'until test -s {dir}/speaker.py; do sleep 0.02; done; exec python3 {dir}/speaker.py {dir}/go']
    ready: notify
    startsecs: 0
  after: {command: sleep 1000, depends-on: [gateway], startsecs: 0}
  other: {command: \"sh -c 'echo is=$${NOTIFY_SOCKET-unset}; exec sleep 1000'\", startsecs: 0}
",
    );
    fleet.dir.write("speaker.py", SPEAKER);
    let told = |fleet: &Fleet, name: &str| fleet.process(name)["description"].as_str().unwrap().to_owned();
    eventually(SOON, "its status", || {
        (told(&fleet, "gateway") == "not ready yet: reading its rules").then_some(())
    });
    assert_eq!(told(&fleet, "after"), "waiting for `gateway`");
    let socket = sockets(&fleet).pop().unwrap();
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    UnixDatagram::unbound().unwrap().send_to(b"READY=1", &socket).unwrap();
    eventually(SOON, "the warning", || fleet.log().contains("is not believed").then_some(()));
    assert_eq!(fleet.state("gateway"), "STARTING");
    let pid = fleet.pid_of("gateway");
    fleet.ok(&["upgrade"]);
    assert_eq!(fleet.state("gateway"), "STARTING");
    assert_eq!(sockets(&fleet), [socket]);
    fleet.dir.write("go", "");
    fleet.wait_state("gateway", "RUNNING");
    assert_eq!(fleet.pid_of("gateway"), pid, "the same process");
    fleet.wait_state("after", "RUNNING");
    assert!(fleet.log().contains("is=unset"), "only who speaks has a socket: {}", fleet.log());
    fleet.ok(&["restart", "gateway"]);
    assert_ne!(fleet.pid_of("gateway"), pid);
    fleet.kill9();
    assert_eq!(sockets(&fleet).len(), 1, "a killed daemon leaves it");
    fleet.start_another();
    fleet.wait_state("after", "RUNNING");
    assert_eq!(fleet.stop(), 0, "{}", fleet.log());
    assert!(sockets(&fleet).is_empty(), "{:?}", sockets(&fleet));
}

#[test]
fn one_that_does_not_say_that_it_is_ready_is_given_up() {
    let mut fleet = Fleet::start(
        "programs:
  silent: {command: sleep 1000, ready: {notify: true, within: 300ms}, startretries: 0}
",
    );
    fleet.wait_state("silent", "FATAL");
    let silent = fleet.process("silent");
    let description = silent["description"].as_str().unwrap();
    assert!(description.starts_with("not ready within 0.3 s; tried once more in "), "{description}");
    assert!(sockets(&fleet).is_empty());
    assert_eq!(fleet.stop(), 0);
}
