//! Sleeping in Redis: one connection that waits on the markers of all wanted queues at once.
//!
//! A task owns the blocking call. Whoever waits states a wish and may stop waiting at any moment; the call goes on for a
//! short while, in case the same wish comes again (it does after every turn), and is then called off, so that it does
//! not take wake-ups from other workers that could use them. A marker that was taken counts until a turn has asked its
//! queue; unused ones are put back into Redis. A marker with a date wakes at that date.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use qfleet_model::time::WallTime;
use redis::Value;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::clock;
use crate::error::QueueError;
use crate::redis::{ANSWERS_WITHIN, Link, Live, Reply};

/// One blocking call lasts this long at most, so that silent middle boxes do not forget the connection.
const BLOCKS_FOR: Duration = Duration::from_secs(60);
/// The wake-up connection's limit for an answer.
pub(in crate::node) const BLOCKED_ANSWERS_WITHIN: Duration = Duration::from_secs(65);
/// A wish that is gone for this long is gone for good.
const GRACE: Duration = Duration::from_millis(20);
/// A key of a wrong type is tried again after this long.
const WRONG_FOR: Duration = Duration::from_secs(60);

/// The front of the task; dropping it ends the task and closes the connection.
#[derive(Debug)]
pub(in crate::node) struct Sleeper {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    link: Link,
    commands: Link,
    /// The marker of each queue of the driver.
    markers: Vec<String>,
    /// The connection's name, by which the library finds workers.
    name: Option<String>,
    wish: watch::Sender<Wish>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Wish {
    queues: Option<Vec<usize>>,
    /// A new number asks for a new connection.
    epoch: u64,
}

#[derive(Debug, Default)]
struct State {
    woken: HashSet<usize>,
    due: HashMap<usize, WallTime>,
    wrong: BTreeMap<usize, Instant>,
    fault: Option<QueueError>,
}

impl Sleeper {
    /// Connects when somebody waits.
    pub(in crate::node) fn new(
        link: Link,
        commands: Link,
        markers: Vec<String>,
        name: Option<String>,
    ) -> Self {
        let shared = Shared {
            link,
            commands,
            markers,
            name,
            wish: watch::Sender::new(Wish::default()),
            state: Mutex::default(),
            changed: Notify::new(),
        };
        Self { shared: Arc::new(shared), task: Mutex::default() }
    }

    /// Returns when one of the queues may have a job, or after `at_most`.
    pub(in crate::node) async fn wait(
        &self,
        queues: Vec<usize>,
        at_most: Duration,
    ) -> Result<(), QueueError> {
        self.run();
        self.shared.state().fault = None;
        let _wish = StatedWish::state(&self.shared, &queues);
        let deadline = tokio::time::Instant::now() + at_most;
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let due = {
                let mut state = self.shared.state();
                if let Some(error) = state.fault.take() {
                    return Err(error);
                }
                if queues.iter().any(|queue| state.woken.contains(queue)) {
                    return Ok(());
                }
                let due = queues.iter().filter_map(|queue| state.due.get(queue)).min();
                due.map(|due| tokio::time::Instant::now() + due.since(clock::now()))
            };
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(due.map_or(deadline, |due| due.min(deadline))) => return Ok(()),
            }
        }
    }

    /// A turn asks this queue: whatever was known of it is used.
    pub(in crate::node) fn take_woken(&self, queue: usize) {
        let mut state = self.shared.state();
        state.woken.remove(&queue);
        state.due.remove(&queue);
    }

    /// The commands found Redis gone: the wake-up connection may be dead without showing it.
    pub(in crate::node) fn reconnect(&self) {
        self.shared.wish.send_modify(|wish| wish.epoch += 1);
    }

    /// Queues whose marker is of a wrong type.
    pub(in crate::node) fn wrong(&self) -> Vec<usize> {
        self.shared.state().wrong.keys().copied().collect()
    }

    fn run(&self) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            *task = Some(tokio::spawn(sleep_for_ever(Arc::clone(&self.shared))));
        }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

