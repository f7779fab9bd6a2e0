//! Ends what a dead worker's shell jobs left running, and nobody else.
//!
//! The system kills a dead worker's own children, but not theirs, and it does so after it has let go of the ledger's lock.
//! Numbers of processes are reused, so a group is taken for a job's when its leader started at the noted tick, and a process
//! when it carries the delivery's id in its environment.

use std::collections::BTreeSet;
use std::time::Duration;

use qfleet_os::tree::{self, Member};
use qfleet_os::{signal, usage};
use tracing::warn;

use crate::handler::facts::DELIVERY;

use super::ledger::{Leftover, Writer};

/// Killed processes are gone within this time, or stuck in the kernel.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const KILL: i32 = 9;

/// Waits until the dead worker is dead, kills what its jobs have left, and waits until that is gone.
pub(crate) async fn end(worker: Writer, leftovers: &[Leftover]) {
    if leftovers.is_empty() {
        return;
    }
    // From then on its children have been told to end.
    until(|| is_dead(worker)).await;
    end_groups(noted(leftovers)).await;
    let deliveries: BTreeSet<&str> = leftovers.iter().map(|leftover| &*leftover.delivery).collect();
    let find = || {
        let found = tree::with_variable(DELIVERY, |delivery| deliveries.contains(delivery));
        tree::below(found.into_values().flatten().map(|member| member.pid))
    };
    end_all(tree::kill(find)).await;
    // A process that was just executing another program had no environment for an instant.
    tokio::time::sleep(LOOK_AGAIN).await;
    end_all(tree::kill(find)).await;
}

async fn end_groups(groups: BTreeSet<i32>) {
    for group in &groups {
        // Gone in between is as good.
        let _ = signal::send_group(*group, KILL);
    }
    for group in groups {
        if !until(|| usage::group_members(group).is_ok_and(|members| members.is_empty())).await {
            warn!(group, "processes of a dead worker's job do not end; the job is given back all the same");
        }
    }
}

async fn end_all(killed: BTreeSet<Member>) {
    for Member { pid, .. } in still_there(killed).await {
        warn!(pid, "a process of a dead worker's job does not end; the job is given back all the same");
    }
}

async fn still_there(killed: BTreeSet<Member>) -> BTreeSet<Member> {
    until(|| !killed.iter().any(|member| member.is_alive())).await;
    killed.into_iter().filter(|member| member.is_alive()).collect()
}

fn is_dead(worker: Writer) -> bool {
    let Ok(pid) = i32::try_from(worker.pid) else { return true };
    !usage::of(pid)
        .is_ok_and(|usage| usage.started_at == worker.started_at && !matches!(usage.state, 'Z' | 'X'))
}

/// Groups that are surely those noted.
fn noted(leftovers: &[Leftover]) -> BTreeSet<i32> {
    let groups = leftovers.iter().filter_map(|leftover| leftover.group);
    let same =
        |(group, start): &(i32, u64)| usage::of(*group).is_ok_and(|leader| leader.started_at == *start);
    groups.filter(same).map(|(group, _)| group).collect()
}

/// Looks again and again until it is so; false when it takes too long.
async fn until(so: impl Fn() -> bool) -> bool {
    let waiting = async {
        let mut pause = Duration::from_millis(1);
        while !so() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Child, Command, Stdio};

    use super::*;

    const GONE: Writer = Writer { tag: 1, pid: u32::MAX, started_at: 1 };

    fn shell(script: &str, delivery: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("JOB_DELIVERY", delivery).process_group(0);
        command.stdin(Stdio::null()).spawn().unwrap()
    }

    fn group(child: &Child) -> i32 {
        i32::try_from(child.id()).unwrap()
    }

    fn run(delivery: &str, group: Option<(i32, u64)>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(end(GONE, &[Leftover { delivery: delivery.to_owned(), group }]));
    }

    #[test]
    fn a_job_that_was_left_is_ended_with_its_children() {
        let mut child = shell("sleep 60 & sleep 60", "a");
        let start = usage::of(group(&child)).unwrap().started_at;
        run("another", Some((group(&child), start)));
        assert_eq!(child.wait().unwrap().signal(), Some(KILL));
        assert!(usage::group_members(group(&child)).unwrap().is_empty());
    }

    #[test]
    fn children_of_a_leader_that_is_gone_are_ended() {
        let mut child = shell("sleep 60 & true", "children-of-a-leader");
        let start = usage::of(group(&child)).unwrap().started_at;
        child.wait().unwrap();
        assert_eq!(usage::group_members(group(&child)).unwrap().len(), 1);
        run("children-of-a-leader", Some((group(&child), start)));
        assert!(usage::group_members(group(&child)).unwrap().is_empty());
    }

    #[test]
    fn a_job_that_was_never_noted_is_found_by_its_delivery() {
        let mut child = shell("exec sleep 60", "never-noted");
        let name = format!("/proc/{}/comm", child.id());
        while std::fs::read_to_string(&name).unwrap().trim() != "sleep" {
            std::thread::sleep(Duration::from_millis(1));
        }
        run("never-noted", None);
        assert_eq!(child.wait().unwrap().signal(), Some(KILL));
    }

    #[test]
    fn a_stranger_with_the_same_number_lives() {
        let mut stranger = shell("exec sleep 60", "of-a-stranger");
        let start = usage::of(group(&stranger)).unwrap().started_at;
        run("of-nobody", Some((group(&stranger), start - 1)));
        assert!(stranger.try_wait().unwrap().is_none());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }

    #[test]
    fn a_living_worker_is_not_dead_and_a_number_used_again_is() {
        let pid = std::process::id();
        let started_at = usage::of(i32::try_from(pid).unwrap()).unwrap().started_at;
        assert!(!is_dead(Writer { tag: 1, pid, started_at }));
        assert!(is_dead(Writer { tag: 1, pid, started_at: started_at + 1 }));
        assert!(is_dead(GONE));
    }
}
