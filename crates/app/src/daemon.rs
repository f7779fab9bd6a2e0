//! `qfleet run`: builds the daemon in reading order, runs it, and takes it down in reverse.
//!
//! A daemon that is to begin anew does all of it again in the same process, and keeps what others know it by: its process
//! number and its lock. The format of its log is the one thing that stays as it was.
//!
//! The supervisor's loop has the main thread, because a child that is to end with its parent is bound to the thread that
//! started it. The control socket has a thread of its own, so that no client can delay the loop.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use qfleet_api::access::Gate;
use qfleet_api::{Dispatch, Doors, Limits, Server};
use qfleet_manifest::World;
use qfleet_manifest::settings::{Control, Level, Manifest};
use qfleet_os::lock::{InstanceLock, LockError};
use qfleet_os::service::Service;
use qfleet_os::spawn::OwnImage;
use qfleet_os::{descriptors, socket, users};
use qfleet_supervisor::{Ended, Setup, Supervisor};

use crate::args::Options;
use crate::ctl::places;
use crate::ctl::print::Printer;
use crate::exit::Exit;
use crate::logging;
use crate::manifest_file;
use crate::prefixes;
use crate::world::Machine;

/// How long requests under way may take when the daemon ends.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Why the daemon did not start.
#[derive(Debug)]
pub(crate) struct NotStarted {
    exit: Exit,
    why: String,
}

impl NotStarted {
    fn new(exit: Exit, why: impl Into<String>) -> Self {
        Self { exit, why: why.into() }
    }

    fn internal(doing: &str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::new(Exit::Internal, format!("cannot {doing}: {error}"))
    }
}

/// Runs a fleet in the foreground until it is told to end.
pub(crate) fn run(options: &Options) -> Exit {
    match start(options) {
        Ok(exit) => exit,
        Err(NotStarted { exit, why }) => {
            Printer::new(options).problem(&why);
            exit
        }
    }
}

fn start(options: &Options) -> Result<Exit, NotStarted> {
    descriptors::ensure_standard().map_err(NotStarted::internal("open the standard descriptors"))?;
    let file = places::manifest(options, &Machine).map_err(|why| NotStarted::new(Exit::BadManifest, why))?;
    let mut manifest = manifest_file::read(&file)
        .map_err(|problems| NotStarted::new(Exit::BadManifest, problems.to_string()))?;
    let log = logging::start_apart(manifest.logging.format, manifest.logging.level)
        .map_err(NotStarted::internal("start the log"))?;
    let mut daemon = Daemon { options, file, log, lock: None };
    // What to go on with when the daemon is to begin anew and cannot with the manifest as it is then.
    let mut before: Option<Manifest> = None;
    loop {
        let (ended, in_force) = match (daemon.live(manifest), before.take()) {
            (Ok(lived), _) => lived,
            (Err(not_started), None) => return Err(not_started),
            (Err(NotStarted { why, .. }), Some(before)) => {
                tracing::error!("cannot begin anew, going on with the manifest as it was: {why}");
                manifest = before;
                continue;
            }
        };
        if !ended.again {
            return Ok(Exit::of_daemon(ended.code));
        }
        manifest = manifest_file::read(&daemon.file).unwrap_or_else(|problems| {
            tracing::error!("the manifest has problems now, going on with it as it was:\n{problems}");
            in_force.clone()
        });
        before = Some(in_force);
    }
}

/// What a daemon keeps while it begins anew.
struct Daemon<'a> {
    options: &'a Options,
    /// The manifest.
    file: PathBuf,
    log: logging::Apart,
    /// Shows others that we are here, and where.
    lock: Option<(PathBuf, InstanceLock)>,
}

impl Daemon<'_> {
    /// Runs a fleet from its first start to its end. Says how it ended, and which manifest was in force.
    fn live(&mut self, manifest: Manifest) -> Result<(Ended, Manifest), NotStarted> {
        self.log.set_level(manifest.logging.level);
        for warning in &manifest.warnings {
            tracing::warn!("{warning}");
        }
        let control = manifest.control.clone();
        let place = Place::make(self.options, &control)?;
        if self.lock.as_ref().is_none_or(|(socket, _)| *socket != place.socket) {
            self.lock = Some((place.socket.clone(), place.lock()?));
        }
        let (level, file) = (manifest.logging.level, self.file.clone());
        let setup = Setup {
            manifest,
            reload: Arc::new(move || manifest_file::read(&file)),
            image: OwnImage::open().map_err(NotStarted::internal("open our own program file"))?,
            child_args: vec!["child".to_owned()],
            environment: environment(level),
            state_dir: place.ledgers(),
            use_cgroups: Machine.env("QFLEET_CGROUP").is_none_or(|word| word != "off"),
            service: Service::from_env().map_err(NotStarted::internal("reach the service manager"))?,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(NotStarted::internal("start the event loop"))?;
        let lived = runtime.block_on(async {
            // Before anything of the supervisor's, which would have to be undone.
            let doors = place.open(&control)?;
            let (supervisor, handle) =
                Supervisor::new(setup).map_err(NotStarted::internal("prepare the supervisor"))?;
            prefixes::warn_once(&handle.manifest());
            let (asked, own_log) = (handle.clone(), self.log.kept());
            let build = move || Dispatch::new(asked).with_own_log(own_log);
            let server = Server::start(doors, Limits::default(), build)
                .map_err(NotStarted::internal("serve the control socket"))?;
            let ended = supervisor.run().await;
            server.stop(LAST_ANSWERS);
            Ok((ended, Manifest::clone(&handle.manifest())))
        })?;
        place.leave();
        Ok(lived)
    }
}

