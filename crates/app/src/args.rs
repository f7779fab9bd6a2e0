//! The command line: one struct a subcommand, each with examples in its help.
//!
//! `main` parses a [`Cli`] and chooses the part the process plays: `run` and the hidden `child` belong to the daemon and
//! its children, everything in [`Control`] is a short command that ends by itself and is carried out by `ctl`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use qfleet_model::name::Selector;

use crate::import::Handler;

/// A whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "qfleet",
    version,
    about = "Keeps a fleet of queue workers running: reads a YAML manifest, starts worker processes that take jobs \
        out of Redis and hand them to HTTP or shell handlers, restarts what dies, and never loses a job.",
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not all running (status), \
        4 no daemon at the socket, 78 manifest invalid.\n\n\
        NAME is `all`, a queue, pool or program (`messages` or `messages:*`),\n\
        or one process (`messages:messages_01` or `messages:1`).\n\n\
        `qfleet help SUBCOMMAND` has examples.",
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    /// What holds for every subcommand.
    #[command(flatten)]
    pub(crate) options: Options,
    /// What to do.
    #[command(subcommand)]
    pub(crate) task: Task,
}

/// Options of every subcommand.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Options {
    /// Manifest [else QFLEET_CONFIG, ./qfleet.yaml, ./config.yaml, /etc/qfleet/config.yaml]
    #[arg(short, long, global = true, value_name = "FILE", help_heading = "Options everywhere")]
    pub(crate) config: Option<PathBuf>,
    /// Control socket of the daemon [else QFLEET_SOCKET, the manifest's `control.socket`, /run/qfleet/qfleet.sock]
    #[arg(short, long, global = true, value_name = "PATH", help_heading = "Options everywhere")]
    pub(crate) socket: Option<PathBuf>,
    /// Print JSON for programs instead of text for people
    #[arg(long, global = true, help_heading = "Options everywhere")]
    pub(crate) json: bool,
    /// Colour the output: auto, always or never; NO_COLOR is honoured
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "WHEN",
        help_heading = "Options everywhere"
    )]
    pub(crate) color: Color,
}

/// When to colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The parts the binary plays.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Run the fleet in the foreground
    #[command(after_help = "Examples:\n  qfleet run\n  qfleet run -c /etc/qfleet/config.yaml\n\n\
            For systemd (Type=notify), as a container's first process, or in a terminal. TERM and INT drain and end, \
            a second INT cuts running jobs off, HUP reads the manifest again, USR1 opens the log files anew, USR2 upgrades.\n\n\
            Exit codes: 0 drained, 70 internal error, 73 socket or lock taken, 75 stop-wait or shutdown-timeout passed and \
            work was cut off, 76 an essential program failed for good, 78 manifest invalid.")]
    Run,
    /// Become a child of the daemon: a program, a worker, or the recovery of a dead worker's jobs
    #[command(hide = true)]
    Child,
    /// A short command.
    #[command(flatten)]
    Control(Control),
}

