//! A rolling restart: who is next, and when to halt.
//!
//! The processes of a group are replaced one batch after the other (one by one unless somebody asked for more), so that
//! never more of those that should be up are missing. A process that is not up costs nothing and is replaced (or started)
//! at once. When a replacement fails to become ready, the rollout halts and the others keep running as they are. The fleet
//! owns a [`Rollout`] per group, shows it how the group stands after each event, carries out the turns it names, and gives
//! it a turn for a process that is up when [`crate::turns`] says so.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::snapshot::StateWord;

/// A process whose replacement failed to start this often in a row halts the rollout.
const FAILED_STARTS: u32 = 2;

/// One process of the group, as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Which one.
    pub process: u32,
    /// Its state.
    pub state: StateWord,
    /// Counts its children; changes with each one spawned.
    pub incarnation: u32,
    /// Starts that failed since it was up last.
    pub failed_starts: u32,
    /// It should be up: not stopped by an operator, not leaving, not given up.
    pub wanted: bool,
}

/// How many more processes that are up may be taken away now, when this many may be missing.
#[must_use]
pub fn room(standings: &[Standing], batch: usize) -> usize {
    let missing = |standing: &&Standing| standing.wanted && standing.state != StateWord::Running;
    batch.saturating_sub(standings.iter().filter(missing).count())
}

/// Whether it fails to start again and again, or has been given up.
#[must_use]
pub fn does_not_come_up(standing: &Standing) -> bool {
    let fails = matches!(standing.state, StateWord::Backoff | StateWord::Starting);
    standing.state == StateWord::Fatal || (fails && standing.failed_starts >= FAILED_STARTS)
}

/// What became of one process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// Which one.
    pub process: u32,
    /// Why it was not replaced; `None`: it was.
    pub problem: Option<String>,
}

/// A rolling restart under way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rollout {
    /// How many may be missing at once.
    batch: usize,
    todo: VecDeque<Turn>,
    busy: Vec<Turn>,
    done: Vec<Replaced>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Turn {
    process: u32,
    /// Its incarnation when the rollout began; a later one is a replacement, whoever asked for it.
    old: u32,
}

impl Rollout {
    /// A rollout of these processes, each given with its present incarnation, in this order; `batch` of them may be missing
    /// at once.
    #[must_use]
    pub fn new(processes: impl IntoIterator<Item = (u32, u32)>, batch: usize) -> Self {
        let todo = processes.into_iter().map(|(process, old)| Turn { process, old }).collect();
        Self { batch: batch.max(1), todo, busy: Vec::new(), done: Vec::new() }
    }

    /// How many may be missing at once.
    #[must_use]
    pub const fn batch(&self) -> usize {
        if self.batch == 0 { 1 } else { self.batch }
    }

    /// Takes note of how the group stands and names the processes to replace at once, because they are not up. To be called
    /// again after the turns were carried out and after every change, until [`Rollout::is_over`].
    pub fn step(&mut self, standings: &[Standing]) -> Vec<u32> {
        self.look_at_busy(standings);
        self.turns_of_the_down(standings)
    }

    /// The process that is up and next, if the group can spare one.
    #[must_use]
    pub fn next(&self, standings: &[Standing]) -> Option<u32> {
        if room(standings, self.batch()) == 0 {
            return None;
        }
        self.todo.front().map(|turn| turn.process)
    }

    /// It is this one's turn.
    pub fn begin(&mut self, process: u32) {
        if let Some(at) = self.todo.iter().position(|turn| turn.process == process) {
            self.busy.extend(self.todo.remove(at));
        }
    }

    fn look_at_busy(&mut self, standings: &[Standing]) {
        let mut failed = None;
        let done = &mut self.done;
        self.busy.retain(|turn| {
            let problem = match outcome(*turn, standings) {
                Outcome::UnderWay => return true,
                Outcome::Replaced => None,
                Outcome::Skipped(why) => Some(why.to_owned()),
                Outcome::Failed => {
                    failed = Some(turn.process);
                    Some("the new process does not become ready".to_owned())
                }
            };
            done.push(Replaced { process: turn.process, problem });
            false
        });
        if failed.is_some() {
            self.give_up_the_rest("not restarted: an earlier replacement does not become ready");
        }
    }

