//! The rules as tables, and a seeded sweep over the interleavings nobody thinks of.

use std::collections::BTreeSet;

use super::*;

const TERM: Signal = 15;

fn program() -> ProcessPolicy {
    ProcessPolicy {
        kind: ProcessKind::Program,
        startsecs: Duration::from_secs(1),
        ready_within: None,
        startretries: 3,
        retry_fatal: None,
        start_wait: Duration::from_secs(30),
        autorestart: Autorestart::Unexpected,
        exitcodes: vec![0],
        stop_signal: TERM,
        stop_again: vec![],
        stop_wait: Duration::from_secs(30),
        kill_after: Duration::from_secs(10),
    }
}

fn worker() -> ProcessPolicy {
    ProcessPolicy { kind: ProcessKind::Worker, ..program() }
}

fn at(seconds: f64) -> Moment {
    Moment::from_nanos(1_000_000_000_000) + Duration::from_secs_f64(seconds)
}

/// A slot that is told events at times, and remembers what it asked for last.
struct Life {
    state: ProcessState,
    policy: ProcessPolicy,
    actions: Vec<Action>,
}

impl Life {
    fn new(policy: ProcessPolicy) -> Self {
        Self { state: ProcessState::Stopped, policy, actions: vec![] }
    }

    fn tell(&mut self, seconds: f64, event: ProcessEvent) -> StateWord {
        let state = std::mem::replace(&mut self.state, ProcessState::Stopped);
        (self.state, self.actions) = state.step(event, &self.policy, at(seconds));
        self.state.word()
    }

    fn ended(&mut self, seconds: f64, exit: Exit) -> StateWord {
        let pid = self.state.pid().unwrap_or_default();
        self.tell(seconds, ProcessEvent::Ended { pid, exit })
    }

    /// Starts it, spawned at once with this number.
    fn spawned(policy: ProcessPolicy, pid: Pid) -> Self {
        let mut life = Self::new(policy);
        life.tell(0.0, ProcessEvent::Start);
        assert_eq!(life.actions, [Action::Spawn]);
        life.tell(0.0, ProcessEvent::Spawned(pid));
        life
    }
}

fn code(code: i32) -> Exit {
    Exit::Code(code)
}

#[test]
fn a_program_is_up_after_startsecs_and_not_before() {
    let mut life = Life::spawned(program(), 7);
    assert_eq!(life.tell(0.1, ProcessEvent::Executed), StateWord::Starting);
    assert_eq!(life.actions, [Action::WakeAt(at(1.0))]);
    assert_eq!(life.tell(0.9, ProcessEvent::TimePassed), StateWord::Starting);
    assert_eq!(life.tell(1.0, ProcessEvent::TimePassed), StateWord::Running);
    assert_eq!(life.state.pid(), Some(7));
}

#[test]
fn without_startsecs_a_program_is_up_when_it_is_executed() {
    let mut life = Life::spawned(ProcessPolicy { startsecs: Duration::ZERO, ..program() }, 7);
    assert_eq!(life.tell(0.1, ProcessEvent::TimePassed), StateWord::Starting);
    assert_eq!(life.tell(0.2, ProcessEvent::Executed), StateWord::Running);
}

#[test]
fn a_program_that_dies_early_is_tried_again_after_1_2_and_3_seconds_and_then_given_up() {
    let mut life = Life::spawned(program(), 1);
    let mut now = 0.0;
    for pause in [1.0, 2.0, 3.0] {
        assert_eq!(life.ended(now + 0.1, code(0)), StateWord::Backoff);
        assert_eq!(life.actions, [Action::WakeAt(at(now + 0.1 + pause))]);
        now += 0.1 + pause;
        assert_eq!(life.tell(now - 0.01, ProcessEvent::TimePassed), StateWord::Backoff);
        assert_eq!(life.tell(now, ProcessEvent::TimePassed), StateWord::Starting);
        life.tell(now, ProcessEvent::Spawned(2));
    }
    assert_eq!(life.ended(now + 0.1, code(3)), StateWord::Fatal);
    let ProcessState::Fatal { why, .. } = &life.state else { panic!("{:?}", life.state) };
    assert_eq!(why, "exited too quickly, with exit code 3");
    assert_eq!(life.tell(1e6, ProcessEvent::TimePassed), StateWord::Fatal);
    assert_eq!(life.tell(1e6, ProcessEvent::Start), StateWord::Starting);
}

