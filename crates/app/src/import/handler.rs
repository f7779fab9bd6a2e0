//! Who is to get the jobs of imported queues: nothing in supervisord's file says so.

use super::yaml::Value;

/// What `--handler` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Handler {
    /// Posted to a URL.
    Http(String),
    /// A line for `/bin/sh`, which gets the job on its standard input.
    Shell(String),
}

impl Handler {
    /// A URL, or else a command.
    ///
    /// # Errors
    /// It is empty.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("write a URL or a command".to_owned());
        }
        let is_url = ["http://", "https://", "unix:"].iter().any(|start| text.starts_with(start));
        Ok(if is_url { Self::Http(text.to_owned()) } else { Self::Shell(text.to_owned()) })
    }

    /// As the manifest has it.
    pub(super) fn value(&self) -> Value {
        match self {
            Self::Shell(line) => Value::Inline(vec![("shell", Value::Text(line.clone()))]),
            Self::Http(url) if is_near(url) => Value::Inline(vec![("http", Value::Text(url.clone()))]),
            Self::Http(url) => {
                // Whoever is not on this machine must be able to tell that the job is ours.
                let secret = format!("{}HOOK_SECRET{}", super::expand::MARKS.0, super::expand::MARKS.1);
                let inner = vec![("url", Value::Text(url.clone())), ("secret", Value::Text(secret))];
                Value::Inline(vec![("http", Value::Inline(inner))])
            }
        }
    }
}

fn is_near(url: &str) -> bool {
    let near = ["unix:", "http://127.", "http://localhost", "http://[::1]"];
    near.iter().any(|start| url.starts_with(start))
}
