//! Schedules in the simulation: dates that come while clocks are set, runs that overlap, what operators and reloads do.

use qfleet_model::snapshot::RunEnd;

use super::*;

/// One schedule and its world, which begins at 00:16:40 on the first of January 2026.
fn with_schedule(group: Group) -> World {
    let mut world = World::new(1, vec![group]);
    world.now = Moment::from_nanos(1_000_000_000_000);
    world.begin();
    world
}

fn utc(time: &str) -> WallTime {
    WallTime::from_rfc3339(&format!("2026-01-01T{time}Z")).unwrap()
}

impl World {
    /// Time passes until then on the wall clock, timer by timer.
    fn until(&mut self, time: &str) {
        let until = utc(time);
        while self.now().wall < until {
            let left = until.since(self.now().wall);
            let next = self.fleet.wake_at().map_or(left, |at| at.since(self.now).min(left));
            self.pass_time(next.max(Duration::from_millis(1)));
            while self.spawn_next() {}
        }
    }

    fn living(&self) -> Vec<i32> {
        self.children.keys().copied().collect()
    }

    fn executed(&mut self, pid: i32) {
        self.handle(Event::LinkClosed { pid });
    }

    fn last_end(&self, name: &str) -> Option<RunEnd> {
        let process = self.published.processes.iter().find(|process| process.view.name == name).unwrap();
        process.view.schedule.as_ref().unwrap().last.as_ref().map(|last| last.end.clone())
    }

    fn described(&self, name: &str) -> String {
        let status = render(&self.published, self.now, &jiff::tz::TimeZone::UTC);
        status.processes.into_iter().find(|process| process.name == name).unwrap().description
    }

    fn is_down(&self) -> bool {
        self.published.processes.iter().any(|process| process.view.is_down())
    }
}

fn named(name: &str) -> Vec<Selector> {
    vec![Selector::Group(name.to_owned())]
}

#[test]
fn a_schedule_runs_at_its_dates_and_sleeps_in_between() {
    let mut world = with_schedule(schedule("nightly", "30 3 * * *", Overlap::Skip));
    assert_eq!(world.described("nightly"), "Not started, next Jan 01 03:30 AM");
    assert_eq!((world.living().len(), world.is_down(), world.fleet.counts()), (0, false, (0, 0)));
    let wait = world.fleet.wake_at().unwrap().since(world.now);
    assert_eq!(wait, utc("03:30:00").since(world.now().wall), "one timer, for its date");
    world.until("03:30:00");
    let [pid] = world.living()[..] else { panic!("{:?}", world.living()) };
    world.executed(pid);
    assert_eq!(world.state_of("nightly"), StateWord::Running);
    assert_eq!(world.described("nightly"), format!("pid {pid}, uptime 0:00:00, next Jan 02 03:30 AM"));
    world.pass_time(Duration::from_secs(75));
    world.end_child(pid, Exit::Code(0));
    assert_eq!(
        world.described("nightly"),
        "last Jan 01 03:31 AM ended with exit code 0 after 0:01:15, next Jan 02 03:30 AM"
    );
    assert!(!world.is_down());
    world.until("23:59:59");
    assert!(world.living().is_empty());
}

#[test]
fn a_run_that_fails_is_seen_until_the_next_one_does_not() {
    let mut world = with_schedule(schedule("tick", "* * * * *", Overlap::Skip));
    world.until("00:17:00");
    let pid = world.living()[0];
    world.executed(pid);
    world.end_child(pid, Exit::Code(3));
    assert!(world.is_down());
    world.until("00:18:00");
    let failed =
        FromChild::Failed { step: "execute `/no`".into(), errno: Some(2), error: "no such file".into() };
    let pid = world.living()[0];
    world.say(pid, failed);
    world.end_child(pid, Exit::Code(127));
    assert_eq!(world.state_of("tick"), StateWord::Fatal);
    assert!(world.described("tick").contains("not started: cannot execute `/no`: no such file after"));
    world.until("00:19:00");
    let pid = world.living()[0];
    world.executed(pid);
    assert!(!world.is_down(), "it runs");
    world.end_child(pid, Exit::Code(0));
    assert!(!world.is_down());
}