#[test]
fn what_cannot_be_executed_is_given_up_with_the_reason_even_without_startsecs() {
    let policy = ProcessPolicy { startsecs: Duration::ZERO, startretries: 1, ..program() };
    let mut life = Life::spawned(policy, 1);
    let why = String::from("cannot execute `/no/such`: no such file");
    for (now, word) in [(0.0, StateWord::Backoff), (1.0, StateWord::Fatal)] {
        life.tell(now, ProcessEvent::Failed { why: why.clone() });
        assert_eq!(
            life.tell(now, ProcessEvent::Executed),
            StateWord::Starting,
            "the link closes at its end too"
        );
        assert_eq!(life.ended(now, code(127)), word);
        life.tell(now + 1.0, ProcessEvent::TimePassed);
        life.tell(now + 1.0, ProcessEvent::Spawned(2));
    }
    assert_eq!(life.state, ProcessState::Fatal { why, since: Some(at(1.0)), times: 1 });
}

#[test]
fn exit_codes_and_autorestart_decide_what_follows_an_exit() {
    use Autorestart::{Always, Never, Unexpected};
    let kill = || Exit::Signal("KILL".to_owned());
    for (autorestart, exit, word) in [
        (Always, code(0), StateWord::Starting),
        (Always, code(1), StateWord::Starting),
        (Unexpected, code(0), StateWord::Exited),
        (Unexpected, code(2), StateWord::Exited),
        (Unexpected, code(1), StateWord::Starting),
        (Unexpected, kill(), StateWord::Starting),
        (Never, code(1), StateWord::Exited),
        (Never, kill(), StateWord::Exited),
    ] {
        let mut life = Life::spawned(ProcessPolicy { autorestart, exitcodes: vec![0, 2], ..program() }, 1);
        life.tell(0.0, ProcessEvent::Executed);
        life.tell(1.0, ProcessEvent::TimePassed);
        assert_eq!(life.ended(60.0, exit.clone()), word, "{autorestart:?} {exit:?}");
    }
}

#[test]
fn an_exit_after_startsecs_is_no_failed_start_even_when_the_timer_was_late() {
    let mut life = Life::spawned(program(), 1);
    life.tell(0.0, ProcessEvent::Executed);
    assert_eq!(life.ended(1.5, code(0)), StateWord::Exited);
}

#[test]
fn a_program_that_ends_at_once_for_ever_does_not_burn_a_core() {
    for (exit, pauses) in [
        (code(1), [0, 1, 2, 4, 8, 16, 32, 60, 60]),
        (code(0), [0, 1, 1, 1, 1, 1, 1, 1, 1]),
        (Exit::Signal("SEGV".to_owned()), [0, 1, 2, 4, 8, 16, 32, 60, 60]),
    ] {
        let policy =
            ProcessPolicy { startsecs: Duration::ZERO, autorestart: Autorestart::Always, ..program() };
        let mut life = Life::spawned(policy, 1);
        let mut now = 0.0;
        for pause in pauses {
            life.tell(now, ProcessEvent::Executed);
            life.ended(now + 0.01, exit.clone());
            now += 0.01;
            if pause > 0 {
                assert_eq!(life.actions, [Action::WakeAt(at(now) + Duration::from_secs(pause))], "{exit:?}");
                now += f64::from(u32::try_from(pause).unwrap_or_default()) + 0.001;
                life.tell(now, ProcessEvent::TimePassed);
            }
            assert_eq!(life.actions, [Action::Spawn]);
            life.tell(now, ProcessEvent::Spawned(2));
        }
    }
}

