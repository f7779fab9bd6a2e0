//! What an idle fleet costs: a Redis that is billed by the command and limited in connections, a Redis that allows little, and
//! the machine.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qfleet_testkit::{Answer, Node, Receiver, RedisServer, Scratch, eventually};
use serde_json::Value;

use crate::support::{Fleet, Pace, SOON, payload, push};

/// As in a pool of eleven queues whose `sleep` and `stalled-interval` are both 30 s, in a fifteenth of the time.
const SLEEP: Duration = Duration::from_secs(2);
const WATCHED: Duration = Duration::from_secs(10);

/// As long as the way to a server in another city.
const DISTANCE: Duration = Duration::from_millis(40);

/// A socket behind which the server is that far away.
fn distant(redis: &RedisServer, scratch: &Scratch) -> PathBuf {
    let (socket, server) = (scratch.join("distant.sock"), redis.socket());
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Ok(far) = UnixStream::connect(&server) else { continue };
            let (from_near, from_far) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            std::thread::spawn(move || carry(from_near, far, DISTANCE));
            std::thread::spawn(move || carry(from_far, near, Duration::ZERO));
        }
    });
    socket
}

/// Hands on what comes, a while later, until either side closes.
fn carry(mut from: UnixStream, mut to: UnixStream, after: Duration) {
    let mut bytes = vec![0; 65536];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        std::thread::sleep(after);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// A pool of eleven queues, shared out among connections of these families.
fn pool(redis: &Path, families: &[&str]) -> Fleet {
    let seconds = SLEEP.as_secs();
    let mut manifest = format!("redis: {{url: 'redis+unix://{}'}}\nconnections:\n", redis.display());
    for family in families {
        manifest.push_str(&format!("  {family}: {{driver: {family}, prefix: {family}-}}\n"));
    }
    manifest.push_str("queues:\n");
    let names: Vec<String> = (0..11).map(|number| format!("q{number}")).collect();
    for (name, family) in names.iter().zip(families.iter().cycle()) {
        let checks =
            if *family == "laravel" { String::new() } else { format!("stalled-interval: {seconds}, ") };
        manifest
            .push_str(&format!("  {name}: {{connection: {family}, {checks}handler: {{shell: 'true'}}}}\n"));
    }
    manifest.push_str(&format!("pools:\n  small: {{queues: [{}], sleep: {seconds}}}\n", names.join(", ")));
    Fleet::start_and_wait(&manifest)
}

/// Everything clients send in a while, without what scripts do inside.
fn sent(redis: &RedisServer, during: Duration) -> Vec<String> {
    let mut monitor = UnixStream::connect(redis.socket()).unwrap();
    monitor.write_all(b"MONITOR\r\n").unwrap();
    let (mut lines, mut heard) = (BufReader::new(monitor), Vec::new());
    let until = Instant::now() + during;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return heard;
        }
        lines.get_ref().set_read_timeout(Some(left)).unwrap();
        let mut line = String::new();
        if lines.read_line(&mut line).is_ok() && line.contains('"') && !line.contains(" lua]") {
            heard.push(line);
        }
    }
}

/// How often a command was called.
fn calls(redis: &RedisServer, command: &str) -> usize {
    let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut redis.connection()).unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or_default()
}

/// Calls that were called off, which a monitor does not hear of.
fn called_off(redis: &RedisServer) -> usize {
    calls(redis, "client|unblock")
}

/// Clients, but for the one that asks, and a monitor that is about to go.
fn connections(redis: &RedisServer) -> usize {
    let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut redis.connection()).unwrap();
    let ours = |client: &&str| client.contains("cmd=client|list") || client.contains("flags=O");
    clients.lines().filter(|client| !ours(client)).count()
}

/// Connections that sleep: in a blocking call, or on channels.
fn asleep(redis: &RedisServer) -> usize {
    let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut redis.connection()).unwrap();
    let flags = clients.lines().filter_map(|client| client.split_once("flags=")?.1.split(' ').next());
    flags.filter(|flags| flags.contains(['b', 'P'])).count()
}