#[test]
fn overlapping_dates_are_left_out_wait_replace_or_run() {
    let mut world = with_schedule(schedule("tick", "* * * * *", Overlap::Skip));
    world.until("00:19:30");
    assert_eq!(world.living().len(), 1);
    assert_eq!(world.ran["tick"], utc("00:17:00"));
    let view = world.published.processes[0].view.schedule.clone().unwrap();
    assert_eq!((view.left_out, view.missed), (2, 0));

    let mut world = with_schedule(schedule("tick", "* * * * *", Overlap::Queue));
    world.until("00:19:30");
    let pid = world.living()[0];
    assert!(world.described("tick").ends_with("next when this run is over"), "{}", world.described("tick"));
    world.executed(pid);
    world.end_child(pid, Exit::Code(0));
    while world.spawn_next() {}
    assert_eq!(world.living().len(), 1, "it runs at once, and once for both dates");
    assert_eq!(world.ran["tick"], utc("00:19:00"));

    let mut world = with_schedule(schedule("tick", "* * * * *", Overlap::Kill));
    world.until("00:18:00");
    let pid = world.living()[0];
    assert!(world.children[&pid].asked, "its stop-signal was sent");
    world.until("00:18:29");
    world.end_child(pid, Exit::Signal("TERM".to_owned()));
    while world.spawn_next() {}
    assert_eq!(world.last_end("tick"), Some(RunEnd::Replaced));
    assert_eq!((world.living().len(), world.ran["tick"]), (1, utc("00:18:00")));

    let mut world = with_schedule(schedule("tick", "* * * * *", Overlap::Allow));
    assert_eq!(world.published.processes[0].view.name, "tick:tick_00");
    world.until("00:30:30");
    assert_eq!(world.living().len(), 8, "and not one more");
    assert_eq!(world.published.processes.len(), 8);
    let pids = world.living();
    for pid in &pids {
        world.executed(*pid);
        world.end_child(*pid, Exit::Code(0));
    }
    world.until("00:31:30");
    assert_eq!((world.living().len(), world.published.processes.len()), (1, 8), "slots are used again");
}

#[test]
fn a_run_that_takes_too_long_is_stopped_and_killed() {
    let mut group = schedule("tick", "*/5 * * * *", Overlap::Skip);
    schedule_settings(&mut group).timeout = Some(Duration::from_secs(60));
    let mut world = with_schedule(group);
    world.until("00:20:00");
    let pid = world.living()[0];
    world.executed(pid);
    world.until("00:20:59");
    assert!(!world.children[&pid].asked);
    world.until("00:21:00");
    assert!(world.children[&pid].asked);
    world.until("00:21:31");
    assert!(world.story.contains(&format!("Signal {{ pid: {pid}, signal: {KILL}, group: true }}")));
    world.end_child(pid, Exit::Signal("KILL".to_owned()));
    assert_eq!(world.last_end("tick"), Some(RunEnd::TimedOut));
    assert!(world.is_down() && world.described("tick").contains("timed out after 0:01:31"));
    world.until("00:25:00");
    assert_eq!(world.living().len(), 1, "the next date is the next run");
}

#[test]
fn a_clock_that_is_set_gives_no_date_twice_and_loses_none_beyond_the_policy() {
    let hourly = || schedule("hourly", "0 * * * *", Overlap::Allow);
    let mut world = with_schedule(hourly());
    world.until("01:00:00");
    assert_eq!(world.ran["hourly"], utc("01:00:00"));
    // Back by half an hour: the date that ran does not run again, the next one is in time.
    world.set_by -= 30 * 60_000;
    world.handle(Event::ClockSet);
    world.until("01:59:59");
    assert_eq!(world.living().len(), 1);
    world.until("02:00:00");
    assert_eq!((world.living().len(), world.ran["hourly"]), (2, utc("02:00:00")));
    // Forward over several dates: all but one that has just come were missed.
    world.set_by += 4 * 3_600_000 + 10_000;
    world.handle(Event::ClockSet);
    while world.spawn_next() {}
    assert_eq!((world.living().len(), world.ran["hourly"]), (3, utc("06:00:00")));
    world.set_by += 2 * 3_600_000;
    world.set_by += 60_000;
    world.handle(Event::ClockSet);
    while world.spawn_next() {}
    assert_eq!(world.living().len(), 3, "nothing is made up for");
    let view = world.published.processes[0].view.schedule.clone().unwrap();
    assert_eq!(view.missed, 3 + 2);
    world.until("09:00:00");
    assert_eq!(world.ran["hourly"], utc("09:00:00"));

    // The same without being told, as when the machine slept: the next look finds out.
    let mut group = hourly();
    schedule_settings(&mut group).missed = Missed::RunOnce;
    let mut world = with_schedule(group);
    world.set_by += 5 * 3_600_000;
    world.handle(Event::ClockSet);
    while world.spawn_next() {}
    assert_eq!((world.living().len(), world.ran["hourly"]), (1, utc("05:00:00")), "one run makes up for all");
    assert_eq!(world.remembered["hourly"], utc("05:00:00"));
}

