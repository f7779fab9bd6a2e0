//! The outside as a manifest sees it: the real environment, files, programs and users of this machine.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use qfleet_manifest::World;
use qfleet_os::users;

/// Where programs are looked for when neither the manifest nor the environment says.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// This machine.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Machine;

impl World for Machine {
    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read_secret(&self, path: &Path) -> Result<String, String> {
        let shown = path.display();
        let mode = fs::metadata(path).map_err(|error| format!("cannot read `{shown}`: {error}"))?.mode();
        if mode & 0o004 != 0 {
            return Err(format!("`{shown}` can be read by everybody; `chmod o-rwx {shown}` first"));
        }
        let text = fs::read_to_string(path).map_err(|error| format!("cannot read `{shown}`: {error}"))?;
        Ok(text.strip_suffix('\n').map(str::to_owned).unwrap_or(text))
    }

    fn find_program(&self, name: &str, path: Option<&str>, cwd: Option<&Path>) -> Result<PathBuf, String> {
        if name.contains('/') {
            let place = cwd.map_or_else(|| PathBuf::from(name), |cwd| cwd.join(name));
            let place = std::path::absolute(&place).map_err(|error| format!("`{name}`: {error}"))?;
            return if is_executable(&place) {
                Ok(place)
            } else if place.exists() {
                Err(format!("`{}` is not executable", place.display()))
            } else {
                Err(format!("there is no `{}`", place.display()))
            };
        }
        let own = std::env::var("PATH").unwrap_or_else(|_| DEFAULT_PATH.to_owned());
        path.unwrap_or(&own)
            .split(':')
            .map(|folder| Path::new(folder).join(name))
            .find(|place| place.is_absolute() && is_executable(place))
            .ok_or_else(|| format!("there is no program `{name}` in PATH"))
    }

    fn user_exists(&self, name: &str, group: Option<&str>) -> Result<(), String> {
        users::resolve(name, group).map(drop).map_err(|error| error.to_string())
    }

    fn is_root(&self) -> bool {
        users::am_root()
    }

    fn time_zone(&self, name: &str) -> Option<TimeZone> {
        if name == "UTC" { Some(TimeZone::UTC) } else { TimeZone::get(name).ok() }
    }

    fn is_current_user(&self, name: &str) -> bool {
        users::resolve(name, None).is_ok_and(|user| user.uid == nix_uid())
    }
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// Our own user number, as the owner of our own entry in procfs.
fn nix_uid() -> u32 {
    fs::metadata("/proc/self").map_or(u32::MAX, |own| own.uid())
}
