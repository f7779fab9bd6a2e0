//! Sleeping in a blocking call, which takes wake-ups out of keys.
//!
//! The call goes on for a short while after its waiter has left, in case the same wish comes again (it does after every
//! turn), and is then called off, so that it does not take wake-ups from other workers that could use them. Those it took
//! and no turn used are put back into Redis.

use std::time::Duration;

use async_trait::async_trait;
use qfleet_model::time::WallTime;
use redis::{Cmd, Value};
use tokio::sync::watch;

use super::call::{Ended, GRACE, wanted};
use super::wish::Wish;
use super::{Board, Desk, News, Source};
use crate::error::QueueError;
use crate::redis::ear::call_it;
use crate::redis::{ANSWERS_WITHIN, Link, Live, Reply};

/// One blocking call lasts this long at most. The system keeps the connection alive meanwhile, and whoever waits looks into
/// the queues much more often, and so notices when the server is gone.
const BLOCKS_FOR: Duration = Duration::from_secs(300);
/// The limit for an answer on such a connection: longer than a blocking call.
pub(crate) const BLOCKED_ANSWERS_WITHIN: Duration = Duration::from_secs(305);
/// So often a call is called off before its connection is closed instead.
const UNBLOCKS: u32 = 10;

/// What a family of queues keeps wake-ups in.
pub(crate) trait Wakeups: std::fmt::Debug + Send + Sync + 'static {
    /// The blocking command: its arguments are keys and then seconds.
    const COMMAND: &'static str;
    /// What Redis calls the type of the keys.
    const KIND: &'static str;

    /// The key a wake-up was taken from, and its date if it is for later.
    fn read(popped: Reply) -> (String, Option<WallTime>);

    /// Puts into `key` what was taken from it and not used.
    fn give_back(key: &str, unused: News) -> Cmd;
}

/// Takes wake-ups out of one key for each queue.
#[derive(Debug)]
pub(crate) struct Blocked<W> {
    link: Link,
    commands: Link,
    /// By queue.
    keys: Vec<String>,
    /// The connection's name, where somebody looks for it.
    name: Option<String>,
    wakeups: std::marker::PhantomData<W>,
}

#[async_trait]
impl<W: Wakeups> Source for Blocked<W> {
    async fn serve(&self, desk: &Desk) {
        let (board, mut wishes) = (&desk.board, desk.wishes.follow());
        let mut client = None;
        loop {
            let wish = wishes.borrow_and_update().clone();
            let Some(queues) = &wish.queues else {
                if board.has_unused() {
                    if tokio::time::timeout(GRACE, wishes.changed()).await.is_err() {
                        self.give_back(board, &[]).await;
                    }
                } else if wishes.changed().await.is_err() {
                    return;
                }
                continue;
            };
            self.give_back(board, queues).await;
            let usable = board.without_wrong(queues);
            if usable.is_empty() {
                let _ = wishes.changed().await;
            } else if let Err(error) = self.sleep(board, &usable, &wish, &mut wishes, &mut client).await {
                board.fail(error);
                // Whoever waits gets the error, stops waiting, and comes again when it likes.
                let _ = wishes.wait_for(|now| now.queues.is_none() || *now != wish).await;
            }
        }
    }
}

impl<W: Wakeups> Blocked<W> {
    /// `link` is for blocking alone; `commands` for everything else.
    pub(crate) fn new(link: Link, commands: Link, keys: Vec<String>, name: Option<String>) -> Self {
        Self { link, commands, keys, name, wakeups: std::marker::PhantomData }
    }

    /// One blocking call on behalf of `wish`.
    async fn sleep(
        &self,
        board: &Board,
        queues: &[usize],
        wish: &Wish,
        wishes: &mut watch::Receiver<Wish>,
        client: &mut Option<i64>,
    ) -> Result<(), QueueError> {
        let (mut live, new) = self.link.live_or_new().await?;
        if new {
            *client = self.introduce(&mut live).await;
        }
        let mut command = redis::cmd(W::COMMAND);
        for queue in queues {
            command.arg(&self.keys[*queue]);
        }
        command.arg(BLOCKS_FOR.as_secs());
        let mut connection = live.connection.clone();
        let call = command.query_async::<Value>(&mut connection);
        tokio::pin!(call);
        let answer = match wanted(call.as_mut(), wish, wishes).await {
            Ended::Answered(answer) => Some(answer),
            Ended::Unwanted => self.call_off(*client, call).await,
            Ended::Renewed => None,
        };
        match answer {
            None => self.link.drop_connection(&live).await,
            Some(Ok(popped @ Value::Array(_))) => {
                let (key, due) = W::read(Reply(popped));
                if let Some(queue) = queues.iter().find(|queue| self.keys[**queue] == key) {
                    board.woken(*queue, due);
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error)) if error.code() == Some("WRONGTYPE") => self.find_wrong(board, queues).await?,
            Some(Err(error)) => return Err(self.link.failed(&live, &error).await),
        }
        Ok(())
    }

    /// Gives the connection its name, and learns the number by which its blocking call can be called off.
    async fn introduce(&self, live: &mut Live) -> Option<i64> {
        if let Some(name) = &self.name {
            call_it(&mut live.connection, name).await;
        }
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

    /// Puts unused wake-ups back into Redis, but for those of queues somebody waits for: another process may have use
    /// for them.
    async fn give_back(&self, board: &Board, except: &[usize]) {
        for (queue, unused) in board.take_unused(except) {
            // Lost with the connection, it costs others one look at the clock.
            let _ = self.commands.call(&W::give_back(&self.keys[queue], unused)).await;
        }
    }

    async fn find_wrong(&self, board: &Board, queues: &[usize]) -> Result<(), QueueError> {
        for queue in queues {
            let mut command = redis::cmd("TYPE");
            command.arg(&self.keys[*queue]);
            let kind = self.commands.call(&command).await?;
            if !matches!(&kind, Value::SimpleString(kind) if kind == W::KIND || kind == "none") {
                board.is_wrong(*queue);
            }
        }
        Ok(())
    }
}
