//! A call that lasts as long as somebody wants it.

use std::time::Duration;

use redis::{RedisResult, Value};
use tokio::sync::watch;

use super::wish::Wish;

/// What nobody has asked for this long after it came is for others.
pub(super) const GRACE: Duration = Duration::from_millis(20);
/// A wish that is gone for this long is gone for good. Between two equal ones lies a turn, which on a distant server takes
/// most of it; calling off and calling again would triple what an idle worker sends.
const LINGERS: Duration = Duration::from_millis(250);

/// How a blocking call ended.
pub(super) enum Ended {
    /// By itself.
    Answered(RedisResult<Value>),
    /// Nobody wants it any more, or somebody wants another one.
    Unwanted,
    /// Its connection is not to be trusted.
    Renewed,
}

/// Waits for the answer as long as somebody wants it.
pub(super) async fn wanted(
    mut call: impl Future<Output = RedisResult<Value>> + Unpin,
    wish: &Wish,
    wishes: &mut watch::Receiver<Wish>,
) -> Ended {
    loop {
        let now = wishes.borrow_and_update().clone();
        if now.epoch != wish.epoch {
            return Ended::Renewed;
        }
        // Another wish has to be served at once; none may be followed by the same one.
        if now.queues.is_some() && now.queues != wish.queues {
            return Ended::Unwanted;
        }
        tokio::select! {
            answer = &mut call => return Ended::Answered(answer),
            changed = wishes.changed() => if changed.is_err() { return Ended::Renewed },
            () = tokio::time::sleep(LINGERS), if now.queues.is_none() => return Ended::Unwanted,
        }
    }
}
