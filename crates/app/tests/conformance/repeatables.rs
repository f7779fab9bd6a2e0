//! Repeated jobs, as Bull and BullMQ's old producers add them.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qfleet_testkit::{Answer, eventually};
use serde_json::json;

use crate::iterations::{course, none_left_out, on_time};
use crate::stage::{Library, Stage};
use crate::support::SOON;

conforms!(repeating: on_time_and_once);

fn on_time_and_once(library: Library) {
    let stage = Stage::new(library, |_| Answer::ok());
    let mut fleet = stage.fleet(&[("clock", "numprocs: 2")]);
    let pattern = if library.is_bull() { "cron" } else { "pattern" };
    stage.run(&format!(
        "const clock = kit.queue('clock')
         await clock.add('beat', {{n: 1}}, {{repeat: {{every: 300}}}})
         await clock.add('tick', {{}}, {{repeat: {{{pattern}: '* * * * * *', tz: 'Europe/Berlin'}}}})
         await clock.add('few', {{}}, {{repeat: {{every: 200, limit: 3}}}})"
    ));
    stage.wait_for("clock", 6);
    kill(Pid::from_raw(fleet.pid_of("clock:clock_00")), Signal::SIGKILL).unwrap();
    eventually(SOON, "some of each", || {
        let got = stage.got("clock");
        let enough = |(name, count): (&str, usize)| course(&got, name).len() >= count;
        [("beat", 6), ("tick", 2), ("few", 3)].into_iter().all(enough).then_some(())
    });
    stage.run(
        "const clock = kit.queue('clock')
         for (const job of await clock.getRepeatableJobs()) await clock.removeRepeatableByKey(job.key)",
    );
    stage.soon(
        "nothing to be left",
        "const {completed, ...others} = await kit.queue('clock').getJobCounts()
         return Object.values(others).every((count) => count === 0)",
    );
    let got = stage.got("clock");
    for (name, step) in [("beat", 300), ("tick", 1000), ("few", 200)] {
        let course = course(&got, name);
        none_left_out(&course, step);
        on_time(&course);
    }
    assert_eq!(course(&got, "few").len(), 3, "no more than its limit");
    assert_eq!(stage.run("return (await kit.queue('clock').getRepeatableJobs()).length"), json!(0));
    assert_eq!(fleet.stop(), 0);
}
