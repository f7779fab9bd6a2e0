//! Children of the daemon: what they begin with, what they inherit, and that every end is noticed.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use qfleet_model::start::{Preparation, Role};
use qfleet_os::exit::Exit;
use qfleet_os::spawn::{Launch, OwnImage, launch};
use qfleet_os::{descriptors, signal};

use crate::harness::{
    Case, children_of, end_of, own_pid, plain_env, read_line, read_to_end, reaper, script, start, tell, until,
};
use crate::roles::assert_default_signals;

pub const CASES: &[Case] = &[
    ("a_child_shows_its_name", a_child_shows_its_name),
    ("our_ends_neither_block_nor_leak", our_ends_neither_block_nor_leak),
    ("a_program_has_the_standard_descriptors_alone", a_program_has_the_standard_descriptors_alone),
    ("a_program_begins_with_default_signals", a_program_begins_with_default_signals),
    ("a_program_gets_the_environment_it_was_given", a_program_gets_the_environment_it_was_given),
    ("two_hundred_quick_ends_are_all_seen", two_hundred_quick_ends_are_all_seen),
    ("one_wake_up_is_enough_for_many_ends", one_wake_up_is_enough_for_many_ends),
    ("strangers_are_reaped_too", strangers_are_reaped_too),
    ("a_replaced_file_does_not_mix_versions", a_replaced_file_does_not_mix_versions),
    ("input_reaches_the_program_until_we_close_it", input_reaches_the_program_until_we_close_it),
];

fn a_child_shows_its_name() {
    let (_runtime, reaper) = reaper();
    let image = OwnImage::open().unwrap();
    let args = ["--role", "prepared"];
    let child = launch(&Launch {
        image: &image,
        args: &args,
        env: &plain_env(),
        name: "qfleet: messages:messages_01",
        input: false,
    });
    let child = child.unwrap();
    let shown = until("the name", || {
        // Empty for an instant while the image is replaced.
        Some(fs::read_to_string(format!("/proc/{}/cmdline", child.pid)).unwrap())
            .filter(|text| !text.is_empty())
    });
    assert!(shown.starts_with("qfleet: messages:messages_01\0--role\0"), "{shown:?}");
    // Without a first message it ends by itself.
    drop(child.link);
    assert_eq!(end_of(&reaper, child.pid).how, Exit::Code(41));
}

fn our_ends_neither_block_nor_leak() {
    let child = start(Preparation::default(), &["sleep", "1000"]);
    let flags = |descriptor: &dyn AsRawFd| {
        // Descriptors are looked up by number in procfs, so that the library under test is not its own witness.
        fs::read_to_string(format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd())).unwrap()
    };
    for text in [flags(&child.link), flags(&child.stdout), flags(&child.stderr)] {
        let line = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        let flags = OFlag::from_bits_retain(i32::from_str_radix(line.trim(), 8).unwrap());
        assert!(flags.contains(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC), "{flags:?}");
    }
}

fn a_program_has_the_standard_descriptors_alone() {
    // As if the daemon had been started with stray descriptors.
    let stray = fs::File::open("/dev/null").unwrap();
    descriptors::set_close_on_exec(&stray, false).unwrap();
    let far = fcntl(&stray, FcntlArg::F_DUPFD(77)).unwrap();
    assert_eq!(far, 77);
    let child = start(Preparation::default(), &["ls", "/proc/self/fd"]);
    // 3 is the directory it lists.
    assert_eq!(read_to_end(child.stdout), "0\n1\n2\n3\n");
    let child = start(Preparation::default(), &["readlink", "/proc/self/fd/0"]);
    assert_eq!(read_to_end(child.stdout), "/dev/null\n");
    let flags = fcntl(&stray, FcntlArg::F_GETFD).unwrap();
    assert!(
        !FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC),
        "the case needs it to be inheritable"
    );
}

fn a_program_begins_with_default_signals() {
    // A daemon that was started with ignored signals, and blocks all while it launches.
    let mut shell = std::process::Command::new("/bin/sh");
    shell.args(["-c", "trap '' HUP USR1 PIPE XFSZ; exec \"$0\" --role print-signals-of-child"]);
    let output = shell.arg(std::env::current_exe().unwrap()).output().unwrap();
    assert_default_signals(&String::from_utf8(output.stdout).unwrap());
}

fn a_program_gets_the_environment_it_was_given() {
    let child = start(Preparation::default(), &["env"]);
    assert_eq!(read_to_end(child.stdout), "PATH=/usr/local/bin:/usr/bin:/bin\n");
}

