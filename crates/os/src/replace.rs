//! Puts another program in this one's place: same process, same children, same open descriptors.
//!
//! The daemon hands its state over in a file without a name, which no other process can open. The new program is
//! [rehearsed](rehearse) on a copy first, by the very command line it will run with. Then [`replace`] leaves the descriptors
//! open that are to survive and executes it; the running program's own file is among them, so that the new one can put the
//! old one back when it cannot go on.

use std::convert::Infallible;
use std::env;
use std::ffi::{CString, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl;
use nix::unistd::{execve, pipe2};

use crate::{descriptors, raw};

/// Names what is handed over: `rehearsal`, or the numbers of the descriptors of the state, the old program and the new one.
pub const HANDED_OVER: &str = "QFLEET_HANDED_OVER";

/// Why a new program gave everything back to the old one.
pub const GIVEN_BACK: &str = "QFLEET_GIVEN_BACK";

const REHEARSAL: &str = "rehearsal";

/// Where a program file is that was replaced on disk, as the system words it.
const DELETED: &[u8] = b" (deleted)";

/// A program file, held open, so that what was rehearsed is what is executed.
#[derive(Debug)]
pub struct Program {
    file: OwnedFd,
}

impl Program {
    /// Opens a program file.
    ///
    /// # Errors
    /// There is none.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        Ok(Self { file: file.into() })
    }

    /// The program that runs.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn own() -> io::Result<Self> {
        Self::open(Path::new("/proc/self/exe"))
    }

    fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.file.as_raw_fd())
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl From<OwnedFd> for Program {
    fn from(file: OwnedFd) -> Self {
        Self { file }
    }
}

/// Where the running program's file is, or was when this process began to run it.
///
/// # Errors
/// `/proc` is not mounted.
pub fn own_path() -> io::Result<PathBuf> {
    let shown = std::fs::read_link("/proc/self/exe")?.into_os_string().into_vec();
    let path = shown.strip_suffix(DELETED).unwrap_or(&shown);
    Ok(PathBuf::from(OsString::from_vec(path.to_vec())))
}

/// A nameless file with this text, read from its beginning.
///
/// # Errors
/// Out of memory or descriptors.
pub fn nameless(text: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"qfleet-state", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(text)?;
    file.rewind()?;
    Ok(file)
}

/// A rehearsal under way. Reaping it is the caller's business.
#[derive(Debug)]
pub struct Rehearsal {
    /// Its process, which leads a group of its own.
    pub pid: i32,
    /// What it answers.
    pub stdout: OwnedFd,
    /// What it complains about.
    pub stderr: OwnedFd,
}

/// Starts the program as it would be executed, as a child that reads the state from its standard input. The descriptors do
/// not block.
///
/// # Errors
/// It cannot be executed.
pub fn rehearse(program: &Program, state: File) -> io::Result<Rehearsal> {
    let (stdout, its_stdout) = pipe2(OFlag::O_CLOEXEC)?;
    let (stderr, its_stderr) = pipe2(OFlag::O_CLOEXEC)?;
    descriptors::set_nonblocking(&stdout)?;
    descriptors::set_nonblocking(&stderr)?;
    let mut arguments = env::args_os();
    let mut command = Command::new(program.path());
    command
        .arg0(arguments.next().unwrap_or_default())
        .args(arguments)
        .env(HANDED_OVER, REHEARSAL)
        .env_remove(GIVEN_BACK)
        .stdin(Stdio::from(state))
        .stdout(Stdio::from(its_stdout))
        .stderr(Stdio::from(its_stderr))
        .process_group(0);
    // The interpreter of a script has to find it.
    descriptors::set_close_on_exec(program, false)?;
    let spawned = command.spawn();
    descriptors::set_close_on_exec(program, true)?;
    let pid = i32::try_from(spawned?.id()).map_err(io::Error::other)?;
    Ok(Rehearsal { pid, stdout, stderr })
}

