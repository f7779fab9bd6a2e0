//! Dates over the changes of clocks in several zones, jumps of the wall clock, and what overlaps.

use super::*;

fn table(pattern: &str, zone: &str) -> Timetable {
    Timetable::new(pattern, TimeZone::get(zone).unwrap()).unwrap()
}

fn at(text: &str) -> WallTime {
    WallTime::from_rfc3339(text).unwrap()
}

/// The next dates after `from`, in UTC.
fn dates(pattern: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
    let table = table(pattern, zone);
    let next = |date: &WallTime| table.after(*date);
    std::iter::successors(next(&at(from)), next).take(count).map(WallTime::to_rfc3339).collect()
}

#[test]
fn patterns_come_at_their_dates() {
    for (pattern, zone, from, due) in [
        ("* * * * *", "UTC", "2026-03-01T10:00:00Z", "2026-03-01T10:01:00Z"),
        ("* * * * *", "UTC", "2026-03-01T09:59:59.999Z", "2026-03-01T10:00:00Z"),
        ("* * * * * *", "UTC", "2026-03-01T10:00:00.500Z", "2026-03-01T10:00:01Z"),
        ("*/5 9-17 * * MON-FRI", "UTC", "2026-02-27T17:55:00Z", "2026-03-02T09:00:00Z"),
        ("0 3 * * *", "Europe/Paris", "2026-03-01T02:00:00Z", "2026-03-02T02:00:00Z"),
        ("0 3 * * *", "America/Sao_Paulo", "2026-03-01T02:00:00Z", "2026-03-01T06:00:00Z"),
        ("0 3 * * *", "Asia/Kolkata", "2026-03-01T02:00:00Z", "2026-03-01T21:30:00Z"),
        ("0 0 L * *", "UTC", "2028-02-01T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0 0 29 FEB *", "UTC", "2097-01-01T00:00:00Z", "2104-02-29T00:00:00Z"),
        ("0 0 * * MON#2", "UTC", "2026-03-01T00:00:00Z", "2026-03-09T00:00:00Z"),
        ("@monthly", "Pacific/Auckland", "2026-03-15T00:00:00Z", "2026-03-31T11:00:00Z"),
        ("15,45 * * * * *", "UTC", "2026-03-01T10:00:15Z", "2026-03-01T10:00:45Z"),
        ("0 0 1 1 *", "UTC", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z"),
    ] {
        assert_eq!(dates(pattern, zone, from, 1), [due], "{pattern} in {zone} after {from}");
    }
}

#[test]
fn an_hour_that_is_skipped_runs_once_at_its_end() {
    // 2:00 becomes 3:00 at 1:00 UTC.
    for pattern in ["30 2 * * *", "*/10 2 * * *", "0 2 * * *", "59 59 2 * * *", "0,30 2,3 29 * *"] {
        let first = dates(pattern, "Europe/Paris", "2026-03-28T12:00:00Z", 1);
        assert_eq!(first, ["2026-03-29T01:00:00Z"], "{pattern}");
    }
    assert_eq!(
        dates("30 2 * * *", "Europe/Paris", "2026-03-28T01:30:00Z", 2),
        ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
    );
    // The end of the hour that is skipped is a date itself.
    assert_eq!(
        dates("0 2,3 * * *", "Europe/Paris", "2026-03-28T12:00:00Z", 2),
        ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]
    );
    // New York: 7:00 UTC. Lord Howe skips half an hour, at 15:30 UTC of the day before.
    assert_eq!(dates("30 2 * * *", "America/New_York", "2026-03-08T00:00:00Z", 1), ["2026-03-08T07:00:00Z"]);
    assert_eq!(
        dates("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", 1),
        ["2026-10-03T15:30:00Z"]
    );
    // A whole day was skipped here: 30 December 2011.
    assert_eq!(dates("0 12 30 12 *", "Pacific/Apia", "2011-12-29T00:00:00Z", 1), ["2011-12-30T10:00:00Z"]);
    // Midnight is skipped where clocks change at midnight.
    assert_eq!(dates("@daily", "America/Asuncion", "2023-09-30T12:00:00Z", 1), ["2023-10-01T04:00:00Z"]);
}

