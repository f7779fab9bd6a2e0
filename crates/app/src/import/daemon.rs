//! `[supervisord]` and its servers: what becomes of them is in `control` and `logging`, and below every program.

use super::expand::{Names, is_open};
use super::ini::{Ini, Section};
use super::notes::Notes;
use super::section::Reading;
use super::variables;
use super::yaml::{Entry, Value};

/// What `[supervisord]` says for every program.
#[derive(Debug, Clone, Default)]
pub(super) struct Base {
    pub(super) environment: Vec<(String, String)>,
    pub(super) umask: Option<u32>,
    pub(super) directory: Option<String>,
}

/// Settings of `[supervisord]` that have no counterpart, with what to do.
const NONE: &[(&str, &str)] = &[
    ("logfile", "the daemon's own lines go to its standard output, which the service manager keeps"),
    ("user", "start the daemon as this user: `User=` in a systemd unit, `USER` in a Dockerfile"),
    (
        "minfds",
        "set it where the daemon is started (`LimitNOFILE=` of systemd), or `limits: {nofile: …}` of a program",
    ),
    (
        "minprocs",
        "set it where the daemon is started (`LimitNPROC=` of systemd), or `limits: {nproc: …}` of a program",
    ),
    ("identifier", "there is one fleet a control socket, and it has no other name"),
    ("strip_ansi", "output is kept as it is"),
];

/// Settings of `[supervisord]` that are not needed any more, or read elsewhere.
const DONE: &[&str] = &[
    "logfile_maxbytes",
    "logfile_backups",
    "loglevel",
    "pidfile",
    "nodaemon",
    "silent",
    "nocleanup",
    "childlogdir",
    "environment",
    "umask",
    "directory",
];

pub(super) fn base(ini: &Ini, names: &Names, notes: &mut Notes) -> Base {
    let Some(section) = ini.section("supervisord") else { return Base::default() };
    let reading = Reading::new(section, names.clone());
    for setting in &section.settings {
        if let Some((key, advice)) = NONE.iter().find(|(key, _)| *key == setting.key) {
            let value = reading.expanded(setting, notes).unwrap_or_default();
            let usual = [
                ("minfds", "1024"),
                ("minprocs", "200"),
                ("identifier", "supervisor"),
                ("strip_ansi", "false"),
                ("logfile", "/dev/null"),
                ("logfile", "/dev/stdout"),
            ];
            if !usual.contains(&(*key, value.as_str())) {
                reading.remark(key, advice, notes);
            }
        } else if !DONE.contains(&setting.key.as_str()) {
            reading.remark(&setting.key, "is not known, and supervisord ignores it too", notes);
        }
    }
    let environment = reading.text("environment", notes).map(|text| variables::read(&text));
    let environment = environment.transpose().unwrap_or_else(|why| {
        notes.problem(reading.place("environment"), format_args!("{}: {why}", reading.title("environment")));
        None
    });
    // supervisord goes there only when it leaves the terminal.
    let stays = reading.flag("nodaemon", notes) == Some(true);
    Base {
        environment: environment.unwrap_or_default(),
        umask: reading.octal("umask", notes).filter(|umask| *umask != 0o022),
        directory: reading.text("directory", notes).filter(|_| !stays),
    }
}

/// The `logging` section; nothing when all is as usual.
pub(super) fn logging(ini: &Ini, names: &Names, notes: &mut Notes) -> Option<Entry> {
    let section = ini.section("supervisord");
    let reading = section.map(|section| Reading::new(section, names.clone()));
    let mut text = |key: &str| reading.as_ref().and_then(|reading| reading.text(key, notes));
    let level = match text("loglevel").unwrap_or_default().to_ascii_lowercase().as_str() {
        "critical" | "error" => Some("error"),
        "warn" => Some("warn"),
        "debug" => Some("debug"),
        "trace" | "blather" => Some("trace"),
        _ => None,
    };
    let dir = text("childlogdir").filter(|dir| dir.starts_with('/'));
    let plain = |key: &str, value: String| Entry::new(key, Value::Plain(value));
    let mut inner = Vec::new();
    inner.extend(level.map(|level| plain("level", level.to_owned())));
    inner.extend(dir.map(|dir| Entry::new("dir", Value::Text(dir))));
    let comments = section.map(comments).unwrap_or_default();
    (!inner.is_empty()).then(|| Entry { comments, ..Entry::new("logging", Value::Map(inner)) })
}

