//! The manifest on disk, read with this machine as its outside.

use std::fs;
use std::path::Path;

use qfleet_manifest::problem::Problems;
use qfleet_manifest::settings::Manifest;

use crate::world::Machine;

/// A manifest larger than this is somebody's mistake; in bytes.
const LARGEST: u64 = 4 * 1024 * 1024;

/// Reads and judges a manifest.
///
/// # Errors
/// Every problem at once; also when the file cannot be read.
pub(crate) fn read(file: &Path) -> Result<Manifest, Problems> {
    let shown = file.display().to_string();
    let whole = |what: String| Problems::of_file(&shown, what);
    let size = fs::metadata(file).map_err(|error| whole(format!("cannot be read: {error}")))?.len();
    if size > LARGEST {
        return Err(whole(format!("has {size} bytes; a manifest may have {LARGEST}")));
    }
    let bytes = fs::read(file).map_err(|error| whole(format!("cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| whole("is not UTF-8 text".to_owned()))?;
    qfleet_manifest::load(&shown, &text, &Machine)
}
