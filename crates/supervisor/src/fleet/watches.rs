//! What others should watch: probes of programs that come up or are up, and the memory of those that have a limit. The
//! fleet says what, a thread outside of the loop looks, and tells by [`qfleet_model::observation::Observation`].

use qfleet_manifest::per_process::OneProcess;
use qfleet_manifest::probes::{Probe, Sign, Target};
use qfleet_model::process::{Pid, ProcessState};
use qfleet_model::time::Moment;

use super::slot::Slot;

/// Something to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// The full name of a process.
    pub process: String,
    /// Its child.
    pub pid: Pid,
    /// What to look at.
    pub what: Watched,
}

/// What of a process is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// Whether it is ready; once it is, that is all.
    Ready(Probe),
    /// Whether it is healthy.
    Health {
        /// How to find out.
        probe: Probe,
        /// Not before this.
        from: Moment,
    },
    /// Its memory and that of its group, against this many bytes.
    Memory(u64),
}

/// What to watch of this slot now.
pub(super) fn watches(slot: &Slot) -> Vec<Watch> {
    let settings = &slot.spec.settings.process;
    let filled = |probe: &Probe| {
        let one = OneProcess { group: &slot.spec.settings.name, name: &slot.label, number: slot.number() };
        let target = match &probe.target {
            Target::Tcp(address) => Target::Tcp(one.fill(address)),
            Target::Http(url) => Target::Http(one.fill(url)),
            Target::Command(argv) => Target::Command(argv.iter().map(|word| one.fill(word)).collect()),
        };
        Probe { target, ..*probe }
    };
    let (pid, all) = match &slot.state {
        ProcessState::Starting { pid, executed: true, ready: false, .. } => {
            let probe = settings.ready.iter().filter_map(|ready| match &ready.sign {
                Sign::Probe(probe) => Some(Watched::Ready(filled(probe))),
                // Its notices come by themselves.
                Sign::Notify => None,
            });
            (*pid, probe.collect())
        }
        ProcessState::Running { pid, spawned, .. } => {
            let health = settings.health.as_ref().map(|health| Watched::Health {
                probe: filled(&health.probe),
                from: *spawned + health.start_period,
            });
            (*pid, health.into_iter().chain(settings.memory.map(Watched::Memory)).collect::<Vec<_>>())
        }
        ProcessState::Starting { .. }
        | ProcessState::Stopped
        | ProcessState::Spawning { .. }
        | ProcessState::Stopping { .. }
        | ProcessState::Backoff { .. }
        | ProcessState::Exited { .. }
        | ProcessState::Fatal { .. } => return Vec::new(),
    };
    all.into_iter().map(|what| Watch { process: slot.label.to_string(), pid, what }).collect()
}
