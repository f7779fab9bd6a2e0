//! Sleeping with an ear on messages.
//!
//! The connection stays, whether somebody waits or not: a message is heard by all at once, so nothing has to be put back,
//! and what is heard during a turn ends the next wait. What was said before the connection stood is not known, so each new
//! one wakes all queues once.

use async_trait::async_trait;
use qfleet_model::time::WallTime;

use super::board::WRONG_FOR;
use super::{Desk, Source};
use crate::error::QueueError;
use crate::redis::{Address, Ear, Message};

/// What a family of queues publishes.
pub(crate) trait Channels: std::fmt::Debug + Send + Sync + 'static {
    /// Patterns of the channels that tell of the queues with these key prefixes.
    fn patterns(bases: &[String]) -> Vec<String>;

    /// The queue a message is about, and the date of the job it tells of (`None` is now); none if it tells of no job.
    fn read(bases: &[String], message: &Message) -> Option<(usize, Option<WallTime>)>;
}

/// Hears of all queues on one connection.
#[derive(Debug)]
pub(crate) struct Subscribed<C> {
    address: Address,
    /// Start of the keys, by queue.
    bases: Vec<String>,
    /// The connection's name, where somebody looks for it.
    name: Option<String>,
    channels: std::marker::PhantomData<C>,
}

#[async_trait]
impl<C: Channels> Source for Subscribed<C> {
    async fn serve(&self, desk: &Desk) {
        let mut wishes = desk.wishes.follow();
        loop {
            let wish = wishes.borrow_and_update().clone();
            let lost = tokio::select! {
                lost = self.listen(desk) => lost,
                // What stands now may be dead without showing it.
                renewed = wishes.wait_for(|now| now.epoch != wish.epoch) => match renewed {
                    Ok(_) => continue,
                    Err(_) => return,
                },
            };
            match lost {
                QueueError::Refused(_) => {
                    (0..self.bases.len()).for_each(|queue| desk.board.is_wrong(queue));
                    tokio::time::sleep(WRONG_FOR).await;
                }
                QueueError::Unreachable(_) => {
                    desk.board.fail(lost);
                    // Whoever waits gets the error, stops waiting, and comes again when it likes.
                    if wishes.wait_for(|now| *now != wish && now.queues.is_some()).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

impl<C: Channels> Subscribed<C> {
    /// Touches no network.
    pub(crate) fn new(address: Address, bases: Vec<String>, name: Option<String>) -> Self {
        Self { address, bases, name, channels: std::marker::PhantomData }
    }

    /// Hears all there is to hear; ends with what ended the connection.
    async fn listen(&self, desk: &Desk) -> QueueError {
        let mut ear = match self.open().await {
            Ok(ear) => ear,
            Err(error) => return error,
        };
        desk.board.none_is_wrong();
        (0..self.bases.len()).for_each(|queue| desk.board.woken(queue, None));
        while let Some(message) = ear.next().await {
            if let Some((queue, due)) = C::read(&self.bases, &message) {
                desk.board.woken(queue, due);
            }
        }
        QueueError::Unreachable(format!("redis at `{}` closed the connection", self.address.shown()))
    }

    async fn open(&self) -> Result<Ear, QueueError> {
        let mut ear = Ear::open(&self.address, self.name.as_deref()).await?;
        ear.subscribe(&self.address, &C::patterns(&self.bases)).await?;
        Ok(ear)
    }
}
