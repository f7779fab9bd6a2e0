//! The delivery of the handler contract's worked example, for tests.

use std::sync::Arc;
use std::time::Duration;

use qfleet_model::job::{Format, History, Job, JobLimits};
use qfleet_model::time::WallTime;
use qfleet_queue::driver::Remark;
use tokio::sync::watch;

use super::{Delivery, GroupNote, Remarks};

#[derive(Debug)]
struct Unnoted;

impl GroupNote for Unnoted {
    fn set(&self, _: i32) {}
}

impl Remarks for Unnoted {
    fn add(&self, _: Remark) {}
}

/// With this payload; its cancel never comes.
pub(crate) fn delivery(payload: &[u8]) -> Delivery {
    let started_at = WallTime::from_seconds(1_767_225_605);
    Delivery {
        job: Job {
            format: Format::Bullmq,
            prefix: String::from("bull"),
            queue: String::from("campaigns"),
            id: String::from("8412"),
            identity_of: String::from("8412"),
            created: String::from("1767225600000"),
            created_at: Some(WallTime::from_seconds(1_767_225_600)),
            name: String::from("send"),
            attempt: 2,
            payload: payload.to_vec(),
            limits: JobLimits::default(),
            history: History { deliveries: 2, previous: Some(String::from("500")), ..History::default() },
            traceparent: None,
            tracestate: None,
            tags: Vec::new(),
        },
        identity: String::from("job_szEVgbBjEovduKoVbkxYvA"),
        id: String::from("01KDVDNEW8Q2ZC6V5T9W3E7RXG"),
        number: 3,
        tries: Some(5),
        timeout: Some(Duration::from_secs(60)),
        deadline: None,
        deadline_at: Some(started_at + Duration::from_secs(60)),
        started_at,
        cancel: watch::channel(None).1,
        group: Arc::new(Unnoted),
        remarks: Arc::new(Unnoted),
    }
}
