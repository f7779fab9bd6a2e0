//! What is promised anywhere is promised on a cluster.

use qfleet_manifest::secret::Secret;
use qfleet_model::job::Format;
use qfleet_queue::error::QueueError;
use qfleet_testkit::{Node, RedisCluster, eventually};
use serde_json::json;

use crate::contract::{giving_back, job_of, recovering, settle, settling, take_soon, taking};
use crate::rig::{ClusterRig, DEMO, SOON, connection, open, worker};

/// Holds one promise after the other, each under a prefix of its own.
macro_rules! hold {
    ($cluster:expr, $family:expr, $prefix:literal; $($module:ident::$promise:ident)*) => {
        $({
            let prefix = format!(concat!("{{{}}}", $prefix), stringify!($promise));
            $module::$promise(&ClusterRig { cluster: $cluster, family: $family, prefix }).await;
        })*
    };
}

#[tokio::test]
async fn laravel_keeps_its_promises() {
    let cluster = RedisCluster::start(3, 0);
    hold! { &cluster, Format::Laravel, "_";
        taking::jobs_come_in_order_and_by_importance taking::a_delayed_job_comes_when_it_is_due
        taking::a_paused_queue_is_left_alone taking::a_push_wakes_a_sleeper taking::a_cancelled_wait_loses_no_wakeup
        taking::an_ended_lease_lets_others_take_the_job taking::sizes_and_listings_are_right
        settling::a_verdict_counts_once settling::a_snoozed_job_comes_back_uncounted
        settling::counters_are_remembered_and_forgotten settling::a_discarded_job_is_gone
        settling::settling_and_taking_share_a_call giving_back::several_go_back_in_their_order
        recovering::started_jobs_go_back_with_a_crash recovering::a_third_crash_alone_buries
        recovering::jobs_of_a_lost_reply_go_back
    }
}

#[tokio::test]
async fn the_libraries_of_node_keep_theirs() {
    let cluster = RedisCluster::start(3, 0);
    hold! { &cluster, Format::Bullmq, "q";
        taking::jobs_come_in_order_and_by_importance taking::a_delayed_job_comes_when_it_is_due
        taking::a_paused_queue_is_left_alone taking::a_push_wakes_a_sleeper taking::sizes_and_listings_are_right
        settling::a_verdict_counts_once settling::a_snoozed_job_comes_back_uncounted
        settling::settling_and_taking_share_a_call giving_back::several_go_back_in_their_order
        recovering::fetched_jobs_go_back_uncounted recovering::jobs_of_a_lost_reply_go_back
    }
    hold! { &cluster, Format::Bull, "b";
        taking::jobs_come_in_order_and_by_importance taking::a_delayed_job_comes_when_it_is_due
        taking::a_push_wakes_a_sleeper taking::sizes_and_listings_are_right
        settling::a_verdict_counts_once settling::settling_and_taking_share_a_call
        recovering::fetched_jobs_go_back_uncounted
    }
}

#[tokio::test]
async fn jobs_of_the_libraries_themselves_are_worked() {
    let cluster = RedisCluster::start(3, 0);
    for (library, family) in [("bullmq", Format::Bullmq), ("bullmq6", Format::Bullmq), ("bull", Format::Bull)]
    {
        let node = Node::start_on_cluster(library, &cluster);
        let add =
            |name: &str| node.run(&format!("await kit.queue('{library}').add('{name}', {{to: 'ann'}})"));
        let driver = worker(&connection(&cluster, family, "{bull}"), library, 1);
        add("first");
        let job = take_soon(&*driver, DEMO, SOON).await;
        assert_eq!(job_of(&job).name, "first");
        settle(&*driver, &job, qfleet_model::outcome::Verdict::Complete { result: None }).await;
        assert!(driver.turn(&[], &[], driver.mark()).await.unwrap().broken.is_empty());
        // And one that comes while we sleep.
        let waiting = tokio::spawn({
            let driver = std::sync::Arc::clone(&driver);
            async move { driver.wait(&[DEMO], SOON).await }
        });
        add("second");
        waiting.await.unwrap().unwrap();
        let job = take_soon(&*driver, DEMO, SOON).await;
        settle(&*driver, &job, qfleet_model::outcome::Verdict::Complete { result: None }).await;
        let counts = eventually(SOON, "both to be completed", || {
            let counts = node.run(&format!("return await kit.queue('{library}').getJobCounts()"));
            (counts["completed"] == json!(2)).then_some(counts)
        });
        assert_eq!((&counts["active"], &counts["failed"]), (&json!(0), &json!(0)), "{library}");
    }
}

#[test]
fn queues_that_lie_apart_are_not_opened_together() {
    let cluster = RedisCluster::start(1, 0);
    let laravel = connection(&cluster, Format::Laravel, "app_");
    let refused = |lanes: &[(&str, &[&str])]| open(laravel.clone(), lanes, 1).unwrap_err().to_string();
    assert!(refused(&[("a", &["a"])]).contains("`cluster-keys: true`"));
    assert!(refused(&[("a", &["{a}", "{b}"])]).contains("common hash tag"));
    assert!(refused(&[("a", &["{a}"]), ("b", &["{b}"])]).contains("different places"));
    open(laravel, &[("a", &["{a}1", "{a}2"])], 1).unwrap();
}

#[tokio::test]
async fn every_node_is_told_the_password() {
    let cluster = RedisCluster::with_password(3, 0, "right");
    let mut connection = connection(&cluster, Format::Bullmq, "{bull}");
    for (password, well) in [("right", true), ("wrong", false)] {
        connection.redis.password = Some(Secret::new(password));
        for prefix in ["{a}", "{b}", "{c}", "{d}"] {
            connection.prefix = prefix.to_owned();
            let depth = worker(&connection, "demo", 1).depth(&[DEMO]).await;
            let unreachable = matches!(depth, Err(QueueError::Unreachable(_)));
            assert_eq!((depth.is_ok(), unreachable), (well, !well), "{prefix}: {depth:?}");
        }
    }
}
