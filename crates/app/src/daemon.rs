//! `qfleet run`: builds the daemon in reading order, runs it, and takes it down in reverse.
//!
//! A daemon that is to begin anew does all of it again in the same process, and keeps what others know it by: its process
//! number and its lock. The format of its log is the one thing that stays as it was. When another program is to take its
//! place (`qfleet upgrade`), that one comes in by the same way, and finds everything in a [`Handover`].
//!
//! The supervisor's loop has the main thread, because a child that is to end with its parent is bound to the thread that
//! started it. The control socket has a thread of its own, so that no client can delay the loop.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use qfleet_api::access::Gate;
use qfleet_api::{Dispatch, Doors, Limits, Server};
use qfleet_manifest::World;
use qfleet_manifest::settings::{Control, Level, LogFormat, Manifest};
use qfleet_manifest::stopping::LAST_ANSWERS;
use qfleet_os::lock::{InstanceLock, LockError};
use qfleet_os::replace::{self, Handed};
use qfleet_os::service::Service;
use qfleet_os::spawn::OwnImage;
use qfleet_os::{descriptors, mask, signal, socket, users};
use qfleet_supervisor::{Ended, Handle, Lived, Progress, Setup, State, Supervisor};

use crate::args::Options;
use crate::ctl::places;
use crate::ctl::print::Printer;
use crate::depth_watch;
use crate::exit::Exit;
use crate::given_doors::{GivenDoors, same_file};
use crate::handover::{self, Handover, Outer, Written};
use crate::logging;
use crate::manifest_file;
use crate::prefixes;
use crate::stop_limit;
use crate::watch;
use crate::world::Machine;

/// How long files that are still being read may take when the daemon ends.
const LAST_READS: Duration = Duration::from_millis(500);

/// How long requests under way may take when another program takes our place: whoever asks meanwhile waits at the door.
const CLOSING: Duration = Duration::from_millis(300);

/// Why the daemon did not start.
#[derive(Debug)]
pub(crate) struct NotStarted {
    exit: Exit,
    why: String,
}

impl NotStarted {
    pub(crate) fn new(exit: Exit, why: impl Into<String>) -> Self {
        Self { exit, why: why.into() }
    }

    pub(crate) fn internal(doing: &str) -> impl FnOnce(io::Error) -> Self {
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
    // Before there are threads that could take them.
    signal::hold().map_err(NotStarted::internal("keep signals for later"))?;
    let handed = replace::handed().map_err(NotStarted::internal("take the running daemon's place"))?;
    descriptors::ensure_standard().map_err(NotStarted::internal("open the standard descriptors"))?;
    mask::keep_files_ours();
    match handed {
        None => begin(options),
        Some(Handed::Rehearsal) => Ok(handover::rehearse()),
        Some(Handed::Over { state, old, given_back }) => {
            Handover::new(state, old, given_back).and_then(|handover| take_over(options, handover))
        }
    }
}

/// Begins with nothing but a manifest, and maybe the doors to it.
fn begin(options: &Options) -> Result<Exit, NotStarted> {
    let given = GivenDoors::take()?;
    let file = places::manifest(options, &Machine).map_err(|why| NotStarted::new(Exit::BadManifest, why))?;
    let manifest = manifest_file::read(&file)
        .map_err(|problems| NotStarted::new(Exit::BadManifest, problems.to_string()))?;
    let program = replace::own_path().map_err(NotStarted::internal("find our own program file"))?;
    let format = manifest.logging.format;
    let log = logging::start_apart(format, manifest.logging.level)
        .map_err(NotStarted::internal("start the log"))?;
    Daemon { options, file, program, format, log, given, lock: None }.live_on(Life::Fresh(Box::new(manifest)))
}

/// Goes on where another program was.
fn take_over(options: &Options, handover: Handover) -> Result<Exit, NotStarted> {
    let (state, written) = match handover.read() {
        Ok(read) => read,
        Err(why) => return Err(handover.give_back(&why)),
    };
    let logging = state.manifest().logging;
    let log = match logging::start_apart(written.format, logging.level) {
        Ok(log) => log,
        Err(error) => return Err(handover.give_back(&format!("cannot start the log: {error}"))),
    };
    log.kept().resume(written.own_log.clone());
    let program = handover.program(&state).to_owned();
    let (file, format) = (written.file.clone(), written.format);
    let given = GivenDoors::default();
    Daemon { options, file, program, format, log, given, lock: None }
        .live_on(Life::Taken(Box::new((handover, state, written))))
}

/// What a daemon lives on.
enum Life {
    /// A manifest, from the start.
    Fresh(Box<Manifest>),
    /// The state of the daemon whose place we have taken.
    Taken(Box<(Handover, State, Written)>),
}

/// What a daemon keeps while it begins anew.
struct Daemon<'a> {
    options: &'a Options,
    /// The manifest.
    file: PathBuf,
    /// The program it runs.
    program: PathBuf,
    /// Of the log, which stays as it began.
    format: LogFormat,
    log: logging::Apart,
    /// What is open without our doing.
    given: GivenDoors,
    /// Shows others that we are here, and where.
    lock: Option<(PathBuf, Rc<InstanceLock>)>,
}

