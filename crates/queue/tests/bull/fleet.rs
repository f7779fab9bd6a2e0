//! Fleets in which the library's workers and ours share a queue.

use crate::rig::NodeRig;
use crate::shared_fleet;

#[tokio::test]
async fn a_thousand_jobs_are_completed_once_each() {
    shared_fleet::a_thousand_jobs_are_completed_once_each(&NodeRig::bull(), "bull").await;
}
