//! What the daemon has outside of its supervisor, on its way to the program that takes its place, and that program's side of
//! it: find everything, and give it all back to the old program when it cannot go on.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::net::TcpListener;
use std::os::fd::{AsFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use qfleet_manifest::settings::{Control, LogFormat};
use qfleet_os::lock::InstanceLock;
use qfleet_os::replace::{Inherited, Program, Surviving, replace};
use qfleet_supervisor::{CarriedLog, Outside, OwnLog, State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::daemon::NotStarted;
use crate::exit::Exit;
use crate::given_doors::Given;

/// The daemon's own part of what is handed over.
#[derive(Debug)]
pub(crate) struct Outer {
    /// As in use, whatever a reload has read since.
    pub(crate) control: Control,
    /// The manifest.
    pub(crate) file: PathBuf,
    /// Of the daemon's log.
    pub(crate) format: LogFormat,
    pub(crate) socket: PathBuf,
    pub(crate) lock: Rc<InstanceLock>,
    pub(crate) listener: UnixListener,
    pub(crate) tcp: Option<TcpListener>,
    pub(crate) given: Given,
    pub(crate) own_log: OwnLog,
}

/// The same as it is written down.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Written {
    pub(crate) control: Control,
    pub(crate) file: PathBuf,
    pub(crate) format: LogFormat,
    pub(crate) socket: PathBuf,
    pub(crate) lock: RawFd,
    listener: RawFd,
    tcp: Option<RawFd>,
    #[serde(default)]
    pub(crate) given: Given,
    #[serde(default)]
    pub(crate) own_log: CarriedLog,
}

impl Outside for Outer {
    fn carried<'a>(&'a self, surviving: &mut Surviving<'a>) -> serde_json::Result<Value> {
        serde_json::to_value(Written {
            control: self.control.clone(),
            file: self.file.clone(),
            format: self.format,
            socket: self.socket.clone(),
            lock: surviving.keep(&*self.lock),
            listener: surviving.keep(&self.listener),
            tcp: self.tcp.as_ref().map(|tcp| surviving.keep(tcp)),
            given: self.given,
            own_log: self.own_log.carried(),
        })
    }
}

/// Says whether this program could go on with the state on its standard input.
pub(crate) fn rehearse() -> Exit {
    let stdin = io::stdin().as_fd().try_clone_to_owned();
    let read = stdin.map_err(|error| error.to_string()).and_then(|stdin| read(&mut File::from(stdin)));
    match read {
        Ok(_) => {
            println(&json!({ "version": env!("CARGO_PKG_VERSION") }).to_string());
            Exit::Done
        }
        Err(why) => {
            eprintln(&why);
            Exit::Internal
        }
    }
}

#[allow(clippy::print_stdout)]
fn println(text: &str) {
    println!("{text}");
}

#[allow(clippy::print_stderr)]
fn eprintln(text: &str) {
    eprintln!("{text}");
}

fn read(file: &mut File) -> Result<(State, Written), String> {
    let state = State::read(file).map_err(|error| error.to_string())?;
    let written = Written::deserialize(&state.outside)
        .map_err(|error| format!("cannot read the running daemon's state: {error}"))?;
    Ok((state, written))
}

/// Everything the old program has left for us. As long as this is there, it can be given back.
#[derive(Debug)]
pub(crate) struct Handover {
    state: File,
    old: Program,
    pub(crate) inherited: Inherited,
    /// We are the old program, and this is why the new one has put us back.
    pub(crate) given_back: Option<String>,
}

impl Handover {
    /// Takes over the descriptors, before anything else is opened.
    pub(crate) fn new(mut state: File, old: Program, given_back: Option<String>) -> Result<Self, NotStarted> {
        let mut text = Vec::new();
        let whole = state.rewind().and_then(|()| state.read_to_end(&mut text));
        whole.map_err(|error| {
            NotStarted::new(Exit::Internal, format!("cannot read the running daemon's state: {error}"))
        })?;
        let inherited = Inherited::take_over(State::descriptors(&text));
        Ok(Self { state, old, inherited, given_back })
    }

    /// The state.
    ///
    /// # Errors
    /// It cannot be read, or is not for us.
    pub(crate) fn read(&self) -> Result<(State, Written), String> {
        let mut file = self.state.try_clone().map_err(|error| error.to_string())?;
        file.rewind().map_err(|error| error.to_string())?;
        let (state, written) = read(&mut file)?;
        if i64::from(state.pid) == i64::from(std::process::id()) {
            Ok((state, written))
        } else {
            Err(String::from("the state is that of another process"))
        }
    }

    pub(crate) fn is_given_back(&self) -> bool {
        self.given_back.is_some()
    }

    /// The file of the program that we are.
    pub(crate) fn program<'a>(&self, state: &'a State) -> &'a Path {
        if self.is_given_back() { &state.old_program } else { &state.program }
    }

    /// The doors as they were.
    ///
    /// # Errors
    /// They are not there.
    pub(crate) fn doors(&self, written: &Written) -> io::Result<(UnixListener, Option<TcpListener>)> {
        let listener = UnixListener::from(self.inherited.get(written.listener)?);
        listener.local_addr()?;
        let tcp = written.tcp.map(|tcp| self.inherited.get(tcp).map(TcpListener::from)).transpose()?;
        Ok((listener, tcp))
    }

    /// Puts the old program back, with everything as it was. Returns only when that is not possible either.
    pub(crate) fn give_back(&self, why: &str) -> NotStarted {
        let mut why = format!("the new program could not take over: {why}");
        if !self.is_given_back() {
            let mut state = &self.state;
            let Err(error) = state.rewind().and_then(|()| {
                let (state, old) = (self.state.as_fd(), self.old.as_fd());
                replace(&self.old, state, old, &self.inherited.all(), Some(&why))
            });
            why = format!("{why}; the old one cannot be put back: {error}");
        }
        NotStarted::new(Exit::Internal, why)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    /// Where what one text has, and the other has not, is.
    fn missing(in_one: &Value, in_other: &Value, at: &str, found: &mut Vec<String>) {
        match (in_one, in_other) {
            (Value::Object(one), Value::Object(other)) => {
                for (key, value) in one {
                    let at = format!("{at}.{key}");
                    match other.get(key) {
                        Some(known) => missing(value, known, &at, found),
                        None => found.push(at),
                    }
                }
            }
            (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
                for (place, (one, other)) in one.iter().zip(other).enumerate() {
                    missing(one, other, &format!("{at}[{place}]"), found);
                }
            }
            (one, other) if one == other => {}
            (one, other) => found.push(format!("{at}: {one} has become {other}")),
        }
    }

    #[test]
    fn what_earlier_versions_have_written_is_read_with_all_there_is_in_it() {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/states");
        let stored: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .collect();
        assert!(!stored.is_empty());
        for path in stored {
            let shown = path.display();
            let (state, written) = read(&mut File::open(&path).unwrap()).unwrap_or_else(|why| {
                panic!("{shown}: {why}: a daemon of that version could not be upgraded")
            });
            let mut understood = serde_json::to_value(&state).unwrap();
            understood["outside"] = serde_json::to_value(&written).unwrap();
            let text: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            let mut lost = Vec::new();
            missing(&text, &understood, "", &mut lost);
            assert!(lost.is_empty(), "{shown}: an upgrade would lose {lost:#?}");
        }
    }
}