#[test]
fn a_crashed_worker_is_replaced_at_once_and_then_after_growing_pauses() {
    let mut life = Life::spawned(worker(), 1);
    assert_eq!(life.tell(0.0, ProcessEvent::Ready), StateWord::Running);
    assert_eq!(life.ended(500.0, Exit::Signal("KILL".to_owned())), StateWord::Starting);
    let mut now = 500.0;
    for pause in [1.0, 2.0, 4.0] {
        life.tell(now, ProcessEvent::Spawned(2));
        life.tell(now, ProcessEvent::Ready);
        now += 9.0;
        assert_eq!(life.ended(now, code(0)), StateWord::Backoff, "leaving unasked is a crash");
        assert_eq!(life.actions, [Action::WakeAt(at(now + pause))]);
        now += pause;
        assert_eq!(life.tell(now, ProcessEvent::TimePassed), StateWord::Starting);
    }
    life.tell(now, ProcessEvent::Spawned(3));
    life.tell(now, ProcessEvent::Ready);
    assert_eq!(life.ended(now + 11.0, code(1)), StateWord::Starting, "it had been well for a while");
}

#[test]
fn replacing_a_worker_waits_for_its_jobs_and_is_no_failure() {
    let mut life = Life::spawned(worker(), 1);
    life.tell(0.0, ProcessEvent::Ready);
    assert_eq!(life.tell(1.0, ProcessEvent::Restart(Patience::JobsOwn)), StateWord::Stopping);
    assert_eq!(life.actions, [Action::Drain(1, DrainLimit::JobsOwn)]);
    assert_eq!(life.tell(9999.0, ProcessEvent::TimePassed), StateWord::Stopping);
    assert_eq!(life.actions, []);
    assert_eq!(life.ended(10_000.0, code(0)), StateWord::Starting);
    assert_eq!(life.actions, [Action::Spawn]);
}

#[test]
fn stopping_a_worker_is_limited_by_stop_wait_kill_after_and_a_margin() {
    let mut life = Life::spawned(worker(), 1);
    life.tell(0.0, ProcessEvent::Ready);
    life.tell(0.0, ProcessEvent::Stop(Patience::Limited));
    let limit = DrainLimit::AtMost(Duration::from_secs(30));
    assert_eq!(life.actions, [Action::Drain(1, limit), Action::WakeAt(at(45.0))]);
    life.tell(44.0, ProcessEvent::Stop(Patience::Limited));
    assert_eq!(life.actions, [], "asking twice changes nothing");
    life.tell(45.0, ProcessEvent::TimePassed);
    assert_eq!(life.actions, [Action::Send(1, SIGKILL), Action::WakeAt(at(55.0))]);
    assert_eq!(life.ended(45.1, Exit::Signal("KILL".to_owned())), StateWord::Stopped);
}

#[test]
fn a_stricter_limit_replaces_a_milder_one_and_never_the_reverse() {
    let mut life = Life::spawned(worker(), 1);
    life.tell(0.0, ProcessEvent::Ready);
    life.tell(0.0, ProcessEvent::Restart(Patience::JobsOwn));
    life.tell(100.0, ProcessEvent::Stop(Patience::Limited));
    let limit = DrainLimit::AtMost(Duration::from_secs(30));
    assert_eq!(life.actions, [Action::Drain(1, limit), Action::WakeAt(at(145.0))]);
    life.tell(101.0, ProcessEvent::Restart(Patience::JobsOwn));
    assert_eq!(life.actions, []);
    life.tell(110.0, ProcessEvent::Stop(Patience::AtOnce));
    assert_eq!(
        life.actions,
        [Action::Drain(1, DrainLimit::AtMost(Duration::ZERO)), Action::WakeAt(at(125.0))]
    );
    assert_eq!(life.ended(111.0, code(CUT_OFF)), StateWord::Stopped);
}

