//! `depends-on` over the whole file: every name is a group, and nobody waits for himself by way of others.

use std::collections::BTreeSet;

use crate::queue::Lane;
use crate::settings::{Group, Work};
use crate::suggest::nearest;
use crate::value::Value;
use crate::written::document::Document;

/// Notes names that are none, and circles.
pub(crate) fn check(document: &Document<'_>, groups: &[Group], lanes: &[(Value<'_>, Lane)]) {
    for group in groups {
        for name in &group.process.depends_on {
            let Some(value) = place(document, group, name) else { continue };
            if *name == group.name {
                value.problem_with_hint("nothing can depend on itself", "remove it");
                continue;
            }
            match groups.iter().find(|other| other.name == *name) {
                Some(Group { work: Work::Schedule(_), .. }) => value.problem_with_hint(
                    "is a schedule, which is up only while it runs",
                    "name a program, a queue or a pool",
                ),
                Some(_) => {}
                None => unknown(document, groups, lanes, name, &value),
            }
        }
    }
    circles(document, groups);
}

/// Where the name is written: with the group, or in the layer below.
fn place<'c>(document: &Document<'c>, group: &Group, name: &str) -> Option<Value<'c>> {
    let list = document.written_at(&group.name, "depends-on")?;
    let items = list.list_or_one()?;
    items.iter().find(|item| item.line().as_deref() == Some(name)).cloned().or(Some(list))
}

fn unknown(
    document: &Document<'_>,
    groups: &[Group],
    lanes: &[(Value<'_>, Lane)],
    name: &str,
    value: &Value<'_>,
) {
    let pool = document.pools.iter().find(|pool| pool.written.queues.iter().any(|(queue, _)| queue == name));
    if let (Some(pool), true) = (pool, lanes.iter().any(|(_, lane)| lane.name == name)) {
        let hint = format!("its processes are those of its pool: write `{}`", pool.name);
        value.problem_with_hint("a queue in a pool has no processes of its own", hint);
    } else if !document.queue_is_named(name) {
        let hint = match nearest(name, groups.iter().map(|group| group.name.as_str())) {
            Some(near) => format!("did you mean `{near}`?"),
            None => String::from(
                "name a program, a queue or a pool of this file; what runs elsewhere cannot be waited for",
            ),
        };
        value.problem_with_hint("there is no such program, queue or pool", hint);
    }
}

/// Every circle is told once, where its first member names the next one.
fn circles(document: &Document<'_>, groups: &[Group]) {
    let mut told: BTreeSet<&str> = BTreeSet::new();
    for group in groups {
        let Some(circle) = circle_from(groups, group).filter(|circle| circle.len() > 1) else { continue };
        if circle.iter().any(|member| told.contains(member)) {
            continue;
        }
        told.extend(&circle);
        if let Some(value) = place(document, group, circle[1]) {
            let shown: Vec<String> =
                circle.iter().chain(&circle[..1]).map(|name| format!("`{name}`")).collect();
            value.problem_with_hint(
                format!("is a circle: {}; none of them would ever start", shown.join(" -> ")),
                "remove one of them",
            );
        }
    }
}

/// The way from this group over what it depends on back to it, if there is one; each member once.
fn circle_from<'g>(groups: &'g [Group], start: &'g Group) -> Option<Vec<&'g str>> {
    let find = |name: &str| groups.iter().find(|group| group.name == name);
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut ways = vec![vec![start]];
    while let Some(way) = ways.pop() {
        let last = way.last()?;
        for next in last.process.depends_on.iter().filter_map(|name| find(name)) {
            if next.name == start.name {
                return Some(way.iter().map(|group| group.name.as_str()).collect());
            }
            if seen.insert(&next.name) {
                ways.push(way.iter().copied().chain([next]).collect());
            }
        }
    }
    None
}
