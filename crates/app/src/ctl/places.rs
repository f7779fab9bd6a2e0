//! Where things are when nobody says: the manifest, and the control socket of a running daemon.

use std::fmt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use qfleet_manifest::World;

use crate::args::Options;

/// Where a manifest is looked for, in this order, when neither `--config` nor `QFLEET_CONFIG` names one.
pub(crate) const MANIFESTS: [&str; 3] = ["./qfleet.yaml", "./config.yaml", "/etc/qfleet/config.yaml"];

/// The socket of a daemon that was told nothing and may write to `/run`.
pub(crate) const SYSTEM_SOCKET: &str = "/run/qfleet/qfleet.sock";

/// The manifest to read: the one named, else the first that exists.
///
/// # Errors
/// A sentence when there is none.
pub(crate) fn manifest(options: &Options, world: &dyn World) -> Result<PathBuf, String> {
    if let Some(named) = named_manifest(options, world) {
        return Ok(named);
    }
    MANIFESTS.iter().map(PathBuf::from).find(|path| path.exists()).ok_or_else(|| {
        format!(
            "no manifest: there is none of `{}`; name one with --config or QFLEET_CONFIG",
            MANIFESTS.join("`, `")
        )
    })
}

fn named_manifest(options: &Options, world: &dyn World) -> Option<PathBuf> {
    let from_environment = || variable(world, "QFLEET_CONFIG").map(PathBuf::from);
    options.config.clone().or_else(from_environment)
}

/// An environment variable that says something.
fn variable(world: &dyn World, name: &str) -> Option<String> {
    world.env(name).filter(|value| !value.is_empty())
}

/// `$XDG_RUNTIME_DIR/qfleet/qfleet.sock`: the socket of a daemon without rights in `/run`.
pub(crate) fn user_socket(world: &dyn World) -> Option<PathBuf> {
    Some(Path::new(&variable(world, "XDG_RUNTIME_DIR")?).join("qfleet/qfleet.sock"))
}

/// The control socket a short command talks to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SocketChoice {
    /// In order of preference; more than one only when nobody named it.
    candidates: Vec<PathBuf>,
    /// Why the manifest that was named could not be asked.
    note: Option<String>,
}

impl SocketChoice {
    /// Looks at `--socket`, `QFLEET_SOCKET`, the manifest's `control.socket`, then the usual places.
    pub(crate) fn find(options: &Options, world: &dyn World) -> Self {
        let exactly = |path: PathBuf| Self { candidates: vec![path], note: None };
        if let Some(path) = &options.socket {
            return exactly(path.clone());
        }
        if let Some(path) = variable(world, "QFLEET_SOCKET") {
            return exactly(PathBuf::from(path));
        }
        let note = match socket_in_manifest(options, world) {
            Ok(Some(path)) => return exactly(path),
            Ok(None) => None,
            Err(why) => Some(why),
        };
        Self { note, ..Self::usual(world) }
    }

    /// The places of daemons that were told nothing.
    pub(crate) fn usual(world: &dyn World) -> Self {
        let candidates = [PathBuf::from(SYSTEM_SOCKET)].into_iter().chain(user_socket(world)).collect();
        Self { candidates, note: None }
    }

    /// The first place where somebody listens, else the first of all.
    pub(crate) fn path(&self) -> PathBuf {
        let answers = |path: &&PathBuf| UnixStream::connect(path).is_ok();
        let first = || self.candidates.first();
        let found = if self.candidates.len() > 1 {
            self.candidates.iter().find(answers).or_else(first)
        } else {
            first()
        };
        found.cloned().unwrap_or_else(|| PathBuf::from(SYSTEM_SOCKET))
    }
}

impl fmt::Display for SocketChoice {
    /// What else there is to say when nobody is at the socket: where it was looked for too, and what could not be read.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for path in self.candidates.iter().skip(1) {
            writeln!(out, "nor is there one at `{}`", path.display())?;
        }
        self.note.as_ref().map_or(Ok(()), |note| writeln!(out, "{note}"))
    }
}