#[test]
fn a_program_is_asked_by_its_signal_and_killed_after_stop_wait() {
    for patience in [Patience::Limited, Patience::JobsOwn] {
        let mut life = Life::spawned(program(), 1);
        life.tell(0.0, ProcessEvent::Stop(patience));
        assert_eq!(life.actions, [Action::Send(1, TERM), Action::WakeAt(at(30.0))]);
        life.tell(30.0, ProcessEvent::TimePassed);
        assert_eq!(life.actions, [Action::Send(1, SIGKILL), Action::WakeAt(at(40.0))]);
        life.tell(40.0, ProcessEvent::TimePassed);
        assert_eq!(life.actions, [Action::Send(1, SIGKILL), Action::WakeAt(at(50.0))]);
    }
    let mut life = Life::spawned(program(), 1);
    life.tell(0.0, ProcessEvent::Stop(Patience::Limited));
    life.tell(1.0, ProcessEvent::Stop(Patience::AtOnce));
    assert_eq!(life.actions, [Action::Send(1, SIGKILL), Action::WakeAt(at(11.0))]);
}

#[test]
fn a_program_is_asked_with_one_signal_after_the_other_before_it_is_killed() {
    let (quit, int) = (3, 2);
    let stop_again = vec![(Duration::from_secs(20), quit), (Duration::from_secs(25), int)];
    let mut life = Life::spawned(ProcessPolicy { stop_again, ..program() }, 1);
    life.tell(0.0, ProcessEvent::Stop(Patience::Limited));
    assert_eq!(life.actions, [Action::Send(1, TERM), Action::WakeAt(at(20.0))]);
    life.tell(1.0, ProcessEvent::Stop(Patience::Limited));
    assert_eq!(life.actions, [], "asking twice does not begin anew");
    life.tell(20.0, ProcessEvent::TimePassed);
    assert_eq!(life.actions, [Action::Send(1, quit), Action::WakeAt(at(25.0))]);
    life.tell(25.0, ProcessEvent::TimePassed);
    assert_eq!(life.actions, [Action::Send(1, int), Action::WakeAt(at(30.0))]);
    life.tell(30.0, ProcessEvent::TimePassed);
    assert_eq!(life.actions, [Action::Send(1, SIGKILL), Action::WakeAt(at(40.0))]);
    assert_eq!(life.ended(31.0, code(0)), StateWord::Stopped);
}

#[test]
fn what_was_given_up_is_tried_once_more_after_growing_pauses_unless_somebody_stops_it() {
    let policy = ProcessPolicy { startretries: 0, retry_fatal: Some(Duration::from_secs(600)), ..program() };
    let mut life = Life::spawned(policy, 1);
    let mut now = 0.0;
    for pause in [600.0, 1200.0, 2400.0, 3600.0, 3600.0] {
        assert_eq!(life.ended(now, code(1)), StateWord::Fatal);
        assert_eq!(life.actions, [Action::WakeAt(at(now + pause))]);
        now += pause;
        assert_eq!(life.tell(now, ProcessEvent::TimePassed), StateWord::Starting);
        assert_eq!(life.actions, [Action::Spawn]);
        life.tell(now, ProcessEvent::Spawned(1));
    }
    life.tell(now, ProcessEvent::Executed);
    assert_eq!(life.tell(now + 1.0, ProcessEvent::TimePassed), StateWord::Running);
    life.tell(now, ProcessEvent::Restart(Patience::Limited));
    life.ended(now, code(0));
    life.tell(now, ProcessEvent::Spawned(1));
    life.ended(now, code(1));
    assert_eq!(life.actions, [Action::WakeAt(at(now + 600.0))], "it had been up");
    assert_eq!(life.tell(now, ProcessEvent::Stop(Patience::Limited)), StateWord::Fatal);
    assert_eq!(life.tell(now + 601.0, ProcessEvent::TimePassed), StateWord::Fatal);
    assert_eq!(life.tell(now, ProcessEvent::Start), StateWord::Starting);
}

