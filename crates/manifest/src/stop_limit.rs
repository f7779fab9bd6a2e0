//! Whether the outside grants a fleet the time that its end may take: a service manager, a container runtime, a cluster. Each
//! of them kills everything when its own patience is over, whatever the manifest says. Asked by `check` and by the daemon.

use std::time::Duration;

use crate::problem::Problem;
use crate::settings::Manifest;
use crate::stopping::{LAST_ANSWERS, longest_stop};
use crate::units::shown;

/// How long the outside waits before it kills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopLimit {
    /// From the wish to end.
    pub granted: Duration,
    /// Who says so, as people know it: `--stop-limit`, `TimeoutStopSec` of a unit.
    pub by: String,
    /// It waits longer when the daemon asks for more time, which it does while it drains.
    pub gives_more: bool,
}

/// What to say when the end may take longer than the limit; `None` when it fits. `file` is the manifest's name.
#[must_use]
pub fn too_short(manifest: &Manifest, file: &str, limit: &StopLimit) -> Option<Problem> {
    let needed = longest_stop(manifest).saturating_add(LAST_ANSWERS);
    // An empty fleet is told so elsewhere.
    if needed <= limit.granted || manifest.groups.is_empty() {
        return None;
    }
    let StopLimit { granted, by, gives_more } = limit;
    let (needed, granted_shown) = (shown(needed), shown(*granted));
    let what = if *gives_more {
        format!(
            "the end may take {needed}, more than {by} ({granted_shown}); systemd waits as long as the daemon asks for more time, \
             which it does while it drains"
        )
    } else {
        format!(
            "the end may take {needed}, but {by} grants {granted_shown}: whatever still runs then is killed"
        )
    };
    let hint = (!gives_more).then(|| hint(*granted));
    let mut problem = Problem::of_file(file, what);
    problem.hint = hint;
    Some(problem)
}

fn hint(granted: Duration) -> String {
    let raise = "raise the limit (`TimeoutStopSec` of a unit, `terminationGracePeriodSeconds` of a pod, `docker stop -t`)";
    match granted.checked_sub(LAST_ANSWERS).filter(|rest| *rest >= Duration::from_secs(1)) {
        Some(rest) => format!("{raise}, or stay below it with `shutdown-timeout: {}`", shown(rest)),
        None => raise.to_owned(),
    }
}