/// The short commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Control {
    /// Validate the manifest
    #[command(
        after_help = "Examples:\n  qfleet check\n  qfleet check -c new.yaml\n  qfleet check --against-running\n  \
        qfleet check --stop-limit 30s\n\n\
        Exit codes: 0 valid, 1 a probe failed, 78 manifest invalid. Warnings do not change the exit code."
    )]
    Check(Check),
    /// One line a process
    #[command(
        after_help = "Examples:\n  qfleet status\n  qfleet status messages 'audio:*'\n  qfleet status --json\n\n\
        Exit codes: 0 all up, 3 something is STOPPED, EXITED, FATAL or UNKNOWN."
    )]
    Status(Status),
    /// Start what is stopped
    #[command(after_help = "Examples:\n  qfleet start all\n  qfleet start messages:1")]
    Start(Names),
    /// Drain and stop; holds until `start`, also over a reload
    #[command(after_help = "Examples:\n  qfleet stop messages\n  qfleet stop all\n\n\
        Running jobs are waited for up to `stop-wait`, then cut off and given back to their queue.")]
    Stop(Names),
    /// Replace processes by fresh ones, one after another
    #[command(after_help = "Examples:\n  qfleet restart messages\n  qfleet restart all --now\n\n\
        Rolling: each process finishes its jobs, and the next one is asked when its replacement is up.")]
    Restart(Restart),
    /// Send a signal
    #[command(after_help = "Examples:\n  qfleet signal HUP reverb\n  qfleet signal USR1 'messages:*'")]
    Signal(Signal),
    /// Show the end of a process' output
    #[command(after_help = "Examples:\n  qfleet tail messages:1\n  qfleet tail -f reverb stderr\n  \
        qfleet tail -n 200 audio:audio_00\n\nWith -f it goes on over restarts of the process until Ctrl-C.")]
    Tail(Tail),
    /// Print process numbers: of the daemon, or of the processes named
    #[command(after_help = "Examples:\n  qfleet pid\n  qfleet pid messages:1\n  qfleet pid all\n\n\
        A process that is not running prints 0, and the exit code is then 1.")]
    Pid(Pid),
    /// Read the manifest again; only what changed is touched
    #[command(
        after_help = "Examples:\n  qfleet reload --dry-run\n  qfleet reload\n  qfleet reload --reset\n\n\
        A manifest with problems changes nothing; exit code 78."
    )]
    Reload(Reload),
    /// Replace the daemon's own program in place; no process is touched
    #[command(
        after_help = "Examples:\n  qfleet upgrade\n  qfleet upgrade --binary /opt/qfleet/bin/qfleet\n\n\
        The daemon keeps its process number, its processes, its sockets and their output. The new program first shows on a\n\
        copy of the state that it can go on with it; when it cannot, nothing is changed, and exit code 1. Processes go on as\n\
        the program they were started with: `qfleet restart all` renews the workers. SIGUSR2 does the same."
    )]
    Upgrade(Upgrade),
    /// Stop taking jobs, on every host, without stopping processes
    #[command(after_help = "Examples:\n  qfleet pause messages\n  qfleet pause crm/default\n\n\
        Kept in Redis until `resume`. Laravel: PHP workers on the same queue are not affected. BullMQ: the\n\
        queue's own pause, which holds for every worker.")]
    Pause(Queues),
    /// Take jobs again
    #[command(after_help = "Examples:\n  qfleet resume messages\n  qfleet resume crm/default")]
    Resume(Queues),
    /// Change the number of processes, until a reload changes that `numprocs`
    #[command(after_help = "Examples:\n  qfleet scale messages=4\n  qfleet scale messages=4 audio=1")]
    Scale(Scale),
    /// List the queues: waiting, delayed, reserved, failed, oldest, rate, time to drain
    #[command(name = "queues", after_help = "Examples:\n  qfleet queues\n  qfleet queues messages --json")]
    ListQueues(ListQueues),
    /// Look at the jobs of a queue
    #[command(
        after_help = "Examples:\n  qfleet jobs messages\n  qfleet jobs crm/default delayed --limit 100\n  \
        qfleet jobs messages reserved --json"
    )]
    Jobs(Jobs),
    /// Jobs that failed for good: list, show, retry, forget, flush, prune
    #[command(
        after_help = "Examples:\n  qfleet failed\n  qfleet failed show 6f9c1f1e-…\n  qfleet failed retry all\n  \
        qfleet failed retry --queue messages\n  qfleet failed prune --hours 48"
    )]
    Failed(Failed),
    /// Put a job in, in the connection's own format
    #[command(after_help = "Examples:\n  \
        qfleet push messages 'App\\Jobs\\SendMessage@handle' '{\"id\":7}'\n  \
        qfleet push crm/default 'App\\Jobs\\Report@handle' '[]' --delay 10m\n  \
        qfleet push messages --raw < payload.json\n\n\
        On a Laravel connection NAME is `Class@method`, on a BullMQ one the job's name; JSON is its data. A queue of the\n\
        manifest that has several queues in Redis takes the job in the one of the same name, else in its first.\n\
        With --raw a BullMQ job is {\"name\": …, \"data\": …, \"opts\": …}.")]
    Push(Push),
    /// Drain all and end the daemon
    #[command(after_help = "Examples:\n  qfleet shutdown\n  qfleet shutdown --wait\n\n\
        With --wait it says what is waited for, and in the end what was cut off; then it exits with 1.")]
    Shutdown(Shutdown),
    /// Write the manifest for a supervisord.conf
    #[command(after_help = "Examples:\n  qfleet import /etc/supervisor/supervisord.conf > qfleet.yaml\n  \
        qfleet import supervisord.conf --handler http://127.0.0.1:8080/jobs > qfleet.yaml\n\n\
        Included files are read, too. The manifest goes to standard output; what was not carried over, or differs from now on, \
        is listed on standard error and at the end of the manifest. Lines of `queue:work` run as programs, as they did, with \
        the queue as a comment; --handler makes queues of them.\n\n\
        Exit codes: 0 written, with or without such a list; 1 the file cannot be read, or supervisord would refuse it.")]
    Import(Import),
    /// Versions of this binary and of the daemon
    #[command(after_help = "Examples:\n  qfleet version\n  qfleet version --json")]
    Version,
    /// Print a completion script for a shell
    #[command(after_help = "Examples:\n  qfleet completions bash > /etc/bash_completion.d/qfleet\n  \
        qfleet completions zsh > \"${fpath[1]}/_qfleet\"\n  \
        qfleet completions fish > ~/.config/fish/completions/qfleet.fish")]
    Completions(Completions),
    /// Print the manual pages
    #[command(
        after_help = "Examples:\n  qfleet man | man -l -\n  qfleet man --out /usr/local/share/man/man1"
    )]
    Man(Man),
}

