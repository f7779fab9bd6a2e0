//! The child's side of [`crate::spawn`]: takes the link, becomes what the daemon asked for, and executes a program.
//!
//! Called in a fresh process with a single thread, before any runtime exists. Each step that fails is named, with the
//! system's number, so that the daemon can tell a wrong setting from a crashing program.

use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{self, Gid, Uid};
use qfleet_model::link::FromChild;
use qfleet_model::start::{EnvFile, Identity, Preparation};

use crate::{cgroup, descriptors, env_file, limits, raw, socket};

/// How willingly the kernel ends this process when memory runs out; lower is later.
const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// A step of the preparation that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepError {
    /// What was being done, e.g. `execute /usr/bin/php`.
    pub step: String,
    /// The system's number for the error, where there is one.
    pub errno: Option<i32>,
    /// The error in words.
    pub text: String,
}

impl StepError {
    pub(crate) fn new(step: impl Into<String>, error: &io::Error) -> Self {
        let text = error
            .raw_os_error()
            .map_or_else(|| error.to_string(), |number| Errno::from_raw(number).desc().to_lowercase());
        Self { step: step.into(), errno: error.raw_os_error(), text }
    }

    pub(crate) fn said(step: impl Into<String>, errno: Option<Errno>, text: impl Into<String>) -> Self {
        Self { step: step.into(), errno: errno.map(|number| number as i32), text: text.into() }
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.step, self.text)
    }
}

impl std::error::Error for StepError {}

impl From<StepError> for FromChild {
    fn from(error: StepError) -> Self {
        Self::Failed { step: error.step, errno: error.errno, error: error.text }
    }
}

/// Takes the link from descriptor 0, which becomes the input that the daemon has sent ahead of its first message, or
/// `/dev/null`. Waits for that message. The link is close-on-exec, so that the daemon sees it end when a program was
/// executed.
///
/// # Errors
/// Descriptor 0 is not a socket: this process was not started by a daemon.
pub fn take_link() -> io::Result<UnixStream> {
    let stdin = io::stdin();
    socket::peer(&stdin).map_err(|_| {
        io::Error::other("descriptor 0 is not a link to a daemon; this command is started by the daemon only")
    })?;
    let link = stdin.as_fd().try_clone_to_owned()?;
    match raw::peek_descriptor(&link)? {
        Some(input) => unistd::dup2_stdin(input)?,
        None => unistd::dup2_stdin(File::open("/dev/null")?)?,
    }
    Ok(UnixStream::from(link))
}

/// Becomes what `preparation` asks for. `link` is what [`take_link`] gave.
///
/// What needs privileges comes before they are dropped, what must happen as the target user after it. Afterwards all
/// signals are at their default (a broken pipe still is an error, until [`execute`]) and every descriptor except 0, 1 and
/// 2 is closed on exec.
///
/// # Errors
/// The first step that failed; the process is then in no state to go on.
pub fn prepare(preparation: &Preparation, link: &UnixStream) -> Result<(), StepError> {
    if let Some(group) = &preparation.cgroup {
        // Without it its descendants are looked for, so this is nothing to fail for.
        let _ = cgroup::enter(group);
    }
    step("make a session", unistd::setsid())?;
    // The image is executed through a descriptor, whose number would be its name in short listings.
    step("set the process name", prctl::set_name(c"qfleet"))?;
    set_limits(preparation)?;
    be_as_killable_as_others();
    if let Some(by) = preparation.nice {
        raw::set_nice(raw::nice().saturating_add(by))
            .map_err(|error| StepError::new(format!("raise the nice value by {by}"), &error))?;
    }
    let dropped = preparation.user.as_ref().map_or(Ok(false), become_user)?;
    if preparation.no_new_privileges.unwrap_or(dropped) {
        step("forbid new privileges", prctl::set_no_new_privs())?;
    }
    if let Some(signal) = preparation.parent_death {
        // Changing the user clears it, so it comes after.
        die_with_daemon(signal, link)?;
    }
    if let Some(mask) = preparation.umask {
        umask(Mode::from_bits_truncate(mask));
    }
    if let Some(cwd) = &preparation.cwd {
        step(&format!("enter `{}`", cwd.display()), unistd::chdir(cwd))?;
    }
    preparation.env_files.iter().try_for_each(|file| add_variables(file, &preparation.fixed_variables))?;
    raw::reset_signals().map_err(|error| StepError::new("reset signals", &error))?;
    descriptors::close_others_on_exec().map_err(|error| StepError::new("close descriptors", &error))
}

