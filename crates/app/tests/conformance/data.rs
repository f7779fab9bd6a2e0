//! A job's data reaches its handler byte for byte, and stays as it is in Redis; what is no JSON is set aside as it is.

use qfleet_testkit::Answer;
use redis::Commands as _;

use crate::stage::{Library, Stage};

conforms!(every: byte_for_byte);

const NO_JSON: &[u8] = b"\xff\xfe {";

fn byte_for_byte(library: Library) {
    let stage = Stage::new(library, |request| {
        if request.header("Job-Attempt") == Some("1") { Answer::status(500) } else { Answer::ok() }
    });
    stage.run(
        r#"const data = kit.queue('data')
         let deep = 1
         for (let n = 0; n < 300; n++) deep = {deep: [deep]}
         const samples = [
           {text: 'grün ☃ 🦀 \u0000 \u2028 " \\ / </script>', lone: '\ud800'},
           {numbers: [9007199254740993, 1e300, 5e-324, -0, 0.1, 1.0, 12345678901234567890]},
           {empty: [], none: {}, nothing: null, '': '', order: {b: 1, a: 2, 1: 3}},
           deep, [], 'text', 17, false,
           {big: 'x'.repeat(300000)},
         ]
         for (const [n, sample] of samples.entries()) await data.add('n' + n, sample, {attempts: 2})
         await data.pause()
         for (const name of ['spaced', 'no json']) await data.add(name, {}, {attempts: 2, jobId: name})
         await data.add('missing', undefined, {attempts: 2})"#,
    );
    // By whoever writes the format himself.
    let mut redis = stage.redis.connection();
    let spaced = " { \"id\" : 9223372036854775807 ,\t\"price\": 1.50, \"a\":1, \"a\":2 }\n";
    redis.hset::<_, _, _, ()>("bull:data:spaced", "data", spaced).unwrap();
    redis.hset::<_, _, _, ()>("bull:data:no json", "data", NO_JSON).unwrap();
    stage.run("await kit.queue('data').resume()");

    let mut fleet = stage.fleet(&[("data", "concurrency: 4")]);
    stage.ended("data", 11, 1);
    for request in stage.got("data") {
        assert_eq!(request.header("Job-Format"), Some(library.driver));
        let id = percent_decoded(request.header("Job-Id").unwrap());
        let kept: Vec<u8> = redis.hget(format!("bull:data:{id}"), "data").unwrap();
        assert!(
            request.body == kept,
            "`{id}`: {:?}",
            String::from_utf8_lossy(&request.body[..request.body.len().min(200)])
        );
    }
    assert_eq!(stage.got("data").len(), 22);
    let kept: String = redis.hget("bull:data:spaced", "data").unwrap();
    assert_eq!(kept, spaced, "nobody wrote it anew");
    let (kept, reason): (Vec<u8>, String) =
        redis.hmget("bull:data:no json", &["data", "failedReason"]).unwrap();
    assert_eq!(kept, NO_JSON, "every byte is there");
    assert!(reason.contains("`data` is not valid JSON"), "{reason}");
    assert_eq!(fleet.stop(), 0);
}

fn percent_decoded(text: &str) -> String {
    text.replace("%20", " ")
}
