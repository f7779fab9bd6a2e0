//! Children of a worker.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use qfleet_os::exit::Exit;
use qfleet_os::job_child::{JobChild, JobProcess};
use qfleet_os::usage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::harness::{Case, LIMIT, end_of, plain_env, read_line, reaper, role, runtime, script, until};
use crate::roles::{SIGNALS_OF_SHELL, assert_default_signals};

pub const CASES: &[Case] = &[
    ("a_job_reads_and_writes_more_than_a_pipe_holds", a_job_reads_and_writes_more_than_a_pipe_holds),
    ("a_job_has_its_pipes_and_nothing_else", a_job_has_its_pipes_and_nothing_else),
    (
        "a_missing_program_is_noticed_when_descriptor_3_is_free",
        a_missing_program_is_noticed_when_descriptor_3_is_free,
    ),
    ("a_job_gets_place_mask_nice_and_limits", a_job_gets_place_mask_nice_and_limits),
    ("a_job_that_cannot_begin_says_why", a_job_that_cannot_begin_says_why),
    ("a_job_begins_with_default_signals", a_job_begins_with_default_signals),
    ("the_end_of_a_job_is_told_with_what_it_used", the_end_of_a_job_is_told_with_what_it_used),
    ("an_ended_job_is_seen_although_its_output_is_held", an_ended_job_is_seen_although_its_output_is_held),
    ("a_stubborn_job_ends_by_force", a_stubborn_job_ends_by_force),
    ("a_dropped_job_leaves_nobody_behind", a_dropped_job_leaves_nobody_behind),
    (
        "a_job_dropped_after_the_runtime_leaves_nobody_behind",
        a_job_dropped_after_the_runtime_leaves_nobody_behind,
    ),
    ("a_killed_worker_takes_its_jobs_along", a_killed_worker_takes_its_jobs_along),
];

fn job(argv: &[&str]) -> JobChild {
    JobChild { argv: argv.iter().map(Into::into).collect(), env: plain_env(), ..JobChild::default() }
}

async fn output(process: &mut JobProcess) -> String {
    let mut text = String::new();
    let mut stdout = process.stdout.take().unwrap();
    timeout(LIMIT, stdout.read_to_string(&mut text)).await.unwrap().unwrap();
    text
}

async fn end(process: &JobProcess) -> Exit {
    timeout(LIMIT, process.exited()).await.unwrap().unwrap().exit
}

fn a_job_reads_and_writes_more_than_a_pipe_holds() {
    runtime().block_on(async {
        let mut process = job(&["cat"]).spawn().unwrap();
        let mut stdin = process.stdin.take().unwrap();
        let sent: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let copy = sent.clone();
        let writer = tokio::spawn(async move { stdin.write_all(&copy).await.unwrap() });
        let mut received = Vec::new();
        timeout(LIMIT, process.stdout.take().unwrap().read_to_end(&mut received)).await.unwrap().unwrap();
        writer.await.unwrap();
        assert!(received == sent);
        assert_eq!(end(&process).await, Exit::Code(0));
        // Asking again is fine.
        assert_eq!(end(&process).await, Exit::Code(0));
    });
}

fn a_job_has_its_pipes_and_nothing_else() {
    let stray = File::open("/dev/null").unwrap();
    qfleet_os::descriptors::set_close_on_exec(&stray, false).unwrap();
    runtime().block_on(async {
        let mut process = job(&["ls", "/proc/self/fd"]).spawn().unwrap();
        // 3 is the directory it lists.
        assert_eq!(output(&mut process).await, "0\n1\n2\n3\n");

        let child =
            JobChild { control: true, ..job(&script("echo said >&3; echo bad >&2; ls /proc/self/fd")) };
        let mut process = child.spawn().unwrap();
        assert_eq!(output(&mut process).await, "0\n1\n2\n3\n4\n");
        let (mut said, mut bad) = (String::new(), String::new());
        process.control.take().unwrap().read_to_string(&mut said).await.unwrap();
        process.stderr.take().unwrap().read_to_string(&mut bad).await.unwrap();
        assert_eq!((said.as_str(), bad.as_str()), ("said\n", "bad\n"));
    });
}