/// `check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Also show what a reload of the running daemon would do with its own manifest file
    #[arg(long)]
    pub(crate) against_running: bool,
    /// Also try every Redis and handler of the manifest
    #[arg(long)]
    pub(crate) probe: bool,
    /// Warn when the end may take longer than the outside waits before it kills, e.g. `30s` (`TimeoutStopSec` of a unit,
    /// `terminationGracePeriodSeconds` of a pod, `docker stop -t`) [default: QFLEET_STOP_LIMIT]
    #[arg(long, value_name = "DURATION", value_parser = qfleet_manifest::units::duration)]
    pub(crate) stop_limit: Option<Duration>,
}

/// `status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Only these processes [default: all]
    #[arg(value_name = "NAME", value_parser = Selector::parse)]
    pub(crate) names: Vec<Selector>,
}

/// Processes, at least one.
#[derive(Debug, Args)]
pub(crate) struct Names {
    /// `all`, a group, or one process
    #[arg(value_name = "NAME", required = true, value_parser = Selector::parse)]
    pub(crate) names: Vec<Selector>,
}

/// `restart`.
#[derive(Debug, Args)]
pub(crate) struct Restart {
    /// `all`, a group, or one process
    #[arg(value_name = "NAME", required = true, value_parser = Selector::parse)]
    pub(crate) names: Vec<Selector>,
    /// All at once; still drained, up to `stop-wait`
    #[arg(long)]
    pub(crate) now: bool,
    /// So many processes of each group at a time, instead of one
    #[arg(long, value_name = "N", conflicts_with = "now", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch: Option<u32>,
}

/// `signal`.
#[derive(Debug, Args)]
pub(crate) struct Signal {
    /// Name or number: TERM, SIGUSR1, 12
    #[arg(value_name = "SIG", value_parser = signal_number)]
    pub(crate) signal: i32,
    /// `all`, a group, or one process
    #[arg(value_name = "NAME", required = true, value_parser = Selector::parse)]
    pub(crate) names: Vec<Selector>,
}

