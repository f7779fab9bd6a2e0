//! How many processes: a number, or two with what decides between them; and what several groups share.

use std::time::Duration;

use qfleet_model::scale::{Rule, Target};

use crate::keys;
use crate::section::Section;
use crate::value::Value;
use crate::written::process::MOST_PROCESSES;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// A backlog should take no longer than this.
const TIME: Target = Target::Time(Duration::from_secs(30));
const COOLDOWN: Duration = Duration::from_secs(60);
const STEP: u32 = 5;
const EVERY: Duration = Duration::from_secs(5);

/// `numprocs`, as one number or as two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numprocs {
    /// So many.
    Fixed(u32),
    /// As many as it takes.
    Between {
        /// At least.
        min: u32,
        /// At most.
        max: u32,
    },
}

impl Numprocs {
    /// How many there are before anybody knows better.
    pub(crate) const fn first(self) -> u32 {
        match self {
            Self::Fixed(count) | Self::Between { min: count, .. } => count,
        }
    }

    /// What the number follows; none when there is nothing to choose.
    pub(crate) fn rule(self, scale: &ScaleWritten) -> Option<Rule> {
        let Self::Between { min, max } = self else { return None };
        (min < max).then(|| Rule {
            min,
            max,
            target: scale.target.unwrap_or(TIME),
            cooldown: scale.cooldown.unwrap_or(COOLDOWN),
            step: scale.step.unwrap_or(STEP),
            every: scale.every.unwrap_or(EVERY),
            budget: None,
        })
    }
}

/// What is said under `scale`; the rest comes from the layer below.
#[derive(Debug, Clone, Default)]
pub(crate) struct ScaleWritten {
    target: Option<Target>,
    cooldown: Option<Duration>,
    step: Option<u32>,
    every: Option<Duration>,
}

impl ScaleWritten {
    /// This layer over another.
    #[must_use]
    pub(crate) fn over(self, below: &Self) -> Self {
        Self {
            target: self.target.or(below.target),
            cooldown: self.cooldown.or(below.cooldown),
            step: self.step.or(below.step),
            every: self.every.or(below.every),
        }
    }
}

/// `scalable`: whether anybody can know how much these processes have to do.
pub(crate) fn read_numprocs(value: &Value<'_>, scalable: bool) -> Option<Numprocs> {
    if !value.is_map() {
        return value.number(1..=MOST_PROCESSES).map(Numprocs::Fixed);
    }
    if !scalable {
        value.problem_with_hint(
            "a program has one number of processes: nobody knows how much it has to do",
            "write one number; queues and pools can have `{min, max}`",
        );
        return None;
    }
    let section = value.section(&keys::NUMPROCS)?;
    for key in ["min", "max"].into_iter().filter(|key| section.get(key).is_none()) {
        section.missing(key, "like `numprocs: {min: 1, max: 10}`, or write one number");
    }
    let min = section.read("min", read_min);
    let max = section.read("max", |value| value.number(1..=MOST_PROCESSES));
    let (min, max) = (min?, max?);
    if min > max {
        value.problem(format!("`min` {min} is above `max` {max}"));
        return None;
    }
    Some(Numprocs::Between { min, max })
}

fn read_min(value: &Value<'_>) -> Option<u32> {
    if value.written() == "0" {
        value.problem_with_hint(
            "must be at least 1: without a worker nobody hears of a job, makes delayed ones ready, or finds those of a lost host",
            "an idle worker costs less than 3 MiB; several rare queues can share one in a pool",
        );
        return None;
    }
    value.number(1..=MOST_PROCESSES)
}

pub(crate) fn read(value: &Value<'_>) -> Option<ScaleWritten> {
    let section = value.section(&keys::SCALE)?;
    let target = match section.one_of(["time", "size"]) {
        Some(("size", value)) => value.number(1..=1_000_000_000).map(Target::Size),
        Some((_, value)) => value.duration(Duration::from_secs(1)..=DAY).map(Target::Time),
        None => None,
    };
    Some(ScaleWritten {
        target,
        cooldown: section.read("cooldown", |value| value.duration(Duration::ZERO..=DAY)),
        step: section.read("step", |value| value.number(1..=MOST_PROCESSES)),
        every: section.read("every", |value| value.duration(Duration::from_secs(1)..=HOUR)),
    })
}

/// A maximum that several queues share.
pub(crate) struct BudgetWritten<'c> {
    pub(crate) max: u32,
    /// Queues and pools with their places, since they must exist.
    pub(crate) queues: Vec<(String, Value<'c>)>,
}

pub(crate) fn read_budget<'c>(value: &Value<'c>) -> Option<BudgetWritten<'c>> {
    let section = value.section(&keys::BUDGET)?;
    for (key, hint) in [
        ("max", "how many processes its queues may have together, like `max: 20`"),
        ("queues", "who shares them: `queues: [a, b]`, queues or pools"),
    ] {
        if section.get(key).is_none() {
            section.missing(key, hint);
        }
    }
    let members = section.read("queues", Value::list).unwrap_or_default();
    let queues = members.into_iter().filter_map(|member| Some((member.line()?, member))).collect();
    Some(BudgetWritten { max: read_max(&section)?, queues })
}

fn read_max(section: &Section<'_>) -> Option<u32> {
    section.read("max", |value| value.number(1..=MOST_PROCESSES * 100))
}
