//! What people read: listings as text. Everything that comes out of a queue or a process may hold anything, so whatever
//! could steer a terminal is made visible first.

use std::fmt::Write;
use std::time::Duration;

use qfleet_api::protocol::{Done, FailedDetail, FailedRow, QueueRow};
use qfleet_model::command::ProcessResult;
use qfleet_model::snapshot::{GroupView, ProcessView, StateWord};
use qfleet_model::time::WallTime;
use qfleet_queue::driver::{JobState, ListedJob};

use super::print::Paint;

/// supervisorctl's columns: name, state, description.
pub(crate) fn status(processes: &[&ProcessView], paint: Paint) -> String {
    let longest = processes.iter().map(|process| process.name.chars().count()).max().unwrap_or(0);
    let width = longest.max(30) + 3;
    let mut text = String::new();
    for process in processes {
        let state = paint.state(process.state, &format!("{:<10}", process.state.word()));
        let _ = writeln!(text, "{:<width$}{state}{}", process.name, clean(&process.description));
    }
    text
}

/// What is still under way, for a person who waits.
pub(crate) fn progress(groups: &[GroupView], processes: &[ProcessView]) -> String {
    let mut parts: Vec<String> = Vec::new();
    for state in [StateWord::Stopping, StateWord::Starting, StateWord::Backoff] {
        match processes.iter().filter(|process| process.state == state).count() {
            0 => {}
            count => parts.push(format!("{count} {}", state.word())),
        }
    }
    let rollouts =
        groups.iter().filter_map(|group| group.rollout.as_ref().map(|rollout| (&group.name, rollout)));
    parts.extend(rollouts.map(|(name, rollout)| format!("{name}: {rollout}")));
    if parts.is_empty() { "waiting …".to_owned() } else { format!("waiting: {}", parts.join(", ")) }
}

/// supervisorctl's lines: `messages:messages_00: started`, or `…: ERROR (why)`.
pub(crate) fn results(results: &[ProcessResult], paint: Paint) -> String {
    results
        .iter()
        .fold(String::new(), |text, result| text + &result_line(&result.name, result.ok, &result.text, paint))
}

/// The same for queues and failed jobs, with what one should also know.
pub(crate) fn done(results: &[Done], paint: Paint) -> String {
    results.iter().fold(String::new(), |mut text, result| {
        text += &result_line(&result.name, result.ok, &result.text, paint);
        if let Some(note) = &result.note {
            let _ = writeln!(text, "  {}", paint.faint(note));
        }
        text
    })
}

fn result_line(name: &str, ok: bool, said: &str, paint: Paint) -> String {
    let said = clean(said);
    if ok {
        format!("{name}: {said}\n")
    } else {
        format!("{name}: {}\n", paint.bad(&format!("ERROR ({said})")))
    }
}

/// The queues, a line each.
pub(crate) fn queues(rows: &[QueueRow], now: WallTime, paint: Paint) -> String {
    let mut table = Table::new(&[
        "<QUEUE",
        ">WAITING",
        ">DELAYED",
        ">RESERVED",
        ">FAILED",
        ">OLDEST",
        ">RATE",
        ">DRAIN",
        "<",
    ]);
    for row in rows {
        let number = |number: u64| if row.error.is_some() { "?".to_owned() } else { number.to_string() };
        let state = match &row.error {
            Some(error) => paint.bad(&clean(error)),
            None if row.paused => paint.moving("paused"),
            None => String::new(),
        };
        table.row([
            clean(&row.name),
            number(row.waiting),
            number(row.delayed),
            number(row.reserved),
            number(row.failed),
            row.oldest.map_or_else(dash, |oldest| span(now.since(oldest))),
            row.rate.map_or_else(dash, |rate| format!("{rate:.1}/s")),
            row.drain_seconds
                .map_or_else(dash, |seconds| span(Duration::from_secs_f64(seconds.clamp(0.0, 1e9)))),
            state,
        ]);
    }
    table.text()
}

/// Jobs of a queue, a line each.
pub(crate) fn jobs(jobs: &[ListedJob], now: WallTime) -> String {
    if jobs.is_empty() {
        return "no jobs\n".to_owned();
    }
    let mut table = Table::new(&["<STATE", "<QUEUE", "<ID", ">ATTEMPTS", "<DUE", "<NAME"]);
    for job in jobs {
        let state = match job.state {
            JobState::Waiting => "waiting",
            JobState::Delayed => "delayed",
            JobState::Reserved => "reserved",
        };
        table.row([
            state.to_owned(),
            clean(&job.queue),
            if job.id.is_empty() { dash() } else { clean(&job.id) },
            job.attempts.to_string(),
            job.at.map_or_else(dash, |at| due(at, now)),
            clean(&job.name),
        ]);
    }
    table.text()
}