/// `tail`.
#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// Go on printing what comes, until Ctrl-C
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Lines from the end
    #[arg(short = 'n', long, default_value_t = 20, value_name = "N")]
    pub(crate) lines: u32,
    /// One process
    #[arg(value_name = "NAME", value_parser = Selector::parse)]
    pub(crate) name: Selector,
    /// Which of its two outputs: stdout or stderr
    #[arg(value_enum, default_value_t, hide_possible_values = true)]
    pub(crate) channel: Channel,
}

/// The outputs of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Channel {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
}

/// `pid`.
#[derive(Debug, Args)]
pub(crate) struct Pid {
    /// `all`, a group, or one process [default: the daemon]
    #[arg(value_name = "NAME", value_parser = Selector::parse)]
    pub(crate) names: Vec<Selector>,
}

/// `reload`.
#[derive(Debug, Args)]
pub(crate) struct Reload {
    /// Only say what would change
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Drop what `stop` and `scale` said before
    #[arg(long)]
    pub(crate) reset: bool,
}

/// `upgrade`.
#[derive(Debug, Args)]
pub(crate) struct Upgrade {
    /// Program file to go on with; only root and the daemon's user may name one [default: the one it was started from]
    #[arg(long, value_name = "PATH")]
    pub(crate) binary: Option<PathBuf>,
}

/// Queues, at least one.
#[derive(Debug, Args)]
pub(crate) struct Queues {
    /// The manifest's name, or `connection/queue`
    #[arg(value_name = "QUEUE", required = true)]
    pub(crate) queues: Vec<String>,
}

/// `scale`.
#[derive(Debug, Args)]
pub(crate) struct Scale {
    /// Queue, pool or program, and its new number of processes
    #[arg(value_name = "NAME=N", required = true, value_parser = scale_to)]
    pub(crate) groups: Vec<(String, u32)>,
}

/// `queues`.
#[derive(Debug, Args)]
pub(crate) struct ListQueues {
    /// Only these: the manifest's name, or `connection/queue` [default: all]
    #[arg(value_name = "QUEUE")]
    pub(crate) queues: Vec<String>,
}

/// `jobs`.
#[derive(Debug, Args)]
pub(crate) struct Jobs {
    /// The manifest's name, or `connection/queue`
    #[arg(value_name = "QUEUE")]
    pub(crate) queue: String,
    /// Where to look: waiting, delayed or reserved [default: all three]
    #[arg(value_enum, hide_possible_values = true)]
    pub(crate) state: Option<JobState>,
    /// At most so many of each state, up to 1000
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(crate) limit: u64,
    /// Leave out the first so many of each state
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) from: u64,
}

/// Where a job can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum JobState {
    /// Ready to be taken.
    Waiting,
    /// Due later.
    Delayed,
    /// In some worker's hands.
    Reserved,
}

/// `failed`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Failed {
    /// What to do with them; `list` when left out.
    #[command(subcommand)]
    pub(crate) action: Option<FailedAction>,
    /// Without an action: as `list`.
    #[command(flatten)]
    pub(crate) list: FailedList,
}

/// `failed …`.
#[derive(Debug, Subcommand)]
pub(crate) enum FailedAction {
    /// List them, newest first
    #[command(
        after_help = "Examples:\n  qfleet failed list\n  qfleet failed list --queue messages --limit 100"
    )]
    List(FailedList),
    /// Show one with its payload and the whole reason
    #[command(after_help = "Examples:\n  qfleet failed show 6f9c1f1e-7a52-4f0e-9f0a-0c5f3e8f2b11")]
    Show(FailedShow),
    /// Put jobs back into their queues, attempts at zero
    #[command(after_help = "Examples:\n  qfleet failed retry 6f9c1f1e-7a52-4f0e-9f0a-0c5f3e8f2b11\n  \
        qfleet failed retry all\n  qfleet failed retry --queue messages")]
    Retry(FailedRetry),
    /// Remove records by id
    #[command(after_help = "Examples:\n  qfleet failed forget 6f9c1f1e-7a52-4f0e-9f0a-0c5f3e8f2b11")]
    Forget(FailedForget),
    /// Remove all records
    #[command(
        after_help = "Examples:\n  qfleet failed flush\n  qfleet failed flush --queue messages --hours 24"
    )]
    Flush(FailedFlush),
    /// Remove old records
    #[command(after_help = "Examples:\n  qfleet failed prune\n  qfleet failed prune --hours 48")]
    Prune(FailedPrune),
}