/// A fleet at work, and the doors to it.
struct Running {
    supervisor: Supervisor,
    handle: Handle,
    outer: Rc<Outer>,
    server: Server,
}

impl Daemon<'_> {
    /// Lives, and begins anew as often as that is asked for.
    fn live_on(mut self, mut life: Life) -> Result<Exit, NotStarted> {
        // What to go on with when the daemon is to begin anew and cannot with the manifest as it is then.
        let mut before: Option<Manifest> = None;
        loop {
            let (ended, in_force) = match (self.live(life), before.take()) {
                (Ok(lived), _) => lived,
                (Err(not_started), None) => return Err(not_started),
                (Err(NotStarted { why, .. }), Some(before)) => {
                    tracing::error!("cannot begin anew, going on with the manifest as it was: {why}");
                    life = Life::Fresh(Box::new(before));
                    continue;
                }
            };
            if !ended.again {
                return Ok(Exit::of_daemon(ended.code));
            }
            let again = manifest_file::read_again(&self.file, &Progress::default());
            let manifest = again.unwrap_or_else(|problems| {
                tracing::error!("the manifest has problems now, going on with it as it was:\n{problems}");
                in_force.clone()
            });
            life = Life::Fresh(Box::new(manifest));
            before = Some(in_force);
        }
    }

    /// Runs a fleet from its first start, or from where another program left it, to its end. Says how it ended, and which
    /// manifest was in force.
    fn live(&mut self, life: Life) -> Result<(Ended, Manifest), NotStarted> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(NotStarted::internal("start the event loop"));
        let runtime = match (runtime, &life) {
            (Ok(runtime), _) => runtime,
            (Err(NotStarted { why, .. }), Life::Taken(taken)) => return Err(taken.0.give_back(&why)),
            (Err(error), Life::Fresh(_)) => return Err(error),
        };
        let lived = runtime.block_on(async {
            let running = match life {
                Life::Fresh(manifest) => self.begin(*manifest)?,
                Life::Taken(taken) => {
                    let (handover, state, written) = *taken;
                    // Whatever happens here, the old program is still there to go on.
                    let taken = catch_unwind(AssertUnwindSafe(|| self.take_over(&handover, state, written)));
                    match taken {
                        Ok(Ok(running)) => running,
                        Ok(Err(NotStarted { why, .. })) => return Err(handover.give_back(&why)),
                        Err(_panic) => return Err(handover.give_back("it panicked")),
                    }
                }
            };
            let socket = running.outer.socket.clone();
            Ok((running.live(&self.log).await?, socket))
        });
        // Whoever reads a file that never answers is not waited for. What is written at the end was waited for before.
        runtime.shutdown_timeout(LAST_READS);
        let (lived, socket) = lived?;
        Place { socket }.leave(self.given.path().is_none());
        Ok(lived)
    }

    fn begin(&mut self, manifest: Manifest) -> Result<Running, NotStarted> {
        self.log.set_level(manifest.logging.level);
        for warning in &manifest.warnings {
            tracing::warn!("{warning}");
        }
        let control = manifest.control.clone();
        let place = Place::make(self.options, &control, self.given.path())?;
        if self.lock.as_ref().is_none_or(|(socket, _)| *socket != place.socket) {
            self.lock = Some((place.socket.clone(), Rc::new(place.lock()?)));
        }
        if self.given.path().is_none() {
            place.vacant()?;
        }
        // Before anything of the supervisor's, which would have to be undone.
        let (socket, tcp) = place.open(&control, &self.given)?;
        let outer = self.outer(&place, control, socket, tcp)?;
        let (supervisor, handle) = Supervisor::new(self.setup(manifest, &outer)?)
            .map_err(NotStarted::internal("prepare the supervisor"))?;
        prefixes::warn_once(&handle.manifest());
        stop_limit::warn_once(handle.manifest(), self.file.display().to_string());
        Running::new(supervisor, handle, outer)
    }

    fn take_over(
        &mut self,
        handover: &Handover,
        state: State,
        written: Written,
    ) -> Result<Running, NotStarted> {
        let place = Place { socket: written.socket.clone() };
        let lock =
            handover.inherited.get(written.lock).map_err(NotStarted::internal("keep the instance lock"))?;
        self.lock = Some((place.socket.clone(), Rc::new(InstanceLock::from(lock))));
        let (socket, tcp) = match handover.doors(&written) {
            Ok((socket, tcp)) => {
                self.given = GivenDoors::carried(written.given, (&socket, &place.socket), tcp.as_ref())
                    .map_err(NotStarted::internal("keep the sockets that were handed over"))?;
                (socket, tcp)
            }
            // Whoever is put back goes on with what there is.
            Err(error) if handover.is_given_back() => {
                tracing::error!("the control socket is opened anew: {error}");
                place.open(&written.control, &self.given)?
            }
            Err(error) => return Err(NotStarted::internal("keep the control socket")(error)),
        };
        let outer = self.outer(&place, written.control, socket, tcp)?;
        let setup = self.setup(state.manifest(), &outer)?;
        let (supervisor, handle) =
            Supervisor::take_over(setup, state, &handover.inherited, handover.given_back.as_deref())
                .map_err(NotStarted::internal("take over the fleet"))?;
        Running::new(supervisor, handle, outer)
    }

    fn outer(
        &self,
        place: &Place,
        control: Control,
        listener: UnixListener,
        tcp: Option<TcpListener>,
    ) -> Result<Rc<Outer>, NotStarted> {
        let Some((_, lock)) = &self.lock else {
            return Err(NotStarted::new(Exit::Internal, "the instance lock is not held"));
        };
        Ok(Rc::new(Outer {
            control,
            file: self.file.clone(),
            format: self.format,
            socket: place.socket.clone(),
            lock: lock.clone(),
            listener,
            tcp,
            given: self.given.which(),
            own_log: self.log.kept(),
        }))
    }

    fn setup(&self, manifest: Manifest, outer: &Rc<Outer>) -> Result<Setup, NotStarted> {
        let (level, file) = (manifest.logging.level, self.file.clone());
        Ok(Setup {
            manifest,
            reload: Arc::new(move |in_force, progress| {
                let mut manifest = manifest_file::read_again(&file, progress)?;
                let warnings = stop_limit::outgrown(in_force, &manifest, &file.display().to_string());
                manifest.warnings.extend(warnings);
                Ok(manifest)
            }),
            image: OwnImage::open().map_err(NotStarted::internal("open our own program file"))?,
            child_args: vec!["child".to_owned()],
            environment: environment(level),
            state_dir: Place { socket: outer.socket.clone() }.ledgers(),
            use_cgroups: Machine.env("QFLEET_CGROUP").is_none_or(|word| word != "off"),
            service: Service::from_env().map_err(NotStarted::internal("reach the service manager"))?,
            program: self.program.clone(),
            outside: outer.clone(),
        })
    }
}

