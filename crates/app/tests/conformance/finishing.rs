//! What a handler answers is what the producer gets: values of every kind, reasons and traces.

use qfleet_testkit::Answer;
use serde_json::{Value, json};

use crate::stage::{Library, Stage, job};

conforms!(every: values, failures);

fn values(library: Library) {
    let long = "x".repeat(20_000);
    let answers: Vec<(&str, String, Value)> = vec![
        (
            "object",
            r#"{"a": [1, 2.50, {}], "none": [], "s": "a/b"}"#.into(),
            json!({"a": [1, 2.5, {}], "none": [], "s": "a/b"}),
        ),
        ("array", "[]".into(), json!([])),
        ("number", "42.0".into(), json!(42)),
        ("zero", "0".into(), json!(0)),
        ("true", "true".into(), json!(true)),
        ("null", "null".into(), json!(null)),
        ("string", r#""grün \u2603""#.into(), json!("grün ☃")),
        ("text", "done, \"thanks\"\nand bye".into(), json!("done, \"thanks\"\nand bye")),
        ("broken", r#"{"a":"#.into(), json!(r#"{"a":"#)),
        ("unicode", "grün ☃ 🦀".into(), json!("grün ☃ 🦀")),
        ("long", long.clone(), json!(long)),
        ("nothing", String::new(), json!(null)),
    ];
    let given = answers.clone();
    let stage = Stage::new(library, move |request| {
        let (name, body, _) = given.iter().find(|(name, ..)| *name == job(request)).unwrap();
        match *name {
            "nothing" => Answer::status(204),
            "text" | "unicode" | "long" => {
                Answer::ok().header("Content-Type", "text/plain; charset=utf-8").body(body)
            }
            _ => Answer::ok().header("Content-Type", "application/json").body(body),
        }
    });
    let mut fleet = stage.fleet(&[("calls", "concurrency: 4")]);
    let names: Vec<&str> = answers.iter().map(|(name, ..)| *name).collect();
    let got = stage.run(&format!(
        "await kit.listen('calls')
         const jobs = []
         for (const name of {}) jobs.push(await kit.queue('calls').add(name, {{}}))
         const told = await Promise.all(jobs.map((job) => kit.finished(job)))
         const kept = await Promise.all(jobs.map((job) => kit.queue('calls').getJob(job.id)))
         return jobs.map((job, n) => ({{name: job.name, told: told[n], kept: kept[n].returnvalue,
           made: kept[n].attemptsMade, error: kept[n].failedReason}}))",
        json!(names)
    ));
    for (row, (name, _, value)) in got.as_array().unwrap().iter().zip(&answers) {
        assert_eq!(row["name"], *name);
        // Values that are nothing reach JavaScript as `undefined` or null.
        assert_eq!((&row["told"], &row["kept"]), (value, value), "{name}");
        assert!(row.get("error").is_none_or(Value::is_null), "{name}: {row}");
        // Bull counts attempts that failed.
        assert_eq!(row["made"], u32::from(!library.is_bull()), "{name}");
    }
    let keys = stage.run("return kit.redis().keys('bull:calls:*:lock')");
    assert_eq!(keys, json!([]), "no lock is left");
    assert_eq!(fleet.stop(), 0);
}

fn failures(library: Library) {
    let stage = Stage::new(library, |request| match job(request) {
        "plain" => Answer::status(422).body("no such customer: \"Zoë\""),
        "problem" => Answer::status(422).header("Content-Type", "application/problem+json").body(
            r#"{"type":"https://shop/errors/card-declined","title":"Card declined","detail":"do not honor"}"#,
        ),
        "empty" => Answer::status(422),
        _ => Answer::status(500).body("try again"),
    });
    let mut fleet = stage.fleet(&[("calls", "concurrency: 4, timeout: 5")]);
    let got = stage.run(
        "await kit.listen('calls')
         const jobs = []
         for (const name of ['plain', 'problem', 'empty']) jobs.push(await kit.queue('calls').add(name, {}))
         jobs.push(await kit.queue('calls').add('twice', {}, {attempts: 3}))
         jobs.push(await kit.queue('calls').add('cut', {}, {attempts: 3, stackTraceLimit: 2}))
         const told = await Promise.all(jobs.map((job) => kit.finished(job).then(() => 'completed', (e) => e.message)))
         const kept = await Promise.all(jobs.map((job) => kit.queue('calls').getJob(job.id)))
         return jobs.map((job, n) => ({name: job.name, told: told[n], reason: kept[n].failedReason,
           trace: kept[n].stacktrace, made: kept[n].attemptsMade}))",
    );
    let rows = got.as_array().unwrap();
    for row in rows {
        assert_eq!(row["told"], row["reason"], "who waits for it hears what is kept");
        let reason = row["reason"].as_str().unwrap();
        for trace in row["trace"].as_array().unwrap() {
            assert!(trace.as_str().unwrap().contains(reason), "{row}");
        }
    }
    let reasons: Vec<&str> = rows.iter().map(|row| row["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons[0], "no such customer: \"Zoë\"");
    assert!(reasons[1].contains("Card declined") && reasons[1].contains("do not honor"), "{}", reasons[1]);
    assert!(reasons[2].contains("422"), "{}", reasons[2]);
    assert_eq!(&reasons[3..], ["try again", "try again"]);
    let counts: Vec<_> = rows
        .iter()
        .map(|row| (row["made"].as_u64().unwrap(), row["trace"].as_array().unwrap().len()))
        .collect();
    assert_eq!(counts, [(1, 1), (1, 1), (1, 1), (3, 3), (3, 2)]);
    assert_eq!(fleet.stop(), 0);
}
