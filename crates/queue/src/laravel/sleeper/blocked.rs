//! The task behind a [`Sleeper`](super::Sleeper): makes the blocking call somebody wishes for, and calls it off.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::Value;
use tokio::sync::watch;

use super::{Shared, Wish};
use crate::error::QueueError;
use crate::redis::{ANSWERS_WITHIN, Live};

/// One blocking call lasts this long at most, so that silent middle boxes do not forget the connection.
const BLOCKS_FOR: Duration = Duration::from_secs(60);
/// A wish that is gone for this long is gone for good.
const GRACE: Duration = Duration::from_millis(20);
/// So often a call is called off before its connection is closed instead.
const UNBLOCKS: u32 = 10;
/// A key of a wrong type is tried again after this long.
const WRONG_FOR: Duration = Duration::from_secs(60);

/// Serves one wish after the other until the driver is gone.
pub(super) async fn sleep_for_ever(shared: Arc<Shared>) {
    let mut wishes = shared.wish.subscribe();
    let mut client = None;
    loop {
        let wish = wishes.borrow_and_update().clone();
        if wish.queues.is_none() {
            if shared.has_unused() {
                if tokio::time::timeout(GRACE, wishes.changed()).await.is_err() {
                    shared.give_back(&[]).await;
                }
            } else if wishes.changed().await.is_err() {
                return;
            }
            continue;
        }
        shared.give_back(wish.queues.as_deref().unwrap_or_default()).await;
        if let Err(error) = shared.sleep(&wish, &mut wishes, &mut client).await {
            shared.state().fault = Some(error);
            shared.changed.notify_waiters();
            // Whoever waits gets the error, stops waiting, and comes again when it likes.
            let _ = wishes.wait_for(|now| now.queues.is_none() || now.epoch != wish.epoch).await;
        }
    }
}

/// How a blocking call ended.
enum Ended {
    Answered(redis::RedisResult<Value>),
    Unwanted,
    Renewed,
}

impl Shared {
    /// One blocking call on behalf of `wish`.
    async fn sleep(
        &self,
        wish: &Wish,
        wishes: &mut watch::Receiver<Wish>,
        client: &mut Option<i64>,
    ) -> Result<(), QueueError> {
        let queues = self.usable(wish);
        if queues.is_empty() {
            let _ = wishes.changed().await;
            return Ok(());
        }
        let (mut live, new) = self.link.live_or_new().await?;
        if new {
            *client = self.number(&mut live).await;
        }
        let mut command = redis::cmd("BLPOP");
        for queue in &queues {
            command.arg(&self.lists[*queue]);
        }
        command.arg(BLOCKS_FOR.as_secs());
        let mut connection = live.connection.clone();
        let call = command.query_async::<Value>(&mut connection);
        tokio::pin!(call);
        let answer = match wanted(call.as_mut(), wish, wishes).await {
            Ended::Answered(answer) => answer,
            Ended::Renewed => {
                self.link.drop_connection(&live).await;
                return Ok(());
            }
            Ended::Unwanted => match self.call_off(*client, call).await {
                Some(answer) => answer,
                None => {
                    self.link.drop_connection(&live).await;
                    return Ok(());
                }
            },
        };
        match answer {
            Ok(Value::Array(pair)) => {
                self.woken(&queues, pair.first());
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("WRONGTYPE") => self.find_wrong(&queues).await,
            Err(error) => Err(self.link.failed(&live, &error).await),
        }
    }

    fn usable(&self, wish: &Wish) -> Vec<usize> {
        let mut state = self.state();
        state.wrong.retain(|_, since| since.elapsed() < WRONG_FOR);
        let queues = wish.queues.iter().flatten();
        queues.copied().filter(|queue| !state.wrong.contains_key(queue)).collect()
    }

    /// The number of the connection, by which its blocking call can be called off.
    async fn number(&self, live: &mut Live) -> Option<i64> {
        let mut id = redis::cmd("CLIENT");
        id.arg("ID");
        let id = id.query_async(&mut live.connection);
        // A user without the right to ask closes the connection instead.
        tokio::time::timeout(ANSWERS_WITHIN, id).await.ok()?.ok()
    }

    /// Ends the blocking call early; what it answered, or `None` when only closing the connection can end it.
    async fn call_off(
        &self,
        client: Option<i64>,
        mut call: impl Future<Output = redis::RedisResult<Value>> + Unpin,
    ) -> Option<redis::RedisResult<Value>> {
        let mut command = redis::cmd("CLIENT");
        command.arg("UNBLOCK").arg(client?);
        for _ in 0..UNBLOCKS {
            // The call travels on another connection, and may not have arrived yet when this does.
            self.commands.call(&command).await.ok()?;
            if let Ok(answer) = tokio::time::timeout(GRACE, &mut call).await {
                return Some(answer);
            }
        }
        None
    }

    fn woken(&self, queues: &[usize], list: Option<&Value>) {
        let Some(Value::BulkString(list)) = list else { return };
        let queue = queues.iter().find(|queue| self.lists[**queue].as_bytes() == list);
        if let Some(queue) = queue {
            *self.state().woken.entry(*queue).or_default() += 1;
            self.changed.notify_waiters();
        }
    }

    fn has_unused(&self) -> bool {
        !self.state().woken.is_empty()
    }

    /// Puts unused wake-ups back into Redis, but for those of queues somebody waits for: another process may have use
    /// for them.
    async fn give_back(&self, except: &[usize]) {
        let unused: Vec<(usize, u32)> = {
            let mut state = self.state();
            let mut unused = Vec::new();
            state.woken.retain(|queue, count| {
                let keep = except.contains(queue);
                if !keep {
                    unused.push((*queue, *count));
                }
                keep
            });
            unused
        };
        for (queue, count) in unused {
            let mut command = redis::cmd("RPUSH");
            command.arg(&self.lists[queue]);
            for _ in 0..count {
                command.arg("1");
            }
            // Lost with the connection, it costs others one look at the clock.
            let _ = self.commands.call(&command).await;
        }
    }

    async fn find_wrong(&self, queues: &[usize]) -> Result<(), QueueError> {
        for queue in queues {
            let mut command = redis::cmd("TYPE");
            command.arg(&self.lists[*queue]);
            let kind = self.commands.call(&command).await?;
            if !matches!(&kind, Value::SimpleString(kind) if kind == "list" || kind == "none") {
                self.state().wrong.insert(*queue, Instant::now());
            }
        }
        Ok(())
    }
}

/// Waits for the answer as long as somebody wants it.
async fn wanted(
    mut call: impl Future<Output = redis::RedisResult<Value>> + Unpin,
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
            () = tokio::time::sleep(GRACE), if now.queues.is_none() => return Ended::Unwanted,
        }
    }
}
