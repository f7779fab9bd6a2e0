//! Fleets in which the library's workers and ours share a queue.

use crate::node::fleet;
use crate::rig::NodeRig;

#[tokio::test]
async fn a_thousand_jobs_are_completed_once_each() {
    fleet::a_thousand_jobs_are_completed_once_each(&NodeRig::bull(), "bull").await;
}
