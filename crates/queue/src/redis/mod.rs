//! A connection to Redis that comes back.
//!
//! A [`Link`] connects when it is first used, gives one multiplexed connection to all its callers, and lets go of it at
//! the first sign that it does not work; the next call connects anew (asking Sentinel or the cluster again). It never
//! waits and never tries twice: a call fails at once with [`QueueError::Unreachable`], and pauses are the caller's business.
//! The one exception is a node of a cluster that has done nothing because the keys have moved, or are about to: the call is
//! made again where they are.

mod cluster;
pub(crate) mod connect;
mod ear;
mod fault;
mod links;
mod reply;
mod scan;
mod script;
mod sleeper;

use std::sync::Arc;
use std::time::{Duration, Instant};

use qfleet_manifest::queue::RedisSettings;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value};
use tokio::sync::Mutex;

pub(crate) use self::cluster::servers;
pub(crate) use self::connect::Address;
pub(crate) use self::ear::{Ear, Message, pattern};
use self::fault::Misplaced;
pub use self::links::Links;
pub(crate) use self::reply::Reply;
pub(crate) use self::scan::Scan;
pub(crate) use self::script::{Call, Script};
pub(crate) use self::sleeper::{Blocked, Channels, News, Sleeper, Subscribed, Wakeups};
use crate::error::QueueError;

/// A server that is silent for this long is taken for gone.
pub(crate) const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// After a failover the old master may go on for seconds without knowing; what it is told then is lost.
const ASK_SENTINELS_EVERY: Duration = Duration::from_secs(1);

/// So often a call is made again on a cluster whose keys move. All pauses together are shorter than a quarter of a second.
const MISPLACED_TRIES: u32 = 10;
const MISPLACED_PAUSE: Duration = Duration::from_millis(5);

/// One connection, made when needed and replaced when it fails.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    address: Address,
    answers_within: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    live: Option<MultiplexedConnection>,
    generation: u64,
    failed: Option<(Instant, QueueError)>,
    /// The master as sentinels named it, and when they were asked last.
    master: Option<((String, u16), Instant)>,
}

/// A connection as one caller got it.
pub(crate) struct Live {
    pub(crate) connection: MultiplexedConnection,
    generation: u64,
}

impl Link {
    /// Connects later, when somebody calls.
    fn new(address: Address, answers_within: Duration) -> Self {
        Self(Arc::new(Inner { address, answers_within, state: Mutex::default() }))
    }

    /// The same for commands that are answered at once.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when the certificate file cannot be read.
    pub(crate) fn for_commands(settings: &RedisSettings) -> Result<Self, QueueError> {
        Ok(Self::new(Address::new(settings)?, ANSWERS_WITHIN))
    }

    /// The same for one blocking call after the other.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when the certificate file cannot be read.
    pub(crate) fn for_blocking(settings: &RedisSettings) -> Result<Self, QueueError> {
        Ok(Self::new(Address::new(settings)?, sleeper::BLOCKED_ANSWERS_WITHIN))
    }

    /// The connection; made now if there is none.
    pub(crate) async fn live(&self) -> Result<Live, QueueError> {
        self.live_or_new().await.map(|(live, _)| live)
    }

    /// The same, and whether it was made now.
    pub(crate) async fn live_or_new(&self) -> Result<(Live, bool), QueueError> {
        let asked = Instant::now();
        let mut state = self.0.state.lock().await;
        if let Some(connection) = state.live.clone() {
            let live = Live { connection, generation: state.generation };
            self.ask_sentinels_in_time(&mut state);
            return Ok((live, false));
        }
        // Whoever queued up behind a failing attempt shares its answer instead of starting one more.
        if let Some((at, error)) = &state.failed
            && *at >= asked
        {
            return Err(error.clone());
        }
        match self.0.address.connect(self.0.answers_within).await {
            Ok((connection, master)) => {
                state.live = Some(connection.clone());
                state.generation += 1;
                state.master = master.map(|master| (master, Instant::now()));
                Ok((Live { connection, generation: state.generation }, true))
            }
            Err(error) => {
                state.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Looks in the background whether the master is still the master, and lets go of the connection if not.
    fn ask_sentinels_in_time(&self, state: &mut State) {
        let Some((master, asked)) = &mut state.master else { return };
        if asked.elapsed() < ASK_SENTINELS_EVERY {
            return;
        }
        *asked = Instant::now();
        let (link, master, generation) = (self.clone(), master.clone(), state.generation);
        tokio::spawn(async move {
            if link.0.address.master_now().await.is_some_and(|now| now != master) {
                link.drop_generation(generation).await;
            }
        });
    }

    /// Closes the connection `live` is a share of, unless it has been replaced already.
    pub(crate) async fn drop_connection(&self, live: &Live) {
        self.drop_generation(live.generation).await;
    }

    async fn drop_generation(&self, generation: u64) {
        let mut state = self.0.state.lock().await;
        if state.generation == generation {
            state.live = None;
        }
    }

    /// One command.
    pub(crate) async fn call(&self, command: &Cmd) -> Result<Value, QueueError> {
        let mut tries = 0;
        loop {
            let mut live = self.live().await?;
            match command.query_async(&mut live.connection).await {
                Ok(value) => return Ok(value),
                Err(error) => self.give_up_or_pause(&live, error, &mut tries).await?,
            }
        }
    }

    /// One script, by its digest; sent in full only to a server that does not know it yet.
    pub(crate) async fn run(&self, script: &Script, call: &Call<'_>) -> Result<Reply, QueueError> {
        let on_cluster = self.0.address.on_cluster();
        let mut tries = 0;
        loop {
            let mut live = self.live().await?;
            let mut answer = call.by_digest(script, on_cluster).query_async(&mut live.connection).await;
            if answer.as_ref().is_err_and(fault::script_unknown) {
                answer = call.in_full(script, on_cluster).query_async(&mut live.connection).await;
            }
            match answer {
                Ok(value) => return Ok(Reply(value)),
                Err(error) => self.give_up_or_pause(&live, error, &mut tries).await?,
            }
        }
    }

    /// After a failed call on `live`: the error, unless a cluster refused because of where the keys are. Then this returns
    /// when the call may be made again.
    async fn give_up_or_pause(
        &self,
        live: &Live,
        error: redis::RedisError,
        tries: &mut u32,
    ) -> Result<(), QueueError> {
        let misplaced = fault::misplaced(&error).filter(|_| self.0.address.on_cluster());
        if *tries >= MISPLACED_TRIES {
            return Err(self.failed(live, &error).await);
        }
        match misplaced {
            None => return Err(self.failed(live, &error).await),
            Some(Misplaced::Moved) => self.drop_connection(live).await,
            Some(Misplaced::Moving) => {}
        }
        tokio::time::sleep(MISPLACED_PAUSE * *tries).await;
        *tries += 1;
        Ok(())
    }

    /// Sorts an error of a call on `live`, and lets go of the connection when it is of no more use.
    pub(crate) async fn failed(&self, live: &Live, error: &redis::RedisError) -> QueueError {
        let sorted = self.sort(error);
        if matches!(sorted, QueueError::Unreachable(_)) {
            self.drop_connection(live).await;
        }
        sorted
    }

    fn sort(&self, error: &redis::RedisError) -> QueueError {
        self.0.address.sort(error)
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Link({})", self.0.address.shown())
    }
}
