//! What must hold of all deliveries of a run, as the receiver saw them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use qfleet_testkit::Received;
use serde_json::Value;

use super::{CRM, VICTIMS};

/// Starts of messages in a window.
pub(super) const LIMIT: usize = 20;
/// Begins with its first start.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// How much later than in Redis a start may be seen at the receiver, where a command that does nothing takes no time.
const SEEN_WITHIN: Duration = Duration::from_secs(2);
/// The latest that can be told from the next window.
const SEEN_AT_LAST: Duration = Duration::from_secs(25);
const NEVER_WAIT: [&str; 3] = ["token-refresh", "calendar-sync", "google-contacts-sync"];

/// Holds every promise against the deliveries. `added` are the ids that were fed, by queue; `clock` is one moment on both
/// clocks, when it began; `slowest` is how long the slowest command took that does nothing.
pub(super) fn all(
    requests: &[Received],
    added: &BTreeMap<String, Vec<String>>,
    clock: (Instant, SystemTime),
    slowest: Duration,
) {
    let seen_within = (SEEN_WITHIN + slowest).min(SEEN_AT_LAST);
    assert_eq!(added.len(), 20, "every queue but the report's was fed");
    for (queue, ids) in added {
        every_job_was_done_once(queue, ids, &of_queue(requests, queue));
    }
    assert_eq!(added.values().map(Vec::len).sum::<usize>(), jobs_seen(requests, added), "nobody else's jobs");
    let reports = of_queue(requests, "analytics").len();
    let most = usize::try_from(clock.0.elapsed().as_secs()).unwrap() / 20 + 1;
    let least = 6 - usize::try_from(slowest.as_secs()).unwrap().min(5 * 20) / 20;
    assert!((least..=most).contains(&reports), "the report of every 20 s was made {reports} times");
    let hooks = of_queue(requests, "webhooks");
    assert!(hooks.iter().all(|request| request.header("webhook-signature").is_some()), "webhooks are signed");
    again_only_after_a_crash(requests);
    retries_are_spread(&of_queue(requests, "emails"), seen_within);
    no_window_has_too_many(&of_queue(requests, "messages"), seen_within);
    for queue in NEVER_WAIT {
        nothing_waits(queue, &of_queue(requests, queue), clock, slowest);
    }
}

/// A job's data.
pub(super) fn told(request: &Received) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

/// Deliveries of one queue, in order of arrival.
pub(super) fn of_queue<'r>(requests: &'r [Received], queue: &str) -> Vec<&'r Received> {
    requests.iter().filter(|request| request.header("Job-Queue") == Some(queue)).collect()
}

fn crashed(request: &Received) -> bool {
    request.header("Job-Previous-Status") == Some("crash")
}

/// Jobs that arrived and were fed; those of the repeated report have ids of their own.
fn jobs_seen(requests: &[Received], added: &BTreeMap<String, Vec<String>>) -> usize {
    let fed = requests.iter().filter(|request| added.contains_key(request.header("Job-Queue").unwrap()));
    let ids = fed.map(|request| (request.header("Job-Queue"), request.header("Job-Id")));
    ids.collect::<HashSet<_>>().len()
}

/// Each job came as often as its data says: once, and once more for each failure. A killed worker may have begun a run
/// and not yet sent it, which then comes for the first time as one after a crash; so attempts are counted, not requests.
fn every_job_was_done_once(queue: &str, ids: &[String], requests: &[&Received]) {
    let mut runs: HashMap<&str, Vec<&Received>> = HashMap::new();
    for request in requests {
        runs.entry(request.header("Job-Id").unwrap()).or_default().push(request);
    }
    for id in ids {
        let runs = runs.get(id.as_str()).map(Vec::as_slice).unwrap_or_default();
        assert!(!runs.is_empty(), "job {id} of `{queue}` was lost");
        let attempts: BTreeSet<&str> = runs.iter().filter_map(|run| run.header("Job-Attempt")).collect();
        let expected = 1 + told(runs[0])["fails"].as_u64().unwrap_or(0);
        assert_eq!(attempts.len() as u64, expected, "job {id} of `{queue}`: {}", told(runs[0]));
    }
}

