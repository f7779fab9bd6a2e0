//! How to reach a Redis: the `redis` section, and the same keys inside a connection.

use std::path::PathBuf;

use crate::expand::expand;
use crate::keys;
use crate::queue::{RedisSettings, RedisTarget};
use crate::secret::Secret;
use crate::section::Section;
use crate::value::Value;
use crate::written::redis_url::{self, RedisUrl};

/// Where Redis is when nothing says so.
pub(crate) fn local() -> RedisSettings {
    RedisSettings {
        target: RedisTarget::Tcp { host: String::from("127.0.0.1"), port: 6379, tls: false },
        database: 0,
        username: None,
        password: None,
        ca_file: None,
    }
}

/// A `redis:` section, or just its URL.
pub(crate) fn read(value: &Value<'_>) -> Option<RedisSettings> {
    if !value.is_map() && !value.is_empty() {
        return read_url(value).map(|url| settings(url, &local()));
    }
    let section = value.section(&keys::REDIS)?;
    read_keys(&section)
}

/// Whether a section has a key of this kind, so that it names a Redis of its own.
pub(crate) fn is_named(section: &Section<'_>) -> bool {
    ["url", "url-file"].iter().any(|key| section.get(key).is_some())
}

/// The keys `url`, `username`, `password`, `database`, `ca-file` and their `-file` forms.
pub(crate) fn read_keys(section: &Section<'_>) -> Option<RedisSettings> {
    let url = match section.one_of(["url", "url-file"]) {
        Some(("url", value)) => Some(read_url(value)?),
        Some((_, value)) => Some(checked(value, &secret_file(value)?)?),
        None => None,
    };
    let in_url =
        (url.as_ref().and_then(|url| url.username.clone()), url.as_ref().and_then(|url| url.database));
    let mut settings = url.map_or_else(local, |url| settings(url, &local()));
    if let Some(username) = section.read("username", Value::line) {
        once(section, "username", in_url.0.as_ref(), &username);
        settings.username = Some(username);
    }
    if let Some(password) = read_password(section) {
        if settings.password.is_some()
            && let Some(value) = section.get("password").or(section.get("password-file"))
        {
            value.problem("the `url` has a password already; give one");
        }
        settings.password = Some(password);
    }
    if let Some(database) = section.read("database", |value| value.number(0..=65_535)) {
        once(section, "database", in_url.1.as_ref(), &database);
        if matches!(settings.target, RedisTarget::Cluster { .. })
            && database != 0
            && let Some(value) = section.get("database")
        {
            value.problem_with_hint("a cluster has only database 0", "remove it");
        }
        settings.database = database;
    }
    settings.ca_file = section.read("ca-file", Value::absolute_path);
    if settings.ca_file.is_some()
        && !uses_tls(&settings.target)
        && let Some(value) = section.get("ca-file")
    {
        value.problem_with_hint("has no meaning without TLS", "begin the `url` with `rediss://`");
    }
    let is_written = ["password", "password-file"].iter().any(|key| section.get(key).is_some());
    if settings.username.is_some() && settings.password.is_none() && !is_written {
        section.value.problem_at_key("a user without a password", Some("give `password` or `password-file`"));
    }
    Some(settings)
}

/// What is in the URL and beside it must be the same.
fn once<T: PartialEq>(section: &Section<'_>, key: &str, in_url: Option<&T>, beside: &T) {
    if in_url.is_some_and(|in_url| in_url != beside)
        && let Some(value) = section.get(key)
    {
        value.problem("the `url` has another one; give one");
    }
}

fn uses_tls(target: &RedisTarget) -> bool {
    matches!(
        target,
        RedisTarget::Tcp { tls: true, .. }
            | RedisTarget::Sentinel { tls: true, .. }
            | RedisTarget::Cluster { tls: true, .. }
    )
}

fn read_url(value: &Value<'_>) -> Option<RedisUrl> {
    checked(value, &url_text(value)?)
}

/// A URL that may have a password inside.
///
/// A variable inside `user:${PASSWORD}@` is a secret; one that holds the whole URL may serve the children, too.
pub(crate) fn url_text(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    let userinfo =
        |url: &str| -> Option<String> { Some(url.split_once("://")?.1.rsplit_once('@')?.0.to_owned()) };
    if let Some(written) = userinfo(value.written()) {
        let used = expand(&written, &|name| value.context.world.env(name)).map(|used| used.variables);
        let used = used.unwrap_or_default();
        if used.is_empty() {
            value.warn(
                "a password is written in the manifest",
                "use `${NAME}`, or the `-file` form of the key",
            );
        }
        value.context.password_variables(value.place(), &value.at, &used);
        value.context.secret_variables(used);
    }
    Some(text)
}

fn checked(value: &Value<'_>, text: &str) -> Option<RedisUrl> {
    match redis_url::parse(text) {
        Ok(url) => Some(url),
        Err(bad) => {
            match bad.hint {
                Some(hint) => value.problem_with_hint(bad.what, hint),
                None => value.problem(bad.what),
            }
            None
        }
    }
}

fn settings(url: RedisUrl, base: &RedisSettings) -> RedisSettings {
    RedisSettings {
        target: url.target,
        database: url.database.unwrap_or(base.database),
        username: url.username,
        password: url.password.map(Secret::new),
        ca_file: None,
    }
}

/// The password under `password`, or in the file `password-file` names.
pub(crate) fn read_password(section: &Section<'_>) -> Option<Secret> {
    match section.one_of(["password", "password-file"])? {
        ("password", value) => {
            let used =
                expand(value.written(), &|name| value.context.world.env(name)).map(|used| used.variables);
            value.context.password_variables(value.place(), &value.at, &used.unwrap_or_default());
            secret(value)
        }
        (_, value) => secret_file(value).map(Secret::new),
    }
}

/// A secret given in the file or through a variable.
pub(crate) fn secret(value: &Value<'_>) -> Option<Secret> {
    let (text, literal) = value.secret()?;
    if literal {
        let name = value.at.rsplit('.').next().unwrap_or_default();
        value.warn("a secret is written in the manifest", format!("use `${{NAME}}` or `{name}-file`"));
    }
    Some(Secret::new(text))
}

/// The text of a secret file.
pub(crate) fn secret_file(value: &Value<'_>) -> Option<String> {
    let path: PathBuf = value.absolute_path()?;
    match value.context.world.read_secret(&path) {
        Ok(text) if text.is_empty() => {
            value.problem(format!("the file `{}` is empty", path.display()));
            None
        }
        Ok(text) => Some(text),
        Err(why) => {
            value.problem(why);
            None
        }
    }
}
