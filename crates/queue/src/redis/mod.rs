//! A connection to Redis that comes back.
//!
//! A [`Link`] connects when it is first used, gives one multiplexed connection to all its callers, and lets go of it at
//! the first sign that it does not work; the next call connects anew (asking Sentinel again). It never waits and never
//! tries twice: a call fails at once with [`QueueError::Unreachable`], and pauses are the caller's business.

mod connect;
mod fault;
mod reply;
mod script;

use std::time::{Duration, Instant};

use qfleet_manifest::queue::RedisSettings;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value};
use tokio::sync::Mutex;

pub(crate) use self::connect::Address;
pub(crate) use self::reply::Reply;
pub(crate) use self::script::{Call, Script};
use crate::error::QueueError;

/// A server that is silent for this long is taken for gone.
pub(crate) const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// One connection, made when needed and replaced when it fails.
pub(crate) struct Link {
    address: Address,
    answers_within: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    live: Option<MultiplexedConnection>,
    generation: u64,
    failed: Option<(Instant, QueueError)>,
}

/// A connection as one caller got it.
pub(crate) struct Live {
    pub(crate) connection: MultiplexedConnection,
    generation: u64,
}

impl Link {
    /// Connects later, when somebody calls.
    pub(crate) fn new(address: Address, answers_within: Duration) -> Self {
        Self { address, answers_within, state: Mutex::default() }
    }

    /// The same for commands that are answered at once.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when the certificate file cannot be read.
    pub(crate) fn for_commands(settings: &RedisSettings) -> Result<Self, QueueError> {
        Ok(Self::new(Address::new(settings)?, ANSWERS_WITHIN))
    }

    /// The connection; made now if there is none.
    pub(crate) async fn live(&self) -> Result<Live, QueueError> {
        self.live_or_new().await.map(|(live, _)| live)
    }

    /// The same, and whether it was made now.
    pub(crate) async fn live_or_new(&self) -> Result<(Live, bool), QueueError> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        let new = state.live.is_none();
        if new {
            // Whoever queued up behind a failing attempt shares its answer instead of starting one more.
            if let Some((at, error)) = &state.failed
                && *at >= asked
            {
                return Err(error.clone());
            }
            match self.address.connect(self.answers_within).await {
                Ok(connection) => {
                    state.live = Some(connection);
                    state.generation += 1;
                }
                Err(error) => {
                    state.failed = Some((Instant::now(), error.clone()));
                    return Err(error);
                }
            }
        }
        let generation = state.generation;
        state
            .live
            .clone()
            .map(|connection| (Live { connection, generation }, new))
            .ok_or_else(|| QueueError::Unreachable("the connection is gone".into()))
    }

    /// Closes the connection `live` is a share of, unless it has been replaced already.
    pub(crate) async fn drop_connection(&self, live: &Live) {
        let mut state = self.state.lock().await;
        if state.generation == live.generation {
            state.live = None;
        }
    }

    /// One command.
    pub(crate) async fn call(&self, command: &Cmd) -> Result<Value, QueueError> {
        let mut live = self.live().await?;
        match command.query_async(&mut live.connection).await {
            Ok(value) => Ok(value),
            Err(error) => Err(self.failed(&live, &error).await),
        }
    }

    /// One script, by its digest; sent in full only to a server that does not know it yet.
    pub(crate) async fn run(&self, script: &Script, call: &Call<'_>) -> Result<Reply, QueueError> {
        let mut live = self.live().await?;
        let mut answer = call.by_digest(script).query_async(&mut live.connection).await;
        if answer.as_ref().is_err_and(fault::script_unknown) {
            answer = call.in_full(script).query_async(&mut live.connection).await;
        }
        match answer {
            Ok(value) => Ok(Reply(value)),
            Err(error) => Err(self.failed(&live, &error).await),
        }
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
        fault::sort(self.address.shown(), error)
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Link({})", self.address.shown())
    }
}
