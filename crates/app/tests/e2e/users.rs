//! Programs and workers of other users; only root can try.

use std::process::Command;

use qfleet_testkit::{RedisServer, Scratch, eventually};

use crate::support::{Fleet, SOON, payload, push, script, text, wait_empty};

#[test]
fn workers_and_programs_run_as_the_user_the_manifest_names() {
    if !nix::unistd::Uid::effective().is_root() {
        // What an ordinary user sees instead: a clear refusal.
        let dir = Scratch::new();
        let file = dir.write("q.yaml", "programs:\n  other: {command: sleep 1, user: root}\n");
        let output = Command::new(crate::support::QFLEET).args(["check", "-c"]).arg(file).output().unwrap();
        assert_eq!(output.status.code(), Some(78));
        assert!(text(&output.stderr).contains("root"), "{}", text(&output.stderr));
        return;
    }
    let redis = RedisServer::builder().tcp().start();
    let place = Scratch::new();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(place.path(), open).unwrap();
    let who = script(
        &place,
        "who",
        &format!("id -un > {0}/job.$JOB_ID; echo $HOME >> {0}/job.$JOB_ID", place.path().display()),
    );
    let mut fleet = Fleet::start_and_wait(&format!(
        "redis: {{url: '{}'}}\nqueues:\n  mail:\n    user: nobody\n    handler: {{shell: {{argv: [{}]}}}}\n\
         programs:\n  other: {{command: \"sh -c 'id -un; id -Gn; sleep 1000'\", user: nobody, startsecs: 0}}\n",
        redis.tcp_url(),
        who.display()
    ));
    push(&redis, "mail", [payload(1, "")]);
    let said = eventually(SOON, "the job to say who it is", || {
        let job = std::fs::read_to_string(place.join("job.00000000-0000-4000-8000-000000000001")).ok()?;
        (job.lines().count() == 2).then_some(job)
    });
    assert!(said.starts_with("nobody\n/nonexistent"), "{said}");
    wait_empty(&redis, &fleet);
    eventually(SOON, "the program to say who it is", || {
        fleet.ok(&["tail", "other"]).starts_with("nobody\n").then_some(())
    });
    // A killed worker's ledger is recovered though it belongs to another user.
    let worker = fleet.pid_of("mail:mail_00");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(worker), nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually(SOON, "a replacement", || {
        let process = fleet.process("mail:mail_00");
        (process["state"] == "RUNNING" && process["pid"] != worker).then_some(())
    });
    push(&redis, "mail", [payload(2, "")]);
    wait_empty(&redis, &fleet);
    assert_eq!(fleet.stop(), 0);
    let slots = fleet.dir.join("q.sock.slots");
    let left = std::fs::read_dir(&slots).map_or(0, Iterator::count);
    assert_eq!(left, 0, "no ledger is left after a clean end");
}

/// A line of one of a process's files in `/proc`, without its name.
fn line_of(pid: i32, file: &str, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{text}"));
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn programs_gain_rights_only_where_that_is_said() {
    let fleet = Fleet::start_and_wait(
        "programs:\n  plain: {command: sleep 1000}\n  bound: {command: sleep 1000, no-new-privileges: true}\n",
    );
    let forbidden = |fleet: &Fleet, name: &str| line_of(fleet.pid_of(name), "status", "NoNewPrivs:");
    assert_eq!([forbidden(&fleet, "plain"), forbidden(&fleet, "bound")], ["0", "1"]);
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let fleet = Fleet::start_and_wait(
        "programs:\n  usual: {command: sleep 1000, user: nobody, limits: {nofile: [100, 200]}}\n  \
         free: {command: sleep 1000, user: nobody, no-new-privileges: false}\n",
    );
    assert_eq!([forbidden(&fleet, "usual"), forbidden(&fleet, "free")], ["1", "0"]);
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let (uid, gid) = (nobody.uid, nobody.gid);
    for name in ["usual", "free"] {
        let pid = fleet.pid_of(name);
        assert_eq!(line_of(pid, "status", "Uid:"), format!("{uid} {uid} {uid} {uid}"), "{name}");
        assert_eq!(line_of(pid, "status", "Groups:"), gid.to_string(), "{name}");
        assert_eq!(line_of(pid, "status", "CapEff:"), "0000000000000000", "{name}");
    }
    assert_eq!(line_of(fleet.pid_of("usual"), "limits", "Max open files"), "100 200 files");
}

#[test]
fn who_holds_secrets_leaves_no_core_dump() {
    let redis = RedisServer::builder().tcp().start();
    let mut fleet = Fleet::start_and_wait(&format!(
        "redis: {{url: '{}'}}\nqueues:\n  mail: {{handler: {{shell: \"true\"}}}}\n  \
         debugged: {{handler: {{shell: \"true\"}}, limits: {{core: [0, unlimited]}}}}\n\
         programs:\n  plain: {{command: sleep 1000}}\n",
        redis.tcp_url()
    ));
    let own = std::fs::read_to_string("/proc/self/limits").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    let [soft, hard] = own.split_whitespace().take(2).collect::<Vec<_>>()[..] else { panic!("{own}") };
    let none = if hard == "0" { "0" } else { "1" };
    let limit = |pid| line_of(pid, "limits", "Max core file size");
    let check = |fleet: &Fleet| {
        assert_eq!(limit(fleet.pid()), format!("{none} {hard} bytes"));
        assert_eq!(limit(fleet.pid_of("mail:mail_00")), format!("{none} {hard} bytes"));
        assert_eq!(limit(fleet.pid_of("plain")), format!("{soft} {hard} bytes"), "as we have it");
        if hard == "unlimited" {
            assert_eq!(limit(fleet.pid_of("debugged:debugged_00")), "0 unlimited bytes");
        }
    };
    check(&fleet);
    fleet.ok(&["upgrade"]);
    fleet.ok(&["restart", "plain"]);
    check(&fleet);
    assert_eq!(fleet.stop(), 0);
}