#[test]
fn a_program_that_says_when_it_is_ready_is_up_then_and_has_so_long_for_it() {
    let policy = ProcessPolicy { ready_within: Some(Duration::from_secs(60)), ..program() };
    let mut life = Life::spawned(policy.clone(), 1);
    life.tell(0.0, ProcessEvent::Executed);
    assert_eq!(life.actions, [Action::WakeAt(at(60.0))]);
    assert_eq!(life.tell(0.5, ProcessEvent::Ready), StateWord::Starting, "`startsecs` holds too");
    assert_eq!(life.actions, [Action::WakeAt(at(1.0))]);
    assert_eq!(life.tell(1.0, ProcessEvent::TimePassed), StateWord::Running);

    let mut life = Life::spawned(policy.clone(), 1);
    life.tell(0.0, ProcessEvent::Executed);
    assert_eq!(life.tell(30.0, ProcessEvent::Ready), StateWord::Running);

    let mut life = Life::spawned(policy, 1);
    life.tell(0.0, ProcessEvent::Executed);
    assert_eq!(life.tell(60.0, ProcessEvent::TimePassed), StateWord::Stopping);
    assert_eq!(life.actions[0], Action::Send(1, TERM));
    assert_eq!(life.ended(61.0, code(0)), StateWord::Backoff);
    let ProcessState::Backoff { why, past, .. } = &life.state else { panic!("{:?}", life.state) };
    assert_eq!((why.as_str(), past.failed_starts), ("not ready within 60 s", 1));

    life.tell(62.0, ProcessEvent::TimePassed);
    life.tell(62.0, ProcessEvent::Spawned(2));
    life.tell(62.0, ProcessEvent::Executed);
    assert_eq!(life.ended(90.0, code(0)), StateWord::Backoff, "it was never up");
    let ProcessState::Backoff { why, .. } = &life.state else { panic!("{:?}", life.state) };
    assert_eq!(why, "ended before it was ready, with exit code 0");
}

#[test]
fn one_that_is_unhealthy_is_replaced_as_after_a_crash() {
    let mut life = Life::spawned(ProcessPolicy { autorestart: Autorestart::Never, ..program() }, 1);
    life.tell(0.0, ProcessEvent::Unhealthy { why: "too early".to_owned() });
    assert_eq!(life.actions, []);
    life.tell(0.0, ProcessEvent::Executed);
    life.tell(1.0, ProcessEvent::TimePassed);
    let mut now = 1000.0;
    for pause in [0.0, 1.0, 2.0] {
        let why = "unhealthy: it does not answer".to_owned();
        assert_eq!(life.tell(now, ProcessEvent::Unhealthy { why }), StateWord::Stopping);
        assert_eq!(life.actions[0], Action::Send(1, TERM));
        life.ended(now + 2.0, code(0));
        if pause > 0.0 {
            assert_eq!(life.actions, [Action::WakeAt(at(now + 2.0 + pause))]);
            life.tell(now + 2.0 + pause, ProcessEvent::TimePassed);
        }
        assert_eq!(life.actions, [Action::Spawn]);
        now += 2.0 + pause;
        life.tell(now, ProcessEvent::Spawned(1));
        life.tell(now, ProcessEvent::Executed);
        assert_eq!(life.tell(now + 1.0, ProcessEvent::TimePassed), StateWord::Running);
        now += 100.0;
    }
    life.tell(now, ProcessEvent::Unhealthy { why: String::new() });
    life.tell(now, ProcessEvent::Stop(Patience::Limited));
    assert_eq!(life.ended(now, code(0)), StateWord::Stopped, "who stops it has the last word");
}