    fn turns_of_the_down(&mut self, standings: &[Standing]) -> Vec<u32> {
        let mut turns = Vec::new();
        let mut later = VecDeque::new();
        for turn in std::mem::take(&mut self.todo) {
            let standing = find(standings, turn.process);
            match standing.map(|standing| (standing.state, standing.incarnation > turn.old)) {
                // It has been, or is being, replaced for another reason.
                None | Some((_, true)) => self.busy.push(turn),
                Some((StateWord::Running, false)) => later.push_back(turn),
                // It ends anyway: what follows shows when it has.
                Some((StateWord::Stopping, false)) => self.busy.push(turn),
                Some((_, false)) => {
                    turns.push(turn.process);
                    self.busy.push(turn);
                }
            }
        }
        self.todo = later;
        turns
    }

    /// Ends the rollout; processes whose turn has not come stay as they are.
    pub fn halt(&mut self, why: &str) {
        self.give_up_the_rest(why);
        self.done.extend(
            self.busy.drain(..).map(|turn| Replaced { process: turn.process, problem: Some(why.to_owned()) }),
        );
    }

    fn give_up_the_rest(&mut self, why: &str) {
        self.done.extend(
            self.todo.drain(..).map(|turn| Replaced { process: turn.process, problem: Some(why.to_owned()) }),
        );
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.todo.is_empty() && self.busy.is_empty()
    }

    /// Whether this process still has its turn to come or is being replaced.
    #[must_use]
    pub fn covers(&self, process: u32) -> bool {
        self.todo.iter().chain(&self.busy).any(|turn| turn.process == process)
    }

    /// What became of each process so far.
    #[must_use]
    pub fn results(&self) -> &[Replaced] {
        &self.done
    }

    /// How far it is, in words: `2 of 5 replaced`.
    #[must_use]
    pub fn progress(&self) -> String {
        let all = self.todo.len() + self.busy.len() + self.done.len();
        let replaced = self.done.iter().filter(|replaced| replaced.problem.is_none()).count();
        format!("{replaced} of {all} replaced")
    }
}

