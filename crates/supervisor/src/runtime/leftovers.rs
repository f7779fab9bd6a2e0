//! Process groups whose leader has ended while others in them live on, e.g. the command behind a shell that died first.
//! They were asked to end together with their leader; those that do not are killed.

use std::time::Duration;

use qfleet_model::process::{Pid, SIGKILL, Signal};
use qfleet_model::time::Moment;
use qfleet_os::signal;

/// The groups that are not empty yet, and until when they may take.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    groups: Vec<(Pid, Moment)>,
}

impl Leftovers {
    /// The leader of a group has ended and was not released yet, so that its number is still its own: asks the rest to end.
    pub(super) fn leader_ended(&mut self, leader: Pid, ask: Signal, within: Duration, now: Moment) {
        // With nobody left but the leader there is nobody to hear it.
        let _ = signal::send_group(leader, ask);
        self.groups.push((leader, now + within));
    }

    /// Kills those whose time is over and forgets those that are empty. To be called after all who ended were released.
    pub(super) fn sweep(&mut self, now: Moment) {
        self.groups.retain(|(group, until)| {
            if !signal::group_exists(*group) {
                return false;
            }
            if *until <= now {
                let _ = signal::send_group(*group, SIGKILL);
            }
            *until > now
        });
    }

    pub(super) fn due(&self) -> Option<Moment> {
        self.groups.iter().map(|(_, until)| *until).min()
    }

    /// Their time is over now.
    pub(super) fn hurry(&mut self, now: Moment) {
        self.groups.iter_mut().for_each(|(_, until)| *until = (*until).min(now));
    }
}
