//! supervisorctl with a configuration of its own, over either door.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use qfleet_testkit::{Guarded, Scratch, eventually};

use crate::support::{Fleet, SOON, text};

/// The password of `admin` over TCP.
pub(crate) const PASSWORD: &str = "s3:cret";

/// Where `scripts/set-up.sh` installs the newest supervisorctl, beside Debian's.
const NEWEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/supervisor/bin/supervisorctl");

/// Waits for a program to have printed something.
#[track_caller]
pub(crate) fn wait_said(fleet: &Fleet, name: &str, what: &str) {
    eventually(SOON, &format!("`{name}` to say `{what}`"), || {
        fleet.ok(&["tail", name]).contains(what).then_some(())
    });
}

/// One way to a daemon.
pub(crate) struct Ctl {
    dir: Scratch,
    program: &'static str,
}

impl Ctl {
    /// Over the control socket.
    pub(crate) fn unix(fleet: &Fleet) -> Self {
        Self::at(&format!("unix://{}", fleet.dir.join("q.sock").display()), None)
    }

    /// Over TCP with a password.
    pub(crate) fn tcp(port: u16) -> Self {
        Self::at(&format!("http://127.0.0.1:{port}"), Some(PASSWORD))
    }

    pub(crate) fn at(url: &str, password: Option<&str>) -> Self {
        let dir = Scratch::new();
        let login = password.map(|password| format!("username=admin\npassword={password}\n"));
        dir.write("ctl.conf", format!("[supervisorctl]\nserverurl={url}\n{}", login.unwrap_or_default()));
        Self { dir, program: "supervisorctl" }
    }

    /// The same way with the newest client, if it could be installed.
    pub(crate) fn newest(self) -> Option<Self> {
        Path::new(NEWEST).exists().then_some(Self { program: NEWEST, ..self })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command.arg("-c").arg(self.dir.join("ctl.conf")).args(words).current_dir(self.dir.path());
        command.env("PYTHONUNBUFFERED", "1").stdin(Stdio::null());
        command
    }

    /// Runs a command; gives all it said and its exit code.
    pub(crate) fn run(&self, words: &[&str]) -> (String, i32) {
        let output = self.command(words).output().unwrap();
        (text(&output.stdout) + &text(&output.stderr), output.status.code().unwrap())
    }

    /// Runs a command that must say exactly this (less white space at the ends of lines).
    #[track_caller]
    pub(crate) fn says(&self, words: &[&str], lines: &[&str], code: i32) {
        let (said, exit) = self.run(words);
        let said: Vec<&str> = said.lines().map(str::trim_end).collect();
        assert_eq!((said.as_slice(), exit), (lines, code), "supervisorctl {words:?}");
    }

    /// Runs a command whose words must contain these.
    #[track_caller]
    pub(crate) fn mentions(&self, words: &[&str], part: &str, code: i32) -> String {
        let (said, exit) = self.run(words);
        assert!(said.contains(part) && exit == code, "supervisorctl {words:?}: {exit}\n{said}");
        said
    }

    /// Starts a command that goes on; what it says is in the file that is given back.
    pub(crate) fn start(&self, name: &str, words: &[&str]) -> (Guarded, PathBuf) {
        let path = self.dir.join(name);
        let file = std::fs::File::create(&path).unwrap();
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(file.try_clone().unwrap()).stderr(file);
        (Guarded::spawn(&mut command), path)
    }
}
