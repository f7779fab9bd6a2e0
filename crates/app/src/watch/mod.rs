//! Watches programs for the fleet: probes of readiness and health, and memory. On a thread of its own, so that no slow
//! endpoint can delay the supervisor's loop; it looks only at what the fleet wants to be looked at, and with nothing to
//! watch it sleeps.

use std::collections::HashMap;
use std::io;
use std::thread;
use std::time::Duration;

use qfleet_model::observation::{Observation, ProbeTrouble, Question};
use qfleet_model::process::Pid;
use qfleet_os::{clock, usage};
use qfleet_supervisor::{Handle, Watch, Watched};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};

use qfleet_manifest::probes::Probe;

mod probe;

/// How often memory is looked at.
const MEMORY: Duration = Duration::from_secs(5);

/// Watches until the daemon ends.
///
/// # Errors
/// The thread, or what it waits with, cannot be made.
pub(crate) fn start(handle: Handle) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let watch = move || runtime.block_on(Watcher { handle, probes: HashMap::new() }.live());
    thread::Builder::new().name(String::from("watch")).spawn(watch).map(drop)
}

struct Watcher {
    handle: Handle,
    /// Probes under way, and what each is for.
    probes: HashMap<(Pid, Question), (Watch, JoinHandle<()>)>,
}

impl Watcher {
    async fn live(mut self) {
        let mut changes = self.handle.changes();
        let mut ticks = interval(MEMORY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let watches = self.handle.watches();
            let limited: Vec<&Watch> =
                watches.iter().filter(|watch| matches!(watch.what, Watched::Memory(_))).collect();
            self.take_up(&watches);
            tokio::select! {
                more = changes.next() => if !more { return },
                _ = ticks.tick(), if !limited.is_empty() => self.look_at_memory(&limited),
            }
        }
    }

    /// Begins the probes that are new, and ends those that nobody wants any more.
    fn take_up(&mut self, watches: &[Watch]) {
        self.probes.retain(|_, (watch, task)| {
            let goes_on = watches.contains(watch);
            if !goes_on {
                task.abort();
            }
            goes_on
        });
        for watch in watches {
            let question = match &watch.what {
                Watched::Ready(_) => Question::Ready,
                Watched::Health { .. } => Question::Healthy,
                Watched::Memory(_) => continue,
            };
            let handle = &self.handle;
            self.probes.entry((watch.pid, question)).or_insert_with(|| {
                let task = match watch.what.clone() {
                    Watched::Health { probe, from } => {
                        tokio::spawn(keep_asking(handle.clone(), watch.clone(), probe, Some(from)))
                    }
                    Watched::Ready(probe) => {
                        tokio::spawn(keep_asking(handle.clone(), watch.clone(), probe, None))
                    }
                    Watched::Memory(_) => tokio::spawn(async {}),
                };
                (watch.clone(), task)
            });
        }
    }

    /// Tells of those that are above their limit.
    fn look_at_memory(&self, limited: &[&Watch]) {
        let groups: Vec<Pid> = limited.iter().map(|watch| watch.pid).collect();
        let used = match usage::memory_of_groups(&groups) {
            Ok(used) => used,
            Err(error) => return tracing::warn!("cannot look at the memory of programs: {error}"),
        };
        for watch in limited {
            let bytes = used.get(&watch.pid).copied().unwrap_or(0);
            if matches!(watch.what, Watched::Memory(most) if bytes > most) {
                self.handle.observe(Observation::Memory {
                    process: watch.process.clone(),
                    pid: watch.pid,
                    bytes,
                });
            }
        }
    }
}

/// Asks again and again. Readiness, which is asked for without a `from`, needs one good answer.
async fn keep_asking(handle: Handle, watch: Watch, probe: Probe, from: Option<qfleet_model::time::Moment>) {
    let question = if from.is_some() { Question::Healthy } else { Question::Ready };
    if let Some(from) = from {
        sleep(from.since(clock::now()).max(probe.interval)).await;
    }
    let mut times = 0_u32;
    let mut said = None;
    loop {
        let execute = async |argv: &[String]| handle.try_command(&watch.process, watch.pid, argv).await;
        let trouble = match probe::ask(&probe, execute).await {
            Ok(()) => None,
            Err(why) => {
                times = times.saturating_add(1);
                Some(ProbeTrouble { why, times })
            }
        };
        // A good answer says something only after a bad one, and to the question whether it is ready; the same bad one
        // again only where they are counted.
        let news = match (&trouble, question) {
            (None, Question::Healthy) => times > 0,
            (Some(trouble), Question::Ready) => said.as_ref() != Some(&trouble.why),
            (None, Question::Ready) | (Some(_), Question::Healthy) => true,
        };
        let over = trouble.is_none() && question == Question::Ready;
        if trouble.is_none() {
            times = 0;
        }
        said = trouble.as_ref().map(|trouble| trouble.why.clone());
        if news {
            let process = watch.process.clone();
            handle.observe(Observation::Probed { process, pid: watch.pid, question, trouble });
        }
        if over {
            return;
        }
        sleep(probe.interval).await;
    }
}
