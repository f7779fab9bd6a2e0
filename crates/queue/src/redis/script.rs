//! Scripts, called by digest.

use std::sync::OnceLock;

use redis::Cmd;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// What a script begins with on a cluster.
///
/// While keys are on their way to another node, those that have gone look like keys that were never there, and a script
/// that goes by that loses jobs. But then a node refuses to look at any key that is not there: at this one, too, which
/// never is. So the script ends before it has done anything.
const GUARD: &str = "if KEYS[1] then redis.call('EXISTS', KEYS[1] .. ':qfleet:nothing') end\n";

/// A script and the name Redis knows it by.
#[derive(Debug)]
pub(crate) struct Script {
    source: &'static str,
    plain: String,
    guarded: OnceLock<(String, String)>,
}

impl Script {
    /// A script from its text.
    pub(crate) fn new(source: &'static str) -> Self {
        Self { source, plain: name_of(source), guarded: OnceLock::new() }
    }

    /// Text and name, as they are for a cluster or elsewhere.
    fn form(&self, on_cluster: bool) -> (&str, &str) {
        if !on_cluster {
            return (self.source, &self.plain);
        }
        let (text, name) = self.guarded.get_or_init(|| {
            let text = format!("{GUARD}{}", self.source);
            let name = name_of(&text);
            (text, name)
        });
        (text, name)
    }
}

fn name_of(text: &str) -> String {
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Keys and arguments of one call.
#[derive(Debug, Default)]
pub(crate) struct Call<'a> {
    keys: Vec<Piece<'a>>,
    args: Vec<Piece<'a>>,
}

#[derive(Debug)]
enum Piece<'a> {
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
}

impl<'a> Call<'a> {
    /// Adds a key.
    pub(crate) fn key(&mut self, key: impl Into<Vec<u8>>) -> &mut Self {
        self.keys.push(Piece::Owned(key.into()));
        self
    }

    /// Adds an argument that is at hand.
    pub(crate) fn arg(&mut self, arg: &'a (impl AsRef<[u8]> + ?Sized)) -> &mut Self {
        self.args.push(Piece::Borrowed(arg.as_ref()));
        self
    }

    /// Adds an argument made for this call: a number, a joined text.
    #[allow(clippy::needless_pass_by_value)]
    pub(crate) fn own(&mut self, arg: impl ToString) -> &mut Self {
        self.args.push(Piece::Owned(arg.to_string().into_bytes()));
        self
    }

    /// Adds another call's keys and arguments after its own.
    pub(crate) fn append(&mut self, other: Call<'a>) -> &mut Self {
        self.keys.extend(other.keys);
        self.args.extend(other.args);
        self
    }

    pub(super) fn by_digest(&self, script: &Script, on_cluster: bool) -> Cmd {
        self.command("EVALSHA", script.form(on_cluster).1)
    }

    pub(super) fn in_full(&self, script: &Script, on_cluster: bool) -> Cmd {
        self.command("EVAL", script.form(on_cluster).0)
    }

    fn command(&self, verb: &str, script: &str) -> Cmd {
        let pieces = || self.keys.iter().chain(&self.args);
        let size: usize = pieces().map(|piece| piece.bytes().len()).sum();
        let mut command = Cmd::with_capacity(self.keys.len() + self.args.len() + 3, size + script.len() + 32);
        command.arg(verb).arg(script).arg(self.keys.len());
        for piece in pieces() {
            command.arg(piece.bytes());
        }
        command
    }
}

impl Piece<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}