/// Executes the program in place of this one, with the same arguments and environment. `state` and `old` are for it to
/// find, `keep` is what else stays open. Signals that the system holds are there for it to read. Returns only when that
/// failed, and then nothing has changed.
///
/// # Errors
/// It cannot be executed.
pub fn replace(
    program: &Program,
    state: BorrowedFd<'_>,
    old: BorrowedFd<'_>,
    keep: &[BorrowedFd<'_>],
    given_back: Option<&str>,
) -> io::Result<Infallible> {
    let handed = [state, old, program.as_fd()].map(|descriptor| descriptor.as_raw_fd().to_string()).join(",");
    let text = |text: &[u8]| CString::new(text).map_err(io::Error::other);
    let arguments =
        env::args_os().map(|argument| text(argument.as_bytes())).collect::<io::Result<Vec<_>>>()?;
    let ours = |name: &OsString| name == HANDED_OVER || name == GIVEN_BACK;
    let mut variables = env::vars_os().filter(|(name, _)| !ours(name)).collect::<Vec<_>>();
    variables.push((HANDED_OVER.into(), handed.into()));
    variables.extend(given_back.map(|why| (GIVEN_BACK.into(), why.replace('\0', " ").into())));
    let variables = variables
        .iter()
        .map(|(name, value)| text(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect::<io::Result<Vec<_>>>()?;
    let path = text(program.path().as_bytes())?;
    let surviving = || keep.iter().copied().chain([state, old, program.as_fd()]);
    let mark =
        |close| surviving().try_for_each(|descriptor| descriptors::set_close_on_exec(&descriptor, close));
    let executed = mark(false).and_then(|()| Ok(execve(&path, &arguments, &variables)?));
    mark(true)?;
    executed
}

/// The descriptors that are to stay open, as they are written down for the new program.
#[derive(Debug, Default)]
pub struct Surviving<'a> {
    open: Vec<BorrowedFd<'a>>,
}

impl<'a> Surviving<'a> {
    /// Has this one stay open; gives the number it will be found by.
    pub fn keep(&mut self, descriptor: &'a impl AsFd) -> RawFd {
        let descriptor = descriptor.as_fd();
        self.open.push(descriptor);
        descriptor.as_raw_fd()
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[BorrowedFd<'a>] {
        &self.open
    }

    /// The numbers of all of them.
    #[must_use]
    pub fn numbers(&self) -> Vec<RawFd> {
        self.open.iter().map(AsRawFd::as_raw_fd).collect()
    }
}

/// What a program finds when it is to take another one's place.
#[derive(Debug)]
pub enum Handed {
    /// The state on standard input, to say whether it could go on with it.
    Rehearsal,
    /// The state, to go on with it.
    Over {
        /// The state.
        state: File,
        /// The program whose place it takes.
        old: Program,
        /// The new program's words, when the old one is put back.
        given_back: Option<String>,
    },
}

/// What was handed over to this process, if anything. To be called once, first of all.
///
/// # Errors
/// It names descriptors that are not there.
pub fn handed() -> io::Result<Option<Handed>> {
    let Some(handed) = env::var_os(HANDED_OVER) else { return Ok(None) };
    // The image is executed through a descriptor, whose number would be its name in short listings.
    prctl::set_name(c"qfleet")?;
    if handed == REHEARSAL {
        return Ok(Some(Handed::Rehearsal));
    }
    let numbers = handed.to_str().unwrap_or_default().split(',').map(|number| number.parse().ok());
    let [Some(state), Some(old), Some(own)] = numbers.collect::<Vec<Option<RawFd>>>()[..] else {
        let text = format!("`{HANDED_OVER}` is set by a daemon that is being replaced, by nobody else");
        return Err(io::Error::other(text));
    };
    if own != old {
        // Only the interpreter of a script needed it.
        drop(raw::inherited(own));
    }
    let given_back = env::var_os(GIVEN_BACK).map(|why| why.to_string_lossy().into_owned());
    Ok(Some(Handed::Over {
        state: File::from(raw::inherited(state)?),
        old: Program::from(raw::inherited(old)?),
        given_back,
    }))
}

/// The descriptors that the program before this one has left open, by number. They stay open until this is dropped, so
/// that everything can still be given back; what is taken from here are copies.
#[derive(Debug, Default)]
pub struct Inherited {
    open: Vec<OwnedFd>,
}

impl Inherited {
    /// Takes over the descriptors with these numbers, as far as they are there. To be called once, before anything else is
    /// opened.
    #[must_use]
    pub fn take_over(mut numbers: Vec<RawFd>) -> Self {
        numbers.sort_unstable();
        numbers.dedup();
        Self { open: numbers.into_iter().filter_map(|number| raw::inherited(number).ok()).collect() }
    }

    /// The descriptor of this number.
    ///
    /// # Errors
    /// It is not there.
    pub fn get(&self, number: RawFd) -> io::Result<OwnedFd> {
        let found = self.open.iter().find(|descriptor| descriptor.as_raw_fd() == number);
        match found {
            Some(descriptor) => descriptor.try_clone(),
            None => Err(io::Error::other(format!("descriptor {number} is not open any more"))),
        }
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<BorrowedFd<'_>> {
        self.open.iter().map(AsFd::as_fd).collect()
    }
}
