//! The command of a delivery: as configured, with values of the job inside single elements.

use std::ffi::OsString;

use qfleet_manifest::handler::ShellCommand;

use crate::handler::Delivery;

/// Program and arguments for a delivery. A value can never become an argument of its own, nor an option.
///
/// # Errors
/// Why this job cannot be in the command.
pub(super) fn argv(command: &ShellCommand, delivery: &Delivery) -> Result<Vec<OsString>, String> {
    match command {
        ShellCommand::Line(line) => Ok(["/bin/sh", "-c", line].map(OsString::from).to_vec()),
        ShellCommand::Argv(elements) => {
            let values = values(delivery);
            let mut before = "";
            let mut argv = Vec::with_capacity(elements.len());
            for (place, element) in elements.iter().enumerate() {
                // The program was looked up when the manifest was read.
                let filled = if place == 0 { element.clone() } else { filled(element, before, &values)? };
                argv.push(OsString::from(filled));
                before = element;
            }
            Ok(argv)
        }
    }
}

fn values(delivery: &Delivery) -> [(&'static str, String); 5] {
    let job = &delivery.job;
    [
        ("{id}", delivery.identity.clone()),
        ("{job_id}", job.id.clone()),
        ("{queue}", job.queue.clone()),
        ("{name}", job.name.clone()),
        ("{attempt}", job.attempt.to_string()),
    ]
}

/// Fills in from left to right; what was filled in is not looked at again.
fn filled(element: &str, before: &str, values: &[(&str, String)]) -> Result<String, String> {
    let mut text = String::with_capacity(element.len());
    let mut rest = element;
    while let Some(open) = rest.find('{') {
        let (plain, from_brace) = rest.split_at(open);
        text.push_str(plain);
        match values.iter().find(|(placeholder, _)| from_brace.starts_with(placeholder)) {
            Some((placeholder, value)) => {
                if value.starts_with('-') && before != "--" {
                    return Err(format!(
                        "`{placeholder}` of this job begins with `-` and could be read as an option; put `--` before `{element}`"
                    ));
                }
                if value.contains('\0') {
                    return Err(format!(
                        "`{placeholder}` of this job has a zero byte in it, which no argument can have"
                    ));
                }
                text.push_str(value);
                rest = &from_brace[placeholder.len()..];
            }
            None => {
                text.push('{');
                rest = &from_brace[1..];
            }
        }
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::handler::sample;

    fn command(elements: &[&str], id: &str) -> Result<Vec<OsString>, String> {
        let mut delivery = sample::delivery(b"{}");
        id.clone_into(&mut delivery.job.id);
        argv(&ShellCommand::Argv(elements.iter().map(|&element| element.to_owned()).collect()), &delivery)
    }

    #[test]
    fn placeholders_stay_inside_their_element() {
        let filled = command(
            &["/bin/{job_id}", "--job={job_id}", "{queue}/{name}#{attempt}", "{id}", "{other} {} {"],
            "a b; rm -rf \"$HOME\" {queue}",
        );
        let expected = [
            "/bin/{job_id}",
            "--job=a b; rm -rf \"$HOME\" {queue}",
            "campaigns/send#2",
            "job_szEVgbBjEovduKoVbkxYvA",
            "{other} {} {",
        ];
        assert_eq!(filled.unwrap(), expected);
    }

    #[test]
    fn a_value_cannot_become_an_option() {
        for elements in
            [&["/bin/x", "{job_id}"][..], &["/bin/x", "--job={job_id}"], &["/bin/x", "--", "a", "{job_id}"]]
        {
            let error = command(elements, "-rf").unwrap_err();
            assert!(error.contains("`{job_id}`") && error.contains("`--`"), "{error}");
        }
        assert_eq!(command(&["/bin/x", "--", "{job_id}"], "-rf").unwrap(), ["/bin/x", "--", "-rf"]);
        assert_eq!(command(&["/bin/x", "{job_id}"], "a-b").unwrap(), ["/bin/x", "a-b"]);
        assert!(command(&["/bin/x", "{job_id}"], "a\0b").is_err());
    }

    #[test]
    fn a_line_goes_to_the_shell_as_it_is() {
        let line = "echo {job_id} | tee \"$JOB_ID\"";
        let delivery = sample::delivery(b"{}");
        assert_eq!(argv(&ShellCommand::Line(line.to_owned()), &delivery).unwrap(), ["/bin/sh", "-c", line]);
    }
}