/// `control.socket` of the manifest; `None` when it does not say, or when nobody named a manifest and the usual ones are
/// absent or not for us to read (a member of the socket's group need not be able to read secrets). One that is broken is
/// told: the socket may be named in it.
fn socket_in_manifest(options: &Options, world: &dyn World) -> Result<Option<PathBuf>, String> {
    let named = named_manifest(options, world);
    let Some(path) = named.clone().or_else(|| manifest(options, world).ok()) else { return Ok(None) };
    let shown = path.display().to_string();
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            qfleet_manifest::control_socket(&shown, &text, world).map_err(|problems| problems.to_string())
        }
        Err(error) if named.is_some() => Err(format!("cannot read `{shown}`: {error}")),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;

    struct Variables(BTreeMap<&'static str, String>);

    impl World for Variables {
        fn env(&self, name: &str) -> Option<String> {
            self.0.get(name).cloned()
        }
        fn read_secret(&self, path: &Path) -> Result<String, String> {
            Err(format!("no secret `{}` here", path.display()))
        }
        fn find_program(&self, name: &str, _: Option<&str>, _: Option<&Path>) -> Result<PathBuf, String> {
            Ok(PathBuf::from(name))
        }
        fn user_exists(&self, _: &str, _: Option<&str>) -> Result<(), String> {
            Ok(())
        }
        fn is_root(&self) -> bool {
            false
        }
    }

    fn options(config: Option<&Path>, socket: Option<&str>) -> Options {
        Options {
            config: config.map(Path::to_owned),
            socket: socket.map(PathBuf::from),
            ..Options::default()
        }
    }

    #[test]
    fn the_socket_is_found_in_the_documented_order() {
        let scratch = qfleet_testkit::Scratch::new();
        let file = scratch.join("fleet.yaml");
        std::fs::write(
            &file,
            "control: {socket: /from/manifest.sock}\nqueues: {broken: [}\n".replace("[}", "3}"),
        )
        .unwrap();
        let bare = scratch.join("bare.yaml");
        std::fs::write(&bare, "redis: {url: 'redis://127.0.0.1/0'}\n").unwrap();
        let none = Variables(BTreeMap::new());
        let named = Variables(BTreeMap::from([("QFLEET_SOCKET", "/from/environment.sock".to_owned())]));
        let runtime = Variables(BTreeMap::from([
            ("XDG_RUNTIME_DIR", "/run/user/7".to_owned()),
            ("QFLEET_CONFIG", bare.display().to_string()),
        ]));
        for (options, world, candidates) in [
            (options(Some(&file), Some("/from/option.sock")), &named, vec!["/from/option.sock"]),
            (options(Some(&file), None), &named, vec!["/from/environment.sock"]),
            (options(Some(&file), None), &none, vec!["/from/manifest.sock"]),
            (options(Some(&bare), None), &none, vec![SYSTEM_SOCKET]),
            (options(None, None), &runtime, vec![SYSTEM_SOCKET, "/run/user/7/qfleet/qfleet.sock"]),
        ] {
            let choice = SocketChoice::find(&options, world);
            assert_eq!(
                choice.candidates,
                candidates.iter().map(PathBuf::from).collect::<Vec<_>>(),
                "{options:?}"
            );
            assert_eq!(choice.note, None);
        }
    }

    #[test]
    fn a_named_manifest_that_cannot_be_read_is_mentioned() {
        let choice = SocketChoice::find(
            &options(Some(Path::new("/nowhere/x.yaml")), None),
            &Variables(BTreeMap::new()),
        );
        assert_eq!(choice.candidates, [PathBuf::from(SYSTEM_SOCKET)]);
        assert!(choice.note.is_some_and(|note| note.contains("`/nowhere/x.yaml`")));
    }

    #[test]
    fn of_the_usual_places_the_one_that_answers_is_taken() {
        let scratch = qfleet_testkit::Scratch::new();
        let (stale, alive) = (scratch.join("stale.sock"), scratch.join("alive.sock"));
        drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
        let _listener = std::os::unix::net::UnixListener::bind(&alive).unwrap();
        let choice = |candidates: &[&PathBuf]| SocketChoice {
            candidates: candidates.iter().copied().cloned().collect(),
            note: None,
        };
        assert_eq!(choice(&[&stale, &alive]).path(), alive);
        let nowhere = scratch.join("none.sock");
        assert_eq!(choice(&[&stale, &nowhere]).path(), stale);
        let said = choice(&[&stale, &nowhere]).to_string();
        assert_eq!(said, format!("nor is there one at `{}`\n", nowhere.display()));
    }
}