/// Failed jobs, a line each.
pub(crate) fn failed(rows: &[FailedRow]) -> String {
    if rows.is_empty() {
        return "no failed jobs\n".to_owned();
    }
    let mut table = Table::new(&["<ID", "<FAILED AT", "<QUEUE", "<NAME", "<REASON"]);
    for row in rows {
        table.row([
            clean(&row.id),
            row.failed_at.to_rfc3339(),
            clean(&format!("{}/{}", row.connection, row.queue)),
            if row.unreadable { "(unreadable)".to_owned() } else { clean(&row.name) },
            clean(&row.reason),
        ]);
    }
    table.text()
}

/// One failed job with everything.
pub(crate) fn failed_job(job: &FailedDetail, paint: Paint) -> String {
    let row = &job.summary;
    let mut text = String::new();
    for (key, value) in [
        ("id", row.id.clone()),
        ("name", row.name.clone()),
        ("queue", format!("{}/{}", row.connection, row.queue)),
        ("failed at", row.failed_at.to_rfc3339()),
        ("class", row.class.clone().unwrap_or_else(dash)),
    ] {
        let _ = writeln!(text, "{}{}", paint.faint(&format!("{key:<11}")), clean(&value));
    }
    let _ = write!(text, "\n{}\n{}\n", paint.faint("reason"), clean_lines(job.reason.trim_end()));
    let _ = write!(text, "\n{}\n{}\n", paint.faint("payload"), clean_lines(&job.payload));
    if job.payload_base64.is_some() {
        text.push_str("\nthe payload is not UTF-8; --json has it in base64\n");
    }
    text
}

/// `in 3m12s`, or `12s ago`.
fn due(at: WallTime, now: WallTime) -> String {
    if at > now { format!("in {}", span(at.since(now))) } else { format!("{} ago", span(now.since(at))) }
}

/// A span in its two largest units: `45s`, `3m12s`, `2h05m`, `3d04h`.
fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

fn dash() -> String {
    "-".to_owned()
}

/// One line of text with nothing in it that steers a terminal.
fn clean(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut clean, character| {
        if character.is_control() {
            clean.extend(character.escape_default());
        } else {
            clean.push(character);
        }
        clean
    })
}

/// The same for text of several lines.
fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

