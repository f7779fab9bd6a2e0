//! Sleeping with an ear on what Bull publishes.
//!
//! Bull itself blocks on one queue's list, and moves the job it gets while it is nobody's. A message moves nothing; see
//! `docs/decisions` for what that costs.

use qfleet_model::time::WallTime;

use crate::error::QueueError;
use crate::node::library::Bed;
use crate::redis::{Address, Channels, Message, Sleeper, Subscribed, pattern};

/// Channels after which a queue has jobs, each followed by who speaks: added and promoted ones, and stalled ones on their
/// way back.
const SPOKEN: [&str; 2] = ["waiting@", "stalled@"];
/// The same, in full.
const RESUMED: &str = "resumed";
/// The same, from our own workers, beside the queue's channels: Bull says nothing of jobs that are to run again at once.
const OURS: &str = "@qfleet";
/// Tells when a delayed job is due, in milliseconds since 1970.
const DELAYED: &str = "delayed";

/// Wakes for every message that tells of a job.
pub(super) fn sleeper(bed: Bed<'_>) -> Result<Sleeper, QueueError> {
    Ok(Sleeper::new(Subscribed::<Bull>::new(Address::new(bed.redis)?, bed.bases, bed.name)))
}

/// Why nothing wakes the worker of this queue.
pub(super) fn sleepless(base: &str) -> String {
    format!(
        "messages on `{base}*` cannot be heard, so new jobs are only found every `sleep`: that takes Redis 6 or later, \
         and the right to subscribe to them"
    )
}

#[derive(Debug)]
struct Bull;

impl Channels for Bull {
    fn patterns(bases: &[String]) -> Vec<String> {
        let of_queue = |base: &String| {
            let (base, ours) = (pattern(base), pattern(&of_ours(base)));
            let spoken = SPOKEN.map(|channel| format!("{base}{channel}*"));
            let said = [RESUMED, DELAYED].map(|channel| format!("{base}{channel}"));
            spoken.into_iter().chain(said).chain([ours]).collect::<Vec<_>>()
        };
        bases.iter().flat_map(of_queue).collect()
    }

    fn read(bases: &[String], message: &Message) -> Option<(usize, Option<WallTime>)> {
        bases.iter().enumerate().find_map(|(queue, base)| {
            if message.channel == of_ours(base) {
                return Some((queue, None));
            }
            let channel = message.channel.strip_prefix(base.as_str())?;
            if channel == DELAYED {
                // Rounded up: a date one millisecond early would be looked at twice.
                let due = message.text.parse::<f64>().ok()?.ceil();
                return Some((queue, Some(WallTime::from_millis(due as i64))));
            }
            let ready = channel == RESUMED || SPOKEN.iter().any(|start| channel.starts_with(start));
            ready.then_some((queue, None))
        })
    }
}

fn of_ours(base: &str) -> String {
    format!("{}{OURS}", base.trim_end_matches(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(channel: &str, text: &str) -> Option<(usize, Option<i64>)> {
        let bases = [String::from("bull:a:"), String::from("bull:a:b:")];
        let message = Message { channel: channel.into(), text: text.into() };
        Bull::read(&bases, &message).map(|(queue, due)| (queue, due.map(WallTime::as_millis)))
    }

    #[test]
    fn messages_tell_of_the_right_queue() {
        assert_eq!(heard("bull:a:waiting@6cd0", "7"), Some((0, None)));
        assert_eq!(heard("bull:a:b:waiting@6cd0", "7"), Some((1, None)));
        assert_eq!(heard("bull:a:stalled@", "7"), Some((0, None)));
        assert_eq!(heard("bull:a:b:resumed", "resumed"), Some((1, None)));
        assert_eq!(heard("bull:a:b@qfleet", ""), Some((1, None)));
        assert_eq!(heard("bull:a:delayed", "1700000000000.25"), Some((0, Some(1_700_000_000_001))));
        assert_eq!(heard("bull:a:delayed", "soon"), None);
        assert_eq!(heard("bull:a:active@6cd0", "7"), None);
        assert_eq!(heard("bull:ab:waiting@6cd0", "7"), None);
    }

    #[test]
    fn letters_that_mean_something_in_patterns_are_taken_as_they_are() {
        assert_eq!(Bull::patterns(&["b[1]:a*:".into()])[0], "b\\[1\\]:a\\*:waiting@*");
    }
}