fn a_missing_program_is_noticed_when_descriptor_3_is_free() {
    let third = File::open("/dev/null").unwrap();
    assert_eq!(third.as_raw_fd(), 3, "the case begins with the standard descriptors alone");
    let runtime = runtime();
    drop(third);
    runtime.block_on(async {
        for _ in 0..3 {
            let error = JobChild { control: true, ..job(&["no-such-program"]) }.spawn().unwrap_err();
            assert_eq!(error.errno, Some(libc::ENOENT), "{error}");
            let mut process = JobChild { control: true, ..job(&script("echo said >&3")) }.spawn().unwrap();
            let mut said = String::new();
            timeout(LIMIT, process.control.take().unwrap().read_to_string(&mut said)).await.unwrap().unwrap();
            assert_eq!(said, "said\n");
        }
    });
}

fn a_job_gets_place_mask_nice_and_limits() {
    let scratch = tempfile::tempdir().unwrap();
    let text =
        "pwd; umask; nice; ulimit -Sn; ulimit -Hn; ulimit -Sc; echo $(($(cut -d' ' -f5 /proc/$$/stat) - $$))";
    let child = JobChild {
        cwd: Some(scratch.path().to_owned()),
        umask: Some(0o077),
        nice: Some(3),
        limits: BTreeMap::from([(String::from("nofile"), (64, 128)), (String::from("core"), (0, 0))]),
        ..job(&script(text))
    };
    runtime().block_on(async {
        let printed = output(&mut child.spawn().unwrap()).await;
        let own = Command::new("nice").output().unwrap();
        let own: i32 = String::from_utf8(own.stdout).unwrap().trim().parse().unwrap();
        let nice = (own + 3).min(19);
        assert_eq!(printed, format!("{}\n0077\n{nice}\n64\n128\n0\n0\n", scratch.path().display()));
    });
}

fn a_job_that_cannot_begin_says_why() {
    let lost = JobChild { cwd: Some("/no/such/place".into()), ..job(&["true"]) };
    // More than the hard limit of anybody, so not even root may have it.
    let limits = BTreeMap::from([(String::from("nofile"), (u64::MAX - 1, u64::MAX - 1))]);
    let greedy = JobChild { limits, ..job(&["true"]) };
    let limits = BTreeMap::from([(String::from("files"), (1, 1))]);
    let table = [
        (job(&["/no/such/program"]), "execute /no/such/program", Some(Errno::ENOENT)),
        (job(&["/etc/passwd"]), "execute /etc/passwd", Some(Errno::EACCES)),
        (job(&[]), "execute", Some(Errno::ENOENT)),
        (lost, "enter `/no/such/place`", Some(Errno::ENOENT)),
        (greedy, "set limits", Some(Errno::EPERM)),
        (JobChild { limits, ..job(&["true"]) }, "set limits", None),
    ];
    runtime().block_on(async {
        for (child, step, errno) in table {
            let error = child.spawn().unwrap_err();
            assert_eq!(
                (error.step.as_str(), error.errno),
                (step, errno.map(|number| number as i32)),
                "{error}"
            );
        }
    });
}

fn a_job_begins_with_default_signals() {
    nix::sys::signal::SigSet::all().thread_block().unwrap();
    runtime().block_on(async {
        let printed = output(&mut job(&script(SIGNALS_OF_SHELL)).spawn().unwrap()).await;
        assert_default_signals(&printed);
    });
}

fn the_end_of_a_job_is_told_with_what_it_used() {
    runtime().block_on(async {
        let child = job(&["dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=3"]).spawn().unwrap();
        let ending = timeout(LIMIT, child.exited()).await.unwrap().unwrap();
        assert_eq!(ending.exit, Exit::Code(0));
        assert!(ending.usage.peak_memory > 100_000_000, "{ending:?}");
        assert!(ending.usage.cpu > Duration::ZERO && ending.usage.cpu < LIMIT, "{ending:?}");

        let limits = BTreeMap::from([(String::from("core"), (0, 0))]);
        let child = JobChild { limits, ..job(&script("kill -SEGV $$")) }.spawn().unwrap();
        assert_eq!(end(&child).await, Exit::Signal { number: libc::SIGSEGV, core: false });
        assert_eq!(end(&job(&script("exit 75")).spawn().unwrap()).await, Exit::Code(75));
    });
}

