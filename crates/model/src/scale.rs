//! How many workers a queue or pool should have, from how much work waits for it.

/// Work that waits for the workers of a group, over all its queues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Jobs that could be taken now, delayed ones that are due among them.
    pub waiting: u64,
    /// Jobs that some worker holds, of this host or another.
    pub reserved: u64,
    /// None of its queues gives jobs: all are paused.
    pub paused: bool,
}