impl Running {
    fn new(supervisor: Supervisor, handle: Handle, outer: Rc<Outer>) -> Result<Self, NotStarted> {
        let server = serve(&handle, &outer).map_err(NotStarted::internal("serve the control socket"))?;
        Ok(Self { supervisor, handle, outer, server })
    }

    /// Runs to the end, or until another program has taken our place, from where nobody returns.
    async fn live(self, log: &logging::Apart) -> Result<(Ended, Manifest), NotStarted> {
        let Self { mut supervisor, handle, outer, mut server } = self;
        watch::start(handle.clone()).map_err(NotStarted::internal("start to watch programs"))?;
        tokio::spawn(depth_watch::keep(handle.clone()));
        loop {
            match supervisor.run().await {
                Lived::Ended(ended) => {
                    server.stop(LAST_ANSWERS);
                    return Ok((ended, Manifest::clone(&handle.manifest())));
                }
                Lived::Replaced(still) => {
                    supervisor = *still;
                    // Whoever connects from here on waits at the door for the other program.
                    server.stop(CLOSING);
                    log.flush();
                    supervisor.replace();
                    server = serve(&handle, &outer)
                        .map_err(NotStarted::internal("serve the control socket again"))?;
                }
            }
        }
    }
}

/// Serves the doors; they stay open when the server ends.
fn serve(handle: &Handle, outer: &Outer) -> io::Result<Server> {
    let gate = || Gate::new(outer.control.logins.clone());
    let tcp = outer.tcp.as_ref().map(|tcp| Ok::<_, io::Error>((tcp.try_clone()?, gate()))).transpose()?;
    let doors = Doors { socket: outer.listener.try_clone()?, tcp };
    let (asked, own_log) = (handle.clone(), outer.own_log.clone());
    Server::start(doors, Limits::default(), move || Dispatch::new(asked).with_own_log(own_log))
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
    /// Chooses the socket, the one that was given if there is one, and makes its directory.
    fn make(options: &Options, control: &Control, given: Option<&Path>) -> Result<Self, NotStarted> {
        let default = || {
            if users::am_root() {
                return Some(PathBuf::from(places::SYSTEM_SOCKET));
            }
            places::user_socket(&Machine)
        };
        let from_environment =
            || Machine.env("QFLEET_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from);
        let chosen = options.socket.clone().or_else(from_environment).or_else(|| control.socket.clone());
        if let Some(given) = given {
            return Self::of_given(given, chosen.as_deref());
        }
        let socket = chosen.or_else(default).ok_or_else(|| {
            NotStarted::new(
                Exit::Taken,
                "no place for the control socket: not root, and XDG_RUNTIME_DIR is not set; name one as `control.socket`",
            )
        })?;
        let socket =
            std::path::absolute(&socket).map_err(NotStarted::internal("resolve the socket's path"))?;
        if let Some(folder) = socket.parent().filter(|folder| !folder.exists()) {
            // Everybody may pass, whatever our mask takes from them: the socket has a mode of its own.
            let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
            made.and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o755))).map_err(
                |error| NotStarted::new(Exit::Taken, format!("cannot make `{}`: {error}", folder.display())),
            )?;
        }
        Ok(Self { socket })
    }

    /// The place of a socket that was given, where everybody looks for it.
    fn of_given(given: &Path, chosen: Option<&Path>) -> Result<Self, NotStarted> {
        match chosen.filter(|chosen| !same_file(chosen, given)) {
            None => Ok(Self { socket: given.to_owned() }),
            Some(chosen) => Err(NotStarted::new(
                Exit::BadManifest,
                format!(
                    "the control socket handed over is `{}`, but `{}` is to be used; name the same in both (`ListenStream=` of \
                     the socket unit, `control.socket` of the manifest)",
                    given.display(),
                    chosen.display()
                ),
            )),
        }
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

    /// Refuses a socket at which somebody listens. We have the lock, so it is no daemon of ours.
    fn vacant(&self) -> Result<(), NotStarted> {
        if !socket::is_served(&self.socket) {
            return Ok(());
        }
        let shown = self.socket.display();
        Err(NotStarted::new(
            Exit::Taken,
            format!(
                "another program listens at `{shown}` (`ss -xlp src {shown}` says which); end it, or name another `control.socket`"
            ),
        ))
    }

    /// Opens every door there is to be and that is not given.
    fn open(
        &self,
        control: &Control,
        given: &GivenDoors,
    ) -> Result<(UnixListener, Option<TcpListener>), NotStarted> {
        let listen = |address| {
            TcpListener::bind(address).map_err(|error| {
                NotStarted::new(
                    Exit::Taken,
                    format!("cannot listen at `{address}` (`control.listen`): {error}"),
                )
            })
        };
        let tcp = match given.tcp(control)? {
            None => control.listen.map(listen).transpose()?,
            given => given,
        };
        let socket = match given.socket()? {
            None => self.listen(control)?,
            Some(given) => given,
        };
        Ok((socket, tcp))
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

    /// Removes the socket if it is `ours`, and the directories of ledgers as far as they are empty: what lies there is still
    /// needed. The lock file stays, its lock is gone with us.
    fn leave(&self, ours: bool) {
        if ours && let Err(error) = fs::remove_file(&self.socket) {
            tracing::warn!("cannot remove `{}`: {error}", self.socket.display());
        }
        let folders = fs::read_dir(self.ledgers()).into_iter().flatten().flatten().map(|entry| entry.path());
        for folder in folders.chain([self.ledgers()]) {
            let _needed = fs::remove_dir(folder);
        }
    }
}
