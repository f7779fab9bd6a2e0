//! Turns YAML text into typed settings, lists every problem at once, and says what changed between two manifests.
//!
//! Text and environment come in as arguments; nothing here opens a file or reads the environment itself. The file as
//! written and the file as meant are two types: `written` keeps positions, [`settings`] has only what is valid.
//!
//! The way of a file: `tree` (YAML with places) → `value` and `section` (questions to it) → `written` (one reader for each
//! kind of section) → `meant` (layers, defaults, references) → [`settings::Manifest`].

mod budgets;
mod check;
pub mod cluster;
mod context;
mod dependencies;
pub mod diff;
mod expand;
pub mod handler;
pub mod keys;
pub mod logs;
mod meant;
mod names;
mod partly;
pub mod per_process;
pub mod probes;
pub mod problem;
pub mod queue;
pub mod secret;
mod secrets;
mod section;
pub mod settings;
pub mod signals;
mod source;
pub mod stop_limit;
pub mod stopping;
mod suggest;
mod tree;
pub mod units;
mod value;
mod world;
mod written;

use std::path::PathBuf;

use context::Context;
use problem::Problems;
use settings::{Manifest, Work};
use source::Source;
use tree::{Node, Tree};
use value::Value;
pub use world::World;

/// Reads a manifest. `file` is its name for messages.
///
/// # Errors
/// Every problem of the file, in its order; only YAML that cannot be parsed has just one.
pub fn load(file: &str, text: &str, world: &dyn World) -> Result<Manifest, Problems> {
    let Tree { root, twice } = parse(file, text)?;
    let context = Context::new(source(file, text, &root), world);
    for key in twice {
        context.problem((key.line, key.column), "", &key.what, None);
    }
    let manifest =
        written::document::read(&Value::root(&context, &root)).map(|document| meant::resolve(&document));
    let (mut manifest, secret_variables, warnings) = context.finish(manifest)?;
    for group in &mut manifest.groups {
        if let Work::Queue(worker) | Work::Pool(worker) = &mut group.work {
            worker.secret_variables.clone_from(&secret_variables);
        }
    }
    manifest.secret_variables = secret_variables;
    manifest.warnings = warnings;
    Ok(manifest)
}

/// Looks for `control.socket` only, for commands that want to find a running daemon: whatever else is wrong with the
/// manifest is no concern of theirs.
///
/// # Errors
/// Text that is not YAML, or a socket that is no path.
pub fn control_socket(file: &str, text: &str, world: &dyn World) -> Result<Option<PathBuf>, Problems> {
    let Tree { root, .. } = parse(file, text)?;
    let context = Context::new(source(file, text, &root), world);
    let socket = Value::root(&context, &root).child_at(&["control", "socket"]);
    let path = socket.map(|value| written::daemon::read_socket(&value));
    let (path, ..) = context.finish(Some(path.flatten()))?;
    Ok(path)
}

fn parse(file: &str, text: &str) -> Result<Tree, Problems> {
    tree::parse(text).map_err(|broken| {
        let source = Source::new(file, text);
        Problems(vec![source.problem_unparsed((broken.line, broken.column), &broken.what)])
    })
}

fn source<'t>(file: &'t str, text: &'t str, root: &Node) -> Source<'t> {
    let mut source = Source::new(file, text);
    secrets::ranges(root, text).into_iter().for_each(|bytes| source.hide(bytes));
    source
}

impl<'c> Value<'c> {
    /// What is at a path, without judging anything on the way.
    fn child_at(&self, path: &[&str]) -> Option<Value<'c>> {
        path.iter().try_fold(self.clone(), |value, name| {
            let entries = value.is_map().then(|| value.entries()).flatten()?;
            entries.into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
        })
    }
}
