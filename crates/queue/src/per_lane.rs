//! What is told of a lane, from what is known of each of its queues.

use qfleet_model::time::WallTime;

use crate::driver::{Depth, LaneId, Turn};
use crate::redis::Reply;

/// How the asked queues were found, lane by lane.
#[derive(Default)]
pub(crate) struct LaneStates(Vec<LaneState>);

struct LaneState {
    lane: LaneId,
    more: bool,
    paused: bool,
}

impl LaneStates {
    /// One more queue, in the order of the asks.
    pub(crate) fn add(&mut self, lane: LaneId, more: bool, paused: bool) {
        match self.0.last_mut().filter(|known| known.lane == lane) {
            Some(known) => {
                known.more |= more;
                known.paused &= paused;
            }
            None => self.0.push(LaneState { lane, more, paused }),
        }
    }

    /// A lane has more when any of its queues has, and is paused when all are.
    pub(crate) fn tell(self, turn: &mut Turn) {
        turn.more = self.0.iter().filter(|state| state.more).map(|state| state.lane).collect();
        turn.paused = self.0.iter().filter(|state| state.paused).map(|state| state.lane).collect();
    }
}

/// The earlier of two dates, where there are some.
pub(crate) fn earlier(one: Option<WallTime>, other: Option<WallTime>) -> Option<WallTime> {
    one.into_iter().chain(other).min()
}

/// Depths of lanes that have so many queues each, from the sizes of all these queues in turn: waiting, delayed, reserved,
/// failed, paused, and what `oldest` reads the oldest job's date from.
pub(crate) fn depths(
    lanes: impl Iterator<Item = usize>,
    sizes: Reply,
    oldest: impl Fn(Reply) -> Option<WallTime>,
) -> Vec<Depth> {
    let mut sizes = sizes.list().into_iter();
    let of_lane = |queues: usize| {
        let mut depth = Depth { paused: queues > 0, ..Depth::default() };
        for size in sizes.by_ref().take(queues) {
            let [waiting, delayed, reserved, failed, paused, first] = size.fields();
            depth.waiting += waiting.number::<u64>().unwrap_or_default();
            depth.delayed += delayed.number::<u64>().unwrap_or_default();
            depth.reserved += reserved.number::<u64>().unwrap_or_default();
            depth.failed += failed.number::<u64>().unwrap_or_default();
            depth.paused &= paused.number::<u8>() == Some(1);
            depth.oldest = earlier(depth.oldest, oldest(first));
        }
        depth
    };
    lanes.map(of_lane).collect()
}
