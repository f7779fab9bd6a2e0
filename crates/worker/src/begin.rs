//! Where a worker process begins: wait for predecessors and give back their jobs, open everything, say that it is ready,
//! and work. Called by the binary with what the daemon left on the link.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qfleet_manifest::queue::{Connection, FailedJobs};
use qfleet_manifest::settings::WorkerSettings;
use qfleet_model::frame::Frames;
use qfleet_model::link::{FromChild, ToChild};
use qfleet_os::locked_map::{LockedMap, Opened};
use qfleet_os::signal::{Incoming, Received};
use qfleet_os::usage;
use qfleet_queue::driver::Recovered;
use qfleet_queue::{LaneQueues, Links, OpenSettings};
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::drain::DRAINED;
use crate::handler::{self, HandlerContext};
use crate::hold::ledger::{self, Ledger, SourceEntry, Table, Writer};
use crate::hold::recover::{self, BEFORE_READY, Dead};
use crate::lanes::Lanes;
use crate::report::Speaker;
use crate::run::{Event, Parts, Worker};
use crate::source::Source;

/// Settings that cannot be used.
const MISCONFIGURED: i32 = 78;
/// The ledger cannot be made.
const NO_LEDGER: i32 = 73;
/// Something that should work did not.
const INTERNAL: i32 = 70;
/// Jobs could not be given back; the ledger stays.
const NOT_RECOVERED: i32 = 1;

/// Records beyond twice the concurrency: jobs in stock, jobs whose verdict is on its way, and room for a higher
/// concurrency later.
const SPARE_RECORDS: usize = 256;

/// The worker's end of the link, with what was read from it beyond the start message.
#[derive(Debug)]
pub struct Link {
    stream: UnixStream,
    frames: Frames,
}

impl Link {
    /// A link from which `frames` has been fed so far.
    #[must_use]
    pub fn new(stream: UnixStream, frames: Frames) -> Self {
        Self { stream, frames }
    }
}

/// Runs a worker until it is told to stop; gives its exit code: 0 drained, 75 work was cut off or is left to be recovered
/// from the ledger, 73 the ledger cannot be made, 78 settings that cannot be used.
///
/// `ledger` is made anew; `after` are ledgers of earlier processes of this slot, which are waited for and recovered first.
/// Without a link there is no daemon: the worker replaces nobody and reports to nobody. To be called once in a process, on a
/// runtime with one thread.
pub async fn run(settings: WorkerSettings, ledger: PathBuf, after: Vec<PathBuf>, link: Option<Link>) -> i32 {
    let (events, mut happens) = unbounded_channel();
    let supervised = link.is_some();
    let speaker = match set_up(link, &events) {
        Ok(speaker) => speaker,
        Err(code) => return code,
    };
    let waiting = recover_predecessors(&after, &settings.connections, &speaker);
    let mut missed = Vec::new();
    let stopped = until_stopped(&mut happens, &mut missed);
    tokio::select! {
        biased;
        () = stopped => return DRAINED,
        () = waiting => {}
    }
    for event in missed {
        let _open = events.send(event);
    }
    let (lanes, sources, ledger) = match build(&settings, &ledger) {
        Ok(built) => built,
        Err(failure) => return failure.tell(speaker).await,
    };
    speaker.say(&FromChild::Ready);
    info!(group = settings.group, queues = lanes.all.len(), concurrency = settings.concurrency, "ready");
    let parts = Parts { settings, lanes, sources, ledger: Arc::new(ledger), speaker, events, supervised };
    Worker::new(parts).work(happens).await
}

/// What a recovery needs of the manifest; the settings of a worker hold it too.
#[derive(Debug, Clone, Deserialize)]
pub struct RecoverySettings {
    /// Every connection a ledger may name.
    pub connections: BTreeMap<String, Connection>,
}

/// Gives back what a dead worker held, as soon as its lock is free and its stores can be reached; gives the exit code: 0
/// when nothing is left to do, 1 when the ledger had to stay.
pub async fn recover(settings: RecoverySettings, ledger: PathBuf, link: Option<Link>) -> i32 {
    let (events, mut happens) = unbounded_channel();
    let mut speaker = match set_up(link, &events) {
        Ok(speaker) => speaker,
        Err(code) => return code,
    };
    let mut missed = Vec::new();
    let code = tokio::select! {
        biased;
        () = until_stopped(&mut happens, &mut missed) => NOT_RECOVERED,
        code = recover_one(&ledger, &settings.connections, &speaker) => code,
    };
    speaker.finish().await;
    code
}

