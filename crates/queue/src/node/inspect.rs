//! What a person should know of a queue before a worker touches it: whether it is the other library's, of a version that
//! nobody has tested, or paused in a way that loses jobs. Only reads.

use qfleet_manifest::queue::Connection;
use qfleet_model::job::Format;

use super::bull::BULL;
use super::bullmq::BULLMQ;
use super::keys::Keys;
use crate::error::QueueError;
use crate::redis::{Link, Reply};

/// Something odd about a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Oddity {
    /// It will not be worked: why, and what to do.
    Unfit(String),
    /// It is worked, and this may still hurt: what, and what to do.
    Risk(String),
}

/// What a queue's keys say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Signs {
    /// `version` in its settings.
    version: Option<String>,
    /// Its settings have what only BullMQ writes there.
    settings_of_bullmq: bool,
    /// Ids were given out for jobs.
    has_ids: bool,
    /// As either library does it.
    paused: bool,
    /// As Bull does it.
    paused_as_bull: bool,
    /// Jobs in the list that a resume writes over.
    waiting: u64,
}

impl Signs {
    fn is_of_bull(&self) -> bool {
        self.paused_as_bull || (self.has_ids && !self.settings_of_bullmq)
    }
}

/// Looks at one queue of a Bull or BullMQ connection; queues of other families have nothing odd. `accepted` is a major
/// version that is worked untested.
///
/// # Errors
/// Any.
pub async fn inspect_queue(
    connection: &Connection,
    queue: &str,
    accepted: Option<u32>,
) -> Result<Vec<Oddity>, QueueError> {
    if connection.driver == Format::Laravel {
        return Ok(Vec::new());
    }
    let link = Link::for_commands(&connection.redis.at(&connection.queue_key(queue)))?;
    let base = Keys::new(&connection.prefix).base(queue);
    let mut meta = redis::cmd("HMGET");
    meta.arg(format!("{base}meta")).arg("version").arg("opts.maxLenEvents").arg("paused");
    let [version, events, paused] = Reply(link.call(&meta).await?).fields();
    let exists = async |key: &str| -> Result<bool, QueueError> {
        let reply = link.call(redis::cmd("EXISTS").arg(format!("{base}{key}"))).await?;
        Ok(Reply(reply).number::<u64>() == Some(1))
    };
    let waiting = Reply(link.call(redis::cmd("LLEN").arg(format!("{base}wait"))).await?);
    let version = version.bytes().map(|text| String::from_utf8_lossy(&text).into_owned());
    let paused_as_bull = exists("meta-paused").await?;
    let signs = Signs {
        settings_of_bullmq: version.is_some() || events.bytes().is_some(),
        version,
        has_ids: exists("id").await?,
        paused: paused_as_bull || paused.bytes().is_some(),
        paused_as_bull,
        waiting: waiting.number().unwrap_or_default(),
    };
    Ok(judge(connection.driver, queue, &base, &signs, accepted))
}

fn judge(driver: Format, queue: &str, base: &str, signs: &Signs, accepted: Option<u32>) -> Vec<Oddity> {
    let mut odd = Vec::new();
    match driver {
        Format::Bull if signs.settings_of_bullmq && accepted.is_none() => {
            odd.push(Oddity::Unfit((BULL.refusal)(queue, "foreign")));
        }
        Format::Bullmq if signs.is_of_bull() && accepted.is_none() => {
            odd.push(Oddity::Unfit((BULLMQ.refusal)(queue, "version bull")));
        }
        Format::Bullmq => {
            let untested = signs.version.as_deref().filter(|version| !is_worked(version, accepted));
            odd.extend(
                untested.map(|version| Oddity::Unfit((BULLMQ.refusal)(queue, &format!("version {version}")))),
            );
        }
        Format::Bull | Format::Laravel => {}
    }
    if signs.paused && signs.waiting > 0 {
        let whose = if driver == Format::Bull { "Bull" } else { "BullMQ 5" };
        odd.push(Oddity::Risk(format!(
            "`{queue}` is paused with {} jobs in `{base}wait`, and a resume by {whose} would destroy them: resume with \
             `qfleet resume`",
            signs.waiting
        )));
    }
    odd
}

/// The same as the script that takes jobs asks.
fn is_worked(version: &str, accepted: Option<u32>) -> bool {
    let number = version.strip_prefix("bullmq:").and_then(|number| number.split_once('.'));
    match number.and_then(|(major, _)| major.parse::<u32>().ok()).filter(|major| *major > 0) {
        Some(5 | 6) => true,
        Some(major) => accepted == Some(major),
        None => version.is_empty() || accepted.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unfit(driver: Format, signs: &Signs, accepted: Option<u32>) -> Vec<bool> {
        let odd = judge(driver, "mail", "bull:mail:", signs, accepted);
        odd.iter().map(|one| matches!(one, Oddity::Unfit(_))).collect()
    }

    fn of_bullmq(version: &str) -> Signs {
        let version = Some(version.to_owned());
        Signs { version, settings_of_bullmq: true, has_ids: true, ..Signs::default() }
    }

    #[test]
    fn each_library_is_told_from_the_other() {
        let bull = Signs { has_ids: true, ..Signs::default() };
        let paused = Signs { paused: true, paused_as_bull: true, ..Signs::default() };
        let old = Signs { settings_of_bullmq: true, has_ids: true, ..Signs::default() };
        for (signs, as_bull, as_bullmq) in [
            (Signs::default(), 0, 0),
            (bull, 0, 1),
            (paused, 0, 1),
            (old, 1, 0),
            (of_bullmq("bullmq:5.81.5"), 1, 0),
            (of_bullmq("bullmq:6.7.0"), 1, 0),
        ] {
            assert_eq!(unfit(Format::Bull, &signs, None).len(), as_bull, "{signs:?}");
            assert_eq!(unfit(Format::Bullmq, &signs, None).len(), as_bullmq, "{signs:?}");
            assert_eq!(unfit(Format::Bull, &signs, Some(5)).len(), 0, "worked all the same: {signs:?}");
            assert_eq!(unfit(Format::Bullmq, &signs, Some(5)).len(), 0, "worked all the same: {signs:?}");
        }
    }

    #[test]
    fn untested_versions_are_told_until_they_are_accepted() {
        for (version, accepted, count) in [
            ("bullmq:7.0.0", None, 1),
            ("bullmq:7.0.0", Some(7), 0),
            ("bullmq:7.0.0", Some(8), 1),
            ("other:1.2.3", None, 1),
            ("other:1.2.3", Some(1), 0),
        ] {
            assert_eq!(unfit(Format::Bullmq, &of_bullmq(version), accepted).len(), count, "{version}");
        }
    }

    #[test]
    fn jobs_that_a_resume_would_destroy_are_a_risk() {
        let trap = Signs { paused: true, waiting: 3, ..of_bullmq("bullmq:5.81.5") };
        assert_eq!(unfit(Format::Bullmq, &trap, None), [false]);
        assert_eq!(unfit(Format::Bullmq, &Signs { waiting: 0, ..trap.clone() }, None), [false; 0]);
        assert_eq!(unfit(Format::Bullmq, &Signs { paused: false, ..trap }, None), [false; 0]);
    }
}