/// Columns as wide as their widest cell. A heading begins with `<` or `>` for the side its cells keep to.
struct Table<const N: usize> {
    right: [bool; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    fn new(headings: &[&str; N]) -> Self {
        Self {
            right: headings.map(|heading| heading.starts_with('>')),
            rows: vec![headings.map(|heading| heading[1..].to_owned())],
        }
    }

    fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    fn text(&self) -> String {
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; N] = std::array::from_fn(width);
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(widths).zip(self.right).map(|((cell, width), right)| {
                if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use qfleet_model::snapshot::GroupKind;

    use super::*;
    use crate::ctl::listing;

    const NOON: WallTime = WallTime::from_seconds(1_795_219_200);

    fn process(
        name: &str,
        number: u32,
        state: StateWord,
        pid: Option<i32>,
        description: &str,
    ) -> ProcessView {
        ProcessView {
            name: name.to_owned(),
            group: name.split(':').next().unwrap_or_default().to_owned(),
            number,
            state,
            pid,
            since: NOON,
            exit: None,
            description: description.to_owned(),
            error: None,
            started_at: Some(NOON),
            stopped_at: None,
            crashes: 0,
            report: None,
            tree: qfleet_model::snapshot::Keeping::Cgroup,
            schedule: None,
        }
    }

    fn fleet() -> Vec<ProcessView> {
        vec![
            process(
                "messages:messages_00",
                0,
                StateWord::Running,
                Some(24_235),
                "pid 24235, uptime 0:00:03, scaled 2, manifest 3",
            ),
            process("messages:messages_01", 1, StateWord::Starting, Some(24_236), ""),
            process("audio:audio_00", 0, StateWord::Stopping, Some(24_300), "waiting for 2 jobs"),
            ProcessView {
                exit: Some(qfleet_model::snapshot::Exit::Signal("KILL".to_owned())),
                error: Some("exited too quickly".to_owned()),
                crashes: 3,
                ..process("reverb", 0, StateWord::Backoff, None, "exited too quickly")
            },
            ProcessView {
                exit: Some(qfleet_model::snapshot::Exit::Code(3)),
                ..process(
                    "a-program-with-a-name-longer-than-thirty-letters",
                    0,
                    StateWord::Fatal,
                    None,
                    "can't find command \u{1b}[31m'x'",
                )
            },
            process("manual", 0, StateWord::Stopped, None, "Not started"),
        ]
    }

    #[test]
    fn status_has_the_columns_of_supervisorctl() {
        let fleet = fleet();
        let all: Vec<&ProcessView> = fleet.iter().collect();
        insta::assert_snapshot!("status", status(&all, Paint(false)));
        insta::assert_snapshot!("status_short_names", status(&all[..3], Paint(false)));
        insta::assert_snapshot!("status_in_colour", status(&all, Paint(true)).replace('\u{1b}', "ESC"));
    }

    #[test]
    fn status_for_programs_is_a_list_of_objects() {
        let fleet = fleet();
        let rows: Vec<listing::Process<'_>> = listing::list(&fleet);
        let text = serde_json::to_string_pretty(&rows).unwrap_or_default();
        insta::assert_snapshot!("status_json", text);
        let positions: Vec<_> = ["name", "group", "number", "state", "pid", "since", "exit", "description"]
            .iter()
            .map(|key| text.find(&format!("\"{key}\":")))
            .collect();
        assert!(positions.is_sorted() && positions.iter().all(Option::is_some), "{positions:?}");
    }

    #[test]
    fn who_waits_sees_what_is_under_way() {
        let group = GroupView {
            name: "messages".to_owned(),
            kind: GroupKind::Queue,
            numprocs: 4,
            manifest_numprocs: None,
            crash_loop: None,
            rollout: Some("restarting 1 of 4".to_owned()),
            scale: None,
        };
        assert_eq!(
            progress(&[group], &fleet()),
            "waiting: 1 STOPPING, 1 STARTING, 1 BACKOFF, messages: restarting 1 of 4"
        );
        assert_eq!(progress(&[], &[]), "waiting …");
    }

    #[test]
    fn results_are_told_as_supervisorctl_tells_them() {
        let result = |name: &str, ok, text: &str| ProcessResult { ok, ..ProcessResult::ok(name, text) };
        let text = results(
            &[result("messages:messages_00", true, "started"), result("reverb", false, "exited too quickly")],
            Paint(false),
        );
        assert_eq!(text, "messages:messages_00: started\nreverb: ERROR (exited too quickly)\n");
        let paused = Done {
            name: "messages".to_owned(),
            ok: true,
            text: "paused".to_owned(),
            note: Some("PHP workers are not affected".to_owned()),
        };
        assert_eq!(done(&[paused], Paint(false)), "messages: paused\n  PHP workers are not affected\n");
    }

    #[test]
    fn listings_line_up() {
        let row =
            QueueRow { name: "messages".to_owned(), connection: "crm".to_owned(), ..QueueRow::default() };
        let rows = [
            QueueRow {
                waiting: 1_204,
                delayed: 3,
                reserved: 10,
                oldest: Some(WallTime::from_seconds(1_795_219_200 - 192)),
                rate: Some(20.04),
                drain_seconds: Some(60.2),
                ..row.clone()
            },
            QueueRow { name: "audio".to_owned(), paused: true, failed: 2, ..row.clone() },
            QueueRow { name: "crm/old".to_owned(), error: Some("no answer\nat all".to_owned()), ..row },
        ];
        insta::assert_snapshot!("queues", queues(&rows, NOON, Paint(false)));
        let job = |state, seconds: Option<i64>, id: &str| ListedJob {
            queue: "default".to_owned(),
            state,
            id: id.to_owned(),
            name: "App\\Jobs\\Send".to_owned(),
            attempts: 1,
            at: seconds.map(|seconds| WallTime::from_seconds(1_795_219_200 + seconds)),
            payload: "{}".to_owned(),
        };
        let listed = [
            job(JobState::Waiting, None, "6f9c1f1e-7a52-4f0e-9f0a-0c5f3e8f2b11"),
            job(JobState::Delayed, Some(7_500), ""),
            job(JobState::Reserved, Some(-5), "x\u{7}y"),
        ];
        insta::assert_snapshot!("jobs", jobs(&listed, NOON));
        assert_eq!(jobs(&[], NOON), "no jobs\n");
    }

    #[test]
    fn failed_jobs_are_listed_and_shown() {
        let row = FailedRow {
            id: "6f9c1f1e".to_owned(),
            connection: "crm".to_owned(),
            queue: "default".to_owned(),
            name: "App\\Jobs\\Send".to_owned(),
            class: Some("http-422".to_owned()),
            reason: "the endpoint answered 422".to_owned(),
            failed_at: NOON,
            unreadable: false,
        };
        let unreadable =
            FailedRow { id: "b".to_owned(), unreadable: true, name: String::new(), ..row.clone() };
        insta::assert_snapshot!("failed", failed(&[row.clone(), unreadable]));
        assert_eq!(failed(&[]), "no failed jobs\n");
        let whole = FailedDetail {
            summary: row,
            laravel_name: "redis".to_owned(),
            reason: "the endpoint answered 422\n\u{1b}]0;title\u{7} {\"title\":\"no such customer\"}\n"
                .to_owned(),
            payload: "{\"uuid\":\"6f9c1f1e\",\"data\":{\"id\":9007199254740993}}".to_owned(),
            payload_base64: Some("AA==".to_owned()),
        };
        insta::assert_snapshot!("failed_show", failed_job(&whole, Paint(false)));
    }

    #[test]
    fn spans_have_two_units_at_most() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (192, "3m12s"), (7_500, "2h05m"), (277_200, "3d05h")]
        {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
