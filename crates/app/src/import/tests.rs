//! Whole files: what they become, and that the manifest's own reader takes it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use qfleet_manifest::World;
use qfleet_manifest::per_process::OneProcess;
use qfleet_manifest::settings::{Manifest, Work};

use qfleet_model::name::ProcessName;

use super::{Handler, Imported, Source, gather, import};

/// A machine on which everything exists that is asked for.
struct Anywhere;

impl World for Anywhere {
    fn env(&self, name: &str) -> Option<String> {
        match name {
            "SUPERVISOR_PASSWORD" => Some("s3cret".to_owned()),
            "HOME" => Some("/root".to_owned()),
            "HOOK_SECRET" => Some("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned()),
            _ => None,
        }
    }
    fn read_secret(&self, path: &Path) -> Result<String, String> {
        Err(path.display().to_string())
    }
    fn find_program(&self, name: &str, _: Option<&str>, _: Option<&Path>) -> Result<PathBuf, String> {
        Ok(Path::new("/bin").join(name))
    }
    fn user_exists(&self, _: &str, _: Option<&str>) -> Result<(), String> {
        Ok(())
    }
    fn is_root(&self) -> bool {
        true
    }
}

fn load(yaml: &str) -> Manifest {
    qfleet_manifest::load("qfleet.yaml", yaml, &Anywhere)
        .unwrap_or_else(|problems| panic!("{problems}\n{yaml}"))
}

fn text(text: &str) -> Vec<Source> {
    vec![Source { name: "s.conf".into(), here: "/etc/s".into(), text: text.into() }]
}

fn imported(conf: &str) -> Imported {
    import(&text(conf), None, "host-1").unwrap_or_else(|problems| panic!("{conf}: {problems:?}"))
}

/// A file of the tests, with names that are the same everywhere.
fn file(name: &str) -> Vec<Source> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/supervisord");
    let mut sources = gather(&folder.join(name), "host-1").unwrap();
    let place = folder.display().to_string();
    for source in &mut sources {
        source.name = source.name.replace(&format!("{place}/"), "");
        source.here = source.here.replace(&place, "/etc/crm");
    }
    sources
}

fn snapshot(name: &str, handler: Option<&str>) -> Imported {
    let handler = handler.map(|text| Handler::parse(text).unwrap());
    let done = import(&file(name), handler.as_ref(), "host-1").unwrap();
    let manifest = load(&done.yaml);
    let of_programs = |group: &&qfleet_manifest::settings::Group| matches!(group.work, Work::Program { .. });
    assert_eq!(manifest.groups.iter().filter(of_programs).count(), done.programs);
    let of_schedules = |group: &&qfleet_manifest::settings::Group| matches!(group.work, Work::Schedule(_));
    assert_eq!(manifest.groups.iter().filter(of_schedules).count(), done.schedules);
    assert_eq!(manifest.lanes.len(), done.queues);
    done
}

#[test]
fn workers_of_a_hosting_panel() {
    insta::assert_snapshot!("forge", snapshot("forge.conf", None).yaml);
    insta::assert_snapshot!(
        "forge_queues",
        snapshot("forge.conf", Some("http://127.0.0.1:8080/jobs/{queue}")).yaml
    );
}

#[test]
fn an_application_with_includes_and_groups() {
    insta::assert_snapshot!("crm", snapshot("crm.conf", None).yaml);
    insta::assert_snapshot!("crm_queues", snapshot("crm.conf", Some("https://crm.example/jobs")).yaml);
    snapshot("crm.conf", Some("php artisan job:handle"));
}

#[test]
fn odd_values_and_every_option() {
    insta::assert_snapshot!("odd", snapshot("odd.conf", None).yaml);
    insta::assert_snapshot!("every", snapshot("every.conf", None).yaml);
}

