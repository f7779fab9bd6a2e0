//! Ends what a dead worker's shell jobs left running, and nobody else.
//!
//! Numbers of processes are reused. A group is taken for ours when its leader started at the noted tick; or, when the
//! leader is gone, for those of its members that started no earlier and carry a job's environment. While a group has
//! members its number cannot be given to a new process.

use std::time::Duration;

use qfleet_os::{signal, usage};
use tracing::warn;

/// Killed processes are gone within this time, or stuck in the kernel.
const PATIENCE: Duration = Duration::from_secs(5);
const KILL: i32 = 9;

/// Kills the groups of a dead worker that are still alive, and waits until they are gone.
pub(crate) async fn end(groups: &[(i32, u64)]) {
    let alive: Vec<i32> =
        groups.iter().filter(|(group, start)| is_ours(*group, *start)).map(|(group, _)| *group).collect();
    for group in &alive {
        // Gone in between is as good.
        let _ = signal::send_group(*group, KILL);
    }
    for group in alive {
        let gone = tokio::time::timeout(PATIENCE, until_empty(group)).await;
        if gone.is_err() {
            warn!(group, "processes of a dead worker's job do not end; the job is given back all the same");
        }
    }
}

fn is_ours(group: i32, started_at: u64) -> bool {
    match usage::of(group) {
        Ok(leader) => leader.started_at == started_at,
        Err(_) => usage::group_members(group).is_ok_and(|members| {
            members.iter().any(|member| {
                usage::of(*member).is_ok_and(|usage| usage.started_at >= started_at) && is_a_job(*member)
            })
        }),
    }
}

fn is_a_job(pid: i32) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(b"JOB_CONTRACT="))
}

async fn until_empty(group: i32) {
    let mut pause = Duration::from_millis(1);
    while usage::group_members(group).is_ok_and(|members| !members.is_empty()) {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn shell(script: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("JOB_CONTRACT", "1").process_group(0);
        command.stdin(Stdio::null()).spawn().unwrap()
    }

    fn run(groups: &[(i32, u64)]) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(end(groups));
    }

    #[test]
    fn a_job_that_was_left_is_ended_with_its_children() {
        let mut child = shell("sleep 60 & sleep 60");
        let group = i32::try_from(child.id()).unwrap();
        let start = usage::of(group).unwrap().started_at;
        run(&[(group, start)]);
        assert_eq!(child.wait().unwrap().signal(), Some(KILL));
        assert!(usage::group_members(group).unwrap().is_empty());
    }

    #[test]
    fn children_of_a_leader_that_is_gone_are_ended() {
        let mut child = shell("sleep 60 & true");
        let group = i32::try_from(child.id()).unwrap();
        let start = usage::of(group).unwrap().started_at;
        child.wait().unwrap();
        assert_eq!(usage::group_members(group).unwrap().len(), 1);
        run(&[(group, start)]);
        assert!(usage::group_members(group).unwrap().is_empty());
    }

    #[test]
    fn a_stranger_with_the_same_number_lives() {
        let mut stranger = shell("sleep 60");
        let group = i32::try_from(stranger.id()).unwrap();
        let start = usage::of(group).unwrap().started_at;
        run(&[(group, start - 1)]);
        assert!(stranger.try_wait().unwrap().is_none());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}
