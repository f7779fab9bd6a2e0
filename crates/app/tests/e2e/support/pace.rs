//! How slow this machine is just now.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::QFLEET;

/// What is promised may take as many commands that do nothing longer.
const WORTH: u32 = 10;

/// Runs a command that does nothing again and again. Whatever keeps the machine from its work meanwhile, a neighbour or a disk,
/// keeps this from its end as well.
#[derive(Debug)]
pub(crate) struct Pace {
    over: Arc<AtomicBool>,
    slowest: JoinHandle<Duration>,
}

impl Pace {
    pub(crate) fn watch() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let slowest = std::thread::spawn(move || {
            let mut slowest = Duration::ZERO;
            while !ended.load(Ordering::SeqCst) {
                let begun = Instant::now();
                let mut nothing = Command::new(QFLEET);
                nothing.arg("version").stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap();
                slowest = slowest.max(begun.elapsed());
                std::thread::sleep(Duration::from_millis(20));
            }
            slowest
        });
        Self { over, slowest }
    }

    /// How long the slowest of them took.
    pub(crate) fn slowest(self) -> Duration {
        self.over.store(true, Ordering::SeqCst);
        self.slowest.join().unwrap()
    }

    /// What a promise of so much time is here and now.
    pub(crate) fn allows(self, promised: Duration) -> Duration {
        promised + self.slowest() * WORTH
    }
}
