//! Which dates of schedules have been dealt with, over the end of the daemon: a small file beside the ledgers, written
//! whenever such a date was dealt with. Only schedules that make up for missed dates are in it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use qfleet_model::time::WallTime;
use tokio::sync::Mutex;
use tokio::task::{JoinSet, spawn_blocking};

/// The file's name in the state directory.
const FILE: &str = "schedules.json";

/// What it and its unfinished successor begin with.
pub(super) const STEM: &str = "schedules.";

/// The dates as they are known, and the file.
#[derive(Debug, Default)]
pub(super) struct Dates {
    path: PathBuf,
    known: BTreeMap<String, WallTime>,
    /// One writes at a time, so that the newest are there in the end.
    writing: Rc<Mutex<()>>,
}

impl Dates {
    /// What the last daemon has left. A file that cannot be read is as good as none.
    pub(super) fn read(dir: &Path) -> Self {
        let path = dir.join(FILE);
        let known = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::warn!("cannot read `{}`, so no date counts as missed: {error}", path.display());
                BTreeMap::new()
            }),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!("cannot read `{}`, so no date counts as missed: {error}", path.display());
                }
                BTreeMap::new()
            }
        };
        Self { path, known, writing: Rc::default() }
    }

    /// Goes on with what another program knew, which it may not have written yet.
    pub(super) fn resume(dir: &Path, known: BTreeMap<String, WallTime>) -> Self {
        Self { path: dir.join(FILE), known, writing: Rc::default() }
    }

    pub(super) fn known(&self) -> &BTreeMap<String, WallTime> {
        &self.known
    }

    /// Every date of this schedule up to this one was dealt with.
    pub(super) fn remember(&mut self, schedule: String, date: WallTime, tasks: &mut JoinSet<()>) {
        self.known.insert(schedule, date);
        self.write(tasks);
    }

    /// Writes what is known, if anything is.
    pub(super) fn write(&self, tasks: &mut JoinSet<()>) {
        if self.known.is_empty() {
            return;
        }
        let (path, known, writing) = (self.path.clone(), self.known.clone(), self.writing.clone());
        tasks.spawn_local(async move {
            let _turn = writing.lock().await;
            let shown = path.display().to_string();
            let written = spawn_blocking(move || write(&path, &known)).await;
            if let Ok(Err(error)) = written {
                tracing::warn!("cannot write `{shown}`: a date that is missed may not be noticed: {error}");
            }
        });
    }
}

/// Whoever reads sees the old text or the new one.
fn write(path: &Path, known: &BTreeMap<String, WallTime>) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    fs::write(&unfinished, serde_json::to_vec(known)?)?;
    fs::rename(unfinished, path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn the_newest_dates_are_there_for_the_next_daemon() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().to_owned();
        tokio::task::LocalSet::new()
            .run_until(async {
                let mut tasks = JoinSet::new();
                let mut dates = Dates::read(&dir);
                assert!(dates.known().is_empty());
                for second in 0..50 {
                    dates.remember("backup".to_owned(), WallTime::from_seconds(second), &mut tasks);
                }
                dates.remember("other".to_owned(), WallTime::from_seconds(7), &mut tasks);
                while tasks.join_next().await.is_some() {}
            })
            .await;
        let expected = [("backup", 49), ("other", 7)]
            .map(|(name, second)| (name.to_owned(), WallTime::from_seconds(second)));
        assert_eq!(*Dates::read(&dir).known(), BTreeMap::from(expected));
        fs::write(dir.join(FILE), "{").unwrap();
        assert!(Dates::read(&dir).known().is_empty());
    }
}