/// A wish that holds as long as somebody waits.
struct StatedWish<'a>(&'a Shared);

impl<'a> StatedWish<'a> {
    fn state(shared: &'a Shared, queues: &[usize]) -> Self {
        shared.wish.send_modify(|wish| wish.queues = Some(queues.to_vec()));
        Self(shared)
    }
}

impl Drop for StatedWish<'_> {
    fn drop(&mut self) {
        self.0.wish.send_modify(|wish| wish.queues = None);
    }
}

async fn sleep_for_ever(shared: Arc<Shared>) {
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
            *client = self.introduce(&mut live).await;
        }
        let mut command = redis::cmd("BZPOPMIN");
        for queue in &queues {
            command.arg(&self.markers[*queue]);
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
            Ok(popped @ Value::Array(_)) => {
                self.woken(&queues, Reply(popped));
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

    /// Gives the connection its name, and learns the number by which its blocking call can be called off.
    async fn introduce(&self, live: &mut Live) -> Option<i64> {
        if let Some(name) = &self.name {
            let mut command = redis::cmd("CLIENT");
            command.arg("SETNAME").arg(name);
            let named = command.query_async::<Value>(&mut live.connection);
            // Without a name we are not seen, and work all the same.
            let _ = tokio::time::timeout(ANSWERS_WITHIN, named).await;
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
        call: impl Future<Output = redis::RedisResult<Value>>,
    ) -> Option<redis::RedisResult<Value>> {
        let mut command = redis::cmd("CLIENT");
        command.arg("UNBLOCK").arg(client?);
        self.commands.call(&command).await.ok()?;
        tokio::time::timeout(ANSWERS_WITHIN, call).await.ok()
    }

    fn woken(&self, queues: &[usize], popped: Reply) {
        let [marker, _, date] = popped.fields();
        let marker = marker.text();
        let Some(queue) = queues.iter().find(|queue| self.markers[**queue] == marker) else { return };
        // Rounded up: a date one millisecond early would be looked at twice.
        let due = WallTime::from_millis(date.score().unwrap_or_default().ceil() as i64);
        let mut state = self.state();
        if due > clock::now() {
            state.due.entry(*queue).and_modify(|known| *known = due.min(*known)).or_insert(due);
        } else {
            state.woken.insert(*queue);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    fn has_unused(&self) -> bool {
        let state = self.state();
        !state.woken.is_empty() || !state.due.is_empty()
    }

    /// Puts unused wake-ups back into Redis, but for those of queues somebody waits for: another process may have use
    /// for them.
    async fn give_back(&self, except: &[usize]) {
        let unused: Vec<(usize, Option<WallTime>)> = {
            let mut state = self.state();
            let woken = state.woken.iter().map(|queue| (*queue, None));
            let dated = state.due.iter().map(|(queue, due)| (*queue, Some(*due)));
            let unused = woken.chain(dated).filter(|(queue, _)| !except.contains(queue)).collect();
            state.woken.retain(|queue| except.contains(queue));
            state.due.retain(|queue, _| except.contains(queue));
            unused
        };
        for (queue, due) in unused {
            let mut command = redis::cmd("ZADD");
            command.arg(&self.markers[queue]).arg("NX");
            match due {
                Some(due) => command.arg(due.as_millis()).arg("1"),
                None => command.arg(0).arg("0"),
            };
            // Lost with the connection, it costs others one look at the clock.
            let _ = self.commands.call(&command).await;
        }
    }

    async fn find_wrong(&self, queues: &[usize]) -> Result<(), QueueError> {
        for queue in queues {
            let mut command = redis::cmd("TYPE");
            command.arg(&self.markers[*queue]);
            let kind = self.commands.call(&command).await?;
            if !matches!(&kind, Value::SimpleString(kind) if kind == "zset" || kind == "none") {
                self.state().wrong.insert(*queue, Instant::now());
            }
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
