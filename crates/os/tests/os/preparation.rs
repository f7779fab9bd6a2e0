//! What a child becomes before it works, and how it says that it could not.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

use nix::libc;
use qfleet_model::frame;
use qfleet_model::link::{FromChild, ToChild};
use qfleet_model::start::{Identity, Preparation, Role, Start};
use qfleet_os::exit::Exit;
use qfleet_os::{usage, users};

use crate::harness::{
    Case, end_of, heard, read_line, read_to_end, reaper, role, script, start, start_role, tell,
};
use crate::roles::worker;

pub const CASES: &[Case] = &[
    ("a_child_gets_place_mask_nice_and_limits", a_child_gets_place_mask_nice_and_limits),
    ("a_child_leads_a_session_of_its_own", a_child_leads_a_session_of_its_own),
    ("a_child_becomes_the_user_for_good", a_child_becomes_the_user_for_good),
    ("new_privileges_are_forbidden_or_not_as_is_said", new_privileges_are_forbidden_or_not_as_is_said),
    ("no_child_is_spared_when_memory_runs_out", no_child_is_spared_when_memory_runs_out),
    ("the_directory_is_entered_as_the_user", the_directory_is_entered_as_the_user),
    ("without_privileges_another_user_is_refused", without_privileges_another_user_is_refused),
    ("what_cannot_be_executed_is_told_apart", what_cannot_be_executed_is_told_apart),
    ("an_executed_program_closes_the_link", an_executed_program_closes_the_link),
    ("a_step_that_fails_is_named", a_step_that_fails_is_named),
    ("a_worker_of_another_user_can_measure_itself", a_worker_of_another_user_can_measure_itself),
    ("a_failure_that_nobody_hears_is_no_crash", a_failure_that_nobody_hears_is_no_crash),
    ("a_killed_daemon_takes_its_children_along", a_killed_daemon_takes_its_children_along),
    (
        "a_killed_daemon_takes_children_of_other_users_along",
        a_killed_daemon_takes_children_of_other_users_along,
    ),
    ("a_child_notices_a_daemon_that_ended_early", a_child_notices_a_daemon_that_ended_early),
];

fn a_child_gets_place_mask_nice_and_limits() {
    let scratch = tempfile::tempdir().unwrap();
    let preparation = Preparation {
        cwd: Some(scratch.path().to_owned()),
        umask: Some(0o027),
        nice: Some(5),
        limits: BTreeMap::from([(String::from("nofile"), (100, 200)), (String::from("core"), (0, 0))]),
        ..Preparation::default()
    };
    let text = "pwd; umask; nice; ulimit -Sn; ulimit -Hn; ulimit -Hc; cat /proc/$$/comm";
    let child = start(preparation, &script(text));
    let expected = format!("{}\n0027\n5\n100\n200\n0\nsh\n", scratch.path().display());
    assert_eq!(read_to_end(child.stdout), expected);
}

fn a_child_leads_a_session_of_its_own() {
    let child = start(Preparation::default(), &["cat", "/proc/self/stat"]);
    let stat = read_to_end(child.stdout);
    let fields: Vec<&str> = stat.split_whitespace().collect();
    let pid = child.pid.to_string();
    assert_eq!(fields[0], pid);
    assert_eq!(fields[4..6], [pid.as_str(), pid.as_str()], "group and session");
}

/// Cases about users need root, as the feature does. Elsewhere the refusal is all there is to see.
fn other_user() -> Identity {
    users::resolve("daemon", None).unwrap()
}

fn refused(child: qfleet_os::spawn::Launched) {
    let [FromChild::Failed { step, errno, .. }] = &heard(child.link)[..] else {
        panic!("no failure was reported")
    };
    assert!(step.starts_with("become user"), "{step}");
    assert_eq!(*errno, Some(libc::EPERM));
}

fn a_child_becomes_the_user_for_good() {
    let mut user = other_user();
    user.groups.push(4242);
    let preparation = Preparation { user: Some(user.clone()), ..Preparation::default() };
    let child = start(preparation, &script("cat /proc/$$/status; id -G"));
    if !users::am_root() {
        return refused(child);
    }
    let text = read_to_end(child.stdout);
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let (uid, gid) = (user.uid, user.gid);
    assert_eq!(field("Uid:"), format!("{uid} {uid} {uid} {uid}"));
    assert_eq!(field("Gid:"), format!("{gid} {gid} {gid} {gid}"));
    assert_eq!(field("Groups:"), format!("{gid} 4242"));
    assert_eq!(field("CapEff:"), "0000000000000000");
    assert_eq!(field("NoNewPrivs:"), "1");
}

