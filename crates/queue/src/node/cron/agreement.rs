//! Our reading of patterns beside that of the parser Bull and BullMQ use, on two thousand made-up ones.

use qfleet_testkit::{Node, RedisServer};
use serde_json::{Value, json};

use super::Pattern;

const ZONES: [&str; 6] =
    ["UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata", "Australia/Sydney", "America/Sao_Paulo"];
/// From 2023 to 2030.
const DATES: std::ops::Range<i64> = 1_672_531_200..1_893_456_000;

struct Dice(fastrand::Rng);

impl Dice {
    fn field(&mut self, low: u32, high: u32) -> String {
        let dice = &mut self.0;
        let (mut a, mut b) = (dice.u32(low..=high), dice.u32(low..=high));
        if a > b {
            (a, b) = (b, a);
        }
        match dice.u32(0..8) {
            0..=2 => "*".into(),
            3 => format!("*/{}", dice.u32(1..=high.max(2) / 2)),
            4 => format!("{a}-{b}"),
            5 => format!("{a},{b}"),
            6 => format!("{a}-{b}/{}", dice.u32(1..5)),
            _ => a.to_string(),
        }
    }

    fn pattern(&mut self) -> String {
        let mut fields = vec![
            self.field(0, 59),
            self.field(0, 23),
            self.field(1, 31),
            self.field(1, 12),
            self.field(0, 7),
        ];
        match self.0.u32(0..12) {
            0 => fields[2] = "L".into(),
            1 => fields[4] = format!("{}L", self.0.u32(0..7)),
            2 => fields[4] = format!("{}#{}", self.0.u32(0..7), self.0.u32(1..5)),
            _ => {}
        }
        if self.0.bool() {
            fields.insert(0, self.field(0, 59));
        }
        fields.join(" ")
    }
}

#[test]
fn made_up_patterns_come_when_the_library_says() {
    let node = Node::start("bullmq", &RedisServer::start());
    let mut dice = Dice(fastrand::Rng::with_seed(7));
    let cases: Vec<Value> = (0..2000)
        .map(|_| json!([dice.pattern(), ZONES[dice.0.usize(..ZONES.len())], dice.0.i64(DATES) * 1000]))
        .collect();
    let theirs = node.run(&format!(
        "const {{ parseExpression }} = kit.require('cron-parser');
         return {}.map(([text, tz, from]) => {{
           try {{ const all = parseExpression(text, {{currentDate: new Date(from), tz}});
                 return [0, 1, 2].map(() => all.next().getTime()) }} catch (error) {{ return null }} }})",
        Value::from(cases.clone())
    ));
    let mut wrong = Vec::new();
    for (case, theirs) in cases.iter().zip(theirs.as_array().unwrap()) {
        let (text, zone) = (case[0].as_str().unwrap(), case[1].as_str().unwrap());
        let pattern = Pattern::new(text, Some(zone));
        let ours = pattern.as_ref().ok().and_then(|pattern| {
            let mut at = case[2].as_i64().unwrap();
            let mut dates = Vec::new();
            for _ in 0..3 {
                at = pattern.after(at)?;
                dates.push(at);
            }
            Some(dates)
        });
        if json!(ours) != *theirs {
            wrong.push(format!("{case}: ours {ours:?}, theirs {theirs}"));
        }
    }
    // The parser has its own mind about minutes that a change of clocks leaves out, and about days that the only month
    // of a pattern does not have. Nothing else may differ.
    assert!(wrong.len() * 1000 <= cases.len(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