#[test]
fn a_mind_changed_while_spawning_is_carried_out_when_the_child_is_there() {
    let mut life = Life::new(program());
    life.tell(0.0, ProcessEvent::Start);
    life.tell(0.0, ProcessEvent::Stop(Patience::Limited));
    assert_eq!(life.tell(0.0, ProcessEvent::TimePassed), StateWord::Starting);
    assert_eq!(life.actions, []);
    assert_eq!(life.tell(0.0, ProcessEvent::Spawned(9)), StateWord::Stopping);
    assert_eq!(life.actions[0], Action::Send(9, TERM));
    assert_eq!(life.tell(0.0, ProcessEvent::Start), StateWord::Stopping);
    assert_eq!(life.ended(0.5, code(0)), StateWord::Starting);
    assert_eq!(life.actions, [Action::Spawn]);
    life.tell(0.5, ProcessEvent::Stop(Patience::Limited));
    assert_eq!(life.tell(0.5, ProcessEvent::SpawnFailed { why: "no memory".into() }), StateWord::Stopped);
}

/// A world with one slot: children appear late, end whenever they like, and time passes when it wants.
struct World {
    random: fastrand::Rng,
    policy: ProcessPolicy,
    state: ProcessState,
    now: Moment,
    asked_spawns: u32,
    alive: BTreeSet<Pid>,
    next_pid: Pid,
    wakes: Vec<Moment>,
    seen: String,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let kind = if random.bool() { ProcessKind::Worker } else { ProcessKind::Program };
        let policy = ProcessPolicy {
            kind,
            startsecs: Duration::from_secs(random.u64(0..3)),
            startretries: random.u32(0..4),
            ready_within: random.bool().then(|| Duration::from_secs(random.u64(1..9))),
            retry_fatal: random.bool().then(|| Duration::from_secs(random.u64(1..99))),
            stop_again: (0..random.u64(0..3)).map(|at| (Duration::from_secs(at * 5), 3)).collect(),
            autorestart: [Autorestart::Always, Autorestart::Unexpected, Autorestart::Never]
                [random.usize(0..3)],
            ..program()
        };
        Self {
            random,
            policy,
            state: ProcessState::Stopped,
            now: at(0.0),
            asked_spawns: 0,
            alive: BTreeSet::new(),
            next_pid: 100,
            wakes: vec![],
            seen: format!("seed {seed}"),
        }
    }

    fn tell(&mut self, event: ProcessEvent) {
        let before = std::mem::replace(&mut self.state, ProcessState::Stopped);
        self.seen.push_str(&format!("\n{:?} {before:?} <- {event:?}", self.now));
        let actions;
        (self.state, actions) = before.step(event, &self.policy, self.now);
        for action in actions {
            match action {
                Action::Spawn => self.asked_spawns += 1,
                Action::Send(pid, _) | Action::Drain(pid, _) => {
                    assert!(self.alive.contains(&pid), "signal to a stranger: {}", self.seen);
                }
                Action::WakeAt(due) => self.wakes.push(due),
            }
        }
        let children = u32::try_from(self.alive.len()).unwrap_or(u32::MAX) + self.asked_spawns;
        assert!(children <= 1, "two children in one slot: {}", self.seen);
        assert_eq!(self.state.pid(), self.alive.first().copied(), "wrong pid: {}", self.seen);
        assert_eq!(
            matches!(self.state, ProcessState::Spawning { .. }),
            self.asked_spawns == 1,
            "a spawn nobody waits for: {}",
            self.seen
        );
        if let Some(due) = self.state.due(&self.policy) {
            assert!(self.wakes.contains(&due), "a wake-up lost: {}", self.seen);
        }
    }

    fn answer_spawn(&mut self, succeeds: bool) {
        self.asked_spawns -= 1;
        if succeeds {
            self.next_pid += 1;
            self.alive.insert(self.next_pid);
            self.tell(ProcessEvent::Spawned(self.next_pid));
        } else {
            self.tell(ProcessEvent::SpawnFailed { why: "out of memory".to_owned() });
        }
    }

    fn end_child(&mut self) {
        let Some(pid) = self.alive.pop_first() else { return };
        let exits = [code(0), code(1), code(CUT_OFF), Exit::Signal("KILL".to_owned())];
        let exit = exits[self.random.usize(0..exits.len())].clone();
        self.tell(ProcessEvent::Ended { pid, exit });
    }

    fn anything(&mut self) {
        let patience = [Patience::AtOnce, Patience::Limited, Patience::JobsOwn][self.random.usize(0..3)];
        match self.random.u8(0..15) {
            0 => self.tell(ProcessEvent::Start),
            1 => self.tell(ProcessEvent::Stop(patience)),
            2 => self.tell(ProcessEvent::Restart(patience)),
            3..=5 if self.asked_spawns > 0 => {
                let succeeds = self.random.u8(0..5) > 0;
                self.answer_spawn(succeeds);
            }
            3 => self.tell(ProcessEvent::Waiting { pid: 5 }),
            4 => self.tell(ProcessEvent::Failed { why: "cannot execute".to_owned() }),
            5 => self.tell(ProcessEvent::Ended { pid: 1, exit: code(0) }),
            6 => self.tell(ProcessEvent::Executed),
            7 => self.tell(ProcessEvent::Ready),
            8 | 9 => self.end_child(),
            14 => self.tell(ProcessEvent::Unhealthy { why: "it does not answer".to_owned() }),
            _ => {
                self.now = self.now + Duration::from_millis(self.random.u64(0..4000));
                self.tell(ProcessEvent::TimePassed);
            }
        }
    }

    /// From wherever it is, a stop and the passing of time end in rest, without any signal of its own will.
    fn comes_to_rest(mut self) {
        self.tell(ProcessEvent::Stop(Patience::Limited));
        for _ in 0..12 {
            if self.asked_spawns > 0 {
                self.answer_spawn(true);
            }
            let killed = matches!(self.state, ProcessState::Stopping { killed: true, .. });
            if killed {
                self.end_child();
            }
            if let Some(due) = self.state.due(&self.policy) {
                self.now = self.now.max(due);
            }
            self.tell(ProcessEvent::TimePassed);
        }
        assert!(self.state.is_at_rest(), "still there: {}", self.seen);
        assert!(self.alive.is_empty(), "still alive: {}", self.seen);
    }
}

