//! How a job's process ends: by itself, by a signal, by us; and who else ends with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use qfleet_manifest::handler::{ExitMeaning, ShellHandler};
use qfleet_model::outcome::{Outcome, Scope};
use qfleet_os::usage;
use qfleet_testkit::Scratch;
use qfleet_worker::handler::{Cancel, Ended, Health};

use crate::given::{deliver, deliver_within, given, opened, reason, result, shell, snooze, until};

/// A deadline that a process has begun long before, also on a machine that has much else to do.
const DEADLINE: Duration = Duration::from_secs(2);
/// The latest for what happens at once.
const AT_ONCE: Duration = Duration::from_secs(25);

/// Says its number to a file and stays, whatever it is asked.
const STUBBORN: &str = "trap '' TERM INT HUP; echo $$ >pid; while :; do sleep 0.1; done";

fn is_alive(pid: i32) -> bool {
    usage::of(pid).is_ok_and(|usage| usage.state != 'Z')
}

fn pid_in(scratch: &Scratch) -> Option<i32> {
    scratch.read("pid").trim().parse().ok()
}

fn placed(scratch: &Scratch, line: &str, kill_after: u64) -> ShellHandler {
    ShellHandler {
        cwd: Some(scratch.path().to_owned()),
        kill_after: Some(Duration::from_millis(kill_after)),
        ..shell(line)
    }
}

#[tokio::test]
async fn exit_codes_come_to_their_outcomes() {
    for (code, outcome) in [
        (0, "Complete"),
        (1, "Retry"),
        (64, "Fail"),
        (69, "Retry"),
        (75, "Snooze"),
        (76, "Fail"),
        (77, "Snooze"),
        (99, "Discard"),
        (100, "Fail"),
        (111, "Snooze"),
        (124, "Retry"),
        (126, "Snooze"),
        (127, "Snooze"),
        (255, "Retry"),
    ] {
        let ended = deliver(&opened(shell(&format!("exit {code}")))).await;
        assert!(format!("{:?}", ended.outcome).starts_with(outcome), "{code}: {ended:?}");
        assert_eq!(ended.status, Some(code.to_string()));
    }
    let exit_codes = vec![(3, 3, ExitMeaning::Discard), (20, 29, ExitMeaning::Fail)];
    let handler = opened(ShellHandler { exit_codes, ..shell("exit 25") });
    assert!(matches!(deliver(&handler).await.outcome, Outcome::Fail { .. }));
    assert_eq!(snooze(&deliver(&opened(shell("exit 75"))).await), (30, Scope::Job));
}

#[tokio::test]
async fn the_last_complaint_is_the_reason_and_all_are_in_the_log() {
    let ended = deliver(&opened(shell("echo first >&2; echo 'the disk is full' >&2; exit 74"))).await;
    assert_eq!(reason(&ended).text, "the disk is full");
    assert!(
        ended.notes[0].ends_with("stderr: first") && ended.notes[0].starts_with("20"),
        "{:?}",
        ended.notes
    );
    assert_eq!(reason(&deliver(&opened(shell("exit 74"))).await).text, "exit status 74");
}

#[tokio::test]
async fn signals_of_others_are_crashes() {
    for (signal, class) in
        [("SEGV", "signal_SEGV"), ("KILL", "signal_KILL"), ("TERM", "signal_TERM"), ("ABRT", "signal_ABRT")]
    {
        let ended = deliver(&opened(shell(&format!("ulimit -c 0; kill -{signal} $$")))).await;
        assert!(matches!(ended.outcome, Outcome::Crashed { .. }), "{ended:?}");
        assert_eq!(reason(&ended).class.as_deref(), Some(class));
        assert_eq!((ended.status.as_deref(), ended.health), (Some("crash"), Health::Neutral));
    }
}

fn timed_out(ended: &Ended) {
    assert_eq!(ended.outcome, Outcome::TimedOut { at_least: Duration::ZERO }, "{ended:?}");
    assert_eq!((ended.status.as_deref(), &ended.health), (Some("timeout"), &Health::Neutral));
}

#[tokio::test]
async fn at_the_deadline_it_is_asked_and_then_killed() {
    let scratch = Scratch::new();
    let handler = opened(placed(&scratch, STUBBORN, 300));
    let started = Instant::now();
    timed_out(&deliver_within(&handler, DEADLINE).await);
    let took = started.elapsed();
    assert!(took >= DEADLINE + Duration::from_millis(300) && took < DEADLINE + AT_ONCE, "{took:?}");
    assert!(!is_alive(pid_in(&scratch).unwrap()));
}

