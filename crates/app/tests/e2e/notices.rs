//! Programs that say themselves that they are ready: with the tool that systemd has for it, and as another user.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use qfleet_testkit::eventually;

use crate::support::{Fleet, SOON};

/// Waits for its sign, says that it is ready, and goes on. The tool is a child that ends right away; `$1` says how it is
/// called.
const SCRIPT: &str = r#"#!/bin/sh
systemd-notify --status="waits for its sign"
until test -e "$2"; do sleep 0.02; done
case $1 in
child) systemd-notify --ready --status="takes requests" ;;
orphan) (setsid systemd-notify --ready --status="takes requests" &) ;;
without-waiting) systemd-notify --no-block --ready --status="takes requests" ;;
exec) sh -c 'exec systemd-notify --ready --status="takes requests"' ;;
esac
exec sleep 1000
"#;

const WAYS: [&str; 4] = ["child", "orphan", "without-waiting", "exec"];

/// A fleet in which each way has a program.
fn fleet(user: &str) -> Fleet {
    let program = |way: &str| {
        format!(
            "  {way}: {{command: [sh, -c, 'until test -e {{dir}}/script; do sleep 0.02; done; exec sh {{dir}}/script {way} {{dir}}/go'], \
             ready: notify, startsecs: 0{user}}}\n"
        )
    };
    let programs: String = WAYS.iter().map(|way| program(way)).collect();
    let fleet = Fleet::start(&format!("programs:\n{programs}"));
    std::fs::set_permissions(fleet.dir.path(), PermissionsExt::from_mode(0o711)).unwrap();
    let script = fleet.dir.write("script.new", SCRIPT);
    std::fs::rename(script, fleet.dir.join("script")).unwrap();
    fleet
}

/// All of them tell what they wait for.
fn all_wait(fleet: &Fleet) {
    for way in WAYS {
        eventually(SOON, "its status", || {
            (fleet.process(way)["description"] == "not ready yet: waits for its sign").then_some(())
        });
    }
}

/// All of them are up when they have said that they are ready.
fn all_come_up(fleet: &mut Fleet) {
    fleet.dir.write("go", "");
    fleet.wait_all_running();
    assert!(!fleet.log().contains("is not believed"), "{}", fleet.log());
    assert_eq!(fleet.stop(), 0, "{}", fleet.log());
}

#[test]
fn the_tool_of_systemd_says_it_for_a_program() {
    let mut fleet = fleet("");
    all_wait(&fleet);
    all_come_up(&mut fleet);
}

#[test]
fn a_program_of_another_user_may_say_it_too() {
    if !nix::unistd::Uid::effective().is_root() {
        // An ordinary user cannot have programs of others.
        return;
    }
    let mut fleet = fleet(", user: nobody");
    all_wait(&fleet);
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let sockets = fleet.dir.join("q.sock.slots").read_dir().unwrap();
    let sockets: Vec<_> = sockets
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_str().unwrap().starts_with(".notify."))
        .map(|entry| entry.metadata().unwrap())
        .collect();
    assert_eq!(sockets.len(), WAYS.len());
    for socket in sockets {
        let seen = (socket.uid(), socket.gid(), socket.mode() & 0o777);
        assert_eq!(seen, (nobody.uid.as_raw(), nobody.gid.as_raw(), 0o600));
    }
    all_come_up(&mut fleet);
}