#[test]
fn the_queues_in_the_comment_are_a_manifest_too() {
    for name in ["forge.conf", "crm.conf"] {
        let yaml = snapshot(name, None).yaml;
        let comment =
            yaml.lines().skip_while(|line| *line != "# redis:").take_while(|line| line.starts_with("# "));
        let queues: String = comment.map(|line| format!("{}\n", &line[2..])).collect();
        let manifest = load(&queues);
        assert!(manifest.lanes.len() >= 2, "{queues}");
    }
}

#[test]
fn commands_and_variables_arrive_as_they_were() {
    let yaml = snapshot("odd.conf", None).yaml;
    let manifest = load(&yaml);
    let environment = &manifest.group("on").unwrap().process.environment;
    let expected = [
        ("A", "012"),
        ("B", "on"),
        ("C", "x: y"),
        ("E", "${HOME}"),
        ("F", "$5"),
        ("G", "it's"),
        ("H", ""),
        ("I", "{[&*!|>%@`]}"),
        ("J", "null"),
        ("K", "1e3"),
        ("L", "é"),
        ("LC_ALL", "C"),
        ("D", "#no"),
    ];
    for (name, value) in expected {
        assert_eq!(environment.get(name).map(String::as_str), Some(value), "{name}\n{yaml}");
    }
    let argv = |name: &str| match &manifest.group(name).unwrap().work {
        Work::Program { argv } => argv.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(argv("words"), ["sh", "-c", "printf %s \"$1\"", "--", "two  spaces", "ab", "x"]);
    assert_eq!(argv("back"), ["sleep", "1000"]);
}

#[test]
fn any_text_arrives_as_it_was() {
    let mut random = fastrand::Rng::with_seed(7);
    let odd: Vec<char> =
        "aZ09 \t:-#'\"{}[],&*!|>%@`$\\/=~?.\u{7f}\u{85}\u{2028}é😀\u{feff}\n<(".chars().collect();
    for _ in 0..2_000 {
        let value: String = (0..random.usize(0..8)).map(|_| odd[random.usize(..odd.len())]).collect();
        let map = super::yaml::Value::Map(vec![super::yaml::Entry::new(
            "V",
            super::yaml::Value::Text(value.clone()),
        )]);
        let list = super::yaml::Value::List(
            vec!["x", &value].into_iter().map(|text| super::yaml::Value::Text(text.to_owned())).collect(),
        );
        let inner =
            vec![super::yaml::Entry::new("command", list), super::yaml::Entry::new("environment", map)];
        let program = super::yaml::Entry::new("p", super::yaml::Value::Map(inner));
        let yaml = super::yaml::write(
            &[super::yaml::Entry::new("programs", super::yaml::Value::Map(vec![program]))],
            0,
        );
        let manifest = load(&yaml);
        let group = manifest.group("p").unwrap();
        assert_eq!(group.process.environment.get("V"), Some(&value), "{yaml}");
        assert_eq!(group.work, Work::Program { argv: vec!["x".to_owned(), value] }, "{yaml}");
    }
}

#[test]
fn a_mangled_file_is_refused_with_reasons_or_becomes_yaml() {
    let whole: Vec<String> = ["forge.conf", "crm.conf", "odd.conf", "every.conf"]
        .map(|name| file(name).into_iter().map(|source| source.text + "\n").collect())
        .into();
    let pieces = [
        "%(",
        "%(process_num)02d",
        "%(ENV_X)s",
        "%%",
        "%",
        "\n[program:é z]\ncommand=",
        "\n  ",
        "\n",
        " ;",
        "\"",
        "'",
    ];
    let (mut taken, mut refused) = (0, 0);
    for seed in 0..1_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut text: Vec<char> = whole[random.usize(..whole.len())].chars().collect();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..text.len());
            let to = (at + random.usize(0..40)).min(text.len());
            match random.u8(0..4) {
                0 => drop(text.drain(at..to)),
                1 => text[at] = random.char('\0'..='\u{2ff}'),
                2 => drop(text.splice(at..at, pieces[random.usize(..pieces.len())].chars())),
                _ => drop(text.splice(at..at, text[at..to].to_vec())),
            }
        }
        let text: String = text.into_iter().collect();
        let sources = vec![Source { name: "s.conf".into(), here: "/etc/s".into(), text: text.clone() }];
        match import(&sources, None, "host-1") {
            Err(problems) => {
                refused += 1;
                assert!(!problems.is_empty(), "seed {seed}: refused without a reason\n{text}");
            }
            Ok(done) => {
                taken += 1;
                // What was written there may still make no sense; it is always a manifest that can say so.
                let loaded = qfleet_manifest::load("qfleet.yaml", &done.yaml, &Anywhere);
                let said = loaded.err().map(|problems| problems.to_string()).unwrap_or_default();
                assert!(!said.contains("not readable as YAML"), "seed {seed}: {said}\n{}", done.yaml);
            }
        }
    }
    assert!(taken > 100 && refused > 100, "{taken} were taken and {refused} refused");
}

