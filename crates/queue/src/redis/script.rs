//! Scripts, called by digest.

use redis::Cmd;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// A script and the name Redis knows it by.
#[derive(Debug)]
pub(crate) struct Script {
    source: &'static str,
    digest: String,
}

impl Script {
    /// A script from its text.
    pub(crate) fn new(source: &'static str) -> Self {
        let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, source.as_bytes());
        Self { source, digest: digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect() }
    }
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

    pub(super) fn by_digest(&self, script: &Script) -> Cmd {
        self.command("EVALSHA", &script.digest)
    }

    pub(super) fn in_full(&self, script: &Script) -> Cmd {
        self.command("EVAL", script.source)
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
