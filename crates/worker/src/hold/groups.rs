//! Ends what a dead worker's shell jobs left running, and nobody else.
//!
//! The system kills a dead worker's own children, but not theirs, and it does so after it has let go of the ledger's lock.
//! Numbers of processes are reused, so a group is taken for a job's when its leader started at the noted tick, or when a
//! member carries the delivery's id in its environment.

use std::collections::BTreeSet;
use std::time::Duration;

use qfleet_os::{signal, usage};
use tracing::warn;

use super::ledger::{Leftover, Writer};

/// Killed processes are gone within this time, or stuck in the kernel.
const PATIENCE: Duration = Duration::from_secs(5);
const KILL: i32 = 9;

/// Waits until the dead worker is dead, kills the groups of its jobs that still live, and waits until they are gone.
pub(crate) async fn end(worker: Writer, leftovers: &[Leftover]) {
    if leftovers.is_empty() {
        return;
    }
    // From then on its children have been told to end.
    until(|| is_dead(worker)).await;
    let groups: BTreeSet<i32> = groups_of(leftovers).into_iter().filter(|group| *group > 1).collect();
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

fn is_dead(worker: Writer) -> bool {
    let Ok(pid) = i32::try_from(worker.pid) else { return true };
    !usage::of(pid)
        .is_ok_and(|usage| usage.started_at == worker.started_at && !matches!(usage.state, 'Z' | 'X'))
}

fn groups_of(leftovers: &[Leftover]) -> Vec<i32> {
    let mut groups = Vec::new();
    let mut searched = Vec::new();
    for leftover in leftovers {
        match leftover.group {
            Some((group, start)) if usage::of(group).is_ok_and(|leader| leader.started_at == start) => {
                groups.push(group);
            }
            _ => searched.push(format!("JOB_DELIVERY={}", leftover.delivery)),
        }
    }
    if !searched.is_empty() {
        groups.extend(groups_with(&searched));
    }
    groups
}

/// Groups of the processes that have one of these variables.
fn groups_with(variables: &[String]) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        // Those of other users cannot be read, and cannot be ours.
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variables.iter().any(|wanted| wanted.as_bytes() == variable))
    })
    .filter_map(|pid| usage::of(pid).ok())
    .map(|usage| usage.group)
    .collect()
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