#[test]
fn what_was_missed_while_the_daemon_was_away_runs_once_where_that_is_wanted() {
    for (missed, runs) in [(Missed::RunOnce, 1), (Missed::Skip, 0)] {
        let mut group = schedule("nightly", "0 0 * * *", Overlap::Skip);
        schedule_settings(&mut group).missed = missed;
        let mut world = World::new(1, vec![group]);
        let dealt = WallTime::from_rfc3339("2025-12-29T00:00:00Z").unwrap();
        world.calm = true;
        world.handle(Event::Began {
            ledgers: vec![],
            earlier: vec![],
            dates: BTreeMap::from([("nightly".to_owned(), dealt)]),
        });
        while world.spawn_next() {}
        assert_eq!(world.living().len(), runs);
        if runs == 1 {
            assert_eq!(world.ran["nightly"], utc("00:00:00"));
            assert_eq!(world.remembered["nightly"], utc("00:00:00"));
        }
    }
}

#[test]
fn a_stop_holds_a_schedule_and_a_start_runs_it_now() {
    let mut world = World::new(1, vec![schedule("tick", "* * * * *", Overlap::Skip), program("web", 1)]);
    world.begin();
    let ask = world.ask(Command::Stop { names: named("tick") });
    assert_eq!(world.answer(ask), [("tick".into(), true, "held until it is started".into())]);
    assert!(world.is_down() && world.described("tick").ends_with("held by a `stop`"));
    world.until("00:19:30");
    assert_eq!(world.living().len(), 1, "only the other program");
    let reload = world.ask(Command::Reload { dry_run: false, reset: false });
    world.reads.clear();
    let changed = schedule("tick", "*/2 * * * *", Overlap::Skip);
    let order = vec!["tick".to_owned(), "web".to_owned()];
    let changes = vec![GroupChange::InPlace(Arc::new(changed))];
    world.handle(Event::ManifestRead(reload, Ok(Plan { order, changes, ..Plan::default() })));
    world.until("00:22:30");
    assert_eq!(world.living().len(), 1, "an operator's word outlives a reload");

    // Whoever starts everything lets go of it, and does not run it.
    let ask = world.ask(Command::Start { names: vec![Selector::All] });
    let waits = ("tick".to_owned(), true, "waits for its time".to_owned());
    assert!(world.answer(ask).contains(&waits), "{:?}", world.answer(ask));
    assert_eq!((world.living().len(), world.is_down()), (1, false));
    let ask = world.ask(Command::Start { names: named("tick") });
    while world.spawn_next() {}
    let pid = *world.living().last().unwrap();
    world.executed(pid);
    assert_eq!(world.answer(ask), [("tick".into(), true, "started".into())]);
    assert!(world.ran.is_empty(), "it is for no date");
    let ask = world.ask(Command::Start { names: named("tick") });
    assert_eq!(world.answer(ask), [("tick".into(), true, "already started".into())]);
    let ask = world.ask(Command::Stop { names: named("tick") });
    assert!(world.children[&pid].asked && !world.answers.contains_key(&ask));
    world.end_child(pid, Exit::Signal("TERM".to_owned()));
    assert_eq!(world.answer(ask), [("tick".into(), true, "stopped".into())]);
    assert_eq!(world.last_end("tick"), Some(RunEnd::Stopped));
    let refused = world.ask(Command::Scale { group: "tick".into(), to: 3 });
    assert!(matches!(&world.answers[&refused], Err(Refusal::BadRequest { .. })));
    let restart = world.ask(Command::Restart { names: named("tick"), now: false, batch: None });
    while world.spawn_next() {}
    let pid = *world.living().last().unwrap();
    world.executed(pid);
    assert_eq!(world.answer(restart), [("tick".into(), true, "restarted".into())]);
}

