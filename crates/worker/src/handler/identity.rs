//! Names of jobs and deliveries towards handlers. Pure: time and random bytes are brought along.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use qfleet_model::job::Job;
use qfleet_model::time::WallTime;
use ring::digest;

/// The alphabet of delivery ids: digits and letters in the order of their bytes, without I, L, O and U.
const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The identity of a job over all its deliveries: `job_` and 22 characters.
#[must_use]
pub fn webhook_id(job: &Job) -> String {
    let format = job.format.to_string();
    let parts = [format.as_str(), &job.prefix, &job.queue, &job.identity_of, &job.created];
    let digest = digest::digest(&digest::SHA256, parts.join("\0").as_bytes());
    format!("job_{}", URL_SAFE_NO_PAD.encode(&digest.as_ref()[..16]))
}

/// A delivery id: 26 characters that sort by the millisecond `at`, then by `random`.
#[must_use]
pub fn delivery_id(at: WallTime, random: [u8; 10]) -> String {
    let millis = u128::try_from(at.as_millis()).unwrap_or(0) & 0xFFFF_FFFF_FFFF;
    let random = random.iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte));
    let value = millis << 80 | random;
    let character =
        |place: u32| char::from(CROCKFORD[usize::try_from(value >> (place * 5) & 31).unwrap_or(0)]);
    (0..26).rev().map(character).collect()
}

#[cfg(test)]
mod tests {
    use qfleet_model::job::{Format, History, JobLimits};

    use super::*;

    fn job(format: Format, prefix: &str, queue: &str, id: &str, created: &str) -> Job {
        Job {
            format,
            prefix: prefix.to_owned(),
            queue: queue.to_owned(),
            id: id.to_owned(),
            identity_of: id.to_owned(),
            created: created.to_owned(),
            created_at: None,
            name: String::new(),
            attempt: 1,
            payload: Vec::new(),
            limits: JobLimits::default(),
            history: History::default(),
            traceparent: None,
            tracestate: None,
            tags: Vec::new(),
        }
    }

    #[test]
    fn the_identities_of_the_contract() {
        let bullmq = job(Format::Bullmq, "bull", "campaigns", "8412", "1767225600000");
        assert_eq!(webhook_id(&bullmq), "job_szEVgbBjEovduKoVbkxYvA");
        let laravel =
            job(Format::Laravel, "", "messages", "6b1a1a0e-3c1d-4b7e-9d0f-0a4b8f0c2d11", "1767225600");
        assert_eq!(webhook_id(&laravel), "job__bq42d6eIo0XXvhVpM8YZg");
    }

    #[test]
    fn an_identity_does_not_change_with_the_attempt() {
        let first = job(Format::Laravel, "p", "q", "1", "");
        let later = Job { attempt: 7, payload: b"{}".to_vec(), ..first.clone() };
        assert_eq!(webhook_id(&first), webhook_id(&later));
        let other = Job { queue: "r".to_owned(), ..first.clone() };
        assert_ne!(webhook_id(&first), webhook_id(&other));
    }

    #[test]
    fn delivery_ids_are_known_values_and_sort_by_time() {
        assert_eq!(delivery_id(WallTime::from_millis(0), [0; 10]), "00000000000000000000000000");
        assert_eq!(
            delivery_id(WallTime::from_millis(281_474_976_710_655), [255; 10]),
            "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"
        );
        assert_eq!(
            delivery_id(WallTime::from_millis(1_469_918_176_385), [0; 10]),
            "01ARYZ6S410000000000000000"
        );
        let early = delivery_id(WallTime::from_millis(1_767_225_605_000), [255; 10]);
        let late = delivery_id(WallTime::from_millis(1_767_225_605_001), [0; 10]);
        assert!(early < late);
        assert_eq!(early.len(), 26);
    }
}
