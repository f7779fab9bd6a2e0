//! Looks how much waits for the groups whose number of workers follows it, and tells the supervisor.
//!
//! On a thread of its own, which is there only while the manifest has such a group. A group is looked at while its
//! workers are busy, or more of them than its minimum are there: what they report says so without a question to the
//! store, so an idle fleet asks nothing. All groups whose time has come are asked for at once. While a store does not
//! answer, the next look comes later and later.

use std::collections::{BTreeMap, HashMap};
use std::thread;
use std::time::Duration;

use qfleet_api::desk::Backlogs;
use qfleet_manifest::settings::Manifest;
use qfleet_model::link::Report;
use qfleet_model::observation::Observation;
use qfleet_model::scale::Rule;
use qfleet_model::snapshot::FleetSnapshot;
use qfleet_supervisor::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// Changes of the fleet are looked at no more often.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest pause between two looks at a store that does not answer, unless they are rarer anyway.
const LONGEST: Duration = Duration::from_secs(60);

/// Has a thread that watches whenever there is something to watch, for as long as the daemon lives.
pub(crate) async fn keep(handle: Handle) {
    let mut manifests = handle.manifests();
    while !handle.has_ended() {
        if rules(&handle.manifest()).next().is_none() {
            if !manifests.next().await {
                return;
            }
        } else if begin(handle.clone()).await.is_err() {
            // Who knows what it would do next time.
            tracing::error!("backlogs are not watched any more: queues keep the number of workers they have");
            return;
        }
    }
}

/// Begins to watch on a new thread; it says when there is nothing to watch any more.
fn begin(handle: Handle) -> oneshot::Receiver<()> {
    let (say, ended) = oneshot::channel();
    let watch = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => {
                runtime.block_on(watch(handle));
                let _nobody_waits = say.send(());
            }
            Err(error) => tracing::error!("cannot watch backlogs: {error}"),
        }
    };
    if let Err(error) = thread::Builder::new().name("backlogs".to_owned()).spawn(watch) {
        tracing::error!("cannot start the thread that watches backlogs: {error}");
    }
    ended
}

/// When to look at a group again.
#[derive(Debug)]
struct Next {
    at: Instant,
    /// Deliveries of its workers that had ended at the last look that saw something.
    ended: Option<u64>,
    /// Looks in a row that failed.
    failed: u32,
}

/// Watches until no group of the manifest follows its backlog, or the daemon ends.
async fn watch(handle: Handle) {
    let backlogs = Backlogs::default();
    let mut changes = handle.changes();
    let mut next: HashMap<String, Next> = HashMap::new();
    loop {
        let (manifest, fleet) = (handle.manifest(), handle.snapshot());
        if rules(&manifest).next().is_none() {
            return;
        }
        next.retain(|name, _| rules(&manifest).any(|(other, _)| other == name));
        let now = Instant::now();
        let mut wake: Option<Instant> = None;
        let mut due = BTreeMap::new();
        for (name, rule) in rules(&manifest) {
            let ended = ended(&fleet, name);
            if !is_worth_a_look(&fleet, name, next.get(name).and_then(|next| next.ended)) {
                continue;
            }
            match next.get(name).map(|next| next.at).filter(|at| *at > now) {
                Some(at) => wake = Some(wake.map_or(at, |wake| wake.min(at))),
                None => {
                    due.insert(name, (rule, ended));
                }
            }
        }
        if !due.is_empty() {
            let names: Vec<&str> = due.keys().copied().collect();
            for (group, found) in backlogs.of(&manifest, &names).await {
                let Some((rule, ended)) = due.get(group.as_str()) else { continue };
                note(&mut next, &group, rule, found.is_ok().then_some(*ended));
                handle.observe(Observation::Backlog { group, found });
            }
            continue;
        }
        let changed = match wake {
            Some(at) => timeout_at(at, changes.next()).await.unwrap_or(true),
            None => changes.next().await,
        };
        if !changed {
            return;
        }
        // Workers report every second; there is no need to look into each report.
        match wake {
            Some(at) => sleep_until(at.min(Instant::now() + PAUSE)).await,
            None => sleep(PAUSE).await,
        }
    }
}

/// Takes note of a look; `None`: the store did not answer.
fn note(next: &mut HashMap<String, Next>, group: &str, rule: &Rule, ended: Option<u64>) {
    let now = Instant::now();
    let next = next.entry(group.to_owned()).or_insert(Next { at: now, ended: None, failed: 0 });
    match ended {
        Some(ended) => *next = Next { at: now + rule.every, ended: Some(ended), failed: 0 },
        None => {
            let pause = rule.every.saturating_mul(2 << next.failed.min(10)).min(rule.every.max(LONGEST));
            (next.at, next.failed) = (now + pause, next.failed.saturating_add(1));
        }
    }
}

/// The groups whose number of workers follows their backlog.
fn rules(manifest: &Manifest) -> impl Iterator<Item = (&str, &Rule)> {
    manifest
        .groups
        .iter()
        .filter_map(|group| group.process.scale.as_ref().map(|rule| (group.name.as_str(), rule)))
}

/// Whether the group's number could be another one after a look: its workers have something to do, or are too many. Where
/// an operator has decided, it could not.
fn is_worth_a_look(fleet: &FleetSnapshot, name: &str, ended_before: Option<u64>) -> bool {
    let Some(group) = fleet.groups.iter().find(|group| group.name == name) else { return false };
    let Some(scale) = group.scale.as_ref().filter(|_| group.manifest_numprocs.is_none()) else {
        return false;
    };
    let running = reports(fleet, name).any(|report| report.running > 0);
    let something = ended(fleet, name) != ended_before.unwrap_or(0);
    !fleet.shutting_down && (group.numprocs > scale.min || running || something)
}

fn ended(fleet: &FleetSnapshot, name: &str) -> u64 {
    reports(fleet, name).map(Report::ended).fold(0, u64::saturating_add)
}

fn reports<'f>(fleet: &'f FleetSnapshot, name: &'f str) -> impl Iterator<Item = &'f Report> {
    let processes = fleet.processes.iter().filter(move |process| process.group == name);
    processes.filter_map(|process| process.report.as_ref())
}