#[test]
fn what_supervisord_refuses_is_refused() {
    for (conf, said) in [
        ("[program:a]\nuser=x", "s.conf:1: [program:a]: `command` is missing"),
        (
            "[program:a]\ncommand=x\nnumprocs=many",
            "s.conf:3: [program:a] numprocs: must be a whole number, not `many`",
        ),
        (
            "[program:a]\ncommand=x\nautostart=perhaps",
            "s.conf:3: [program:a] autostart: must be `true` or `false`, not `perhaps`",
        ),
        (
            "[program:a]\ncommand=x %(nope)s",
            "s.conf:2: [program:a] command: there is no `%(nope)s` here, only `group_name`, `here`, `host_node_name`, `numprocs`, `process_num`, `program_name` and `ENV_…`",
        ),
        (
            "[program:a]\ncommand=sh -c \"a ; b\"",
            "s.conf:2: [program:a] command: names no program, or has a quote that is not closed (a ` ;` or ` #` begins a comment even in quotes)",
        ),
        (
            "[program:a]\ncommand=x\nenvironment=A",
            "s.conf:3: [program:a] environment: `A` is no `KEY=\"value\"`",
        ),
        (
            "[program:a]\ncommand=x\numask=9",
            "s.conf:3: [program:a] umask: must be octal digits like `022`, not `9`",
        ),
        ("[group:g]\nprograms=a", "s.conf:2: [group:g] programs: there is no program `a`"),
        ("nonsense", "s.conf:1: `nonsense` is neither a `[section]` nor `key = value`"),
    ] {
        let problems = import(&text(conf), None, "h").expect_err(conf);
        assert_eq!(problems.iter().map(ToString::to_string).collect::<Vec<_>>(), [said], "{conf}");
    }
}

/// Prints every process as supervisord's own reader sees it.
const READER: &str = "
import json, shlex, sys
from supervisor.options import ServerOptions
options = ServerOptions()
options.realize(['-n', '-c', sys.argv[1]])
out = []
for group in options.process_group_configs:
    if type(group).__name__ != 'ProcessGroupConfig':
        continue
    for one in group.process_configs:
        out.append({
            'argv': shlex.split(one.command), 'environment': one.environment, 'cwd': one.directory,
            'autostart': one.autostart, 'startsecs': one.startsecs, 'startretries': one.startretries,
            'exitcodes': one.exitcodes, 'stopsignal': int(one.stopsignal), 'redirect': one.redirect_stderr,
        })
print(json.dumps(out))
";

