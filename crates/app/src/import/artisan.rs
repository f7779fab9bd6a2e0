//! What a command line does, as far as it is one of Laravel's: `php artisan queue:work …` in its many disguises.

use std::collections::VecDeque;

use super::scheduler::{self, Scheduled};
use super::words;

/// A command line that was recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) task: Task,
    /// From `env A=b`, or `A=b` in front of a command in a shell.
    pub(super) environment: Vec<(String, String)>,
    /// From `cd /srv/crm && …`, or of an `artisan` with its whole path.
    pub(super) cwd: Option<String>,
}

/// What of Laravel it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Task {
    /// `queue:work`.
    Work(Box<Work>),
    /// `queue:listen`.
    Listen,
    /// `horizon`.
    Horizon,
    /// `schedule:run` or `schedule:work`, perhaps in a loop; with what surely runs each minute, if something does.
    Schedule(Option<Scheduled>),
}

/// The options of `queue:work`, as they were written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// The connection's name in the application.
    pub(super) connection: Option<String>,
    /// Most important first; empty when the connection decides.
    pub(super) queues: Vec<String>,
    /// Options with a value that have a counterpart, by name.
    pub(super) options: Vec<(&'static str, String)>,
    /// Options that have none, with what to know.
    pub(super) left_out: Vec<(String, &'static str)>,
}

/// Options with a value that queues of the manifest have, too.
const CARRIED: &[&str] = &["tries", "timeout", "sleep", "max-time", "max-jobs", "memory", "backoff"];

/// Options that are left out: their name, and what to know.
const LEFT_OUT: &[(&str, &str)] = &[
    ("rest", "not needed: `concurrency` and `rate-limit` decide how much is done at once"),
    ("force", "not needed: there is no maintenance mode to ignore"),
    ("name", "not needed: processes are named by their queue"),
    ("once", "not needed: a worker goes on"),
    ("stop-when-empty", "a worker waits for the next job"),
    ("stop-when-empty-for", "a worker waits for the next job"),
    ("json", "write `logging: {format: json}`"),
    ("env", "the application chooses its environment where the handler runs"),
];

/// Options that are left out and have a value.
const WITH_VALUE: &[&str] = &["rest", "name", "stop-when-empty-for", "env", "queue", "delay"];

/// Options of every command that change nothing here.
const SILENT: &[&str] =
    &["daemon", "quiet", "silent", "verbose", "ansi", "no-ansi", "no-interaction", "no-color"];

/// Recognises a command line.
pub(super) fn read(line: &str) -> Option<Line> {
    if is_loop(line) && line.contains("schedule:run") {
        let unsure = || Line { task: Task::Schedule(None), environment: Vec::new(), cwd: None };
        return Some(script(line).and_then(|script| scheduler::loop_of(&script)).unwrap_or_else(unsure));
    }
    let mut found = Found { rest: words::split(line)?.into(), environment: Vec::new(), cwd: None };
    found.unwrap(0)?;
    let argv: Vec<String> = found.rest.iter().cloned().collect();
    let task = match found.command()?.as_str() {
        "queue:work" => Task::Work(Box::new(work(&mut found.rest)?)),
        "queue:listen" => Task::Listen,
        "horizon" => Task::Horizon,
        "schedule:work" => Task::Schedule(each_minute(&argv, &found.rest)),
        "schedule:run" => Task::Schedule(None),
        _ => return None,
    };
    Some(Line { task, environment: found.environment, cwd: found.cwd })
}

/// Reads a command that a loop repeats, if it is `schedule:run`.
pub(super) fn run_in_loop(line: &str) -> Option<Line> {
    let mut found = Found { rest: words::split(line)?.into(), environment: Vec::new(), cwd: None };
    found.unwrap(0)?;
    let argv: Vec<String> = found.rest.iter().cloned().collect();
    if found.command()? != "schedule:run" {
        return None;
    }
    let task = Task::Schedule(Some(each_minute(&argv, &found.rest)?));
    Some(Line { task, environment: found.environment, cwd: found.cwd })
}

/// What a shell is given to read, if the line is one.
fn script(line: &str) -> Option<String> {
    let words = words::split(line)?;
    let [shell, flags, script] = &words[..] else { return None };
    let is_shell = ["sh", "bash", "dash"].contains(&shell.rsplit('/').next()?);
    (is_shell && flags.starts_with('-') && flags.ends_with('c')).then(|| script.clone())
}

/// A command of the scheduler that has no options but those that change nothing: the run each minute.
fn each_minute(argv: &[String], options: &VecDeque<String>) -> Option<Scheduled> {
    let silent = |word: &String| match word.strip_prefix("--") {
        Some(name) => SILENT.contains(&name),
        None => word.starts_with('-') && word.chars().skip(1).all(|c| "qvn".contains(c)),
    };
    let run = |word: &String| if word == "schedule:work" { "schedule:run".to_owned() } else { word.clone() };
    options.iter().all(silent).then(|| Scheduled { argv: argv.iter().map(run).collect(), overlaps: false })
}

fn is_loop(line: &str) -> bool {
    ["while ", "for ", "until "].iter().any(|word| line.contains(word))
}

/// What is left of a line, and what was found on the way.
struct Found {
    rest: VecDeque<String>,
    environment: Vec<(String, String)>,
    cwd: Option<String>,
}

impl Found {
    /// Takes away what stands around a command: `exec`, `env`, a shell, variables. `None`: it is something else.
    fn unwrap(&mut self, depth: u8) -> Option<()> {
        loop {
            let word = self.rest.front()?.clone();
            match word.rsplit('/').next()? {
                "exec" | "nohup" => drop(self.rest.pop_front()),
                "env" => {
                    self.rest.pop_front();
                    self.variables();
                    if self.rest.front()?.starts_with('-') {
                        return None;
                    }
                }
                "sh" | "bash" | "dash" => return self.shell(depth),
                _ if depth > 0 && is_assignment(&word) => self.variables(),
                _ => return Some(()),
            }
        }
    }

    fn variables(&mut self) {
        while let Some(word) = self.rest.front().filter(|word| is_assignment(word)) {
            let (name, value) = word.split_once('=').unwrap_or_default();
            self.environment.push((name.to_owned(), value.to_owned()));
            self.rest.pop_front();
        }
    }

    /// `sh -c "cd /srv && php …"`: one command, nothing that only a shell can do.
    fn shell(&mut self, depth: u8) -> Option<()> {
        let [_, flags, script] = self.rest.make_contiguous() else { return None };
        if depth > 2 || !flags.starts_with('-') || !flags.ends_with('c') {
            return None;
        }
        let mut script = script.trim().to_owned();
        if let Some((folder, rest)) = script.strip_prefix("cd ").and_then(|rest| rest.split_once("&&")) {
            let [folder] = words::split(folder)?.try_into().ok()?;
            self.cwd = Some(folder);
            script = rest.to_owned();
        }
        if script.contains(['&', '|', ';', '<', '>', '$', '`', '(', '\n', '*', '?']) {
            return None;
        }
        self.rest = words::split(&script)?.into();
        self.unwrap(depth + 1)
    }

    /// The word behind `php … artisan`, or behind an `artisan` that is executed itself.
    fn command(&mut self) -> Option<String> {
        let first = self.rest.pop_front()?;
        let name = first.rsplit('/').next()?.to_owned();
        let mut script = first;
        if name.starts_with("php") {
            script = self.rest.pop_front()?;
            while script.starts_with('-') {
                if ["-d", "-c"].contains(&script.as_str()) {
                    self.rest.pop_front()?;
                }
                script = self.rest.pop_front()?;
            }
        }
        let folder = script.strip_suffix("artisan")?;
        if folder.starts_with('/') {
            let folder = folder.trim_end_matches('/');
            self.cwd = Some(if folder.is_empty() { "/".to_owned() } else { folder.to_owned() });
        }
        // Options may stand before the command.
        let at = self.rest.iter().position(|word| !word.starts_with('-'))?;
        self.rest.remove(at)
    }
}

fn is_assignment(word: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(fits) && !name.starts_with(|c: char| c.is_ascii_digit())
    })
}

