//! What each status means when the answer says nothing more: the table of the handler contract, row by row.

use std::time::Duration;

use qfleet_model::outcome::Scope;

use crate::handler::Health;

/// What to do with the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Complete,
    /// `heeds`: `Retry-After` counts, else the backoff.
    Retry {
        heeds: bool,
    },
    /// After `Retry-After` where it is heeded, else after this long.
    Snooze {
        after: Duration,
        heeds: bool,
        scope: Scope,
    },
    Fail {
        class: Option<&'static str>,
    },
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) meaning: Meaning,
    pub(super) health: Health,
    /// For people, where somebody should act.
    pub(super) warning: Option<&'static str>,
}

/// Settings that change rows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Switches {
    pub(super) fail_on_404: bool,
    pub(super) retry_on_4xx: bool,
}

/// The row of a status. `asked` is the time the answer asked to be left alone.
pub(super) fn row(status: u16, asked: Option<Duration>, switches: Switches) -> Row {
    use Meaning::{Complete, Fail, Retry, Snooze};
    let seconds = Duration::from_secs;
    let backoff = Retry { heeds: false };
    let fail = Fail { class: None };
    let later = |after: u64, heeds, scope| Snooze { after: seconds(after), heeds, scope };
    let (meaning, health) = match status {
        200..=299 => (Complete, Health::Good),
        300..=399 => (backoff, Health::Neutral),
        400 | 402 | 406 | 411 | 413 | 414 | 415 | 417 | 422 | 428 | 431 | 451 => (fail, Health::Neutral),
        401 | 403 | 407 | 419 => {
            (later(60, false, Scope::Endpoint), Health::TripAfter { after: 3, alert: "auth" })
        }
        404 if switches.fail_on_404 => (fail, Health::Neutral),
        404 | 405 => (backoff, Health::TripAfter { after: 5, alert: "misrouted" }),
        408 => (later(5, true, Scope::Job), Health::Neutral),
        409 | 423 => (later(30, true, Scope::Job), Health::Neutral),
        410 => (Fail { class: Some("gone") }, Health::TripAfter { after: 10, alert: "gone" }),
        421 => (later(0, false, Scope::Endpoint), Health::Neutral),
        424 => (backoff, Health::Neutral),
        425 => (later(1, false, Scope::Job), Health::Neutral),
        426 => (later(60, false, Scope::Endpoint), Health::Trip { alert: "protocol" }),
        429 => (later(10, true, Scope::Endpoint), Health::Hold(asked)),
        400..=499 if switches.retry_on_4xx => (backoff, Health::Neutral),
        400..=499 => (fail, Health::Neutral),
        501 | 505 => (fail, Health::Neutral),
        503 | 529 => (later(15, true, Scope::Endpoint), Health::Hold(asked)),
        521 | 522 | 523 | 525 | 526 => (later(15, false, Scope::Endpoint), Health::Failure),
        _ => (Retry { heeds: true }, Health::Failure),
    };
    let warning = match status {
        300..=399 => Some("redirect: the URL of the handler is wrong, or needs `redirect: same-origin`"),
        501 | 505 => {
            Some("alert: the receiver does not support this request; check the URL and the protocol")
        }
        _ => None,
    };
    Row { meaning, health, warning }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table() {
        use Meaning::{Complete, Fail, Retry, Snooze};
        let asked = Some(Duration::from_secs(90));
        let snooze = |after: u64, heeds, scope| Snooze { after: Duration::from_secs(after), heeds, scope };
        let trip_after = |after, alert| Health::TripAfter { after, alert };
        let rows: &[(&[u16], Meaning, Health)] = &[
            (&[200, 201, 202, 203, 204, 205, 206, 207, 299], Complete, Health::Good),
            (&[300, 301, 302, 303, 304, 307, 308], Retry { heeds: false }, Health::Neutral),
            (
                &[400, 402, 406, 411, 413, 414, 415, 417, 422, 428, 431, 451],
                Fail { class: None },
                Health::Neutral,
            ),
            (&[401, 403, 407, 419], snooze(60, false, Scope::Endpoint), trip_after(3, "auth")),
            (&[404, 405], Retry { heeds: false }, trip_after(5, "misrouted")),
            (&[408], snooze(5, true, Scope::Job), Health::Neutral),
            (&[409, 423], snooze(30, true, Scope::Job), Health::Neutral),
            (&[410], Fail { class: Some("gone") }, trip_after(10, "gone")),
            (&[421], snooze(0, false, Scope::Endpoint), Health::Neutral),
            (&[424], Retry { heeds: false }, Health::Neutral),
            (&[425], snooze(1, false, Scope::Job), Health::Neutral),
            (&[426], snooze(60, false, Scope::Endpoint), Health::Trip { alert: "protocol" }),
            (&[429], snooze(10, true, Scope::Endpoint), Health::Hold(asked)),
            (&[416, 418, 420, 444, 489, 499], Fail { class: None }, Health::Neutral),
            (&[500], Retry { heeds: true }, Health::Failure),
            (&[501, 505], Fail { class: None }, Health::Neutral),
            (&[502, 504, 520, 524, 530], Retry { heeds: true }, Health::Failure),
            (&[503, 529], snooze(15, true, Scope::Endpoint), Health::Hold(asked)),
            (&[521, 522, 523, 525, 526], snooze(15, false, Scope::Endpoint), Health::Failure),
            (&[506, 507, 508, 510, 511, 527, 599], Retry { heeds: true }, Health::Failure),
        ];
        for (statuses, meaning, health) in rows {
            for status in *statuses {
                let found = row(*status, asked, Switches::default());
                assert_eq!((found.meaning, &found.health), (*meaning, health), "{status}");
            }
        }
    }

    #[test]
    fn every_status_has_a_row_and_only_2xx_completes() {
        for status in 100..=999 {
            let complete = row(status, None, Switches::default()).meaning == Meaning::Complete;
            assert_eq!(complete, (200..=299).contains(&status), "{status}");
        }
    }

    #[test]
    fn switches_change_their_rows_only() {
        let changed = Switches { fail_on_404: true, retry_on_4xx: true };
        let differs = |status: &u16| row(*status, None, changed) != row(*status, None, Switches::default());
        let changed: Vec<u16> = (100..=599).filter(differs).collect();
        assert_eq!(changed.iter().filter(|status| **status < 416).copied().collect::<Vec<_>>(), [404, 412]);
        assert!([416, 418, 489, 499].iter().all(|status| changed.contains(status)));
        assert!([422, 405, 429, 500].iter().all(|status| !changed.contains(status)));
    }

    #[test]
    fn people_are_told_where_somebody_should_act() {
        for status in [302, 501, 505] {
            assert!(row(status, None, Switches::default()).warning.is_some(), "{status}");
        }
        assert_eq!(row(500, None, Switches::default()).warning, None);
    }
}
