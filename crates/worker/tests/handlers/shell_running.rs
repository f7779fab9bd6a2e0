//! How a job's process is started and what passes between it and us.

use std::time::{Duration, Instant};

use qfleet_manifest::handler::{Body, ShellCommand, ShellHandler};
use qfleet_model::outcome::{Outcome, Output, Reason, Scope};
use qfleet_testkit::Scratch;
use qfleet_worker::handler::{HandlerContext, Health, open};

use crate::given::{
    IntoSettings, PAYLOAD, context, deliver, given, is_complete, opened, reason, result, shell, snooze,
};

fn argv(elements: &[&str]) -> ShellHandler {
    let elements = elements.iter().map(|&element| element.to_owned()).collect();
    ShellHandler { command: ShellCommand::Argv(elements), ..ShellHandler::default() }
}

async fn output(settings: ShellHandler) -> String {
    result(&deliver(&opened(settings)).await)
}

#[tokio::test]
async fn the_payload_is_on_standard_input_byte_for_byte() {
    assert_eq!(output(shell("cat")).await, PAYLOAD);
    for payload in [&b""[..], b"\xff\x00 binary"] {
        let ended = opened(shell("od -An -tx1 -v")).handle(given(payload).delivery).await;
        let expected: String = payload.iter().map(|byte| format!(" {byte:02x}")).collect();
        match ended.outcome {
            Outcome::Complete { result: Some(Output::Text(text)) } => assert_eq!(text.trim_end(), expected),
            Outcome::Complete { result: None } => assert!(expected.is_empty()),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_envelope_is_on_standard_input_where_it_is_asked_for() {
    let envelope = output(ShellHandler { body: Body::Envelope, ..shell("cat") }).await;
    assert!(envelope.starts_with("{\"v\":1,\"id\":\"job_"), "{envelope}");
    assert!(envelope.ends_with(&format!("\"payload\":{PAYLOAD}}}")), "{envelope}");
}

#[tokio::test]
async fn eight_mebibytes_go_in_and_out() {
    let payload = vec![b'7'; 8 << 20];
    let ended = opened(shell("wc -c")).handle(given(&payload).delivery).await;
    assert_eq!(result(&ended).trim(), "8388608");
    let ended = opened(shell("cat")).handle(given(&payload).delivery).await;
    assert_eq!(ended.outcome, Outcome::Complete { result: None });
    assert!(
        ended.notes.iter().any(|note| note.starts_with("result_truncated: 8388608 bytes")),
        "{:?}",
        ended.notes
    );
}

#[tokio::test]
async fn a_process_need_not_read_its_input() {
    let payload = vec![b'7'; 8 << 20];
    for line in
        ["echo done", "exec <&-; echo done", "sleep 0.2; echo done", "head -c 10 >/dev/null; echo done"]
    {
        let started = Instant::now();
        let ended = opened(shell(line)).handle(given(&payload).delivery).await;
        assert_eq!(result(&ended), "done\n", "{line}");
        assert!(started.elapsed() < Duration::from_secs(25), "{line}: {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn the_facts_are_in_the_environment() {
    let text = output(shell("env | grep -E '^(JOB_|TRACE)' | sort")).await;
    let identity = given(b"").delivery.identity;
    for line in [
        "JOB_CONTRACT=1",
        &format!("JOB_KEY={identity}"),
        "JOB_ID=6b1a",
        "JOB_QUEUE=high",
        "JOB_NAME=App\\Jobs\\Grüße",
        "JOB_FORMAT=laravel",
        "JOB_ATTEMPT=2",
        "JOB_MAX_ATTEMPTS=5",
        "JOB_DELIVERIES=3",
        "JOB_TIMEOUT=30",
        "JOB_DEADLINE=2026-01-01T00:00:35Z",
        "JOB_PREVIOUS_STATUS=500",
        "JOB_CONTROL_FD=3",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    assert!(text.contains("TRACEPARENT=00-") && !text.contains("displayName"), "{text}");
}

#[tokio::test]
async fn secrets_are_not_inherited() {
    let variable = "CARGO_MANIFEST_DIR";
    assert!(std::env::var_os(variable).is_some(), "the tests run under cargo");
    assert_eq!(output(shell("printenv CARGO_MANIFEST_DIR >/dev/null && echo there")).await, "there\n");
    let context = HandlerContext { secret_variables: vec![variable.to_owned()], ..context() };
    let settings = shell("printenv CARGO_MANIFEST_DIR || echo gone").into_settings();
    assert_eq!(result(&deliver(&open(&settings, &context).unwrap()).await), "gone\n");
    let clean = ShellHandler {
        inherit_env: false,
        ..shell("env | cut -d= -f1 | grep -v '^JOB_' | sort | tr '\\n' ' '")
    };
    let names = output(clean).await;
    for name in names.split_whitespace() {
        assert!(
            ["PATH", "HOME", "LANG", "TZ", "TRACEPARENT", "PWD", "OLDPWD", "SHLVL", "_"].contains(&name),
            "{name}"
        );
    }
    let with = ShellHandler {
        env: [(String::from("APP_ENV"), String::from("x y"))].into(),
        ..shell("echo \"$APP_ENV\"")
    };
    assert_eq!(output(with).await, "x y\n");
}

#[tokio::test]
async fn arguments_are_filled_and_stay_single() {
    let elements = ["/usr/bin/printf", "<%s>", "--", "{job_id}", "{queue}:{attempt}", "{nothing}"];
    let mut given = given(b"");
    given.delivery.job.id = String::from("a b; echo \"$HOME\"");
    let ended = opened(argv(&elements)).handle(given.delivery).await;
    assert_eq!(result(&ended), "<--><a b; echo \"$HOME\"><high:2><{nothing}>");
}

#[tokio::test]
async fn an_argument_cannot_become_an_option() {
    let mut job = given(b"");
    job.delivery.job.id = String::from("-rf");
    let groups = std::sync::Arc::clone(&job.groups);
    let ended = opened(argv(&["/bin/echo", "{job_id}"])).handle(job.delivery).await;
    assert!(matches!(ended.outcome, Outcome::Fail { .. }));
    assert!(reason(&ended).text.contains("put `--` before"), "{ended:?}");
    assert!(groups.noted().is_empty(), "nothing was started");
    let mut job = given(b"");
    job.delivery.job.id = String::from("-rf");
    let ended = opened(argv(&["/bin/cat", "--", "{job_id}"])).handle(job.delivery).await;
    assert!(reason(&ended).text.contains("-rf"), "a file of that name, not an option: {ended:?}");
}

#[tokio::test]
async fn only_four_descriptors_are_open() {
    // The fifth is the one that `ls` opens to look.
    let text = output(argv(&["/bin/ls", "/proc/self/fd"])).await;
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn place_mask_niceness_and_limits_are_as_configured() {
    let scratch = Scratch::new();
    let settings = ShellHandler {
        cwd: Some(scratch.path().to_owned()),
        umask: Some(0o027),
        nice: Some(5),
        limits: [(String::from("nofile"), (64, 64))].into(),
        ..shell("pwd -P; umask; nice; ulimit -n")
    };
    let before = std::process::Command::new("nice").output().unwrap().stdout;
    let before: i32 = String::from_utf8(before).unwrap().trim().parse().unwrap();
    let place = scratch.path().canonicalize().unwrap();
    let expected = format!("{}\n0027\n{}\n64\n", place.display(), (before + 5).min(19));
    assert_eq!(output(settings).await, expected);
}

#[tokio::test]
async fn what_is_printed_is_the_result() {
    let json = r#"{"id":9223372036854775807,"list":[]}"#;
    let ended = deliver(&opened(shell(&format!("echo '{json}'")))).await;
    assert_eq!(ended.outcome, Outcome::Complete { result: Some(Output::Json(json.into())) });
    assert_eq!((ended.health, ended.status.as_deref()), (Health::Good, Some("0")));
    assert_eq!(output(shell("printf 'a\\377b'")).await, "a\u{FFFD}b");
    let ended = deliver(&opened(ShellHandler { max_result: 4, ..shell("echo 12345") })).await;
    assert_eq!(ended.outcome, Outcome::Complete { result: None });
}

#[tokio::test]
async fn a_flood_is_read_to_the_end_and_kept_in_bounds() {
    let line = "head -c 30000000 /dev/zero | tr '\\0' x; \
                i=0; while [ $i -lt 20000 ]; do echo \"line $i\"; i=$((i+1)); done >&2; \
                head -c 1000000 /dev/zero | tr '\\0' y >&2; echo >&2; echo last >&2; exit 1";
    let ended = deliver(&opened(shell(line))).await;
    assert_eq!(reason(&ended).text, "last");
    let kept: usize = ended.notes.iter().map(String::len).sum();
    assert!(kept < 300_000, "{kept}");
    assert!(ended.notes.iter().any(|note| note.contains("bytes of stdout beyond the first 65536")));
    assert!(ended.notes.iter().any(|note| note.contains("stderr are left out")));
    let small = ShellHandler { max_output: 100, ..shell("head -c 5000 /dev/zero | tr '\\0' y >&2; exit 1") };
    let ended = deliver(&opened(small)).await;
    assert!(ended.notes.iter().any(|note| note.starts_with("4900 bytes of stderr")), "{:?}", ended.notes);
}

#[tokio::test]
async fn control_lines_say_what_becomes_of_the_job() {
    let line = r#"echo '{"progress":{"done":1,"total":4}}' >&3
        echo '{"log":{"level":"info","text":"segment 3"}}' >&3
        echo '{"outcome":"snooze","delay":45,"reason":"source not uploaded"}' >&3; exit 75"#;
    let ended = deliver(&opened(shell(line))).await;
    assert_eq!(snooze(&ended), (45, Scope::Job));
    assert_eq!(*reason(&ended), Reason::plain("source not uploaded"));
    assert_eq!(ended.notes, ["info: segment 3", "progress: {\"done\":1,\"total\":4}"]);
    let wrong = deliver(&opened(shell("echo '{\"outcome\":\"discard\"}' >&3; exit 1"))).await;
    assert!(matches!(wrong.outcome, Outcome::Retry { .. }));
    assert!(wrong.notes[0].starts_with("bad_control"));
}

#[tokio::test]
async fn what_cannot_be_executed_trips_the_gate_and_costs_nothing() {
    let scratch = Scratch::new();
    let plain = scratch.write("plain", "#!/bin/sh\n");
    let plain = plain.to_str().unwrap();
    for (settings, alert) in [
        (argv(&["/no/such/program"]), "not_found"),
        (argv(&[plain]), "cannot_execute"),
        (shell("no-such-program"), "not_found"),
        (shell(plain), "cannot_execute"),
        (ShellHandler { cwd: Some("/no/such/place".into()), ..shell("true") }, "not_found"),
    ] {
        let shown = format!("{:?}", settings.command);
        let ended = deliver(&opened(settings)).await;
        assert_eq!(snooze(&ended), (60, Scope::Endpoint), "{shown}");
        assert_eq!(ended.health, Health::Trip { alert }, "{shown}");
    }
}

#[tokio::test]
async fn twenty_at_once_do_not_mix() {
    let handler = opened(shell("sleep 1.5; cat"));
    let deliveries = (0..20).map(|number| {
        let handler = &handler;
        async move { handler.handle(given(format!("[{number}]").as_bytes()).delivery).await }
    });
    let started = Instant::now();
    for (number, ended) in futures_util::future::join_all(deliveries).await.iter().enumerate() {
        assert!(is_complete(ended));
        assert_eq!(result(ended), format!("[{number}]"));
    }
    assert!(started.elapsed() < Duration::from_secs(25), "one after the other: {:?}", started.elapsed());
}
