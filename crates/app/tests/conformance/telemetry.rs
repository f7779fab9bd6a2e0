//! A producer's trace goes on in the handler: `traceparent` is of the same trace, with a span of its own.

use qfleet_testkit::Answer;

use crate::stage::{Library, Stage};

conforms!(bullmq: traces_go_on);

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn traces_go_on(library: Library) {
    let stage = Stage::new(library, |request| {
        if request.header("Job-Attempt") == Some("1") { Answer::status(500) } else { Answer::ok() }
    });
    let mut fleet = stage.fleet(&[("traced", "")]);
    // What a producer with telemetry switched on writes, here with one made for the test.
    stage.run(&format!(
        "const carrier = JSON.stringify({{traceparent: '00-{TRACE}-00f067aa0ba902b7-01', tracestate: 'vendor=7'}})
         const span = {{setSpanOnContext: (context) => context, addEvent() {{}}, setAttribute() {{}}, setAttributes() {{}},
           recordException() {{}}, end() {{}}}}
         const telemetry = {{
           tracer: {{startSpan: () => span}},
           contextManager: {{with: (_context, run) => run(), active: () => ({{}}), getMetadata: () => carrier,
             fromMetadata: (active) => active}},
         }}
         const traced = kit.queue('traced', {{telemetry}})
         await traced.add('by the library', {{}}, {{attempts: 2}})
         await traced.add('by hand', {{}}, {{telemetry: {{metadata: carrier}}}})
         await traced.add('kept apart', {{}}, {{telemetry: {{omitContext: true}}}})"
    ));
    stage.ended("traced", 1, 2);
    let got = stage.got("traced");
    let parents = |name: &str| -> Vec<String> {
        let of = got.iter().filter(|request| request.header("Job-Name") == Some(name));
        of.map(|request| request.header("traceparent").unwrap().to_owned()).collect()
    };
    let twice = parents("by the library");
    assert_eq!(twice.len(), 2);
    assert!(twice[0] != twice[1], "each delivery is a span");
    for parent in twice.iter().chain(&parents("by hand")) {
        assert!(parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with("-01"), "{parent}");
        assert!(!parent.contains("00f067aa0ba902b7"), "{parent}: the producer's own span");
    }
    assert!(!parents("kept apart")[0].contains(TRACE));
    let state = got.iter().find(|request| request.header("Job-Name") == Some("by hand")).unwrap();
    assert_eq!(state.header("tracestate"), Some("vendor=7"));
    assert_eq!(fleet.stop(), 0);
}