/// What supervisord's own reader makes of a file of the tests.
fn as_supervisord_reads(name: &str) -> Vec<serde_json::Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/supervisord").join(name);
    // What panels write is only a part of a configuration.
    let scratch = tempfile::tempdir().unwrap();
    let around = format!("[supervisord]\nlogfile=/dev/null\n[include]\nfiles={}\n", path.display());
    let whole = scratch.path().join("whole.conf");
    std::fs::write(&whole, around).unwrap();
    let is_whole = std::fs::read_to_string(&path).unwrap().contains("[supervisord]");
    let mut command = std::process::Command::new("/usr/bin/python3");
    command
        .args(["-c", READER])
        .arg(if is_whole { &path } else { &whole })
        .current_dir("/")
        .env("HOME", "/root");
    let output = command.env("SUPERVISOR_PASSWORD", "s3cret").output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What the manifest says of the same processes.
fn as_imported(name: &str) -> Vec<serde_json::Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/supervisord").join(name);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let manifest = load(&import(&gather(&path, host.trim()).unwrap(), None, host.trim()).unwrap().yaml);
    let of_group = |group: &qfleet_manifest::settings::Group| {
        let Work::Program { argv } = &group.work else { panic!("{} is no program", group.name) };
        let process = &group.process;
        let one = |name: ProcessName| {
            let full = name.to_string();
            let one = OneProcess { group: &group.name, name: &full, number: name.number };
            let argv: Vec<String> = argv.iter().map(|word| one.fill(word)).collect();
            let environment = process.environment.iter().map(|(name, value)| (name, one.fill(value)));
            let environment: BTreeMap<_, _> = environment.collect();
            serde_json::json!({
            "argv": argv, "environment": environment, "cwd": process.cwd, "autostart": process.autostart,
            "startsecs": process.startsecs.as_secs(), "startretries": process.startretries,
            "exitcodes": process.exitcodes, "stopsignal": process.stop_signal, "redirect": process.redirect_stderr,
            })
        };
        group.names(process.numprocs).into_iter().map(one).collect::<Vec<_>>()
    };
    let runs_on = |group: &&qfleet_manifest::settings::Group| !matches!(group.work, Work::Schedule(_));
    manifest.groups.iter().filter(runs_on).flat_map(of_group).collect()
}

#[test]
fn supervisord_itself_reads_the_same() {
    for name in ["forge.conf", "crm.conf", "odd.conf", "every.conf"] {
        let (mut theirs, mut ours) = (as_supervisord_reads(name), as_imported(name));
        // Its loop is a schedule here.
        theirs.retain(|process| !process["argv"].to_string().contains("schedule:run"));
        for side in [&mut theirs, &mut ours] {
            for process in side.iter_mut() {
                // Paths that it leaves to where it was started.
                let cwd = process["cwd"].as_str().unwrap_or_default();
                if cwd == "/tmp" || cwd.ends_with("relative/place") {
                    process["cwd"] = serde_json::Value::Null;
                }
            }
            side.sort_by_key(ToString::to_string);
        }
        assert_eq!(theirs.len(), ours.len(), "{name}");
        theirs.iter().zip(&ours).for_each(|(theirs, ours)| assert_eq!(theirs, ours, "{name}"));
    }
}

#[test]
fn an_empty_file_is_an_empty_manifest() {
    let done = imported("");
    assert_eq!((done.programs, done.queues, done.remarks.len()), (0, 0, 0));
    load(&done.yaml);
}

#[test]
fn doors_stay_as_open_as_they_were_and_no_further() {
    for (conf, expected) in [
        ("[inet_http_server]\nport=9001", "listen: 127.0.0.1:9001"),
        ("[inet_http_server]\nport=127.0.0.1:9001", "listen: 127.0.0.1:9001"),
        (
            "[inet_http_server]\nport=:9001\nusername=a\npassword={SHA}82ab876d1387bfafe46cc1c8a2ef074eae50cb1d",
            "listen: '*:9001'",
        ),
        ("[unix_http_server]\nfile=/run/s.sock\nchmod=0770\nchown=root:ops", "mode: '0770'"),
    ] {
        let yaml = imported(conf).yaml;
        assert!(yaml.lines().any(|line| line.trim() == expected), "{yaml}");
        load(&yaml);
    }
}
