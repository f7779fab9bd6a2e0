//! A gate that a test opens when it has seen what it wanted to see.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Shut until it is opened, and open from then on. Copies are the same gate.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<AtomicBool>);

impl Gate {
    /// A gate that is shut.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everybody through who waits, or will come.
    pub fn open(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether it has been opened.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
