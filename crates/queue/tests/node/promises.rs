//! The contract of every driver, as far as this family keeps attempts and crashes as Laravel does.

use crate::rig::NodeRig;

crate::contract! { NodeRig::of(crate::LIBRARIES[0]);
    taking: jobs_come_in_order_and_by_importance no_more_than_asked_for an_empty_queue_gives_nothing
        a_taken_job_is_taken_by_nobody_else a_delayed_job_comes_when_it_is_due the_next_due_date_is_told
        a_paused_queue_is_left_alone a_push_wakes_a_sleeper a_sleeper_gives_up_in_time
        a_cancelled_wait_loses_no_wakeup a_limit_changes_at_once_and_what_has_started_counts
        sizes_and_listings_are_right;
    settling: a_finished_job_is_gone a_verdict_counts_once a_retried_job_comes_back_counted
        a_snoozed_job_comes_back_uncounted a_retry_can_be_had_at_once a_renewed_job_stays_ours
        settling_and_taking_share_a_call a_lost_job_cannot_be_settled
        a_discarded_job_is_gone nothing_changes_nothing;
    giving_back: a_job_goes_back_uncounted_and_first several_go_back_in_their_order
        a_job_goes_back_for_a_date a_job_given_back_is_not_ours_any_more;
    recovering: fetched_jobs_go_back_uncounted a_job_waits_for_its_deadline jobs_of_a_lost_reply_go_back
        others_jobs_are_left_alone;
}