fn new_privileges_are_forbidden_or_not_as_is_said() {
    let forbidden = |user: Option<Identity>, said: Option<bool>| {
        let preparation = Preparation { user, no_new_privileges: said, ..Preparation::default() };
        read_to_end(start(preparation, &script("grep NoNewPrivs /proc/$$/status")).stdout)
    };
    let (yes, no) = ("NoNewPrivs:\t1\n", "NoNewPrivs:\t0\n");
    assert_eq!(forbidden(None, None), no);
    assert_eq!(forbidden(None, Some(true)), yes);
    if users::am_root() {
        assert_eq!(forbidden(Some(other_user()), None), yes);
        assert_eq!(forbidden(Some(other_user()), Some(false)), no);
        let root = users::resolve("root", None).unwrap();
        assert_eq!(forbidden(Some(root), None), no, "it has given up nothing");
    }
}

fn no_child_is_spared_when_memory_runs_out() {
    let score = || fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let inherited =
        |preparation| read_to_end(start(preparation, &["cat", "/proc/self/oom_score_adj"]).stdout);
    fs::write("/proc/self/oom_score_adj", "300").unwrap();
    assert_eq!(inherited(Preparation::default()), score(), "one that is rather ended stays so");
    // Not everybody may; there is nothing to take back then.
    if fs::write("/proc/self/oom_score_adj", "-500").is_ok() {
        assert_eq!(inherited(Preparation::default()), "0\n");
        let user = Some(other_user());
        assert_eq!(inherited(Preparation { user, ..Preparation::default() }), "0\n");
        assert_eq!(score(), "-500\n");
    }
}

fn the_directory_is_entered_as_the_user() {
    let scratch = tempfile::tempdir().unwrap();
    // Root may enter it, the user may not.
    fs::set_permissions(scratch.path(), Permissions::from_mode(0o700)).unwrap();
    let user = other_user();
    let preparation = Preparation {
        cwd: Some(scratch.path().to_owned()),
        user: Some(user.clone()),
        ..Preparation::default()
    };
    let child = start(preparation.clone(), &["pwd"]);
    if !users::am_root() {
        return refused(child);
    }
    let [FromChild::Failed { step, errno, .. }] = &heard(child.link)[..] else { panic!("it was entered") };
    assert_eq!(*step, format!("enter `{}`", scratch.path().display()));
    assert_eq!(*errno, Some(libc::EACCES));

    chown(scratch.path(), Some(user.uid), None).unwrap();
    let child = start(preparation, &["pwd"]);
    assert_eq!(read_to_end(child.stdout), format!("{}\n", scratch.path().display()));
}

fn without_privileges_another_user_is_refused() {
    let (link, its_link) = UnixStream::pair().unwrap();
    let mut command = role(&["prepared"]);
    command.stdin(Stdio::from(std::os::fd::OwnedFd::from(its_link)));
    if users::am_root() {
        command.uid(54_321).gid(54_321);
    }
    let mut child = command.spawn().unwrap();
    drop(command);
    let user = Some(users::resolve("root", None).unwrap());
    tell(
        &link,
        Preparation { user, ..Preparation::default() },
        Role::Program { argv: vec![String::from("id")] },
    );
    let [FromChild::Failed { step, errno, error }] = &heard(link)[..] else { panic!("it became root") };
    assert_eq!((step.as_str(), *errno), ("become user `root`", Some(libc::EPERM)));
    assert!(error.contains("runs as root"), "{error}");
    assert_eq!(child.wait().unwrap().code(), Some(127));
}

