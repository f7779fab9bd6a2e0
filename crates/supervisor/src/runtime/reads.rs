//! Manifests that are to be read, one after the other, and what is known of one that does not come to its end: it may lie on
//! a file system that does not answer, or name a file there.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use qfleet_model::time::Moment;

use crate::fleet::{AskId, Purpose};

/// What takes longer than this is not waited for: who asked for it and who comes later is told so.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where whoever reads a manifest says which file comes next.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Mutex<Option<PathBuf>>>);

impl Progress {
    /// This file is about to be read.
    pub fn comes_to(&self, file: &Path) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(file.to_owned());
    }

    fn shown(&self) -> String {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(file) => format!("`{}`", file.display()),
            None => String::from("the manifest"),
        }
    }
}

/// Somebody who wants it read, and what for.
pub(super) type Wish = (AskId, Purpose);

#[derive(Debug)]
struct UnderWay {
    since: Moment,
    progress: Progress,
    /// Nobody waits for it any more.
    given_up: bool,
}

/// Everybody who wants the manifest to be read.
#[derive(Debug, Default)]
pub(super) struct Reads {
    waiting: VecDeque<Wish>,
    now: Option<(Wish, UnderWay)>,
}

/// A read that does not come to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    file: String,
    since: Moment,
}

impl Stuck {
    /// For those who look at the fleet.
    #[must_use]
    pub fn said(&self, now: Moment) -> String {
        let (file, seconds) = (&self.file, now.since(self.since).as_secs());
        format!("reading {file} has not ended for {seconds} s; every reload is refused until it does")
    }

    /// For those who asked.
    pub(super) fn refusal(&self, now: Moment) -> String {
        let (file, seconds) = (&self.file, now.since(self.since).as_secs());
        format!(
            "{file} is being read for {seconds} s and does not answer: look at its file system, or whoever writes it; `qfleet upgrade` \
             to the same program gives it up"
        )
    }
}

impl Reads {
    /// Somebody wants it read.
    pub(super) fn want(&mut self, wish: Wish) {
        self.waiting.push_back(wish);
    }

    /// Begins with the next one, if it is its turn.
    pub(super) fn begin(&mut self, now: Moment) -> Option<(Wish, Progress)> {
        if self.now.is_some() {
            return None;
        }
        let wish = self.waiting.pop_front()?;
        let progress = Progress::default();
        self.now = Some((wish, UnderWay { since: now, progress: progress.clone(), given_up: false }));
        Some((wish, progress))
    }

    /// The one under way has come to its end; whether somebody still waits for it.
    pub(super) fn ended(&mut self) -> bool {
        self.now.take().is_some_and(|(_, under_way)| !under_way.given_up)
    }

    /// When the one under way is given up.
    pub(super) fn due(&self) -> Option<Moment> {
        let (_, under_way) = self.now.as_ref()?;
        (!under_way.given_up).then(|| under_way.since + PATIENCE)
    }

    /// Gives the one under way up when its time is over; everybody who waits in vain then.
    pub(super) fn give_up(&mut self, now: Moment) -> Vec<Wish> {
        if self.due().is_none_or(|due| due > now) {
            return Vec::new();
        }
        let Some((wish, under_way)) = &mut self.now else { return Vec::new() };
        under_way.given_up = true;
        std::iter::once(*wish).chain(self.waiting.drain(..)).collect()
    }

    /// The one that was given up and has not ended.
    pub(super) fn stuck(&self) -> Option<Stuck> {
        let (_, under_way) = self.now.as_ref().filter(|(_, under_way)| under_way.given_up)?;
        Some(Stuck { file: under_way.progress.shown(), since: under_way.since })
    }

    /// Whether nothing is read that somebody waits for.
    pub(super) fn is_at_rest(&self) -> bool {
        self.waiting.is_empty() && self.now.as_ref().is_none_or(|(_, under_way)| under_way.given_up)
    }
}