/// Takes the variables of a file into the environment, but for those that no file changes.
fn add_variables(file: &EnvFile, fixed: &[String]) -> Result<(), StepError> {
    let doing = || format!("read `{}`", file.path.display());
    let own = |name: &str| std::env::var(name).ok();
    let variables = match env_file::read(&file.path, &own) {
        Ok(variables) => variables,
        Err(error) if file.optional && error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StepError::new(doing(), &error)),
    };
    for (name, value) in variables.iter().filter(|(name, _)| !fixed.contains(name)) {
        if value.contains('\0') {
            return Err(StepError::said(doing(), None, format!("the value of `{name}` has a zero byte")));
        }
        raw::set_variable(name, value);
    }
    Ok(())
}

/// Takes back what spares the daemon when memory runs out: its children are to be ended before it is.
fn be_as_killable_as_others() {
    let score = fs::read_to_string(OOM_SCORE).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if score.is_some_and(|score| score < 0) {
        // Raising it takes no rights; where there is no such file, nothing was lowered.
        let _ = fs::write(OOM_SCORE, "0");
    }
}

fn set_limits(preparation: &Preparation) -> Result<(), StepError> {
    let limits =
        limits::read(&preparation.limits).map_err(|text| StepError::said("set limits", None, text))?;
    for (name, limit) in limits {
        limit.set().map_err(|error| StepError::new(format!("set limit `{name}`"), &error))?;
    }
    Ok(())
}

/// Says whether privileges were given up.
fn become_user(user: &Identity) -> Result<bool, StepError> {
    let named = user.name.clone().unwrap_or_else(|| user.uid.to_string());
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let before = Gid::effective();
    if !Uid::effective().is_root() {
        let already = uid == Uid::current() && uid == Uid::effective() && gid == Gid::effective();
        let text = "only a daemon that runs as root can change the user";
        return if already {
            Ok(false)
        } else {
            Err(StepError::said(format!("become user `{named}`"), Some(Errno::EPERM), text))
        };
    }
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    step(&format!("set the groups of `{named}`"), unistd::setgroups(&groups))?;
    step(&format!("become group {gid} of `{named}`"), unistd::setresgid(gid, gid, gid))?;
    step(&format!("become user `{named}`"), unistd::setresuid(uid, uid, uid))?;
    if uid.is_root() {
        return Ok(false);
    }
    let back =
        unistd::seteuid(Uid::from_raw(0)).is_ok() || (gid != before && unistd::setegid(before).is_ok());
    if back {
        let text = "privileges could be taken back after they were dropped";
        return Err(StepError::said(format!("become user `{named}`"), None, text));
    }
    Ok(true)
}

fn die_with_daemon(signal: i32, link: &UnixStream) -> Result<(), StepError> {
    let asking = "ask to end with the daemon";
    raw::die_with_parent(signal).map_err(|error| StepError::new(asking, &error))?;
    // If the daemon ended before the request, the signal will never come.
    let daemon = socket::peer(link).map_err(|error| StepError::new(asking, &error))?.pid;
    if unistd::getppid().as_raw() == daemon {
        Ok(())
    } else {
        Err(StepError::said(asking, Some(Errno::ESRCH), "the daemon has ended"))
    }
}

