//! The same life of a job twice: once in the hands of the library's own worker, in the queue `theirs`, and once in ours,
//! in the queue `ours`. Jobs tell both workers by their names what is to become of them.

use qfleet_testkit::{Answer, Gate, Received};

use crate::stage::{Library, Stage, attempt, job};
use crate::support::Fleet;

/// What the library's worker does with a job.
const PROCESS: &str = "async (job) => {
  const first = (job.opts.attempts > 1) && job.attemptsMade === 0
  if (job.name.startsWith('never')) throw kit.unrecoverable(job, 'no such customer')
  if (job.name.startsWith('bad') || (job.name.startsWith('second') && first)) throw kit.error('try again')
  if (job.name.startsWith('held')) await kit.until(() => kit.memory.released)
  if (job.name.startsWith('value')) return {sent: [1, 'a/b'], none: []}
}";

/// What ours is answered.
fn answer(library: Library, request: &Received, released: &Gate) -> Answer {
    let again = Answer::status(500).header("Job-Outcome", "retry;class=Error;reason=\"try again\"");
    match job(request) {
        name if name.starts_with("never") => {
            // Bull has no error of its own for it.
            let class = if library.is_bull() { "Error" } else { "UnrecoverableError" };
            Answer::ok().header("Job-Outcome", &format!("fail;class={class};reason=\"no such customer\""))
        }
        name if name.starts_with("bad") => again,
        name if name.starts_with("second") && attempt(request) == 1 => again,
        name if name.starts_with("held") => Answer::status(204).behind(released),
        name if name.starts_with("value") => {
            Answer::ok().header("Content-Type", "application/json").body(r#"{"sent":[1,"a/b"],"none":[]}"#)
        }
        _ => Answer::status(204),
    }
}

/// A stage with both workers up, concurrency 1. `options` are those of the library's worker, `settings` say the same to
/// ours.
pub(crate) fn stage(library: Library, options: &str, settings: &str) -> (Stage, Fleet) {
    let (stage, fleet, _) = holding_stage(library, options, settings);
    (stage, fleet)
}

/// The same, where jobs called `held` end when [`release`] is called.
pub(crate) fn holding_stage(library: Library, options: &str, settings: &str) -> (Stage, Fleet, Gate) {
    let released = Gate::new();
    let stage = Stage::new(library, {
        let released = released.clone();
        move |request| answer(library, request, &released)
    });
    stage.run(&format!(
        "for (const name of ['theirs', 'ours']) {{
           await kit.listen(name)
           await kit.queue(name).isPaused()
         }}
         await kit.worker('theirs', {PROCESS}, {options})"
    ));
    let fleet = stage.fleet(&[("ours", settings)]);
    (stage, fleet, released)
}

/// Lets jobs end that are held.
pub(crate) fn release(stage: &Stage, released: &Gate) {
    stage.run("kit.memory.released = true");
    released.open();
}

/// Adds jobs, each when the one before has ended, to both queues. `jobs` is a list of [name, data, options] in JavaScript.
pub(crate) fn one_by_one(stage: &Stage, jobs: &str) {
    stage.run(&format!(
        "const redis = kit.redis()
         const ended = async (base, id) => (await redis.zscore(base + 'completed', id)) !== null
           || (await redis.zscore(base + 'failed', id)) !== null || !(await redis.exists(base + id))
         const live = async (name) => {{
           for (const [job, data, opts] of {jobs}) {{
             const added = await kit.queue(name).add(job, data, opts)
             await kit.until(() => ended(`bull:${{name}}:`, added.id))
             // A worker says what it has to say about an empty queue after the end.
             await kit.sleep(40)
           }}
         }}
         await Promise.all([live('theirs'), live('ours')])"
    ));
}
