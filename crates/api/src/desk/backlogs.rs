//! How much work waits for groups whose number of workers follows it. One call for all their queues on a connection.
//!
//! As at the whole desk a store that does not answer spoils its own groups only, and a connection that nobody used for
//! ten seconds is closed.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use qfleet_manifest::settings::{Manifest, Work};
use qfleet_model::scale::Backlog;
use qfleet_queue::driver::Depth;

use crate::desk::names::{self, Place};
use crate::desk::open::{self, Cabinet};
use crate::desk::queues::{by_connection, depths};

/// Looks how much waits.
#[derive(Debug)]
pub struct Backlogs {
    cabinet: Arc<Cabinet>,
}

impl Default for Backlogs {
    /// To be made inside a runtime, where it leaves a task that closes idle connections.
    fn default() -> Self {
        let cabinet = Arc::new(Cabinet::default());
        tokio::spawn(open::close_idle(Arc::clone(&cabinet)));
        Self { cabinet }
    }
}

impl Backlogs {
    /// What waits for each of `groups`, over all its queues, or why that is not known, in words. A group that the
    /// manifest does not have is left out.
    pub async fn of(
        &self,
        manifest: &Manifest,
        groups: &[&str],
    ) -> BTreeMap<String, Result<Backlog, String>> {
        let named = groups.iter().filter_map(|name| manifest.group(name));
        let lanes = named.flat_map(|group| match &group.work {
            Work::Queue(worker) | Work::Pool(worker) => {
                worker.lanes.iter().map(|lane| (group.name.as_str(), lane.name.as_str())).collect()
            }
            Work::Program { .. } | Work::Schedule(_) => Vec::new(),
        });
        let (owners, places): (Vec<&str>, Vec<Place>) =
            lanes.filter_map(|(group, lane)| Some((group, names::find(manifest, lane).ok()?))).unzip();
        let answers = join_all(by_connection(&places).into_iter().map(|some| async {
            let answer = depths(&self.cabinet, manifest, &some).await;
            (some, answer)
        }));
        let mut found: BTreeMap<String, Result<Backlog, String>> = BTreeMap::new();
        for (some, answer) in answers.await {
            for (at, (index, _)) in some.iter().enumerate() {
                let depth = match &answer {
                    Ok(depths) => depths.get(at).ok_or_else(|| "the store gave no figures".to_owned()),
                    Err(error) => Err(error.to_string()),
                };
                let Some(owner) = owners.get(*index) else { continue };
                match found.get_mut(*owner) {
                    Some(sum) => add(sum, depth),
                    None => {
                        let mut sum = Ok(Backlog { waiting: 0, paused: true });
                        add(&mut sum, depth);
                        found.insert((*owner).to_owned(), sum);
                    }
                }
            }
        }
        found
    }
}

/// Adds a queue to what is known of its group; what is not known of one queue is not known of the whole.
fn add(sum: &mut Result<Backlog, String>, depth: Result<&Depth, String>) {
    match (sum.as_mut(), depth) {
        (Ok(sum), Ok(depth)) if !depth.paused => {
            sum.waiting = sum.waiting.saturating_add(depth.waiting);
            sum.paused = false;
        }
        (Ok(_), Ok(_)) | (Err(_), _) => {}
        (Ok(_), Err(why)) => *sum = Err(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queues_of_a_group_count_together_and_paused_ones_do_not() {
        let depth = |waiting, paused| Depth { waiting, paused, ..Depth::default() };
        let sum = |depths: &[Result<Depth, String>]| {
            let mut sum = Ok(Backlog { waiting: 0, paused: true });
            depths.iter().for_each(|depth| add(&mut sum, depth.as_ref().map_err(Clone::clone)));
            sum
        };
        let away = || Err("away".to_owned());
        assert_eq!(
            sum(&[Ok(depth(3, false)), Ok(depth(9, true)), Ok(depth(4, false))]),
            Ok(Backlog { waiting: 7, paused: false })
        );
        assert_eq!(sum(&[Ok(depth(9, true))]), Ok(Backlog { waiting: 0, paused: true }));
        assert_eq!(sum(&[Ok(depth(3, false)), away(), Ok(depth(4, false))]), Err("away".to_owned()));
    }
}
