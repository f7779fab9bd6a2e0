//! The words and the rules: what a job, an attempt, a process and a fleet are, and what may happen to them.
//!
//! Nothing in this crate touches the outside: no I/O, no clock, no task, no randomness. Time and chance come in as
//! arguments, decisions go out as values, so every rule can be tested in microseconds and replayed from a seed.
//!
//! | Words | Rules |
//! | --- | --- |
//! | [`job`], [`outcome`], [`backoff`] | [`retry`]: from an outcome to a verdict |
//! | [`name`], [`start`], [`snapshot`] | [`process`]: the life of one process; [`rollout`], [`turns`]: a rolling restart, and who is replaced when; [`budget`]: how long the end may take; [`crash_loop`]: one worker on trial |
//! | [`command`], [`link`], [`frame`] | [`cron`], [`schedule`]: when a schedule runs |
//! | [`observation`], [`notice`], [`words`] | [`scale`]: how many workers a queue should have |

pub mod backoff;
pub mod budget;
pub mod command;
pub mod crash_loop;
pub mod cron;
pub mod frame;
pub mod job;
pub mod link;
pub mod name;
pub mod notice;
pub mod observation;
pub mod outcome;
pub mod process;
pub mod retry;
pub mod rollout;
pub mod scale;
pub mod schedule;
pub mod snapshot;
pub mod start;
pub mod time;
pub mod turns;
pub mod words;