#[tokio::test]
async fn whoever_ends_when_asked_is_not_killed() {
    let scratch = Scratch::new();
    for (signal, name) in [(15, "TERM"), (2, "INT"), (10, "USR1")] {
        let line = format!("trap 'echo tidied >tidied; exit 0' {name}; while :; do sleep 0.05; done");
        let handler = opened(ShellHandler { stop_signal: signal, ..placed(&scratch, &line, 60_000) });
        let started = Instant::now();
        timed_out(&deliver_within(&handler, DEADLINE).await);
        assert!(started.elapsed() < DEADLINE + AT_ONCE, "{:?}", started.elapsed());
        assert_eq!(scratch.read("tidied"), "tidied\n", "{name}");
        std::fs::remove_file(scratch.join("tidied")).unwrap();
    }
}

#[tokio::test]
async fn a_stopped_process_ends_too() {
    let scratch = Scratch::new();
    let handler = opened(placed(&scratch, "echo $$ >pid; kill -STOP $$", 60_000));
    let started = Instant::now();
    timed_out(&deliver_within(&handler, DEADLINE).await);
    assert!(started.elapsed() < DEADLINE + AT_ONCE, "{:?}", started.elapsed());
    assert!(!is_alive(pid_in(&scratch).unwrap()));
}

#[tokio::test]
async fn a_grandchild_that_holds_the_pipes_does_not_hold_the_job() {
    let scratch = Scratch::new();
    let line = "(trap '' TERM HUP; exec sleep 300) & echo $! >pid; echo done";
    let started = Instant::now();
    let ended = deliver(&opened(placed(&scratch, line, 10_000))).await;
    assert_eq!(result(&ended), "done\n");
    assert!((900..25_000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    assert!(!is_alive(pid_in(&scratch).unwrap()), "nobody is left behind");
}

#[tokio::test]
async fn a_grandchild_that_hides_ends_with_the_job() {
    let line = "sleep 300 >/dev/null 2>&1 </dev/null 3>&- & echo $! >pid; echo done";
    let mut quickest = Duration::MAX;
    for _ in 0..5 {
        let scratch = Scratch::new();
        let started = Instant::now();
        let ended = deliver(&opened(placed(&scratch, line, 10_000))).await;
        quickest = quickest.min(started.elapsed());
        assert_eq!(result(&ended), "done\n");
        assert!(!is_alive(pid_in(&scratch).unwrap()));
    }
    // Who holds the pipes is waited for, each time; a busy machine is slow now and then.
    assert!(quickest < Duration::from_millis(900), "nothing to wait for: {quickest:?}");
}

#[tokio::test]
async fn grandchildren_end_with_a_killed_job() {
    let scratch = Scratch::new();
    let line = "(trap '' TERM; echo $$; exec sleep 300) & echo $! >pid; wait";
    timed_out(&deliver_within(&opened(placed(&scratch, line, 300)), DEADLINE).await);
    assert!(!is_alive(pid_in(&scratch).unwrap()));
}

#[tokio::test]
async fn the_group_is_noted_while_it_lives() {
    let given = given(b"{}");
    let groups = Arc::clone(&given.groups);
    let ended = opened(shell("echo $$")).handle(given.delivery).await;
    let group: i32 = result(&ended).trim().parse().unwrap();
    assert_eq!(groups.noted(), [group, 0]);
}

#[tokio::test]
async fn a_forced_stop_and_a_lost_lease_end_the_process() {
    for (why, outcome) in
        [(Cancel::Stop, Outcome::Interrupted { not_before: None }), (Cancel::Lost, Outcome::Lost)]
    {
        let scratch = Scratch::new();
        let handler = opened(placed(&scratch, STUBBORN, 200));
        let given = given(b"{}");
        let cancel = given.cancel;
        let delivery = tokio::spawn(async move { handler.handle(given.delivery).await });
        let pid = until("the process", || pid_in(&scratch)).await;
        let started = Instant::now();
        cancel.send(Some(why)).unwrap();
        let ended = delivery.await.unwrap();
        assert_eq!((ended.outcome, ended.health), (outcome, Health::Neutral));
        assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
        assert!(!is_alive(pid));
    }
}

#[tokio::test]
async fn a_delivery_that_is_dropped_kills_the_group() {
    let scratch = Scratch::new();
    let handler = opened(placed(&scratch, STUBBORN, 10_000));
    let given = given(b"{}");
    let groups = Arc::clone(&given.groups);
    let delivery = tokio::spawn(async move { handler.handle(given.delivery).await });
    let group = groups.first().await;
    let pid = until("the process", || pid_in(&scratch)).await;
    assert_eq!(group, pid);
    delivery.abort();
    until("the end of the process", || (!is_alive(pid)).then_some(())).await;
}

#[tokio::test]
async fn nobody_who_can_cancel_is_no_cancel() {
    let given = given(b"{}");
    drop(given.cancel);
    assert_eq!(result(&opened(shell("sleep 0.2; echo done")).handle(given.delivery).await), "done\n");
}