async fn recover_one(path: &Path, connections: &BTreeMap<String, Connection>, speaker: &Speaker) -> i32 {
    let (started, recovered) = match dead(path, connections, speaker).await {
        Ok(None) => return 0,
        Ok(Some(dead)) => {
            (dead.started(), dead.recover(|| _ = speaker.say(&FromChild::Waiting { pid: 0 })).await)
        }
        Err(why) => (Vec::new(), Err(why)),
    };
    match recovered {
        Ok(Recovered { returned, buried, .. }) => {
            speaker.say(&FromChild::Recovered { returned, buried, started });
            0
        }
        Err(why) => {
            error!("cannot give back the jobs of a dead worker: {why}");
            let step = String::from("give back the jobs of a dead worker");
            speaker.say(&FromChild::Failed { step, errno: None, error: why });
            NOT_RECOVERED
        }
    }
}

/// Takes signals and the link over; the exit code when the system refuses.
fn set_up(link: Option<Link>, events: &UnboundedSender<Event>) -> Result<Speaker, i32> {
    let speaker = Received::register().and_then(|signals| {
        tokio::spawn(pass_on(signals, events.clone()));
        connect(link, events)
    });
    speaker.map_err(|error| {
        error!("cannot take over signals and the link: {error}");
        INTERNAL
    })
}

async fn pass_on(mut signals: Received, events: UnboundedSender<Event>) {
    while events.send(Event::Signalled(signals.next().await)).is_ok() {}
}

/// Reads and writes the link from now on.
fn connect(link: Option<Link>, events: &UnboundedSender<Event>) -> std::io::Result<Speaker> {
    let Some(Link { stream, frames }) = link else { return Ok(Speaker::new(None)) };
    stream.set_nonblocking(true)?;
    let (read, write) = tokio::net::UnixStream::from_std(stream)?.into_split();
    tokio::spawn(listen(read, frames, events.clone()));
    Ok(Speaker::new(Some(write)))
}

async fn listen(mut link: OwnedReadHalf, mut frames: Frames, events: UnboundedSender<Event>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        loop {
            match frames.next_message::<ToChild>() {
                Ok(Some(message)) => {
                    let _ended = events.send(Event::Told(message));
                }
                Ok(None) => break,
                Err(error) => {
                    warn!("{error}");
                    let _ended = events.send(Event::Orphaned);
                    return;
                }
            }
        }
        match link.read(&mut buffer).await {
            Ok(count) if count > 0 => frames.feed(&buffer[..count]),
            _ => {
                let _ended = events.send(Event::Orphaned);
                return;
            }
        }
    }
}

/// Returns when somebody wants the process to end before it has begun; keeps what else happens meanwhile.
async fn until_stopped(happens: &mut UnboundedReceiver<Event>, missed: &mut Vec<Event>) {
    while let Some(event) = happens.recv().await {
        match event {
            Event::Told(ToChild::Drain { .. }) | Event::Orphaned => return,
            Event::Signalled(Incoming::Term | Incoming::Int | Incoming::Quit) => return,
            other => missed.push(other),
        }
    }
}

/// Gives back what earlier processes of this slot held: first of those that are dead, then of the others as they end.
async fn recover_predecessors(
    after: &[PathBuf],
    connections: &BTreeMap<String, Connection>,
    speaker: &Speaker,
) {
    let (mut dead, mut living) = (Vec::new(), Vec::new());
    for path in after {
        match LockedMap::open(path) {
            Ok(Opened::HeldElsewhere { .. }) => living.push(path),
            _ => dead.push(path),
        }
    }
    for path in dead.into_iter().chain(living) {
        if let Err(why) = recover_predecessor(path, connections, speaker).await {
            error!("cannot give back the jobs of an earlier worker: {why}");
        }
    }
}

/// A store that is away is waited for beside the work.
async fn recover_predecessor(
    path: &Path,
    connections: &BTreeMap<String, Connection>,
    speaker: &Speaker,
) -> Result<(), String> {
    let Some(dead) = dead(path, connections, speaker).await? else { return Ok(()) };
    let (needs_a_store, started) = (dead.needs_a_store(), dead.started());
    let mut recovering = tokio::spawn(dead.recover(|| ()));
    let Ok(recovered) = timeout(BEFORE_READY, &mut recovering).await else { return Ok(()) };
    let Recovered { returned, buried, .. } = recovered.map_err(|error| error.to_string())??;
    if needs_a_store {
        speaker.say(&FromChild::Recovered { returned, buried, started });
    }
    Ok(())
}

/// The ledger at `path`, as soon as its writer is dead. `None` when there is nothing to do.
async fn dead(
    path: &Path,
    connections: &BTreeMap<String, Connection>,
    speaker: &Speaker,
) -> Result<Option<Dead>, String> {
    let shown = |error: std::io::Error| format!("open `{}`: {error}", path.display());
    let map = match LockedMap::open(path).map_err(shown)? {
        Opened::Gone => return Ok(None),
        Opened::Ours(map) => map,
        Opened::HeldElsewhere { pid } => {
            speaker.say(&FromChild::Waiting { pid: pid.unwrap_or(0) });
            match when_free(path.to_owned()).await.map_err(shown)? {
                Some(map) => map,
                None => return Ok(None),
            }
        }
    };
    Dead::read(map, connections)
}