/// Two connections, and one more for each family after the first; a command for each family and `sleep`.
fn an_idle_pool_costs_little(families: &[&str]) {
    let (redis, scratch) = (RedisServer::start(), Scratch::new());
    let mut fleet = pool(&distant(&redis, &scratch), families);
    eventually(SOON, "the pool to fall asleep", || (asleep(&redis) == families.len()).then_some(()));
    let most_connections = 1 + families.len();
    // When it starts, the daemon looks whether the prefix of each of Laravel's queues is right.
    let looks = (0..11).filter(|number| families[number % families.len()] == "laravel").count();
    eventually(SOON, "the daemon to have looked", || {
        (calls(&redis, "scan") >= looks && connections(&redis) <= most_connections).then_some(())
    });
    let before = called_off(&redis);
    let pace = Pace::watch();
    let heard = sent(&redis, WATCHED);
    let stood_still = pace.allows(Duration::ZERO);
    let listing = heard.join("");
    assert_eq!(called_off(&redis) - before, 0, "calls are called off between two looks:\n{listing}");
    let looks = usize::try_from(WATCHED.as_secs() / SLEEP.as_secs()).unwrap() * families.len();
    // At either end there may be one more, or less; and each takes longer where everything does.
    let missed = usize::try_from(stood_still.as_secs() / SLEEP.as_secs()).unwrap() * families.len();
    assert!(heard.len() <= looks + families.len(), "{} commands:\n{listing}", heard.len());
    assert!(heard.len() + families.len() + missed >= looks, "it does not look often enough:\n{listing}");
    assert!(connections(&redis) <= most_connections, "{}", connections(&redis));
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn eleven_idle_queues_of_one_family_cost_two_connections_and_a_command_each_sleep() {
    std::thread::scope(|threads| {
        for family in ["laravel", "bullmq", "bull"] {
            threads.spawn(move || an_idle_pool_costs_little(&[family]));
        }
    });
}

#[test]
fn eleven_idle_queues_of_two_families_cost_three_connections() {
    std::thread::scope(|threads| {
        for families in [["bull", "bullmq"], ["laravel", "bullmq"]] {
            threads.spawn(move || an_idle_pool_costs_little(&families));
        }
    });
}

fn rows(fleet: &Fleet, args: &[&str]) -> Vec<Value> {
    serde_json::from_str(&fleet.ok(args)).unwrap()
}

/// Commands that are often refused: by the rights of a user, or because they are not there at all.
const REFUSED: [&str; 9] =
    ["CONFIG", "CLIENT", "SCAN", "KEYS", "MONITOR", "DEBUG", "INFO", "ROLE", "SUBSCRIBE"];

#[test]
fn a_redis_that_allows_little_is_enough() {
    let rules: Vec<String> = REFUSED.iter().map(|command| format!("-{}", command.to_lowercase())).collect();
    let by_rights = RedisServer::builder()
        .config(&format!("user app on >secret ~* &* +@all {}", rules.join(" ")))
        .start();
    let mut without = RedisServer::builder();
    // The library's own client asks for `INFO` before it says anything else.
    for command in REFUSED.iter().filter(|command| **command != "INFO") {
        without = without.config(&format!("rename-command {command} \"\""));
    }
    let without = without.start();
    let login = format!("redis+unix://app:secret@{}", by_rights.socket().display());
    for (redis, url) in [(&by_rights, login), (&without, without.url())] {
        everything_works(redis, &url);
    }
}

fn everything_works(redis: &RedisServer, url: &str) {
    let receiver = Receiver::start(|request| match request.header("Job-Name") {
        Some("refused" | "App\\Jobs\\Job2") => Answer::status(422),
        Some("slow") if request.header("Job-Previous-Status").is_none() => Answer::never(),
        _ => Answer::ok(),
    });
    let mut fleet = Fleet::start_and_wait(&format!(
        "redis: {{url: '{url}'}}\nconnections:\n  node: {{driver: bullmq}}\n  php: {{driver: laravel}}\n\
         defaults: {{handler: {{http: {{url: '{0}/'}}}}, sleep: 0.2}}\n\
         queues:\n  mail: {{connection: node, concurrency: 2}}\n  crm: {{connection: php}}\n",
        receiver.url()
    ));
    let done = |count| {
        eventually(SOON, "a job to be handled", || (receiver.count() >= count).then_some(()));
    };
    let node = Node::start("bullmq", redis);
    node.run(
        "await kit.queue('mail').add('plain', {}); await kit.queue('mail').add('delayed', {}, {delay: 500})",
    );
    done(2);
    push(redis, "crm", [payload(1, "")]);
    done(3);
    // Paused, so that the sleepers are called off, and jobs stay where they can be listed.
    fleet.ok(&["pause", "mail", "crm"]);
    std::thread::sleep(Duration::from_millis(300));
    fleet.ok(&["push", "mail", "refused", "{}"]);
    push(redis, "crm", [payload(2, "")]);
    let waiting = rows(&fleet, &["queues", "--json"]);
    assert!(waiting.iter().all(|queue| queue["waiting"] == 1 && queue["paused"] == true), "{waiting:?}");
    assert_eq!(rows(&fleet, &["jobs", "mail", "--json"]).len(), 1);
    fleet.ok(&["resume", "mail", "crm"]);
    let failed = eventually(SOON, "both to be failed", || {
        let failed = rows(&fleet, &["failed", "list", "--json"]);
        (failed.len() == 2).then_some(failed)
    });
    for job in &failed {
        fleet.ok(&["failed", "retry", job["id"].as_str().unwrap()]);
    }
    eventually(SOON, "both to be failed again", || {
        (receiver.count() >= 7 && rows(&fleet, &["failed", "list", "--json"]).len() == 2).then_some(())
    });
    fleet.ok(&["failed", "flush"]);
    assert!(rows(&fleet, &["failed", "list", "--json"]).is_empty());
    // What a killed worker held is back at once.
    node.run("await kit.queue('mail').add('slow', {})");
    done(8);
    let (pace, killed) = (Pace::watch(), Instant::now());
    kill(Pid::from_raw(fleet.pid_of("mail:mail_00")), Signal::SIGKILL).unwrap();
    done(9);
    let back = killed.elapsed();
    assert!(back < pace.allows(Duration::from_secs(5)), "{back:?}");
    assert!(fleet.ok(&["check", "--probe"]).contains("answers"));
    assert!(!fleet.log().contains("cannot be used"), "{}", fleet.log());
    assert_eq!(fleet.stop(), 0);
}

/// Private memory of a process, in bytes. The code of a debug build is many times that of a release, and counts as private
/// or not by whether somebody else runs it: there only what no file stands behind is counted.
fn private_memory(pid: i32) -> u64 {
    let counted = if cfg!(debug_assertions) { "Anonymous:" } else { "Private_" };
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let private = rollup.lines().filter(|line| line.starts_with(counted));
    private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum::<u64>() * 1024
}

/// Clock ticks a process has had on a processor.
fn ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_hundred_idle_programs_cost_the_supervisor_little() {
    let mut fleet =
        Fleet::start_and_wait("programs:\n  sleeper: {command: sleep 1000, numprocs: 100, startsecs: 0}\n");
    let memory = private_memory(fleet.pid());
    println!("private memory with 100 programs: {} KiB", memory / 1024);
    assert!(memory < 12 << 20, "{} KiB", memory / 1024);
    // Two ticks a minute are allowed: what a status costs is not meant, so none is asked for meanwhile.
    std::thread::sleep(Duration::from_secs(1));
    let before = ticks(fleet.pid());
    std::thread::sleep(Duration::from_secs(10));
    let used = ticks(fleet.pid()) - before;
    println!("ticks in 10 idle seconds: {used}");
    assert!(used <= 2, "{used} ticks in 10 idle seconds");
    assert_eq!(fleet.stop(), 0);
}
