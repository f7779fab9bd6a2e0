//! How many jobs to ask for now: enough that no slot waits for the store, never more than can start. Pure.
//!
//! Jobs in a worker's stock are jobs that no other worker can take, so the stock is only what hides a round trip to the
//! store, and nothing at concurrency 1. The run loop gives its figures and sends what [`plan`] says.

use std::time::Duration;

use qfleet_model::time::Moment;
use qfleet_queue::driver::{Ask, LaneId};

/// How fast jobs end, as a fading count.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    /// Ends, each fading with a time constant of one second; so this is also ends per second.
    fading: f64,
    last: Option<Moment>,
}

impl Pace {
    /// A job has ended.
    pub(crate) fn ended(&mut self, now: Moment) {
        self.fading = self.per_second(now) + 1.0;
        self.last = Some(now);
    }

    /// Jobs a second, lately.
    pub(crate) fn per_second(&self, now: Moment) -> f64 {
        self.last.map_or(0.0, |last| self.fading * (-now.since(last).as_secs_f64()).exp())
    }
}

/// A figure that follows its samples slowly.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Smoothed(Option<Duration>);

impl Smoothed {
    /// Another sample.
    pub(crate) fn add(&mut self, sample: Duration) {
        self.0 = Some(self.0.map_or(sample, |old| (old * 7 + sample) / 8));
    }

    /// The figure; zero before the first sample.
    pub(crate) fn get(self) -> Duration {
        self.0.unwrap_or_default()
    }
}

/// Jobs to hold beyond the free slots: as many as end during one round trip.
pub(crate) fn ahead(concurrency: u32, per_second: f64, round_trip: Duration) -> u32 {
    if concurrency <= 1 {
        return 0;
    }
    let during = (per_second * round_trip.as_secs_f64()).floor().clamp(0.0, f64::from(concurrency));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let during = during as u32;
    during
}

/// How many of those one lane may have that runs `own` jobs at once. What a limited lane hands out counts as started.
pub(crate) fn ahead_in(own: u32, limited: bool, ahead: u32) -> u32 {
    if own > 1 && !limited { ahead } else { 0 }
}

/// What is known of a lane's queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// They had more than was asked for.
    More,
    /// Something may have come since they were last asked.
    Unknown,
    /// They were empty, and whoever adds to them wakes us.
    Empty,
}

/// A lane that may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Askable {
    pub(crate) lane: LaneId,
    /// Jobs it may get beyond those in hand: its own concurrency, its gates.
    pub(crate) room: u32,
    pub(crate) known: Known,
    /// What comes must be started: it is counted as such when it is taken.
    pub(crate) counted: bool,
}

/// What to ask for when the process has room for `room` more jobs. `lanes` are in the order of whose turn it is.
///
/// Lanes that are known to have jobs share the room. A lane about which nothing is known may be asked on top, since it is
/// mostly empty, and one call has to do for all; what comes in excess goes back at once.
pub(crate) fn plan(lanes: &[Askable], room: u32) -> Vec<Ask> {
    let full = lanes.iter().filter(|lane| lane.known == Known::More && lane.room > 0).count();
    let all = lanes.iter().filter(|lane| lane.room > 0).count();
    let share = |among: usize| (room / u32::try_from(among.max(1)).unwrap_or(u32::MAX)).max(1);
    let mut left = room;
    let mut asks: Vec<Ask> = Vec::new();
    for lane in lanes.iter().filter(|lane| lane.room > 0) {
        if left == 0 {
            break;
        }
        let at_most = match lane.known {
            Known::More => share(full).min(lane.room).min(left),
            Known::Unknown | Known::Empty => share(all).min(lane.room).min(left),
        };
        if lane.known == Known::More || lane.counted {
            left -= at_most;
        }
        asks.push(Ask { lane: lane.lane, at_most });
    }
    hand_out_rest(lanes, &mut asks, left);
    asks
}

