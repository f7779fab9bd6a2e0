//! Resource limits by the names the manifest uses: `nofile`, `core`, `nproc`, `as`, `memlock`, `cpu`, `fsize`, `stack`.

use std::collections::BTreeMap;
use std::io;

use nix::sys::resource::{Resource, setrlimit};

/// The names one may use.
pub const NAMES: [&str; 8] = ["nofile", "core", "nproc", "as", "memlock", "cpu", "fsize", "stack"];

/// One limit, checked and ready to be set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    resource: Resource,
    soft: u64,
    hard: u64,
}

impl Limit {
    /// Sets it for this process. Makes one system call and nothing else, so it may be used between fork and exec.
    pub(crate) fn set(&self) -> io::Result<()> {
        setrlimit(self.resource, self.soft, self.hard).map_err(io::Error::from)
    }
}

/// Soft and hard limits by name to limits that can be set; an error names the one that cannot.
pub(crate) fn read(written: &BTreeMap<String, (u64, u64)>) -> Result<Vec<(&str, Limit)>, String> {
    written.iter().map(|(name, (soft, hard))| read_one(name, *soft, *hard)).collect()
}

fn read_one(name: &str, soft: u64, hard: u64) -> Result<(&str, Limit), String> {
    let resource = match name {
        "nofile" => Resource::RLIMIT_NOFILE,
        "core" => Resource::RLIMIT_CORE,
        "nproc" => Resource::RLIMIT_NPROC,
        "as" => Resource::RLIMIT_AS,
        "memlock" => Resource::RLIMIT_MEMLOCK,
        "cpu" => Resource::RLIMIT_CPU,
        "fsize" => Resource::RLIMIT_FSIZE,
        "stack" => Resource::RLIMIT_STACK,
        _ => return Err(format!("there is no limit named `{name}`; known are {}", NAMES.join(", "))),
    };
    if soft > hard {
        return Err(format!("limit `{name}`: the soft value {soft} is above the hard value {hard}"));
    }
    Ok((name, Limit { resource, soft, hard }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_name_is_a_limit() {
        let all = NAMES.iter().map(|name| ((*name).to_owned(), (1, 2))).collect();
        assert_eq!(read(&all).unwrap().len(), NAMES.len());
    }

    #[test]
    fn a_wrong_limit_is_named() {
        let unknown = BTreeMap::from([(String::from("files"), (1, 1))]);
        assert!(read(&unknown).unwrap_err().contains("`files`"));
        let inverted = BTreeMap::from([(String::from("core"), (2, 1))]);
        assert!(read(&inverted).unwrap_err().contains("`core`"));
    }
}