#[test]
fn an_hour_that_comes_twice_runs_fixed_times_once() {
    for (pattern, zone, from, expected) in [
        (
            "30 2 * * *",
            "Europe/Paris",
            "2026-10-24T12:00:00Z",
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
        ),
        (
            "0 2,3 * * *",
            "Europe/Paris",
            "2026-10-24T12:00:00Z",
            ["2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z"],
        ),
        (
            "50 2 * * *",
            "Europe/Paris",
            "2026-10-25T01:10:00Z",
            ["2026-10-26T01:50:00Z", "2026-10-27T01:50:00Z"],
        ),
        (
            "30 1 * * *",
            "America/New_York",
            "2026-11-01T00:00:00Z",
            ["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"],
        ),
        (
            "45 1 * * *",
            "Australia/Lord_Howe",
            "2026-04-04T00:00:00Z",
            ["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"],
        ),
    ] {
        assert_eq!(dates(pattern, zone, from, 2), expected, "{pattern} in {zone}");
    }
}

#[test]
fn patterns_of_every_hour_go_by_the_time_that_passes() {
    let minute = |text: &str| at(text).as_seconds() / 60;
    for (zone, from) in [
        ("Europe/Paris", "2026-03-29T00:30:00Z"),
        ("Europe/Paris", "2026-10-24T23:30:00Z"),
        ("America/New_York", "2026-03-08T06:00:00Z"),
        ("America/New_York", "2026-11-01T05:00:00Z"),
        ("Australia/Lord_Howe", "2026-04-04T14:00:00Z"),
        ("Australia/Lord_Howe", "2026-10-03T15:00:00Z"),
        ("Asia/Kathmandu", "2026-01-01T00:00:00Z"),
    ] {
        let all = dates("* * * * *", zone, from, 150);
        let expected: Vec<i64> = (1..=150).map(|more| minute(from) + more).collect();
        assert_eq!(all.iter().map(|text| minute(text)).collect::<Vec<_>>(), expected, "{zone} {from}");
    }
    // Nothing is made up for an hour that was left out, and the quarter that comes twice comes twice.
    assert_eq!(
        dates("5 * * * *", "Europe/Paris", "2026-03-29T00:00:00Z", 3),
        ["2026-03-29T00:05:00Z", "2026-03-29T01:05:00Z", "2026-03-29T02:05:00Z"]
    );
    assert_eq!(
        dates("45 * * * *", "Australia/Lord_Howe", "2026-04-04T14:00:00Z", 3),
        ["2026-04-04T14:45:00Z", "2026-04-04T15:15:00Z", "2026-04-04T16:15:00Z"]
    );
}

#[test]
fn no_date_is_before_or_at_the_one_asked_about_and_all_fit() {
    let zones = [
        "UTC",
        "Europe/Paris",
        "America/New_York",
        "Australia/Lord_Howe",
        "America/St_Johns",
        "Africa/Casablanca",
    ];
    let patterns =
        ["*/7 * * * *", "0 2 * * *", "30 1,2,3 * * SUN", "0 0 1 * *", "*/20 1-4 * * *", "59 59 23 L * *"];
    let mut random = fastrand::Rng::with_seed(5);
    for zone in zones {
        for pattern in patterns {
            let table = table(pattern, zone);
            for _ in 0..200 {
                let from = WallTime::from_millis(random.i64(1_672_531_200_000..1_893_456_000_000));
                let next = table.after(from).unwrap();
                assert!(next > from, "{pattern} {zone} {from:?}");
                // Nothing lies in between: asked from any instant in it, the answer is the same.
                let between = WallTime::from_millis(random.i64(from.as_millis()..next.as_millis()));
                assert_eq!(table.after(between), Some(next), "{pattern} {zone} {from:?} {between:?}");
            }
        }
    }
}