/// What equal shares left over goes to lanes that can use it, those known to have jobs first.
fn hand_out_rest(lanes: &[Askable], asks: &mut [Ask], mut left: u32) {
    let known_full = lanes.iter().any(|lane| lane.known == Known::More && lane.room > 0);
    for ask in asks {
        let Some(lane) = lanes.iter().find(|lane| lane.lane == ask.lane) else { continue };
        if known_full && lane.known != Known::More {
            continue;
        }
        // Nothing is known of any: what others might bring is no reason to leave a slot empty, but one lane is enough.
        let already = if known_full { 0 } else { ask.at_most };
        let more = lane.room.saturating_sub(ask.at_most).min(left.saturating_sub(already));
        ask.at_most += more;
        left -= more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    fn lane(id: u16, room: u32, known: Known) -> Askable {
        Askable { lane: LaneId(id), room, known, counted: false }
    }

    fn asked(lanes: &[Askable], room: u32) -> Vec<(u16, u32)> {
        plan(lanes, room).iter().map(|ask| (ask.lane.0, ask.at_most)).collect()
    }

    #[test]
    fn pace_follows_and_fades() {
        let mut pace = Pace::default();
        assert!(pace.per_second(at(0)) < 0.001);
        for ended in 1..=5000 {
            pace.ended(at(ended));
        }
        assert!((900.0..1100.0).contains(&pace.per_second(at(5000))), "{pace:?}");
        assert!(pace.per_second(at(15_000)) < 1.0);
    }

    #[test]
    fn only_what_hides_the_round_trip_is_fetched_ahead() {
        let millis = Duration::from_millis;
        for (concurrency, per_second, round_trip, expected) in [
            (1, 10_000.0, millis(1), 0),
            (10, 0.5, millis(1), 0),
            (10, 900.0, millis(1), 0),
            (10, 2000.0, millis(1), 2),
            (100, 20_500.0, Duration::from_micros(300), 6),
            (10, 1_000_000.0, millis(10), 10),
            (10, 0.0, millis(0), 0),
        ] {
            assert_eq!(
                ahead(concurrency, per_second, round_trip),
                expected,
                "{concurrency}, {per_second}, {round_trip:?}"
            );
        }
    }

    #[test]
    fn nothing_is_fetched_ahead_in_a_lane_that_is_limited_or_runs_one_job_at_a_time() {
        for (own, limited, expected) in [(10, false, 3), (10, true, 0), (1, false, 0), (1, true, 0)] {
            assert_eq!(ahead_in(own, limited, 3), expected, "{own} {limited}");
        }
    }

    #[test]
    fn a_single_lane_gets_all_the_room_it_can_use() {
        use Known::{Empty, More, Unknown};
        for known in [More, Unknown, Empty] {
            assert_eq!(asked(&[lane(0, 100, known)], 7), [(0, 7)]);
            assert_eq!(asked(&[lane(0, 3, known)], 7), [(0, 3)]);
            assert_eq!(asked(&[lane(0, 3, known)], 0), []);
            assert_eq!(asked(&[lane(0, 0, known)], 5), []);
        }
    }

    #[test]
    fn idle_lanes_are_all_asked_in_one_call() {
        let lanes: Vec<Askable> = (0..11).map(|id| lane(id, 5, Known::Unknown)).collect();
        let asks = asked(&lanes, 4);
        assert_eq!(asks.len(), 11);
        assert!(asks.iter().all(|(_, at_most)| (1..=4).contains(at_most)), "{asks:?}");
    }

    #[test]
    fn lanes_whose_starts_are_counted_never_get_more_than_can_start() {
        let counted = |id| Askable { counted: true, ..lane(id, 9, Known::Unknown) };
        let sum =
            |lanes: &[Askable], room| asked(lanes, room).iter().map(|(_, at_most)| at_most).sum::<u32>();
        let lanes: Vec<Askable> = (0..11).map(counted).collect();
        assert_eq!(sum(&lanes, 4), 4);
        assert!((22..=30).contains(&sum(&lanes, 30)));
        assert_eq!(asked(&[counted(0)], 7), [(0, 7)]);
        assert_eq!(asked(&[counted(0), lane(1, 9, Known::Unknown)], 8), [(0, 4), (1, 4)]);
    }

    #[test]
    fn full_lanes_share_the_room_and_never_get_more() {
        use Known::{Empty, More};
        let lanes = [lane(2, 9, More), lane(0, 9, More), lane(1, 9, More)];
        assert_eq!(asked(&lanes, 3), [(2, 1), (0, 1), (1, 1)]);
        assert_eq!(asked(&lanes, 1), [(2, 1)], "whose turn it is");
        assert_eq!(asked(&lanes, 8).iter().map(|(_, at_most)| at_most).sum::<u32>(), 8);
        assert_eq!(asked(&[lane(0, 1, More), lane(1, 9, More)], 8), [(0, 1), (1, 7)]);
        assert_eq!(asked(&[lane(0, 9, More), lane(1, 1, More)], 8), [(0, 7), (1, 1)]);
        assert_eq!(asked(&[lane(1, 5, Empty), lane(0, 5, More)], 1), [(1, 1), (0, 1)], "a small one beside");
    }

    #[test]
    fn no_lane_gets_more_than_it_has_room_for() {
        let mut dice = fastrand::Rng::with_seed(11);
        for _ in 0..2000 {
            let lanes: Vec<Askable> = (0..dice.u16(1..12))
                .map(|id| {
                    let known = [Known::More, Known::Unknown, Known::Empty][dice.usize(0..3)];
                    lane(id, dice.u32(0..6), known)
                })
                .collect();
            let room = dice.u32(0..10);
            let asks = plan(&lanes, room);
            let mut sure = 0;
            for ask in &asks {
                let lane = lanes.iter().find(|lane| lane.lane == ask.lane).copied();
                let lane = lane.unwrap_or_else(|| unreachable!());
                assert!(ask.at_most >= 1 && ask.at_most <= lane.room && ask.at_most <= room);
                sure += if lane.known == Known::More { ask.at_most } else { 0 };
            }
            assert!(sure <= room, "{lanes:?} {room} {asks:?}");
        }
    }
}
