//! Budgets: who shares a number of processes, and whether that can be.

use std::collections::HashMap;

use qfleet_model::scale::Budget;

use crate::settings::{Group, Work};
use crate::suggest::nearest;
use crate::value::Value;
use crate::written::document::Document;

/// Tells each group of the budget that it is in; what is wrong is noted at its place.
pub(crate) fn resolve(document: &Document<'_>, pooled: &HashMap<&str, &str>, groups: &mut [Group]) {
    let mut taken: HashMap<&str, &str> = HashMap::new();
    for budget in &document.budgets {
        let mut least = 0;
        for (name, value) in &budget.written.queues {
            if let Some(other) = taken.insert(name, &budget.name) {
                let same = other == budget.name;
                let place = if same {
                    String::from("here twice")
                } else {
                    format!("in the budget `{other}` already")
                };
                value.problem(format!("this queue is {place}"));
                continue;
            }
            if let Some(min) = join(name, value, budget, document, pooled, groups) {
                least += min;
            }
        }
        if least > budget.written.max {
            budget.value.problem_at_key(
                format!(
                    "its queues have at least {least} processes together, more than `max` {}",
                    budget.written.max
                ),
                Some("each keeps its `min`: raise `max`, or lower them"),
            );
        }
    }
}

/// Gives the budget to one of its groups; gives back the fewest processes that one has.
fn join(
    name: &str,
    value: &Value<'_>,
    budget: &crate::written::document::Named<'_, crate::written::scale::BudgetWritten<'_>>,
    document: &Document<'_>,
    pooled: &HashMap<&str, &str>,
    groups: &mut [Group],
) -> Option<u32> {
    if let Some(pool) = pooled.get(name) {
        let hint = format!("name the pool: `{pool}`");
        value.problem_with_hint(
            format!("the queue is in the pool `{pool}` and has no processes of its own"),
            hint,
        );
        return None;
    }
    let Some(at) = groups.iter().position(|group| group.name == name) else {
        if !document.queue_is_named(name) {
            let names = groups.iter().filter(|group| matches!(group.work, Work::Queue(_) | Work::Pool(_)));
            match nearest(name, names.map(|group| group.name.as_str())) {
                Some(near) => value
                    .problem_with_hint("there is no such queue or pool", format!("did you mean `{near}`?")),
                None => value.problem("there is no such queue or pool"),
            }
        }
        return None;
    };
    let group = &mut groups[at];
    match (&group.work, &mut group.process.scale) {
        (Work::Program { .. } | Work::Schedule(_), _) => {
            value.problem("is no queue and no pool, and only those can share a budget");
            None
        }
        (Work::Queue(_) | Work::Pool(_), Some(rule)) => {
            rule.budget = Some(Budget { name: budget.name.clone(), max: budget.written.max });
            Some(rule.min)
        }
        (Work::Queue(_) | Work::Pool(_), None) => {
            value.problem_with_hint(
                "this queue has a fixed number of processes",
                "write `numprocs: {min: 1, max: 10}` there, or take it out of the budget",
            );
            None
        }
    }
}