enum Outcome {
    UnderWay,
    Replaced,
    Skipped(&'static str),
    Failed,
}

fn outcome(turn: Turn, standings: &[Standing]) -> Outcome {
    let Some(standing) = find(standings, turn.process) else { return Outcome::Skipped("removed") };
    let is_new = standing.incarnation > turn.old;
    if does_not_come_up(standing) {
        return Outcome::Failed;
    }
    match standing.state {
        StateWord::Running if is_new => Outcome::Replaced,
        // It ran and is through with it, as programs without autorestart are.
        StateWord::Exited if is_new => Outcome::Replaced,
        StateWord::Stopped => Outcome::Skipped("stopped meanwhile"),
        StateWord::Running
        | StateWord::Starting
        | StateWord::Backoff
        | StateWord::Stopping
        | StateWord::Exited
        | StateWord::Fatal
        | StateWord::Unknown => Outcome::UnderWay,
    }
}

fn find(standings: &[Standing], process: u32) -> Option<&Standing> {
    standings.iter().find(|standing| standing.process == process)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(states: &[StateWord]) -> Vec<Standing> {
        let numbered = (0..).zip(states);
        numbered
            .map(|(process, state)| Standing {
                process,
                state: *state,
                incarnation: 1,
                failed_starts: 0,
                wanted: true,
            })
            .collect()
    }

    fn running(count: usize) -> Vec<Standing> {
        group(&vec![StateWord::Running; count])
    }

    fn all(standings: &[Standing]) -> Rollout {
        in_batches(standings, 1)
    }

    fn in_batches(standings: &[Standing], batch: usize) -> Rollout {
        Rollout::new(standings.iter().map(|standing| (standing.process, standing.incarnation)), batch)
    }

    /// Every turn there is now, as a fleet gives them that has nothing else to do.
    fn turns(rollout: &mut Rollout, standings: &mut [Standing]) -> Vec<u32> {
        let mut turns = rollout.step(standings);
        let before = standings.to_vec();
        for turn in &turns {
            let standing = standings.iter_mut().find(|standing| standing.process == *turn);
            standing.into_iter().for_each(|standing| standing.wanted = true);
        }
        while let Some(next) = rollout.next(standings) {
            rollout.begin(next);
            turns.push(next);
            let standing = standings.iter_mut().find(|standing| standing.process == next);
            standing.into_iter().for_each(|standing| standing.state = StateWord::Stopping);
        }
        standings.clone_from_slice(&before);
        turns
    }

    /// What a turn makes of a process, then what its life makes of it.
    fn become_state(standing: &mut Standing, state: StateWord) {
        if state == StateWord::Starting {
            standing.incarnation += 1;
        }
        standing.state = state;
    }

    #[test]
    fn one_after_the_other_and_each_waits_for_the_one_before() {
        let mut group = running(3);
        let mut rollout = all(&group);
        for number in 0..3 {
            assert_eq!(turns(&mut rollout, &mut group), [number]);
            let at = number as usize;
            for state in [StateWord::Stopping, StateWord::Starting] {
                become_state(&mut group[at], state);
                assert_eq!(turns(&mut rollout, &mut group), [0; 0]);
                assert!(!rollout.is_over());
            }
            become_state(&mut group[at], StateWord::Running);
        }
        assert_eq!(turns(&mut rollout, &mut group), [0; 0]);
        assert!(rollout.is_over());
        assert!(rollout.results().iter().all(|replaced| replaced.problem.is_none()));
        assert_eq!(rollout.progress(), "3 of 3 replaced");
    }

    #[test]
    fn a_batch_is_missing_at_once_and_no_more() {
        let mut group = running(5);
        let mut rollout = in_batches(&group, 2);
        assert_eq!(turns(&mut rollout, &mut group), [0, 1]);
        for at in [0, 1] {
            become_state(&mut group[at], StateWord::Starting);
        }
        assert_eq!(turns(&mut rollout, &mut group), [0; 0]);
        group[1].state = StateWord::Running;
        assert_eq!(turns(&mut rollout, &mut group), [2], "as many as were missing");
    }

    #[test]
    fn what_is_not_up_is_replaced_at_once_and_what_crashed_meanwhile_need_not_be() {
        let mut group =
            group(&[StateWord::Running, StateWord::Fatal, StateWord::Backoff, StateWord::Running]);
        group[1].wanted = false;
        let mut rollout = all(&group);
        assert_eq!(turns(&mut rollout, &mut group), [1, 2], "the first waits until the third is up");
        become_state(&mut group[1], StateWord::Starting);
        become_state(&mut group[2], StateWord::Starting);
        become_state(&mut group[3], StateWord::Starting);
        group[1].wanted = true;
        assert_eq!(turns(&mut rollout, &mut group), [0; 0]);
        for standing in &mut group[1..] {
            standing.state = StateWord::Running;
        }
        assert_eq!(turns(&mut rollout, &mut group), [0], "the crashed one is new already");
        become_state(&mut group[0], StateWord::Starting);
        become_state(&mut group[0], StateWord::Running);
        turns(&mut rollout, &mut group);
        assert!(rollout.is_over());
        assert_eq!(rollout.progress(), "4 of 4 replaced");
    }

    #[test]
    fn a_replacement_that_does_not_become_ready_halts_the_rollout() {
        for (state, failed_starts) in [(StateWord::Fatal, 0), (StateWord::Backoff, 2)] {
            let mut group = running(3);
            let mut rollout = all(&group);
            assert_eq!(turns(&mut rollout, &mut group), [0]);
            become_state(&mut group[0], StateWord::Starting);
            become_state(&mut group[0], StateWord::Backoff);
            group[0].failed_starts = 1;
            assert_eq!(turns(&mut rollout, &mut group), [0; 0]);
            assert!(!rollout.is_over(), "one failure is not the end");
            group[0].state = state;
            group[0].failed_starts = failed_starts;
            group[0].wanted = state != StateWord::Fatal;
            assert_eq!(turns(&mut rollout, &mut group), [0; 0]);
            assert!(rollout.is_over());
            assert!(rollout.results().iter().all(|replaced| replaced.problem.is_some()));
            assert_eq!(rollout.results().len(), 3);
        }
    }

    #[test]
    fn stopped_and_removed_processes_do_not_hold_it_up() {
        let mut group = running(2);
        let mut rollout = all(&group);
        assert_eq!(turns(&mut rollout, &mut group), [0]);
        group[0].state = StateWord::Stopped;
        group[0].wanted = false;
        assert_eq!(turns(&mut rollout, &mut group), [1]);
        group.pop();
        turns(&mut rollout, &mut group);
        assert!(rollout.is_over());
        let problems: Vec<_> = rollout.results().iter().filter_map(|done| done.problem.as_deref()).collect();
        assert_eq!(problems, ["stopped meanwhile", "removed"]);
    }

    #[test]
    fn a_halted_rollout_names_what_it_left() {
        let mut group = running(2);
        let mut rollout = all(&group);
        turns(&mut rollout, &mut group);
        rollout.halt("the daemon is shutting down");
        assert!(rollout.is_over());
        assert_eq!(rollout.results().len(), 2);
    }
}
