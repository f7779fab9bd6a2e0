//! Repeated jobs, as Bull and BullMQ's old producers add them.

use std::collections::BTreeSet;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qfleet_testkit::Answer;
use serde_json::json;

use crate::stage::{Library, Stage, millis};

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
    stage.wait_for("clock", 13);
    stage.run(
        "const clock = kit.queue('clock')
         for (const job of await clock.getRepeatableJobs()) await clock.removeRepeatableByKey(job.key)",
    );
    stage.soon(
        "nothing to be left",
        "return await kit.queue('clock').count() === 0 && await kit.queue('clock').getActiveCount() === 0",
    );
    let got = stage.got("clock");
    for (name, step, most) in [("beat", 300, 99), ("tick", 1000, 99), ("few", 200, 3)] {
        let of: Vec<_> = got.iter().filter(|request| request.header("Job-Name") == Some(name)).collect();
        let date = |id: &str| id.rsplit(':').next().unwrap().parse::<i64>().unwrap();
        let dates: BTreeSet<i64> = of.iter().map(|request| date(request.header("Job-Id").unwrap())).collect();
        assert_eq!(dates.len(), of.len(), "`{name}`: each once");
        assert!(dates.len() >= 2 && dates.len() <= most, "`{name}`: {dates:?}");
        let dates: Vec<i64> = dates.into_iter().collect();
        assert!(dates.windows(2).all(|pair| pair[1] - pair[0] == step), "`{name}`: none left out: {dates:?}");
        for request in of {
            let late = millis(request.at) - date(request.header("Job-Id").unwrap());
            assert!((-2..900).contains(&late), "`{name}` came {late} ms after its time");
        }
    }
    assert_eq!(stage.run("return (await kit.queue('clock').getRepeatableJobs()).length"), json!(0));
    assert_eq!(fleet.stop(), 0);
}