/// Waits for the lock on a thread that the end of the process need not wait for.
async fn when_free(path: PathBuf) -> std::io::Result<Option<LockedMap>> {
    let (answer, answered) = oneshot::channel();
    std::thread::spawn(move || {
        let _gone = answer.send(LockedMap::open_when_free(&path));
    });
    answered.await.unwrap_or(Ok(None))
}

/// Why a worker could not begin.
struct Failure {
    code: i32,
    step: String,
    why: String,
}

impl Failure {
    async fn tell(self, mut speaker: Speaker) -> i32 {
        let Self { code, step, why } = self;
        error!("cannot {step}: {why}");
        speaker.say(&FromChild::Failed { step, errno: None, error: why });
        speaker.finish().await;
        code
    }
}

fn build(settings: &WorkerSettings, path: &Path) -> Result<(Lanes, Vec<Source>, Ledger), Failure> {
    // Twenty bits, and not zero.
    let tag = fastrand::u32(1..1 << 20);
    let opened = open_lanes(settings).and_then(|lanes| Ok((open_sources(settings, &lanes, tag)?, lanes)));
    let (sources, lanes) = opened.map_err(|why| {
        let step = String::from("open the queues and handlers");
        Failure { code: MISCONFIGURED, step, why }
    })?;
    let ledger = make_ledger(settings, &lanes, path, tag).map_err(|error| {
        let step = format!("make the ledger `{}`", path.display());
        Failure { code: NO_LEDGER, step, why: error.to_string() }
    })?;
    Ok((lanes, sources, ledger))
}

fn open_lanes(settings: &WorkerSettings) -> Result<Lanes, String> {
    let secrets = settings.secret_variables.clone();
    let context = HandlerContext::new(settings.kill_after, secrets, std::time::Duration::ZERO);
    Lanes::new(settings, |handler, tuning| {
        handler::open(handler, &HandlerContext { max_delay: tuning.max_delay, ..context.clone() })
    })
}

/// The connections in use, with nothing under way.
pub(crate) fn open_sources(
    settings: &WorkerSettings,
    lanes: &Lanes,
    tag: u32,
) -> Result<Vec<Source>, String> {
    let (mut sources, links) = (Vec::new(), Links::default());
    for (name, inside) in &lanes.sources {
        let connection = settings
            .connections
            .get(name)
            .ok_or_else(|| format!("the settings have no connection `{name}`"))?
            .clone();
        let queues = inside.iter().map(|lane| &settings.lanes[*lane]).map(LaneQueues::from);
        let open = OpenSettings { connection: connection.clone(), lanes: queues.collect(), tag };
        let driver = qfleet_queue::open_on(&links, &open).map_err(|error| error.to_string())?;
        let FailedJobs::Redis = settings.failed_jobs;
        let failed = qfleet_queue::open_failed_on(&links, &connection).map_err(|error| error.to_string())?;
        let shown = connection.redis.shown();
        sources.push(Source::new(
            name.clone(),
            shown,
            connection.laravel_name,
            inside.clone(),
            driver,
            failed,
            tag,
        ));
    }
    Ok(sources)
}

/// An empty ledger at `path`.
pub(crate) fn make_ledger(
    settings: &WorkerSettings,
    lanes: &Lanes,
    path: &Path,
    tag: u32,
) -> std::io::Result<Ledger> {
    let entry = |(name, inside): &(String, Vec<usize>)| SourceEntry {
        connection: name.clone(),
        prefix: settings
            .connections
            .get(name)
            .map(|connection| connection.prefix.clone())
            .unwrap_or_default(),
        lanes: inside
            .iter()
            .map(|lane| (settings.lanes[*lane].name.clone(), settings.lanes[*lane].queues.clone()))
            .collect(),
        node: inside.iter().map(|lane| settings.lanes[*lane].node.clone()).collect(),
    };
    let table = Table { boot: recover::boot(), sources: lanes.sources.iter().map(entry).collect() };
    let json = serde_json::to_vec(&table)?;
    let capacity = (settings.concurrency as usize * 2 + SPARE_RECORDS).next_power_of_two();
    let map = LockedMap::create(path, ledger::size(&json, table.sources.len(), capacity))?;
    let pid = std::process::id();
    let started_at =
        i32::try_from(pid).ok().and_then(|pid| usage::of(pid).ok()).map_or(0, |own| own.started_at);
    Ok(Ledger::lay_out(map, Writer { tag, pid, started_at }, &json, table.sources.len(), capacity))
}
