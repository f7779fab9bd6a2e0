//! A daemon on the main thread and somebody who asks it from another one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use qfleet_manifest::World;
use qfleet_manifest::problem::Problems;
use qfleet_manifest::settings::Manifest;
use qfleet_model::command::{Command, Refusal, Reply};
use qfleet_model::name::Selector;
use qfleet_model::snapshot::{ProcessView, StateWord};
use qfleet_os::service::Service;
use qfleet_os::spawn::OwnImage;
use qfleet_supervisor::{Handle, Lived, Progress, Setup, Stream, Supervisor};

use crate::harness::{LIMIT, until};

/// A daemon that is given this gives its children no control groups.
pub const WITHOUT_CGROUPS: (&str, &str) = ("QFLEET_CGROUP", "off");

/// A manifest with this comment takes its time to be read.
pub const SLOW: &str = "# slow";

/// A manifest with a line that begins so, and goes on with the path of a pipe, is read when somebody has written there.
pub const FROM_PIPE: &str = "# from pipe: ";

/// The tester's view of the daemon.
pub struct Tester {
    handle: Handle,
    manifest: Arc<Mutex<String>>,
    /// A place for files of the case.
    pub dir: PathBuf,
    runtime: tokio::runtime::Runtime,
}

/// Runs a daemon with this manifest until it ends, while `body` asks and looks; gives its exit code.
pub fn daemon(manifest: &str, body: impl FnOnce(&Tester) + Send + 'static) -> u8 {
    daemon_with(&[], manifest, |_| (), body)
}

/// The same with more variables in its environment, and with something done in its directory before it begins.
pub fn daemon_with(
    variables: &[(&str, &str)],
    manifest: &str,
    before: impl FnOnce(&Path),
    body: impl FnOnce(&Tester) + Send + 'static,
) -> u8 {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().to_owned();
    before(&dir);
    let manifest = manifest.replace("DIR", &dir.display().to_string());
    let text = Arc::new(Mutex::new(manifest.clone()));
    let own = std::env::vars_os();
    let more = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let setup = Setup {
        manifest: load(&manifest).unwrap(),
        reload: {
            let text = text.clone();
            Arc::new(move |_: &Manifest, progress: &Progress| {
                let text = text.lock().unwrap().clone();
                if let Some(pipe) = text.lines().find_map(|line| line.strip_prefix(FROM_PIPE)) {
                    progress.comes_to(Path::new(pipe));
                    std::fs::read(pipe).unwrap();
                }
                if text.contains(SLOW) {
                    std::thread::sleep(Duration::from_millis(300));
                }
                load(&text)
            })
        },
        image: OwnImage::open().unwrap(),
        child_args: vec!["child".to_owned()],
        environment: own.chain(more).collect(),
        state_dir: dir.join("slots"),
        use_cgroups: !variables.contains(&WITHOUT_CGROUPS),
        service: Service::from_variables(&|name| {
            let given = variables.iter().find(|(given, _)| *given == name);
            given.map(|(_, value)| OsString::from(value))
        })
        .unwrap(),
        program: PathBuf::new(),
        outside: Rc::new(()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let code = runtime.block_on(async {
        let (supervisor, handle) = Supervisor::new(setup).unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let tester = Tester { handle, manifest: text, dir, runtime };
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(&tester)));
            if result.is_err() {
                // The loop must not keep a failed case alive; children see it go and end.
                std::process::exit(1);
            }
        });
        match supervisor.run().await {
            Lived::Ended(ended) => ended.code,
            Lived::Replaced(_) => panic!("nobody takes our place here"),
        }
    });
    drop(scratch);
    code
}

fn load(text: &str) -> Result<Manifest, Problems> {
    qfleet_manifest::load("test.yaml", text, &Here)
}

struct Here;

impl World for Here {
    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().or_else(|| (name == "TOKEN").then(|| "from the environment".to_owned()))
    }

    fn read_secret(&self, path: &Path) -> Result<String, String> {
        Err(format!("no secret files here: {}", path.display()))
    }

    fn find_program(&self, name: &str, _: Option<&str>, _: Option<&Path>) -> Result<PathBuf, String> {
        Ok(PathBuf::from(name))
    }

    fn user_exists(&self, _: &str, _: Option<&str>) -> Result<(), String> {
        Ok(())
    }

    fn is_root(&self) -> bool {
        true
    }
}

impl Tester {
    pub fn ask(&self, command: Command) -> Result<Reply, Refusal> {
        self.runtime.block_on(async {
            tokio::time::timeout(LIMIT, self.handle.ask(command)).await.expect("no answer")
        })
    }

    /// The lines of the answer, as `name: text`.
    pub fn told(&self, command: Command) -> Vec<String> {
        let reply = self.ask(command).unwrap();
        reply.results.into_iter().map(|result| format!("{}: {}", result.name, result.text)).collect()
    }

    pub fn shutdown(&self) {
        self.ask(Command::Shutdown { wait: false }).unwrap();
    }

    /// Reads another manifest from now on.
    pub fn reload(&self, manifest: &str) -> Vec<String> {
        *self.manifest.lock().unwrap() = manifest.replace("DIR", &self.dir.display().to_string());
        self.told(Command::Reload { dry_run: false, reset: false })
    }

    /// Reads another manifest from now on, in vain; gives what is said about it.
    pub fn reload_in_vain(&self, manifest: &str) -> String {
        *self.manifest.lock().unwrap() = manifest.replace("DIR", &self.dir.display().to_string());
        self.ask(Command::Reload { dry_run: false, reset: false }).unwrap_err().to_string()
    }

    /// What the status says about a manifest that is being read.
    pub fn reading(&self) -> Option<String> {
        self.handle.snapshot().reading
    }

    /// The same for two, one right after the other.
    pub fn reload_twice(&self, first: &str, second: &str) {
        let reload = || self.handle.ask(Command::Reload { dry_run: false, reset: false });
        *self.manifest.lock().unwrap() = first.to_owned();
        let later = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            *self.manifest.lock().unwrap() = second.to_owned();
            reload().await
        };
        let (first, second) = self.runtime.block_on(async { tokio::join!(reload(), later) });
        first.and(second).unwrap();
    }

    pub fn processes(&self) -> Vec<ProcessView> {
        self.handle.snapshot().processes
    }

    pub fn process(&self, name: &str) -> ProcessView {
        self.processes().into_iter().find(|process| process.name == name).unwrap()
    }

    /// Waits until the process is in this state.
    pub fn until_state(&self, name: &str, state: StateWord) -> ProcessView {
        until(&format!("`{name}` to be {}", state.word()), || {
            self.processes().into_iter().find(|process| process.name == name && process.state == state)
        })
    }

    /// Waits until every process is up.
    pub fn until_up(&self) {
        until("all to be up", || {
            let processes = self.processes();
            let up = processes.iter().all(|process| process.state == StateWord::Running);
            (!processes.is_empty() && up).then_some(())
        });
    }

    /// Waits until the process has written this.
    pub fn until_said(&self, name: &str, stream: Stream, what: &str) -> String {
        let of = Selector::parse(name).unwrap();
        until(&format!("`{name}` to say {what:?}"), || {
            let text = self.handle.logs(&of, stream).unwrap().tail(usize::MAX).bytes;
            let text = String::from_utf8_lossy(&text).into_owned();
            text.contains(what).then_some(text)
        })
    }
}

/// Those names.
pub fn names(text: &str) -> Vec<Selector> {
    vec![Selector::parse(text).unwrap()]
}
