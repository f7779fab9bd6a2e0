//! How long a connection stays quiet before it sleeps in the store again: after waits that failed, and after many wake-ups in
//! a row that brought nothing. Pure.

use qfleet_model::time::Moment;
use qfleet_queue::driver::Waited;

use crate::outage::pause;

/// So many wake-ups in a row that brought nothing are taken for noise.
const VAIN_WAKES: u32 = 8;

/// What came of the last waits.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    vain: u32,
    failures: u32,
    quiet_until: Option<Moment>,
}

impl Wakes {
    /// A wait has ended; `None` when it could not go on. `jitter` is drawn from 0 to 1.
    pub(crate) fn ended(&mut self, how: Option<Waited>, now: Moment, jitter: f64) {
        match how {
            None => {
                self.failures = self.failures.saturating_add(1);
                self.quiet_until = Some(now + pause(self.failures - 1, jitter));
                return;
            }
            // Drivers wake for reasons of their own, and nobody said that there was anything.
            Some(Waited::TimedOut) => self.vain = 0,
            Some(Waited::Woken) => self.vain = self.vain.saturating_add(1),
        }
        self.failures = 0;
        if self.vain > VAIN_WAKES {
            self.quiet_until = Some(now + pause(self.vain - VAIN_WAKES - 1, jitter));
        }
    }

    /// A turn brought jobs: wake-ups are good for something.
    pub(crate) fn are_good(&mut self) {
        self.vain = 0;
    }

    /// How many waits in a row have failed.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// When another wait may begin; `None` is at once.
    pub(crate) fn quiet_until(&self, now: Moment) -> Option<Moment> {
        self.quiet_until.filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_nanos(1);

    fn after(ends: &[Option<Waited>]) -> Wakes {
        let mut wakes = Wakes::default();
        ends.iter().for_each(|how| wakes.ended(*how, NOW, 0.0));
        wakes
    }

    #[test]
    fn a_long_rest_makes_nobody_slow() {
        let rest = after(&[Some(Waited::TimedOut); 1000]);
        assert_eq!(rest.quiet_until(NOW), None);
    }

    #[test]
    fn noise_is_not_listened_to_all_the_time() {
        assert_eq!(after(&[Some(Waited::Woken); 8]).quiet_until(NOW), None);
        let mut noise = after(&[Some(Waited::Woken); 9]);
        assert!(noise.quiet_until(NOW).is_some());
        noise.are_good();
        noise.ended(Some(Waited::Woken), NOW, 0.0);
        assert_eq!(noise.vain, 1);
    }

    #[test]
    fn failures_are_counted_until_a_wait_lasts() {
        let mut wakes = after(&[None, None]);
        assert_eq!(wakes.failures(), 2);
        assert!(wakes.quiet_until(NOW).is_some());
        wakes.ended(Some(Waited::TimedOut), NOW, 0.0);
        assert_eq!(wakes.failures(), 0);
    }
}