/// Executes a program in place of this process; the program is looked up in the `PATH` of `env` when it is a bare name.
/// Returns only when that failed.
#[must_use]
pub fn execute(argv: &[impl AsRef<OsStr>], env: &[(OsString, OsString)]) -> StepError {
    let Some(program) = argv.first().map(AsRef::as_ref).filter(|program| !program.is_empty()) else {
        return StepError::said("execute", Some(Errno::ENOENT), "the command is empty");
    };
    let shown = Path::new(program).display();
    let arguments =
        argv.iter().map(|argument| CString::new(argument.as_ref().as_bytes())).collect::<Result<Vec<_>, _>>();
    let variables = env.iter().map(|(name, value)| variable(name, value)).collect::<Result<Vec<_>, _>>();
    let (Ok(arguments), Ok(variables)) = (arguments, variables) else {
        return StepError::said(
            format!("execute {shown}"),
            None,
            "arguments and variables cannot hold a zero byte",
        );
    };
    raw::broken_pipe_kills(true);
    let error = try_candidates(program, env, &arguments, &variables);
    // The failure still has to be written to the link.
    raw::broken_pipe_kills(false);
    error
}

fn variable(name: &OsStr, value: &OsStr) -> Result<CString, std::ffi::NulError> {
    CString::new([name.as_bytes(), b"=", value.as_bytes()].concat())
}

fn try_candidates(
    program: &OsStr,
    env: &[(OsString, OsString)],
    argv: &[CString],
    variables: &[CString],
) -> StepError {
    let mut forbidden = None;
    for candidate in candidates(program, env) {
        let Ok(path) = CString::new(candidate.as_os_str().as_bytes()) else { continue };
        let Err(errno) = unistd::execve(&path, argv, variables);
        match errno {
            Errno::ENOENT | Errno::ENOTDIR if !candidate.exists() => {}
            Errno::EACCES => forbidden = forbidden.or(Some(candidate)),
            errno => return not_executed(&candidate, errno),
        }
    }
    match forbidden {
        Some(candidate) => not_executed(&candidate, Errno::EACCES),
        None if program.as_bytes().contains(&b'/') => not_executed(Path::new(program), Errno::ENOENT),
        None => {
            let text = format!("no directory of PATH has it (PATH is `{}`)", search_path(env).display());
            StepError::said(format!("execute {}", Path::new(program).display()), Some(Errno::ENOENT), text)
        }
    }
}

fn candidates(program: &OsStr, env: &[(OsString, OsString)]) -> Vec<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return vec![PathBuf::from(program)];
    }
    std::env::split_paths(&search_path(env)).map(|directory| directory.join(program)).collect()
}

fn search_path(env: &[(OsString, OsString)]) -> OsString {
    let path = env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
    path.unwrap_or_else(|| OsString::from_vec(b"/usr/local/bin:/usr/bin:/bin".to_vec()))
}

pub(crate) fn not_executed(path: &Path, errno: Errno) -> StepError {
    let text = match errno {
        Errno::ENOENT if path.exists() => "the interpreter it names does not exist",
        Errno::ENOENT | Errno::ENOTDIR => "there is no such file",
        Errno::EACCES if path.is_dir() => "it is a directory",
        Errno::EACCES => "not permitted to execute it; check its mode, its directories and its mount",
        Errno::ENOEXEC => {
            "not a program for this system, and no script that names its interpreter after `#!`"
        }
        Errno::E2BIG => "arguments and environment are too long",
        Errno::ETXTBSY => "somebody is writing to it",
        Errno::EAGAIN => "the user has reached its limit of processes",
        other => return StepError::new(format!("execute {}", path.display()), &io::Error::from(other)),
    };
    StepError::said(format!("execute {}", path.display()), Some(errno), text)
}

fn step<T>(name: &str, result: nix::Result<T>) -> Result<(), StepError> {
    result.map(drop).map_err(|errno| StepError::new(name, &io::Error::from(errno)))
}
