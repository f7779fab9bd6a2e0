//! A fleet as text, for the program that takes this one's place and goes on with it: written between two events, read
//! by the same version, the one before or the one after.
//!
//! What can be worked out again is not written: timers, what others see, what settings mean for the life of a process.
//! Settings that were shared are shared again.

use std::cmp::Reverse;
use std::sync::Arc;

use qfleet_manifest::settings::Group as GroupSettings;
use qfleet_model::time::Moment;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::group::Spec;
use super::{Fleet, Timer};

impl Serialize for Fleet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The derived function, which has no trait.
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Fleet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fleet = Self::deserialize(deserializer)?;
        fleet.share_settings();
        fleet.timers = fleet.due().into_iter().map(Reverse).collect();
        Ok(fleet)
    }
}

impl Fleet {
    /// Everything that time alone will bring.
    /// Kept beside `is_due_at`: each timer that can be due, with its time.
    fn due(&self) -> Vec<(Moment, Timer)> {
        let slots = self.slots.iter().filter_map(|(id, slot)| slot.due().map(|at| (at, Timer::Slot(*id))));
        let recoveries = self
            .recoveries
            .iter()
            .filter_map(|(id, recovery)| recovery.retry_at.map(|at| (at, Timer::Recovery(*id))));
        let ending = self.phase.gives_up_at().map(|at| (at, Timer::Ending));
        let turns = self.turns_at.map(|at| (at, Timer::Turns));
        let loops = self.groups.iter();
        let loops = loops.filter_map(|(id, group)| Some((group.breaker.due()?, Timer::CrashLoop(*id))));
        let saying = self.phase.say_at().map(|at| (at, Timer::Saying));
        let alarms = self
            .groups
            .iter()
            .filter_map(|(id, group)| group.schedule.as_ref()?.due_at.map(|at| (at, Timer::Schedule(*id))));
        let slots = slots.chain(loops).chain(alarms);
        slots.chain(recoveries).chain(turns).chain(ending).chain(saying).collect()
    }

    /// These settings as one of the groups has them, if one has.
    #[must_use]
    pub(crate) fn known_settings(&self, settings: Arc<GroupSettings>) -> Arc<GroupSettings> {
        let specs = self.groups.values().map(|group| &group.spec);
        let known = specs.chain(self.slots.values().map(|slot| &slot.spec));
        let same = known.map(|spec| &spec.settings).find(|known| **known == settings);
        same.cloned().unwrap_or(settings)
    }

    /// Hundreds of processes may have the settings of one group.
    fn share_settings(&mut self) {
        let mut known: Vec<Arc<Spec>> = self.groups.values().map(|group| group.spec.clone()).collect();
        for slot in self.slots.values_mut() {
            match known.iter().find(|spec| ***spec == *slot.spec) {
                Some(spec) => slot.spec = spec.clone(),
                None => known.push(slot.spec.clone()),
            }
        }
        for group in self.recoveries.values_mut().filter_map(|recovery| recovery.group.as_mut()) {
            share(group, &known);
        }
    }
}

fn share(settings: &mut Arc<GroupSettings>, known: &[Arc<Spec>]) {
    if let Some(spec) = known.iter().find(|spec| spec.settings == *settings) {
        *settings = spec.settings.clone();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_state_without_most_fields_is_that_of_an_older_program() {
        let fleet: Fleet = serde_json::from_value(json!({ "last_ledger": 7 })).unwrap();
        assert_eq!(fleet.last_ledger, 7);
        assert_eq!(fleet.counts(), (0, 0));
    }

    #[test]
    fn fields_of_a_newer_program_are_left_aside() {
        let mut state = serde_json::to_value(Fleet::default()).unwrap();
        state["breakers"] = json!([{ "group": 1, "open": true }]);
        let fleet: Fleet = serde_json::from_value(state).unwrap();
        let again: Value = serde_json::to_value(&fleet).unwrap();
        assert!(again.get("breakers").is_none());
    }
}
