//! Schedules, of which supervisord knows nothing, for those who steer the fleet with its client.

use qfleet_testkit::eventually;

use crate::client::Ctl;
use crate::support::{Fleet, SOON};

#[test]
fn starting_everything_runs_no_schedule_and_stopping_everything_holds_it() {
    let mut fleet = Fleet::start(
        "programs:
  steady: {command: sleep 1000, startsecs: 0}
schedules:
  yearly: {cron: '0 3 29 2 *', command: \"sh -c 'echo ran >>{dir}/runs'\"}
",
    );
    fleet.wait_state("steady", "RUNNING");
    let ctl = Ctl::unix(&fleet);
    let runs = || std::fs::read_to_string(fleet.dir.join("runs")).unwrap_or_default().lines().count();
    let held = || fleet.process("yearly")["schedule"]["held"] == true;

    ctl.says(&["start", "all"], &[], 0);
    ctl.says(&["restart", "all"], &["steady: stopped", "yearly: stopped", "steady: started"], 0);
    assert!(!held(), "it waits for its time again");
    ctl.says(&["stop", "all"], &["steady: stopped", "yearly: stopped"], 0);
    assert!(held());
    ctl.says(&["stop", "yearly"], &["yearly: ERROR (not running)"], 0);
    ctl.says(&["start", "steady"], &["steady: started"], 0);
    ctl.says(&["start", "all"], &[], 0);
    assert!(!held(), "nothing else had to be started");
    ctl.says(&["stop", "yearly"], &["yearly: stopped"], 0);
    assert!(held(), "it was at rest, and stays so");
    assert_eq!(runs(), 0);

    ctl.says(&["start", "yearly"], &["yearly: started"], 0);
    eventually(SOON, "a run of what was named", || (runs() == 1).then_some(()));
    fleet.wait_state("yearly", "EXITED");
    ctl.says(&["start", "yearly:*"], &["yearly: started"], 0);
    eventually(SOON, "another run", || (runs() == 2).then_some(()));
    fleet.wait_state("yearly", "EXITED");
    // For this client everything that does not run is down.
    ctl.mentions(&["status"], "yearly                           EXITED", 3);
    fleet.ok(&["status"]);
    assert_eq!(fleet.stop(), 0);
}
