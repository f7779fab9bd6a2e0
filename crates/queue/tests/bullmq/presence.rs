//! Being seen by the library.

use crate::node::presence::{a_pool_is_seen_on_each_queue, a_worker_of_one_queue_is_seen_and_a_pool_is_not};
use crate::rig::NodeRig;

#[tokio::test]
async fn a_pool_is_seen_when_it_is_to_be() {
    for library in ["bullmq", "bullmq6"] {
        a_pool_is_seen_on_each_queue(&NodeRig::bullmq(), library).await;
    }
}

#[tokio::test]
async fn a_worker_of_one_queue_is_always_seen() {
    for library in ["bullmq", "bullmq6"] {
        a_worker_of_one_queue_is_seen_and_a_pool_is_not(&NodeRig::bullmq(), library).await;
    }
}