fn comments(section: &Section) -> Vec<String> {
    section.comments.iter().chain(&section.after).cloned().collect()
}

/// The `control` section; nothing when no server is named.
pub(super) fn control(ini: &Ini, names: &Names, notes: &mut Notes) -> Option<Entry> {
    let (mut inner, mut above) = (Vec::new(), Vec::new());
    if let Some(section) = ini.section("unix_http_server") {
        above.extend(comments(section));
        inner.extend(unix(&Reading::new(section, names.clone()), notes));
    }
    if let Some(section) = ini.section("inet_http_server") {
        above.extend(comments(section));
        inner.extend(inet(&Reading::new(section, names.clone()), notes));
    }
    (!inner.is_empty()).then(|| Entry { comments: above, ..Entry::new("control", Value::Map(inner)) })
}

fn unix(reading: &Reading<'_>, notes: &mut Notes) -> Vec<Entry> {
    let Some(file) = reading.text("file", notes) else { return Vec::new() };
    if !file.starts_with('/') && !is_open(&file) {
        reading.remark(
            "file",
            "a path that is not absolute has no counterpart; see `control: {socket: …}`",
            notes,
        );
        return Vec::new();
    }
    let mut out = vec![
        Entry::new("socket", Value::Text(file))
            .behind("supervisord's own: end it before this fleet is started"),
    ];
    if let Some(mode) = reading.octal("chmod", notes).filter(|mode| *mode != 0o700) {
        out.push(Entry::new("mode", Value::Text(format!("{mode:04o}"))));
    }
    if let Some(owner) = reading.text("chown", notes) {
        let (user, group) = owner.split_once(':').unwrap_or((&owner, ""));
        if !group.is_empty() {
            out.push(Entry::new("group", Value::Text(group.to_owned())));
        }
        if user != "root" {
            reading.remark(
                "chown",
                "the socket belongs to the daemon's own user; give others access by `group` and `mode`",
                notes,
            );
        }
    }
    if reading.section.get("username").is_some() || reading.section.get("password").is_some() {
        reading.remark(
            "username",
            "file mode and group of the socket say who may come in, not a password",
            notes,
        );
    }
    out
}

fn inet(reading: &Reading<'_>, notes: &mut Notes) -> Vec<Entry> {
    let Some(port) = reading.text("port", notes) else { return Vec::new() };
    let (host, number) = port.rsplit_once(':').unwrap_or(("", &port));
    let all = host.is_empty() || host == "*" || host == "0.0.0.0";
    let near = host == "localhost" || host.starts_with("127.") || host == "[::1]";
    let is_address =
        all || near || is_open(host) || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    if !is_address {
        reading.remark(
            "port",
            "a host's name is not looked up; write its address as `control: {listen: …}`",
            notes,
        );
        return Vec::new();
    }
    let login = reading.text("username", notes).zip(reading.text("password", notes));
    let mut listen = if all { format!("*:{number}") } else { port.clone() };
    if login.is_none() && !near {
        listen = format!("127.0.0.1:{number}");
        reading.remark(
            "port",
            "without a password only this machine is let in; add `control: {auth: …}` to listen further",
            notes,
        );
    }
    let is_plain = listen.parse::<std::net::SocketAddrV4>().is_ok();
    let listen = if is_plain { Value::Plain(listen) } else { Value::Text(listen) };
    let mut out = vec![Entry::new("listen", listen)];
    if let Some((username, password)) = login {
        let auth = vec![("username", Value::Text(username)), ("password", Value::Text(password))];
        out.push(Entry::new("auth", Value::Inline(auth)));
    }
    out
}
