//! What all readers of one file share: its text, the world, and what was found so far.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::problem::{Problem, Problems};
use crate::source::Source;
use crate::world::World;

/// Line and column, from 1.
pub(crate) type Place = (usize, usize);

pub(crate) struct Context<'c> {
    pub(crate) source: Source<'c>,
    pub(crate) world: &'c dyn World,
    found: RefCell<Found>,
}

#[derive(Default)]
struct Found {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    secret_variables: BTreeSet<String>,
    password_variables: Vec<PasswordVariable>,
}

/// A variable that holds the password of a Redis, and where it is used.
#[derive(Clone)]
pub(crate) struct PasswordVariable {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) at: String,
}

impl<'c> Context<'c> {
    pub(crate) fn new(source: Source<'c>, world: &'c dyn World) -> Self {
        Self { source, world, found: RefCell::default() }
    }

    pub(crate) fn problem(&self, place: Place, at: &str, what: &str, hint: Option<&str>) {
        let problem = self.source.problem(place, at, what, hint);
        self.found.borrow_mut().problems.push(problem);
    }

    pub(crate) fn warn(&self, place: Place, at: &str, what: &str, hint: Option<&str>) {
        let problem = self.source.problem(place, at, what, hint);
        self.found.borrow_mut().warnings.push(problem);
    }

    /// These variables hold a secret.
    pub(crate) fn secret_variables(&self, names: impl IntoIterator<Item = String>) {
        self.found.borrow_mut().secret_variables.extend(names);
    }

    /// These variables hold the password of a Redis, which children may want to reach as well.
    pub(crate) fn password_variables(&self, place: Place, at: &str, names: &[String]) {
        let all = names.iter().map(|name| PasswordVariable { name: name.clone(), place, at: at.to_owned() });
        self.found.borrow_mut().password_variables.extend(all);
    }

    /// Every variable that holds the password of a Redis.
    pub(crate) fn passwords(&self) -> Vec<PasswordVariable> {
        self.found.borrow().password_variables.clone()
    }

    /// The value when nothing is wrong, with the secret variables and the warnings.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<(T, Vec<String>, Vec<Problem>), Problems> {
        let found = self.found.into_inner();
        let problems = in_order(found.problems);
        match value {
            Some(value) if problems.is_empty() => {
                Ok((value, found.secret_variables.into_iter().collect(), in_order(found.warnings)))
            }
            _ => Err(Problems(problems)),
        }
    }
}

/// In the order of the file; what was met twice (through an alias, or a layer under several queues) is told once.
fn in_order(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| (problem.line, problem.column));
    let mut told = BTreeSet::new();
    problems.retain(|problem| told.insert((problem.line, problem.column, problem.what.clone())));
    problems
}
