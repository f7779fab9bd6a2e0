//! Whose turn it is to be taken away and replaced, over the whole fleet.
//!
//! Whoever is up and is to be replaced (a limit of its own was reached, or its group is restarted) asks for a turn. At
//! most [`at_once`] turns are under way; what a group can spare is for the group to say ([`crate::rollout::room`]). Who
//! asked first comes first, but a group that has just had a turn asks anew: so no group waits for ever behind a large one.
//!
//! A turn is about being ready again. It counts while its process drains or its new one comes up, but neither for longer
//! than [`COUNTS_FOR`]: an hour-long job still does its work, and must not hold up all other queues.

use std::time::Duration;

use crate::time::Moment;

/// A turn whose process drains, or comes up, for longer than this holds nobody up any more outside its own group.
pub const COUNTS_FOR: Duration = Duration::from_secs(30);

/// The next process of a group that could be taken away now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its group.
    pub group: u32,
    /// Which one.
    pub process: u32,
    /// When it asked; larger is later.
    pub asked: u64,
    /// When its group had a turn last, on the same scale.
    pub served: u64,
    /// Turns that may be under way beside its own, and still it may be taken away.
    pub beside: usize,
}

/// How many turns may be under way in a fleet of so many processes.
#[must_use]
pub fn at_once(set: Option<u32>, processes: usize) -> usize {
    let tenth = processes / 10;
    set.map_or(tenth, |set| usize::try_from(set).unwrap_or(usize::MAX)).max(1)
}

/// Until when a turn counts whose process began to drain, or its new one to come up, at this moment.
#[must_use]
pub fn counts_until(since: Moment) -> Moment {
    since + COUNTS_FOR
}

/// Who is next, with so many turns under way.
#[must_use]
pub fn next(candidates: &[Candidate], under_way: usize) -> Option<Candidate> {
    let may = candidates.iter().filter(|candidate| candidate.beside >= under_way);
    may.min_by_key(|candidate| (candidate.asked.max(candidate.served), candidate.group)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(group: u32, asked: u64, served: u64) -> Candidate {
        Candidate { group, process: group * 10, asked, served, beside: 0 }
    }

    #[test]
    fn a_tenth_of_the_fleet_but_at_least_one() {
        assert_eq!([0, 1, 9, 10, 19, 20, 500].map(|all| at_once(None, all)), [1, 1, 1, 1, 1, 2, 50]);
        assert_eq!(at_once(Some(3), 5), 3);
    }

    #[test]
    fn who_asked_first_comes_first() {
        let all = [candidate(1, 7, 0), candidate(2, 3, 0), candidate(3, 9, 0)];
        assert_eq!(next(&all, 0).map(|chosen| chosen.group), Some(2));
        assert_eq!(next(&all, 1), None, "one at once");
        assert_eq!(next(&[], 0), None);
    }

    #[test]
    fn no_group_waits_for_ever_behind_a_large_one() {
        // The first has many that asked at 1; the second asked at 2.
        let (mut large, mut small) = (candidate(1, 1, 0), candidate(2, 2, 0));
        let mut given = vec![];
        for now in 3..7 {
            let chosen = next(&[large, small], 0).map(|chosen| chosen.group);
            given.extend(chosen);
            let served = if chosen == Some(1) { &mut large } else { &mut small };
            served.served = now;
        }
        assert_eq!(given, [1, 2, 1, 2]);
    }

    #[test]
    fn somebody_who_asked_for_more_at_once_gets_it() {
        let bold = Candidate { beside: 4, ..candidate(2, 5, 0) };
        assert_eq!(next(&[candidate(1, 1, 0), bold], 2), Some(bold));
    }
}