/// The same attempt of a job comes again only because its worker was killed, and only what that one had in hand.
fn again_only_after_a_crash(requests: &[Received]) {
    let mut seen = HashSet::new();
    for request in requests.iter().filter(|request| !crashed(request)) {
        let attempt = ["Job-Queue", "Job-Id", "Job-Attempt"].map(|name| request.header(name).unwrap());
        assert!(seen.insert(attempt), "{attempt:?} was started twice");
    }
    let again: Vec<&Received> = requests.iter().filter(|request| crashed(request)).collect();
    assert!(!again.is_empty(), "the killed workers had something in hand");
    for (victim, most) in VICTIMS {
        let group = victim.split(':').next().unwrap();
        let count =
            again.iter().filter(|request| group_of(request.header("Job-Queue").unwrap()) == group).count();
        assert!(count <= most, "{count} jobs of `{victim}` came again");
    }
    let others = again.iter().filter(|request| {
        let group = group_of(request.header("Job-Queue").unwrap());
        !VICTIMS.iter().any(|(victim, _)| victim.starts_with(group))
    });
    assert_eq!(others.count(), 0, "nobody else's jobs came again");
}

/// Where a queue is worked.
fn group_of(queue: &str) -> &str {
    if CRM.split(' ').any(|one| one == queue) { queue } else { "calendar" }
}

/// 5, 10, 20 and 40 s, as the manifest says.
fn retries_are_spread(requests: &[&Received], seen_within: Duration) {
    let mut runs: HashMap<&str, Vec<Instant>> = HashMap::new();
    for request in requests {
        runs.entry(request.header("Job-Id").unwrap()).or_default().push(request.at);
    }
    let often: Vec<_> = runs.values().filter(|times| times.len() == 5).collect();
    assert!(!often.is_empty(), "some mails need all their tries");
    for times in often {
        for (gap, least) in times.windows(2).zip([5, 10, 20, 40]) {
            let gap = gap[1] - gap[0];
            let least = Duration::from_secs(least);
            assert!(
                gap >= least && gap < least.mul_f64(1.5) + 2 * seen_within,
                "{gap:?} for a pause of {least:?}"
            );
        }
    }
}

/// Windows begin with their first start.
fn no_window_has_too_many(requests: &[&Received], seen_within: Duration) {
    let mut starts: Vec<Instant> = requests.iter().map(|request| request.at).collect();
    starts.sort_unstable();
    let mut windows = Vec::new();
    while let Some(first) = starts.first().copied() {
        let inside = starts.partition_point(|start| *start - first < WINDOW - seen_within);
        windows.push(inside);
        starts.drain(..inside);
    }
    assert!(windows.iter().all(|count| *count <= LIMIT), "{windows:?}");
    // One that arrives late is counted in the next window.
    let full = |count: &usize| *count + LIMIT / 10 >= LIMIT;
    assert!(windows[..2].iter().all(full), "the limit is used: {windows:?}");
}

/// From the moment a job is added to its start, whatever the other queues of the process have to do.
fn nothing_waits(
    queue: &str,
    requests: &[&Received],
    (instant, wall): (Instant, SystemTime),
    slowest: Duration,
) {
    let slack = i64::try_from(slowest.as_millis()).unwrap();
    let start = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let mut waits: Vec<i64> = requests
        .iter()
        .filter(|request| !crashed(request) && request.header("Job-Attempt") == Some("1"))
        .map(|request| {
            let now = start + (request.at - instant);
            i64::try_from(now.as_millis()).unwrap() - told(request)["at"].as_i64().unwrap()
        })
        .collect();
    waits.sort_unstable();
    let (median, most) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    assert!(median < 250 + slack, "a job of `{queue}` waits {median} ms");
    assert!(most < 5000 + 10 * slack, "a job of `{queue}` waited {most} ms");
}