fn no_delay(_: WallTime) -> Duration {
    Duration::ZERO
}

#[test]
fn a_date_that_comes_is_due_once() {
    let table = table("* * * * *", "UTC");
    let mut course = Course::new(&table, None, at("2026-01-01T10:00:00Z"));
    assert_eq!(course.next, Some(at("2026-01-01T10:01:00Z")));
    assert_eq!(course.pass(&table, no_delay, at("2026-01-01T10:00:59.990Z")), Due::default());
    let due = course.pass(&table, no_delay, at("2026-01-01T10:01:00.003Z"));
    assert_eq!((due.on_time, due.missed), (Some(at("2026-01-01T10:01:00Z")), 0));
    assert_eq!(course.pass(&table, no_delay, at("2026-01-01T10:01:00.003Z")), Due::default());
    assert_eq!(course.next, Some(at("2026-01-01T10:02:00Z")));
}

#[test]
fn a_clock_set_forward_leaves_out_all_but_the_last_date() {
    let table = table("* * * * *", "UTC");
    for (now, on_time, missed, last_missed) in [
        ("2026-01-01T11:00:05Z", Some("2026-01-01T11:00:00Z"), 59, None),
        ("2026-01-01T11:00:31Z", None, 60, Some("2026-01-01T11:00:00Z")),
        ("2026-02-01T11:00:30Z", Some("2026-02-01T11:00:00Z"), 999, None),
    ] {
        let mut course = Course::new(&table, None, at("2026-01-01T10:00:00Z"));
        let due = course.pass(&table, no_delay, at(now));
        assert_eq!(due.on_time, on_time.map(at), "{now}");
        assert_eq!((due.missed, due.last_missed), (missed, last_missed.map(at)), "{now}");
        assert!(course.next.unwrap() > at(now));
    }
}

#[test]
fn a_clock_set_back_repeats_nothing_unless_it_was_very_wrong() {
    for (pattern, ran, back_to, next) in [
        // Within one interval nothing repeats.
        ("* * * * *", "2026-01-01T10:00:00Z", "2026-01-01T09:59:30Z", "2026-01-01T10:01:00Z"),
        ("0 * * * *", "2026-01-01T10:00:00Z", "2026-01-01T09:15:00Z", "2026-01-01T11:00:00Z"),
        ("0 3 * * *", "2026-01-02T03:00:00Z", "2026-01-02T00:30:00Z", "2026-01-03T03:00:00Z"),
        // Further back, the clock is believed: no silence of hours where each minute was asked for.
        ("* * * * *", "2026-01-01T10:00:00Z", "2026-01-01T09:00:00Z", "2026-01-01T09:01:00Z"),
        ("0 3 * * *", "2026-01-02T03:00:00Z", "2026-01-01T20:00:00Z", "2026-01-02T03:00:00Z"),
    ] {
        let table = table(pattern, "UTC");
        let mut course = Course { dealt: Some(at(ran)), next: table.after(at(ran)) };
        assert_eq!(course.pass(&table, no_delay, at(back_to)), Due::default());
        assert_eq!(course.next, Some(at(next)), "{pattern} back to {back_to}");
    }
    // What has not had its run yet still gets it.
    let table = table("0 11 * * *", "UTC");
    let mut course = Course::new(&table, None, at("2026-01-01T12:00:00Z"));
    course.pass(&table, no_delay, at("2026-01-01T10:00:00Z"));
    assert_eq!(course.next, Some(at("2026-01-01T11:00:00Z")));
}