fn what_cannot_be_executed_is_told_apart() {
    let (_runtime, reaper) = reaper();
    let scratch = tempfile::tempdir().unwrap();
    let file = |name: &str, mode: u32, text: &str| {
        let path = scratch.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let table = [
        (String::from("/no/such/program"), libc::ENOENT, "there is no such file"),
        (String::from("no-such-program"), libc::ENOENT, "no directory of PATH has it"),
        (file("plain", 0o644, "text"), libc::EACCES, "not permitted to execute it"),
        (scratch.path().to_str().unwrap().to_owned(), libc::EACCES, "it is a directory"),
        (file("garbage", 0o755, "\u{1}\u{2}"), libc::ENOEXEC, "not a program for this system"),
        (
            file("orphan", 0o755, "#!/no/such/interpreter\n"),
            libc::ENOENT,
            "the interpreter it names does not exist",
        ),
    ];
    for (program, number, words) in table {
        let child = start(Preparation::default(), &[&program]);
        let [FromChild::Failed { step, errno, error }] = &heard(child.link)[..] else {
            panic!("{program} ran")
        };
        assert_eq!(*step, format!("execute {program}"));
        assert_eq!(*errno, Some(number), "{program}");
        assert!(error.contains(words), "{program}: {error}");
        assert_eq!(end_of(&reaper, child.pid).how, Exit::Code(127));
    }
}

fn an_executed_program_closes_the_link() {
    let child = start(Preparation::default(), &script("echo up; exec sleep 1000"));
    assert_eq!(read_line(&child.stdout), "up");
    assert_eq!(heard(child.link), []);
}

fn a_step_that_fails_is_named() {
    let missing = Preparation { cwd: Some("/no/such/place".into()), ..Preparation::default() };
    let limits = BTreeMap::from([(String::from("files"), (1, 1))]);
    let unknown = Preparation { limits, ..Preparation::default() };
    let table = [(missing, "enter `/no/such/place`", Some(libc::ENOENT)), (unknown, "set limits", None)];
    for (preparation, expected, number) in table {
        let child = start(preparation, &["true"]);
        let [FromChild::Failed { step, errno, .. }] = &heard(child.link)[..] else {
            panic!("{expected} worked")
        };
        assert_eq!((step.as_str(), *errno), (expected, number));
    }
}

/// The kernel shuts a process that changed its user off from many of its own files, until it executes a program.
fn a_worker_of_another_user_can_measure_itself() {
    let preparation = Preparation { user: Some(other_user()), ..Preparation::default() };
    let child = start_role(preparation, worker());
    if !users::am_root() {
        return refused(child);
    }
    let measured: u64 = read_line(&child.stdout).parse().unwrap();
    let seen = usage::private_memory(child.pid).unwrap();
    assert!(measured > 0 && measured.abs_diff(seen) < 4 << 20, "{measured} and {seen}");
}

fn a_failure_that_nobody_hears_is_no_crash() {
    let (_runtime, reaper) = reaper();
    let child = start(Preparation::default(), &["/no/such/program"]);
    drop(child.link);
    assert_eq!(end_of(&reaper, child.pid).how, Exit::Code(127));
}

fn a_killed_daemon_takes_its_children_along() {
    killed_daemon("");
}

fn a_killed_daemon_takes_children_of_other_users_along() {
    killed_daemon(if users::am_root() { "daemon" } else { "" });
}

fn killed_daemon(user: &str) {
    let (_runtime, reaper) = reaper();
    let mut daemon = role(&["launching-daemon", user]).spawn().unwrap();
    let numbers = read_line(daemon.stdout.take().unwrap());
    let (program, worker) = numbers.split_once(' ').unwrap();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    // The program got the signal it asked for; the worker saw its link end.
    let mut ends = BTreeMap::new();
    crate::harness::until("both children to end", || {
        ends.extend(reaper.next_ended().unwrap().map(|ended| (ended.pid, ended.how)));
        (ends.len() == 2).then_some(())
    });
    assert_eq!(ends[&program.parse().unwrap()], Exit::Signal { number: libc::SIGTERM, core: false });
    assert_eq!(ends[&worker.parse().unwrap()], Exit::Code(42));
}

fn a_child_notices_a_daemon_that_ended_early() {
    let (_runtime, reaper) = reaper();
    let scratch = tempfile::tempdir().unwrap();
    let preparation = Preparation { parent_death: Some(libc::SIGTERM), ..Preparation::default() };
    let role_of_child = Role::Program { argv: vec![String::from("sleep"), String::from("1000")] };
    let start = Start { name: String::from("orphan"), preparation, role: role_of_child };
    let path = scratch.path().join("start");
    write_line(&path, &ToChild::Start(Box::new(start)));

    let mut daemon = role(&["short-daemon", path.to_str().unwrap()]).spawn().unwrap();
    let mut go = daemon.stdin.take().unwrap();
    let numbers = read_line(daemon.stdout.take().unwrap());
    let child: i32 = numbers.split_once(' ').unwrap().0.parse().unwrap();
    assert!(daemon.wait().unwrap().success());
    go.write_all(b"go\n").unwrap();
    assert_eq!(end_of(&reaper, child).how, Exit::Code(127));
}

fn write_line(path: &Path, message: &ToChild) {
    fs::write(path, frame::line(message).unwrap()).unwrap();
}