/// Reads the arguments of `queue:work`; `None` when there is one that nobody knows.
fn work(rest: &mut VecDeque<String>) -> Option<Work> {
    let mut work = Work::default();
    while let Some(word) = rest.pop_front() {
        let Some(option) = word.strip_prefix("--").filter(|option| !option.is_empty()) else {
            if word.starts_with('-') {
                continue;
            }
            if work.connection.replace(word).is_some() {
                return None;
            }
            continue;
        };
        let (name, mut value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (option, None),
        };
        let wants = CARRIED.contains(&name) || WITH_VALUE.contains(&name);
        if wants && value.is_none() && rest.front().is_some_and(|next| !next.starts_with('-')) {
            value = rest.pop_front();
        }
        option_of(&mut work, name, value)?;
    }
    Some(work)
}

fn option_of(work: &mut Work, name: &str, value: Option<String>) -> Option<()> {
    if name == "queue" {
        let list = value.unwrap_or_default();
        work.queues = list.split(',').filter(|queue| !queue.is_empty()).map(str::to_owned).collect();
    } else if let Some(name) =
        CARRIED.iter().find(|known| **known == name || (**known == "backoff" && name == "delay"))
    {
        work.options.retain(|(known, _)| known != name);
        work.options.extend(value.filter(|value| !value.is_empty()).map(|value| (*name, value)));
    } else if let Some((_, advice)) = LEFT_OUT.iter().find(|(known, _)| *known == name) {
        work.left_out.push((format!("--{name}"), advice));
    } else if !SILENT.contains(&name) {
        return None;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_work(line: &str) -> Option<(Line, Work)> {
        let line = read(line)?;
        let Task::Work(work) = line.task.clone() else { return None };
        Some((line, *work))
    }

    #[test]
    fn a_worker_is_found_in_every_disguise() {
        for line in [
            "php artisan queue:work redis --queue=high,default --tries=3",
            "/usr/bin/php8.3 -d memory_limit=512M artisan queue:work redis --tries 3 --queue high,default",
            "php artisan queue:work --queue=\"high,default\" --tries=3 -v redis --no-interaction --daemon",
            "exec php artisan --ansi queue:work redis --queue=high,default --tries=1 --tries=3",
            "artisan queue:work redis --queue=high,default --tries=3",
            "/bin/sh -c \"exec php artisan queue:work redis --queue=high,default --tries=3\"",
            "bash -lc 'php artisan queue:work redis --queue=\"high,default\" --tries=3'",
        ] {
            let (found, work) = read_work(line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(
                (work.connection.as_deref(), &work.queues[..]),
                (Some("redis"), &["high".to_owned(), "default".to_owned()][..]),
                "{line}"
            );
            assert_eq!(work.options, [("tries", "3".to_owned())], "{line}");
            assert_eq!((found.cwd, found.environment), (None, vec![]), "{line}");
        }
    }

    #[test]
    fn variables_and_directories_are_found_around_it() {
        let variables = vec![("A".to_owned(), "b c".to_owned()), ("D".to_owned(), "e".to_owned())];
        for line in [
            "env 'A=b c' D=e php /srv/crm/artisan queue:work",
            "sh -c \"A='b c' D=e exec php /srv/crm/artisan queue:work\"",
            "sh -c \"cd /srv/crm && env 'A=b c' D=e php artisan queue:work\"",
        ] {
            let (found, work) = read_work(line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!((found.cwd.as_deref(), &found.environment), (Some("/srv/crm"), &variables), "{line}");
            assert_eq!(work, Work::default(), "{line}");
        }
    }

    #[test]
    fn every_option_is_known() {
        let all = "php artisan queue:work --delay=5,10 --timeout 0 --sleep=0.5 --max-time=3600 --max-jobs=1000 \
            --memory=256 --force --name=x --rest=1 --stop-when-empty --once --json --env=production";
        let (_, work) = read_work(all).unwrap();
        let options: Vec<String> =
            work.options.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            options.join(" "),
            "backoff=5,10 timeout=0 sleep=0.5 max-time=3600 max-jobs=1000 memory=256"
        );
        let names: Vec<&str> = work.left_out.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.join(" "), "--force --name --rest --stop-when-empty --once --json --env");
    }

    #[test]
    fn other_commands_are_told_apart() {
        for (line, task) in [
            ("php artisan queue:listen redis", Some(Task::Listen)),
            ("php /srv/artisan horizon", Some(Task::Horizon)),
            ("php artisan schedule:run", Some(Task::Schedule(None))),
            (
                "/bin/sh -c \"while [ true ]; do (php artisan schedule:run --verbose &); sleep 5; done\"",
                Some(Task::Schedule(None)),
            ),
            ("php artisan reverb:start", None),
            ("php artisan", None),
            ("php worker.php queue:work", None),
            ("node artisan queue:work", None),
            ("sudo -u app php artisan queue:work", None),
            ("env -i php artisan queue:work", None),
            ("A=b php artisan queue:work", None),
            ("sh -c \"php artisan queue:work | tee log\"", None),
            ("php artisan queue:work a b", None),
            ("php artisan queue:work --unheard-of", None),
            ("'", None),
            ("", None),
        ] {
            assert_eq!(read(line).map(|line| line.task), task, "{line}");
        }
    }
}