#[test]
fn what_was_dealt_with_before_tells_what_was_missed_since() {
    let table = table("0 3 * * *", "UTC");
    let mut course = Course::new(&table, Some(at("2026-01-01T03:00:00Z")), at("2026-01-04T09:00:00Z"));
    let due = course.pass(&table, no_delay, at("2026-01-04T09:00:00Z"));
    assert_eq!((due.on_time, due.missed, due.last_missed), (None, 3, Some(at("2026-01-04T03:00:00Z"))));
    assert_eq!(course.next, Some(at("2026-01-05T03:00:00Z")));
    // Nothing was missed by a restart in between, and nothing is known of a future that was only dreamt of.
    let mut course = Course::new(&table, Some(at("2026-01-01T03:00:00Z")), at("2026-01-01T09:00:00Z"));
    assert_eq!(course.pass(&table, no_delay, at("2026-01-01T09:00:00Z")), Due::default());
    let course = Course::new(&table, Some(at("2040-01-01T03:00:00Z")), at("2026-01-01T02:00:00Z"));
    assert_eq!(course.next, Some(at("2026-01-01T03:00:00Z")));
}

#[test]
fn a_delay_is_part_of_the_date_and_loses_none() {
    let table = table("* * * * *", "UTC");
    let late = |date| delay(Duration::from_secs(50), "backup", date, 7);
    let mut course = Course::new(&table, None, at("2026-01-01T10:00:00Z"));
    let (mut now, mut ran) = (at("2026-01-01T10:00:00Z"), Vec::new());
    while ran.len() < 100 {
        now = now + Duration::from_millis(700);
        if let Some(date) = course.pass(&table, late, now).on_time {
            assert!(now.since(date) <= Duration::from_millis(50_700), "{date:?} at {now:?}");
            ran.push(date.as_seconds() / 60);
        }
    }
    assert!(ran.windows(2).all(|pair| pair[1] == pair[0] + 1), "{ran:?}");
    let delays: std::collections::BTreeSet<Duration> =
        (0..50).map(|minute| late(WallTime::from_seconds(minute * 60))).collect();
    assert!(delays.len() > 40 && delays.iter().all(|delay| *delay <= Duration::from_secs(50)));
}

#[test]
fn a_wandering_clock_never_gives_a_date_twice_within_its_interval() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let pattern =
            ["* * * * *", "*/5 * * * *", "0 * * * *", "30 2 * * *", "*/10 * * * * *"][random.usize(0..5)];
        let table = table(pattern, ["UTC", "Europe/Paris", "America/New_York"][random.usize(0..3)]);
        let mut wall = random.i64(1_767_225_600_000..1_798_761_600_000);
        let mut course = Course::new(&table, None, WallTime::from_millis(wall));
        let (mut last, mut earliest) = (None, WallTime::from_millis(wall));
        for _ in 0..300 {
            let step = random.i64(0..90_000);
            let jump = if random.u8(0..10) == 0 { random.i64(-40_000..400_000) } else { 0 };
            wall += step + jump;
            let now = WallTime::from_millis(wall);
            earliest = earliest.min(now);
            let due = course.pass(&table, no_delay, now);
            if let Some(date) = due.on_time {
                if let Some(last) = last.filter(|last: &WallTime| *last >= date) {
                    let interval = table.after(last).unwrap().since(last);
                    let back = last.since(earliest);
                    assert!(back > interval.min(SET_BACK), "seed {seed}: {last:?} and again {date:?}");
                }
                (last, earliest) = (Some(date), now);
            }
            assert!(course.next.is_some_and(|next| next > now), "seed {seed}: {course:?} at {now:?}");
        }
    }
}

#[test]
fn the_rule_for_overlaps() {
    use Overlap::{Allow, Kill, Queue, Skip};
    for (rule, running, expected) in [
        (Skip, 0, Turn::Start),
        (Skip, 1, Turn::LeaveOut),
        (Queue, 0, Turn::Start),
        (Queue, 1, Turn::Wait),
        (Kill, 0, Turn::Start),
        (Kill, 1, Turn::Replace),
        (Allow, 0, Turn::Start),
        (Allow, 7, Turn::Start),
        (Allow, 8, Turn::LeaveOut),
    ] {
        assert_eq!(turn(rule, running, 8), expected, "{rule:?} {running}");
    }
}
