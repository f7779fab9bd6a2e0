//! The URL of a delivery: fixed by the operator, except for `{queue}` and `{name}` in path and query.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use qfleet_manifest::handler::HttpTarget;
use qfleet_model::job::Job;
use reqwest::Url;

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const LONGEST_VALUE: usize = 200;

/// Where to, ready to be filled in.
#[derive(Debug)]
pub(super) struct Target {
    template: String,
    /// The URL itself, when nothing has to be filled in.
    fixed: Option<Url>,
}

impl Target {
    /// Reads the setting.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub(super) fn new(target: &HttpTarget) -> Result<Self, String> {
        let template = match target {
            HttpTarget::Url(url) => url.clone(),
            HttpTarget::Unix { path, .. } if path.starts_with('/') => format!("http://localhost{path}"),
            HttpTarget::Unix { path, .. } => return Err(format!("the path `{path}` must begin with `/`")),
        };
        let has_placeholders = ["{queue}", "{name}"].iter().any(|placeholder| template.contains(placeholder));
        let url = parse(&filled(&template, "x", "x"))?;
        let authority_end = template.find("://").map_or(0, |at| {
            let start = at + 3;
            template[start..].find(['/', '?', '#']).map_or(template.len(), |end| start + end)
        });
        if template[..authority_end].contains('{') {
            return Err(String::from("`{queue}` and `{name}` may stand in path and query only"));
        }
        Ok(Self { template, fixed: (!has_placeholders).then_some(url) })
    }

    /// Whether it is asked for over TLS.
    pub(super) fn is_https(&self) -> bool {
        self.template.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://"))
    }

    /// The URL for a job.
    ///
    /// # Errors
    /// The queue or the name of the job cannot be in a URL.
    pub(super) fn url(&self, job: &Job) -> Result<Url, String> {
        if let Some(url) = &self.fixed {
            return Ok(url.clone());
        }
        for (placeholder, value) in [("{queue}", &job.queue), ("{name}", &job.name)] {
            if self.template.contains(placeholder) && !may_stand_in_url(value) {
                return Err(format!(
                    "the URL of the handler has `{placeholder}`, and this job's has other characters than letters, digits \
                     and `. _ : \\ -`, or more than {LONGEST_VALUE}"
                ));
            }
        }
        parse(&filled(&self.template, &job.queue, &job.name))
    }
}

fn filled(template: &str, queue: &str, name: &str) -> String {
    let encoded = |value: &str| utf8_percent_encode(value, UNRESERVED).to_string();
    template.replace("{queue}", &encoded(queue)).replace("{name}", &encoded(name))
}

fn parse(text: &str) -> Result<Url, String> {
    // The text is not shown: it may hold a password.
    let url = Url::parse(text).map_err(|error| format!("the URL cannot be read: {error}"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(format!("the URL begins with `{other}:`; use `http:` or `https:`")),
    }
}

fn may_stand_in_url(value: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:\\-".contains(&byte);
    (1..=LONGEST_VALUE).contains(&value.len())
        && value.bytes().all(allowed)
        // A segment of dots would lead to another path.
        && !value.bytes().all(|byte| byte == b'.')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::handler::sample;

    fn url(template: &str, queue: &str, name: &str) -> Result<String, String> {
        let mut job = sample::delivery(b"{}").job;
        queue.clone_into(&mut job.queue);
        name.clone_into(&mut job.name);
        Target::new(&HttpTarget::Url(template.to_owned()))?.url(&job).map(String::from)
    }

    #[test]
    fn placeholders_are_filled_in_path_and_query() {
        assert_eq!(url("http://app/jobs", "q", "n").unwrap(), "http://app/jobs");
        assert_eq!(
            url("https://app:8443/{queue}/x-{name}?name={name}", "high", "App\\Jobs\\A:b").unwrap(),
            "https://app:8443/high/x-App%5CJobs%5CA%3Ab?name=App%5CJobs%5CA%3Ab"
        );
    }

    #[test]
    fn values_that_could_lead_elsewhere_are_refused() {
        let long = "x".repeat(201);
        for value in ["", "..", ".", "a/b", "a b", "é", "a?b", "a#b", "a%2e", "a\n", "{name}", long.as_str()]
        {
            assert!(url("http://app/{name}", "q", value).is_err(), "{value}");
            assert!(url("http://app/{queue}", value, "n").is_err(), "{value}");
            assert!(url("http://app/fixed", value, value).is_ok(), "{value}");
        }
    }

    #[test]
    fn wrong_urls_are_told() {
        for template in ["", "app/jobs", "ftp://app/", "http://", "http://{name}/x", "http://{queue}.app/"] {
            assert!(Target::new(&HttpTarget::Url(template.to_owned())).is_err(), "{template}");
        }
    }

    #[test]
    fn a_unix_socket_has_a_path() {
        let target = |path: &str| {
            Target::new(&HttpTarget::Unix { socket: "/run/app.sock".into(), path: path.to_owned() })
        };
        let job = sample::delivery(b"{}").job;
        assert_eq!(
            target("/jobs/{name}?x=1").unwrap().url(&job).unwrap().as_str(),
            "http://localhost/jobs/send?x=1"
        );
        assert!(target("jobs").is_err());
        assert!(!target("/").unwrap().is_https());
    }
}
