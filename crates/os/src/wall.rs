//! Who waits for a date measures the time until then, and hears from here when the wall clock was set, or when the machine
//! slept, so that there is another time to wait. Nothing is polled: the system tells.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd;
use tokio::io::unix::AsyncFd;

use crate::raw;

/// A date that never comes: a timer is told of changes of the clock only while it waits for one.
const NEVER: Duration = Duration::from_secs(1 << 33);

/// Hears of changes of the wall clock.
#[derive(Debug)]
pub struct WallClock(AsyncFd<OwnedFd>);

impl WallClock {
    /// Listens from now on. Needs a runtime.
    ///
    /// # Errors
    /// The system has no such timers, or no descriptor left.
    pub fn listen() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_REALTIME, flags)?;
        let until_set = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        timer.set(Expiration::OneShot(TimeSpec::from_duration(NEVER)), until_set)?;
        Ok(Self(raw::readable(timer.into())?))
    }

    /// Waits until the clock was set by somebody, or the machine woke up. Nothing is lost when the future is dropped.
    pub async fn was_set(&self) {
        loop {
            let Ok(mut ready) = self.0.readable().await else { return std::future::pending().await };
            let mut count = [0; 8];
            // The timer goes on waiting after it was cancelled, and tells of the next change.
            let read = ready.try_io(|timer| Ok(unistd::read(timer, &mut count)?));
            match read {
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::ECANCELED as i32) => return,
                // Whatever else it says, there is nothing more to hear.
                Ok(Err(error)) if error.kind() != io::ErrorKind::Interrupted => {
                    return std::future::pending().await;
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
}