/// `failed list`.
#[derive(Debug, Args)]
pub(crate) struct FailedList {
    /// Only of this queue: the manifest's name, or `connection/queue`
    #[arg(long, value_name = "QUEUE")]
    pub(crate) queue: Option<String>,
    /// At most so many, up to 1000
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub(crate) limit: u64,
    /// Leave out the first so many
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) from: u64,
}

/// `failed show`.
#[derive(Debug, Args)]
pub(crate) struct FailedShow {
    /// The record's id
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

/// `failed retry`.
#[derive(Debug, Args)]
pub(crate) struct FailedRetry {
    /// Ids of records, or `all`
    #[arg(value_name = "ID", required_unless_present = "queue")]
    pub(crate) ids: Vec<String>,
    /// All of this queue: the manifest's name, or `connection/queue`
    #[arg(long, value_name = "QUEUE", conflicts_with = "ids")]
    pub(crate) queue: Option<String>,
}

/// `failed forget`.
#[derive(Debug, Args)]
pub(crate) struct FailedForget {
    /// Ids of records
    #[arg(value_name = "ID", required = true)]
    pub(crate) ids: Vec<String>,
}

/// `failed flush`.
#[derive(Debug, Args)]
pub(crate) struct FailedFlush {
    /// Only of this queue: the manifest's name, or `connection/queue`
    #[arg(long, value_name = "QUEUE")]
    pub(crate) queue: Option<String>,
    /// Only what failed at least so many hours ago
    #[arg(long, value_name = "N")]
    pub(crate) hours: Option<u32>,
}

/// `failed prune`.
#[derive(Debug, Args)]
pub(crate) struct FailedPrune {
    /// Only of this queue: the manifest's name, or `connection/queue`
    #[arg(long, value_name = "QUEUE")]
    pub(crate) queue: Option<String>,
    /// What failed at least so many hours ago
    #[arg(long, default_value_t = 24, value_name = "N")]
    pub(crate) hours: u32,
}

/// `push`.
#[derive(Debug, Args)]
pub(crate) struct Push {
    /// The manifest's name, or `connection/queue`
    #[arg(value_name = "QUEUE")]
    pub(crate) queue: String,
    /// The job's name as the connection's family writes it
    #[arg(value_name = "NAME", required_unless_present = "raw", conflicts_with = "raw")]
    pub(crate) name: Option<String>,
    /// The job's data [default: {}]
    #[arg(value_name = "JSON", conflicts_with = "raw")]
    pub(crate) data: Option<String>,
    /// Take a whole payload from standard input, byte for byte
    #[arg(long)]
    pub(crate) raw: bool,
    /// Due after this long: seconds, or 500ms, 90s, 5m, 1h30m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) delay: Option<Duration>,
}

/// `shutdown`.
#[derive(Debug, Args)]
pub(crate) struct Shutdown {
    /// Return when the daemon has ended
    #[arg(long)]
    pub(crate) wait: bool,
}

/// `import`.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// supervisord's configuration; `-` is standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Make queues of `queue:work`, and hand their jobs to this URL or command
    #[arg(long, value_name = "URL", value_parser = Handler::parse)]
    pub(crate) handler: Option<Handler>,
}

/// `completions`.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// Which shell
    #[arg(value_enum, value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

/// `man`.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Write one file a page into this directory instead of all to standard output
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// Reads `TERM`, `SIGTERM` or `15`.
fn signal_number(text: &str) -> Result<i32, String> {
    qfleet_os::signal::number(text)
        .ok_or_else(|| format!("`{text}` is no signal; write a name such as TERM or a number"))
}

