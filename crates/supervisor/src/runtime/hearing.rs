//! What children do: they end, they speak, and their time comes.

use std::io;
use std::time::Duration;

use qfleet_manifest::settings::Work;
use qfleet_model::snapshot::Exit;
use qfleet_os::clock;
use qfleet_os::reap::Ended;

use super::Supervisor;
use super::effects::Child;
use super::leftovers::Manner;
use super::worker_link::Heard;
use crate::fleet::Event;

impl Supervisor {
    /// Tells the fleet of every child that has ended, after its last words.
    pub(super) fn reap(&mut self) {
        loop {
            let ended = match self.reaper.peek_ended() {
                Ok(Some(ended)) => ended,
                Ok(None) => break,
                Err(error) => {
                    tracing::error!("cannot ask which children have ended: {error}");
                    break;
                }
            };
            if let Err(error) = self.ended(ended) {
                // The same child would be next, for ever.
                tracing::error!(pid = ended.pid, "cannot release a child that has ended: {error}");
                break;
            }
        }
        for tree in self.leftovers.sweep(clock::now(), |pid| self.world.is_child(pid)) {
            if let Some(name) = self.earlier.remove(&tree.mark)
                && !self.earlier.values().any(|other| *other == name)
            {
                self.handle(Event::EarlierGone { name });
            }
        }
    }

    pub(super) fn ended(&mut self, ended: Ended) -> io::Result<()> {
        let Ended { pid, how, .. } = ended;
        let mut child = self.world.children.remove(&pid);
        if let Some(child) = &mut child
            && let Some(tree) = child.tree.take()
        {
            let manner = child.manner_of_leftovers();
            let descendants = std::mem::take(&mut child.descendants);
            self.leftovers.leader_ended(pid, tree, descendants, manner, clock::now());
        }
        let released = self.reaper.release(pid);
        match child {
            Some(child) => self.child_ended(pid, how.into(), child),
            None if self.upgrading.ended(pid, how) => {}
            None => tracing::debug!(pid, "reaped somebody else's child: {how}"),
        }
        released
    }

    pub(super) fn child_ended(&mut self, pid: i32, exit: Exit, child: Child) {
        if let Some(notices) = &child.notices {
            notices.remove();
        }
        if let Some(link) = &child.link {
            link.shut();
            self.listen();
        }
        if let Some(probe) = child.probe {
            return probe.has_ended(exit);
        }
        let left = self.world.ledgers.left(&child.ledgers);
        self.handle(Event::ChildExited { pid, exit, left });
    }

    pub(super) fn listen(&mut self) {
        while let Ok(heard) = self.heard.try_recv() {
            self.heard(heard);
        }
    }

    pub(super) fn heard(&mut self, Heard { pid, message }: Heard) {
        match message {
            Some(message) => self.handle(Event::FromChild { pid, message }),
            None => {
                if let Some(child) = self.world.children.get_mut(&pid) {
                    child.link = None;
                }
                self.handle(Event::LinkClosed { pid });
            }
        }
    }

    pub(super) fn ring(&mut self) {
        let now = clock::now();
        self.telling.time_passed(now);
        self.give_up_reads(now);
        if self.fleet.wake_at().is_some_and(|at| at <= now) {
            self.handle(Event::TimePassed);
        }
    }
}

impl Child {
    /// What a program has left behind may end as the program itself would. What a worker has left behind are jobs that are
    /// about to be given back, and nothing of them may go on. What a run of a schedule has left in the background goes on
    /// until the daemon ends, unless the run itself was stopped: `artisan schedule:run` starts commands that way.
    fn manner_of_leftovers(&self) -> Manner {
        match &self.group {
            Some(group) if !self.killed => Manner {
                ask: Some(group.process.stop_signal),
                within: group.process.stop_wait,
                goes_on: matches!(group.work, Work::Schedule(_)) && !self.asked,
            },
            Some(_) | None => Manner { ask: None, within: Duration::ZERO, goes_on: false },
        }
    }
}
