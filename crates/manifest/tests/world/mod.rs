//! A small outside for the tests: variables, secret files, programs and users by table.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use qfleet_manifest::World;

/// An outside that never changes.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) root: bool,
}

impl Table {
    /// The outside that all examples are written for.
    pub(crate) fn new() -> Self {
        let env = [
            ("REDIS_URL", "redis://redis.internal:6379/0"),
            ("REDIS_PASSWORD", "redis-pa55"),
            ("HOOK_SECRET", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
            ("BAD_SECRET", "pa55-that-is-no-key"),
            ("TOKEN", "t0ken"),
            ("N", "4"),
            ("WORDS", "many"),
            ("EMPTY", ""),
        ];
        Self { env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(), root: true }
    }
}

impl World for Table {
    fn env(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }

    fn read_secret(&self, path: &Path) -> Result<String, String> {
        match path.to_str() {
            Some("/run/secrets/redis") => Ok(String::from("redis-pa55")),
            Some("/run/secrets/hook") => {
                Ok(String::from("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="))
            }
            Some("/run/secrets/imports") => {
                Ok(String::from("whsec_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="))
            }
            Some("/run/secrets/token") => Ok(String::from("Bearer t0ken")),
            Some("/run/secrets/proxy") => Ok(String::from("http://proxy.internal:3128")),
            Some("/run/secrets/url") => Ok(String::from("redis://:redis-pa55@redis.internal/2")),
            Some("/run/secrets/open") => {
                Err(String::from("the file `/run/secrets/open` can be read by others; `chmod 600` it"))
            }
            _ => Err(format!("cannot read the file `{}`: no such file", path.display())),
        }
    }

    fn find_program(&self, name: &str, path: Option<&str>, cwd: Option<&Path>) -> Result<PathBuf, String> {
        let known = ["php", "node", "sh", "true", "transcribe"];
        let base = Path::new(name).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !known.contains(&base) {
            return Err(format!("there is no program `{name}` in `PATH`"));
        }
        if name.starts_with('/') {
            return Ok(PathBuf::from(name));
        }
        if name.contains('/') {
            return Ok(cwd.unwrap_or(Path::new("/")).join(name));
        }
        Ok(Path::new(path.and_then(|path| path.split(':').next()).unwrap_or("/usr/bin")).join(name))
    }

    fn user_exists(&self, name: &str, group: Option<&str>) -> Result<(), String> {
        if !["www-data", "app", "1000"].contains(&name) {
            return Err(format!("there is no user `{name}`"));
        }
        match group {
            Some(group) if !["www-data", "qfleet"].contains(&group) => {
                Err(format!("there is no group `{group}`"))
            }
            _ => Ok(()),
        }
    }

    fn time_zone(&self, name: &str) -> Option<jiff::tz::TimeZone> {
        jiff::tz::TimeZone::get(name).ok()
    }

    fn is_root(&self) -> bool {
        self.root
    }

    fn is_current_user(&self, name: &str) -> bool {
        name == "app"
    }
}
