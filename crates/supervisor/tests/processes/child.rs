//! The child's side: executes programs as the real binary does, and stands in for a worker.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use qfleet_model::frame::{Frames, line};
use qfleet_model::link::{FromChild, Recycle, ToChild};
use qfleet_model::start::{DrainLimit, Role, Start};
use qfleet_os::locked_map::LockedMap;
use qfleet_os::prepare;

/// Becomes what the daemon asks for.
pub fn play() -> ExitCode {
    let mut link = Link { stream: prepare::take_link().unwrap(), frames: Frames::default() };
    let Some(ToChild::Start(start)) = link.next() else { return ExitCode::from(2) };
    let Start { name, preparation, role } = *start;
    if let Err(step) = prepare::prepare(&preparation, &link.stream) {
        link.say(&step.into());
        return ExitCode::from(127);
    }
    match role {
        Role::Program { argv } | Role::Once { argv, .. } => {
            let environment: Vec<_> = std::env::vars_os().collect();
            let step = prepare::execute(&argv, &environment);
            link.say(&step.into());
            ExitCode::from(127)
        }
        Role::Worker { settings, ledger, after } => work(&mut link, &name, &settings, &ledger, &after),
        Role::Recover { ledger, settings } => {
            assert!(settings["connections"].is_object());
            if let Some(map) = LockedMap::open_when_free(&ledger).unwrap() {
                map.unlink().unwrap();
                link.say(&FromChild::Recovered { returned: 3, buried: 0, started: vec![] });
            }
            ExitCode::SUCCESS
        }
    }
}

struct Link {
    stream: UnixStream,
    frames: Frames,
}

impl Link {
    fn say(&mut self, message: &FromChild) {
        self.stream.write_all(&line(message).unwrap()).unwrap();
    }

    /// The next message; `None` when the daemon is gone.
    fn next(&mut self) -> Option<ToChild> {
        let mut bytes = [0; 4096];
        loop {
            if let Some(message) = self.frames.next_message().unwrap() {
                return Some(message);
            }
            match self.stream.read(&mut bytes) {
                Ok(count) if count > 0 => self.frames.feed(&bytes[..count]),
                _ => return None,
            }
        }
    }
}

/// A worker that does nothing but keep its ledger. What its group is called says how it behaves.
fn work(
    link: &mut Link,
    name: &str,
    settings: &serde_json::Value,
    ledger: &Path,
    after: &[PathBuf],
) -> ExitCode {
    for earlier in after {
        if let Some(map) = LockedMap::open_when_free(earlier).unwrap() {
            map.unlink().unwrap();
        }
    }
    let map = LockedMap::create(ledger, 4096).unwrap();
    link.say(&FromChild::Ready);
    #[allow(clippy::print_stdout)]
    {
        println!("{name} works with concurrency {}", settings["concurrency"]);
    }
    if settings["group"] == "tired" && name.ends_with("_00") && ledger.to_string_lossy().ends_with(".1") {
        link.say(&FromChild::WantsReplacement { because: Recycle::MaxJobs });
    }
    loop {
        match link.next() {
            Some(ToChild::Drain { limit }) if settings["group"] == "slow" => {
                let (pause, code) = match limit {
                    DrainLimit::JobsOwn => (Duration::from_millis(300), 0),
                    DrainLimit::AtMost(limit) => (limit, 75),
                };
                std::thread::sleep(pause);
                map.unlink().unwrap();
                return ExitCode::from(code);
            }
            Some(ToChild::Drain { .. }) | None => {
                map.unlink().unwrap();
                return ExitCode::SUCCESS;
            }
            Some(ToChild::Tune { settings }) => {
                #[allow(clippy::print_stdout)]
                {
                    println!("{name} goes on with concurrency {}", settings["concurrency"]);
                }
            }
            Some(ToChild::Start(_)) => return ExitCode::from(2),
        }
    }
}