fn two_hundred_quick_ends_are_all_seen() {
    let (_runtime, reaper) = reaper();
    let image = OwnImage::open().unwrap();
    let env = plain_env();
    let mut expected = BTreeMap::new();
    let mut seen = BTreeMap::new();
    for number in 0..200 {
        let code = (number % 256).to_string();
        let args = ["--role", "exit", &code];
        let child =
            launch(&Launch { image: &image, args: &args, env: &env, name: "qfleet: quick", input: false })
                .unwrap();
        expected.insert(child.pid, Exit::Code(number));
        // Their ends come in between the launches, as they do in a storm.
        while let Some(ended) = reaper.next_ended().unwrap() {
            assert_eq!(seen.insert(ended.pid, ended.how), None);
        }
    }
    until("the end of the last", || {
        while let Some(ended) = reaper.next_ended().unwrap() {
            assert_eq!(seen.insert(ended.pid, ended.how), None);
        }
        (seen.len() >= expected.len()).then_some(())
    });
    assert_eq!(seen, expected);
    assert!(children_of(own_pid()).is_empty());
}

fn one_wake_up_is_enough_for_many_ends() {
    let (runtime, mut reaper) = reaper();
    let mut children: Vec<i32> =
        (0..8).map(|_| start(Preparation::default(), &script("kill -KILL $$")).pid).collect();
    // The system's numbers begin anew when they have come to their end.
    children.sort_unstable();
    let mut ended = Vec::new();
    runtime.block_on(async {
        while ended.len() < children.len() {
            tokio::time::timeout(crate::harness::LIMIT, reaper.woken()).await.unwrap();
            while let Some(child) = reaper.next_ended().unwrap() {
                assert_eq!(child.how, Exit::Signal { number: 9, core: false });
                ended.push(child.pid);
            }
        }
    });
    ended.sort_unstable();
    assert_eq!(ended, children);
}

fn strangers_are_reaped_too() {
    let (_runtime, reaper) = reaper();
    // The grandchild leaves group and session, and its parent ends before it.
    let child = start(Preparation::default(), &script("setsid sh -c 'echo $$; exec sleep 1000' & wait"));
    let escaped: i32 = read_line(&child.stdout).parse().unwrap();
    signal::send_child(child.pid, 9).unwrap();
    assert_eq!(end_of(&reaper, child.pid).how, Exit::Signal { number: 9, core: false });
    assert_eq!(until("the orphan", || Some(children_of(own_pid())).filter(|now| !now.is_empty())), [escaped]);
    signal::send(escaped, 15).unwrap();
    assert_eq!(end_of(&reaper, escaped).how, Exit::Signal { number: 15, core: false });
    assert!(reaper.next_ended().unwrap().is_none());
}

fn a_replaced_file_does_not_mix_versions() {
    let (_runtime, reaper) = reaper();
    let scratch = tempfile::tempdir().unwrap();
    let [old, new] = ["old", "new"].map(|name| scratch.path().join(name));
    fs::copy(std::env::current_exe().unwrap(), &old).unwrap();
    // The new version ends with 1 whatever it is asked.
    fs::copy("/bin/false", &new).unwrap();
    let mut command = std::process::Command::new(&old);
    command.args(["--role", "replaced-image", new.to_str().unwrap()]).stdout(std::process::Stdio::piped());
    let mut daemon = command.spawn().unwrap();
    let child: i32 = read_line(daemon.stdout.take().unwrap()).parse().unwrap();
    assert!(daemon.wait().unwrap().success());
    assert_eq!(end_of(&reaper, child).how, Exit::Code(0));
    assert!(!std::process::Command::new(&old).status().is_ok_and(|status| status.success()));
}

fn input_reaches_the_program_until_we_close_it() {
    let (image, env) = (OwnImage::open().unwrap(), plain_env());
    let args = ["--role", "prepared"];
    let cat = |input| {
        let child = launch(&Launch { image: &image, args: &args, env: &env, name: "qfleet: cat", input });
        let child = child.unwrap();
        let argv = vec![String::from("cat")];
        tell(&child.link, Preparation::default(), Role::Program { argv });
        child
    };
    let mut child = cat(true);
    let mut ours = fs::File::from(child.stdin.take().unwrap());
    ours.write_all(b"one\n").unwrap();
    assert_eq!(read_line(&child.stdout), "one");
    drop(ours);
    assert_eq!(read_to_end(child.stdout), "", "it has ended");
    let child = cat(false);
    assert!(child.stdin.is_none());
    assert_eq!(read_to_end(child.stdout), "", "nothing to read");
}
