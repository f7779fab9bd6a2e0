//! A number of workers that several groups share: who gets how many of them.
//!
//! Each keeps its `min`; what is left goes to those that need more, in proportion to how many more they need. A group
//! that has more than its share gives up some only while another is short of its own, so a steady load moves nobody.

/// One group of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Never fewer.
    pub min: u32,
    /// Workers it should have now.
    pub wanted: u32,
    /// Processes it has, those that are about to go among them.
    pub alive: u32,
    /// Workers it needs.
    pub need: u32,
}

/// What a budget leaves to one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// It may grow up to this.
    pub most: u32,
    /// Others are short: it goes down to this without a cool-down.
    pub gives_up: Option<u32>,
}

impl Room {
    /// What a group has that shares with nobody.
    pub const FREE: Self = Self { most: u32::MAX, gives_up: None };
}

/// How many of `max` each member should have.
#[must_use]
pub fn shares(max: u32, members: &[Member]) -> Vec<u32> {
    let more = |member: &Member| u64::from(member.need.saturating_sub(member.min));
    let mins: u32 = members.iter().map(|member| member.min).fold(0, u32::saturating_add);
    let spare = u64::from(max.saturating_sub(mins));
    let asked: u64 = members.iter().map(more).sum();
    if asked <= spare {
        return members.iter().map(|member| member.need.max(member.min)).collect();
    }
    let part = |member: &Member| more(member) * spare / asked;
    let mut shares: Vec<u64> = members.iter().map(|member| u64::from(member.min) + part(member)).collect();
    // What rounding left over goes to the largest remainders, the first of equals.
    let left = spare - members.iter().map(part).sum::<u64>();
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(more(&members[*at]) * spare % asked));
    for at in order.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
        shares[at] += 1;
    }
    shares.into_iter().map(|share| u32::try_from(share).unwrap_or(u32::MAX)).collect()
}

/// What is left to the member at this place.
#[must_use]
pub fn room(max: u32, members: &[Member], at: usize) -> Room {
    let Some(own) = members.get(at) else { return Room::FREE };
    let shares = shares(max, members);
    let others = || members.iter().enumerate().filter(move |(other, _)| *other != at);
    let alive = others().map(|(_, member)| member.alive.max(member.wanted)).fold(0, u32::saturating_add);
    let share = shares[at];
    let most = max.saturating_sub(alive).min(share.max(own.wanted));
    let short = others()
        .map(|(other, member)| shares[other].saturating_sub(member.wanted))
        .fold(0, u32::saturating_add);
    let used = alive.saturating_add(own.alive.max(own.wanted));
    // Places that are about to become free count as free: who goes makes room already.
    let going = members.iter().map(|member| member.alive.saturating_sub(member.wanted)).sum::<u32>();
    let free = max.saturating_sub(used).saturating_add(going);
    let lacking = others().filter(|(other, member)| shares[*other] > member.wanted).map(|(_, member)| member);
    let too_many = own.wanted > share && lacking.into_iter().any(|other| is_better_off(own, other));
    let gives_up = (too_many && short > free).then(|| share.max(own.wanted.saturating_sub(short - free)));
    Room { most, gives_up }
}

/// Whether one has more of what it asks for than the other even when it gives that one a worker. What is only rounding
/// moves nobody to and fro.
fn is_better_off(one: &Member, other: &Member) -> bool {
    let has = |member: &Member| u64::from(member.wanted.saturating_sub(member.min));
    let asks = |member: &Member| u64::from(member.need.saturating_sub(member.min));
    has(one).saturating_sub(1) * asks(other) >= (has(other) + 1) * asks(one)
}