#[test]
fn two_thousand_random_lives_hold_the_invariants() {
    for seed in 0..2000 {
        let mut world = World::new(seed);
        for _ in 0..300 {
            world.anything();
        }
        world.comes_to_rest();
    }
}

#[test]
fn a_worker_that_hangs_before_it_is_ready_is_killed_and_counts_as_a_failed_start() {
    let mut life = Life::spawned(worker(), 7);
    assert_eq!(life.tell(29.9, ProcessEvent::TimePassed), StateWord::Starting);
    assert_eq!(life.actions, []);
    assert_eq!(life.tell(30.0, ProcessEvent::TimePassed), StateWord::Starting);
    assert_eq!(life.actions, [Action::Send(7, SIGKILL)]);
    assert_eq!(life.tell(40.0, ProcessEvent::TimePassed), StateWord::Starting, "killed once");
    assert_eq!(life.actions, []);
    assert_eq!(life.ended(41.0, Exit::Signal("KILL".to_owned())), StateWord::Backoff);
    assert!(matches!(&life.state, ProcessState::Backoff { why, past, .. }
        if why == "not ready after 30 s (`start-wait`)" && past.failed_starts == 1));
    // Waiting for an earlier worker may take as long as that one's jobs.
    let mut life = Life::spawned(worker(), 7);
    life.tell(1.0, ProcessEvent::Waiting { pid: 5 });
    life.tell(4000.0, ProcessEvent::TimePassed);
    assert_eq!(life.actions, []);
    assert_eq!(life.tell(4001.0, ProcessEvent::Ready), StateWord::Running);
}