/// Reads `messages=4`.
fn scale_to(text: &str) -> Result<(String, u32), String> {
    let (name, number) =
        text.split_once('=').ok_or_else(|| format!("write `{text}=N` with the number of processes"))?;
    let group = match Selector::parse(name)? {
        Selector::Group(group) => group,
        Selector::All | Selector::Process(..) => {
            return Err(format!("`{name}` is not a queue, pool or program; scale works on whole groups"));
        }
    };
    let to = number.parse().map_err(|_| format!("`{number}` is not a number of processes"))?;
    Ok((group, to))
}

/// Reads a number of seconds, or `500ms`, `90s`, `5m`, `1h30m`.
fn duration(text: &str) -> Result<Duration, String> {
    qfleet_manifest::units::duration(text).map_err(|expected| format!("must be {expected}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_description_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_pages_read_well() {
        let mut command = Cli::command().term_width(100);
        command.build();
        let mut pages = String::new();
        collect(&mut command, &mut pages);
        insta::assert_snapshot!("help", pages);
    }

    fn collect(command: &mut clap::Command, pages: &mut String) {
        let page = command.render_help();
        let name = command.get_display_name().unwrap_or("qfleet");
        pages.push_str(&format!("──── {name}\n{page}\n"));
        for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set())
        {
            collect(sub, pages);
        }
    }

    #[test]
    fn lines_mean_what_they_say() {
        let lines = [
            "run",
            "run -c fleet.yaml",
            "child",
            "check --against-running --probe --json",
            "check --stop-limit 1m30s",
            "check --stop-limit soon",
            "status",
            "status messages messages:1 all --socket /tmp/q.sock",
            "start",
            "start messages:*",
            "stop :x",
            "restart --now all",
            "signal usr1 messages:messages_00",
            "signal 0 messages",
            "signal NOPE messages",
            "signal TERM",
            "tail messages:1",
            "tail -f -n 5 messages:1 stderr",
            "tail messages stdin",
            "pid",
            "pid all",
            "reload --dry-run --reset",
            "pause messages crm/default",
            "resume",
            "scale messages=4 audio=0",
            "scale messages",
            "scale messages=x",
            "scale messages:1=2",
            "scale all=2",
            "queues --color never",
            "jobs messages delayed --limit 5 --from 10",
            "jobs messages done",
            "failed",
            "failed --queue messages --limit 3",
            "failed list",
            "failed show abc",
            "failed retry all",
            "failed retry",
            "failed retry --queue messages",
            "failed retry abc --queue messages",
            "failed forget a b",
            "failed flush --hours 3",
            "failed prune",
            "push messages A@b {}",
            "push messages A@b",
            "push messages",
            "push messages --raw --delay 1m30s",
            "push messages A@b --raw",
            "push messages A@b {} --delay soon",
            "shutdown --wait",
            "import supervisord.conf",
            "import - --handler http://127.0.0.1:8080/jobs/{queue}",
            "import s.conf --handler=bin/job",
            "import",
            "version",
            "completions zsh",
            "completions cmd",
            "man --out /tmp/man",
            "statsu",
        ];
        let parsed = lines.map(|line| {
            match Cli::try_parse_from(line.split(' ').fold(vec!["qfleet"], |mut words, word| {
                words.push(word);
                words
            })) {
                Ok(Cli { options, task }) => format!("{line}\n    {task:?}{}", unusual(&options)),
                Err(error) => {
                    assert_eq!(error.exit_code(), i32::from(crate::exit::Exit::Usage.code()), "{line}");
                    let text = error.to_string();
                    let said: Vec<&str> =
                        text.lines().take_while(|line| !line.starts_with("Usage")).map(str::trim).collect();
                    format!("{line}\n    {}", said.join(" ").trim())
                }
            }
        });
        insta::assert_snapshot!("parsed", parsed.join("\n"));
    }

    fn unusual(options: &Options) -> String {
        let Options { config, socket, json, color } = options;
        if config.is_none() && socket.is_none() && !json && *color == Color::Auto {
            return String::new();
        }
        format!(" with {options:?}")
    }
}
