//! A queue without keys whose name is there under another prefix: most likely the manifest's prefix is wrong, and then the
//! fleet would wait for ever beside a full queue. Looked for once when the daemon starts, and by `check --probe`.

use std::thread;
use std::time::Duration;

use qfleet_manifest::queue::Connection;
use qfleet_manifest::settings::Manifest;
use qfleet_model::job::Format;
use qfleet_model::words::counted;
use qfleet_queue::{PrefixSearch, find_prefix};

/// Longest wait for one search.
const PATIENCE: Duration = Duration::from_secs(5);

/// What to write instead, when a Laravel queue has no keys and its name is there under another prefix. A search that takes
/// too long, fails or is not allowed says nothing about the queue.
pub(crate) async fn elsewhere(connection: &Connection, queue: &str) -> Option<String> {
    if connection.driver != Format::Laravel {
        return None;
    }
    let search = tokio::time::timeout(PATIENCE, find_prefix(connection, queue)).await;
    let Ok(Ok(PrefixSearch::Elsewhere(found))) = search else { return None };
    let first = found.first()?;
    let prefix = if first.prefix.is_empty() { "\"\"" } else { &first.prefix };
    Some(format!(
        "`{queue}` has no keys here; found `{}` with {}; set `prefix: {prefix}`",
        first.key,
        counted(first.jobs, "job", "jobs")
    ))
}

/// Looks at every Laravel queue once, beside everything else, and warns. A Redis that is not there yet is not waited for.
pub(crate) fn warn_once(manifest: &Manifest) {
    let queues: Vec<(Connection, String)> = manifest
        .lanes
        .iter()
        .filter_map(|lane| Some((manifest.connections.get(&lane.connection)?, &lane.queues)))
        .flat_map(|(connection, queues)| queues.iter().map(move |queue| (connection.clone(), queue.clone())))
        .collect();
    let look = move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            for (connection, queue) in queues {
                if let Some(hint) = elsewhere(&connection, &queue).await {
                    tracing::warn!(connection = connection.name, "{hint}");
                }
            }
        });
    };
    // Without a thread there is no hint, and nothing else is lost.
    let _hint = thread::Builder::new().name("prefixes".to_owned()).spawn(look);
}