/// What children inherit from: our own environment, and the log level for workers where nobody set one.
fn environment(level: Level) -> Vec<(OsString, OsString)> {
    let mut variables: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    if !variables.iter().any(|(name, _)| name == logging::FILTER) {
        variables.push((logging::FILTER.into(), logging::word(level).into()));
    }
    variables
}

/// Everything a daemon has on disk, all beside its control socket.
#[derive(Debug)]
struct Place {
    socket: PathBuf,
}

impl Place {
    /// Chooses the socket and makes its directory.
    fn make(options: &Options, control: &Control) -> Result<Self, NotStarted> {
        let default = || {
            if users::am_root() {
                return Some(PathBuf::from(places::SYSTEM_SOCKET));
            }
            places::user_socket(&Machine)
        };
        let from_environment =
            || Machine.env("QFLEET_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from);
        let chosen = options.socket.clone().or_else(from_environment).or_else(|| control.socket.clone());
        let socket = chosen.or_else(default).ok_or_else(|| {
            NotStarted::new(
                Exit::Taken,
                "no place for the control socket: not root, and XDG_RUNTIME_DIR is not set; name one as `control.socket`",
            )
        })?;
        let socket =
            std::path::absolute(&socket).map_err(NotStarted::internal("resolve the socket's path"))?;
        if let Some(folder) = socket.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(|error| {
                NotStarted::new(Exit::Taken, format!("cannot make `{}`: {error}", folder.display()))
            })?;
        }
        Ok(Self { socket })
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.socket.clone().into_os_string();
        name.push(suffix);
        PathBuf::from(name)
    }

    fn ledgers(&self) -> PathBuf {
        self.beside(".slots")
    }

    fn lock(&self) -> Result<InstanceLock, NotStarted> {
        let file = self.beside(".lock");
        InstanceLock::take(&file).map_err(|error| {
            let shown = file.display();
            let why = match error {
                LockError::HeldBy(_) => format!(
                    "a daemon runs at `{}` already (`{shown}` is {error}); end it with `qfleet shutdown`, or name another `control.socket`",
                    self.socket.display()
                ),
                LockError::Io(error) => format!("cannot lock `{shown}`: {error}"),
            };
            NotStarted::new(Exit::Taken, why)
        })
    }

    /// Opens every door there is to be.
    fn open(&self, control: &Control) -> Result<Doors, NotStarted> {
        let listen = |address| {
            TcpListener::bind(address).map_err(|error| {
                NotStarted::new(
                    Exit::Taken,
                    format!("cannot listen at `{address}` (`control.listen`): {error}"),
                )
            })
        };
        let tcp = control.listen.map(listen).transpose()?;
        let tcp = tcp.map(|listener| (listener, Gate::new(control.logins.clone())));
        Ok(Doors { socket: self.listen(control)?, tcp })
    }

    fn listen(&self, control: &Control) -> Result<UnixListener, NotStarted> {
        let group = control
            .group
            .as_deref()
            .map(users::resolve_group)
            .transpose()
            .map_err(|error| NotStarted::new(Exit::BadManifest, format!("control.group: {error}")))?;
        socket::listen(&self.socket, control.mode, group).map_err(|error| {
            NotStarted::new(Exit::Taken, format!("cannot listen at `{}`: {error}", self.socket.display()))
        })
    }

    /// Removes the socket, and the directories of ledgers as far as they are empty: what lies there is still needed. The
    /// lock file stays, its lock is gone with us.
    fn leave(&self) {
        if let Err(error) = fs::remove_file(&self.socket) {
            tracing::warn!("cannot remove `{}`: {error}", self.socket.display());
        }
        let folders = fs::read_dir(self.ledgers()).into_iter().flatten().flatten().map(|entry| entry.path());
        for folder in folders.chain([self.ledgers()]) {
            let _needed = fs::remove_dir(folder);
        }
    }
}