fn an_ended_job_is_seen_although_its_output_is_held() {
    runtime().block_on(async {
        let mut process = job(&script("sleep 1000 & echo started")).spawn().unwrap();
        assert_eq!(end(&process).await, Exit::Code(0));
        assert!(!process.group_is_empty().unwrap());
        let mut stdout = process.stdout.take().unwrap();
        let mut text = Vec::new();
        let read = timeout(Duration::from_millis(50), stdout.read_to_end(&mut text)).await;
        assert!(read.is_err(), "the output should still be held");
        assert_eq!(text, b"started\n");
        // Its number is still the job's, so the rest can be ended safely.
        process.signal_group(libc::SIGKILL).unwrap();
        timeout(LIMIT, stdout.read_to_end(&mut text)).await.unwrap().unwrap();
        until("an empty group", || process.group_is_empty().unwrap().then_some(()));
    });
}

fn a_stubborn_job_ends_by_force() {
    runtime().block_on(async {
        let text = "trap 'echo no' TERM; echo up; while :; do sleep 0.01; done";
        let mut process = job(&script(text)).spawn().unwrap();
        let mut stdout = process.stdout.take().unwrap();
        let mut line = [0; 3];
        timeout(LIMIT, stdout.read_exact(&mut line)).await.unwrap().unwrap();
        assert_eq!(&line, b"up\n");
        process.signal_group(libc::SIGTERM).unwrap();
        timeout(LIMIT, stdout.read_exact(&mut line)).await.unwrap().unwrap();
        assert_eq!(&line, b"no\n");
        process.signal_group(libc::SIGKILL).unwrap();
        assert_eq!(end(&process).await, Exit::Signal { number: libc::SIGKILL, core: false });
    });
}

async fn family() -> (JobProcess, i32) {
    let mut process = job(&script("sleep 1000 & echo $!; wait")).spawn().unwrap();
    let mut bytes = vec![0; 64];
    let read = timeout(LIMIT, process.stdout.as_mut().unwrap().read(&mut bytes)).await.unwrap().unwrap();
    let grandchild = std::str::from_utf8(&bytes[..read]).unwrap().trim().parse().unwrap();
    (process, grandchild)
}

/// The child is reaped, the grandchild dead; that one is reaped by whoever adopts it.
fn both_gone(child: i32, grandchild: i32) -> bool {
    let ended = usage::of(grandchild).map_or(true, |usage| usage.state == 'Z');
    ended && usage::of(child).is_err()
}

fn a_dropped_job_leaves_nobody_behind() {
    runtime().block_on(async {
        // A child with much memory takes long to end, so it cannot be reaped in the drop itself.
        for _ in 0..5 {
            let mut large = job(&["dd", "if=/dev/zero", "bs=200M", "count=1"]).spawn().unwrap();
            let mut byte = [0];
            timeout(LIMIT, large.stdout.as_mut().unwrap().read_exact(&mut byte)).await.unwrap().unwrap();
            let (process, grandchild) = family().await;
            let children = [large.pid, process.pid];
            drop((large, process));
            let gone = async {
                while !children.into_iter().all(|child| both_gone(child, grandchild)) {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            timeout(LIMIT, gone).await.unwrap();
        }
    });
}

fn a_job_dropped_after_the_runtime_leaves_nobody_behind() {
    let (process, grandchild) = runtime().block_on(family());
    let child = process.pid;
    drop(process);
    until("both to be gone", || both_gone(child, grandchild).then_some(()));
}

fn a_killed_worker_takes_its_jobs_along() {
    let (_runtime, reaper) = reaper();
    let mut worker = role(&["worker-with-job"]).spawn().unwrap();
    let job: i32 = read_line(worker.stdout.take().unwrap()).parse().unwrap();
    worker.kill().unwrap();
    worker.wait().unwrap();
    assert_eq!(end_of(&reaper, job).how, Exit::Signal { number: libc::SIGKILL, core: false });
}