#[test]
fn a_reload_changes_dates_and_leaves_the_run_alone() {
    let mut world = with_schedule(schedule("tick", "* * * * *", Overlap::Skip));
    world.until("00:17:00");
    let pid = world.living()[0];
    world.executed(pid);
    let change = |world: &mut World, group: Group| {
        let ask = world.ask(Command::Reload { dry_run: false, reset: false });
        world.reads.clear();
        let changes = vec![GroupChange::InPlace(Arc::new(group.clone()))];
        world.groups = vec![group];
        world.handle(Event::ManifestRead(
            ask,
            Ok(Plan { order: vec!["tick".to_owned()], changes, ..Plan::default() }),
        ));
    };
    change(&mut world, schedule("tick", "*/10 * * * *", Overlap::Allow));
    assert_eq!((world.living(), world.children[&pid].asked), (vec![pid], false));
    assert_eq!(world.published.processes[0].view.name, "tick:tick_00");
    world.until("00:20:00");
    assert_eq!(world.living().len(), 2);
    change(&mut world, schedule("tick", "*/10 * * * *", Overlap::Skip));
    assert_eq!(world.living().len(), 2, "both end by themselves");
    assert!(world.children.values().all(|child| !child.asked));
    for pid in world.living() {
        world.executed(pid);
        world.end_child(pid, Exit::Code(0));
    }
    assert_eq!(world.published.processes.len(), 1);
    assert_eq!(world.published.processes[0].view.name, "tick");
    world.until("00:30:00");
    let pid = world.living()[0];
    let ask = world.ask(Command::Reload { dry_run: false, reset: false });
    world.reads.clear();
    world.groups.clear();
    let changes = vec![GroupChange::Removed("tick".to_owned())];
    world.handle(Event::ManifestRead(ask, Ok(Plan { changes, ..Plan::default() })));
    assert!(world.children[&pid].asked, "what is gone ends");
    world.end_child(pid, Exit::Code(0));
    assert_eq!((world.published.groups.len(), world.fleet.wake_at()), (0, None));
}

#[test]
fn a_program_that_becomes_a_schedule_ends_and_runs_at_its_date() {
    let mut world = World::new(1, vec![program("tick", 2)]);
    world.begin();
    let ask = world.ask(Command::Reload { dry_run: false, reset: false });
    world.reads.clear();
    let group = schedule("tick", "* * * * *", Overlap::Skip);
    world.groups = vec![group.clone()];
    let changes = vec![GroupChange::Restart(Arc::new(group))];
    world.handle(Event::ManifestRead(
        ask,
        Ok(Plan { order: vec!["tick".to_owned()], changes, ..Plan::default() }),
    ));
    assert!(world.children.values().all(|child| child.asked));
    for pid in world.living() {
        world.end_child(pid, Exit::Code(0));
    }
    assert!(world.living().is_empty());
    world.until("00:17:00");
    assert_eq!(world.living().len(), 1);
}

#[test]
fn a_date_that_another_host_has_is_no_failure_and_no_noise() {
    let mut world = with_schedule(schedule("tick", "* * * * *", Overlap::Skip));
    world.until("00:17:00");
    let pid = world.living()[0];
    world.say(pid, FromChild::Elsewhere);
    world.executed(pid);
    world.end_child(pid, Exit::Code(0));
    assert_eq!(world.last_end("tick"), Some(RunEnd::Elsewhere));
    assert!(!world.is_down() && world.described("tick").contains("ran on another host"));
}

#[test]
fn a_shutdown_stops_the_run_and_starts_no_other() {
    let mut world = with_schedule(schedule("tick", "* * * * *", Overlap::Queue));
    world.until("00:18:10");
    let pid = world.living()[0];
    world.ask(Command::Shutdown { wait: false });
    assert!(world.children[&pid].asked);
    world.pass_time(Duration::from_secs(20));
    world.end_child(pid, Exit::Signal("TERM".to_owned()));
    assert_eq!((world.exit, world.living().len(), world.asked_spawns.len()), (Some(0), 0, 0));
}
