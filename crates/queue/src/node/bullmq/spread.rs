//! `H` in a pattern: a value of the field's own, so that many schedules do not all come at once.
//!
//! BullMQ 6 draws it anew for each iteration. Here it follows from the scheduler's name, so an hourly schedule comes once
//! an hour, whoever works it.

use std::ops::RangeInclusive;

use ring::digest::{SHA256, digest};

/// What a field may hold, from the last one to the first. Days are those that every month has.
const FIELDS: [RangeInclusive<u32>; 6] = [0..=6, 1..=12, 1..=28, 0..=23, 0..=59, 0..=59];

/// The pattern with numbers for every `H`, `H/5`, `H(0-9)` and `H(0-9)/3`. What cannot be read is left as it is.
pub(super) fn spread(pattern: &str, scheduler: &str) -> String {
    if !pattern.contains('H') {
        return pattern.to_owned();
    }
    let fields: Vec<&str> = pattern.split_whitespace().collect();
    let all = fields.len();
    let spread = fields.iter().enumerate().map(|(place, field)| {
        let Some(range) = FIELDS.get(all - 1 - place) else { return (*field).to_owned() };
        let parts = field.split(',').map(|part| {
            number(part, range, &format!("{scheduler}\n{}", all - place)).unwrap_or_else(|| part.to_owned())
        });
        parts.collect::<Vec<_>>().join(",")
    });
    spread.collect::<Vec<_>>().join(" ")
}

/// One part of a field.
fn number(part: &str, range: &RangeInclusive<u32>, seed: &str) -> Option<String> {
    let rest = part.strip_prefix('H')?;
    let (rest, low, high) = match rest.strip_prefix('(') {
        Some(inside) => {
            let (inside, rest) = inside.split_once(')')?;
            let (low, high) = inside.split_once('-')?;
            let (low, high): (u32, u32) = (low.parse().ok()?, high.parse().ok()?);
            (rest, low.max(*range.start()), high.min(*range.end()))
        }
        None => (rest, *range.start(), *range.end()),
    };
    let step: Option<u32> = match rest.strip_prefix('/') {
        Some(step) => Some(step.parse().ok().filter(|step| *step > 0)?),
        None if rest.is_empty() => None,
        None => return None,
    };
    let choices = high.checked_sub(low)?.saturating_add(1).min(step.unwrap_or(u32::MAX));
    let first = low + draw(seed) % choices;
    Some(step.map_or_else(|| first.to_string(), |step| format!("{first}-{high}/{step}")))
}

fn draw(seed: &str) -> u32 {
    let hash = digest(&SHA256, seed.as_bytes());
    hash.as_ref().iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_h_becomes_a_number_of_its_field() {
        for name in 0..200 {
            let name = format!("s{name}");
            let of = |pattern: &str| -> Vec<u32> {
                let spread = spread(pattern, &name);
                let numbers = spread.split(|letter: char| !letter.is_ascii_digit());
                numbers.filter_map(|number| number.parse().ok()).collect()
            };
            let hit = of("H H H H H H");
            assert!(hit[0] < 60 && hit[1] < 60 && hit[2] < 24, "{hit:?}");
            assert!((1..=28).contains(&hit[3]) && (1..=12).contains(&hit[4]) && hit[5] < 7, "{hit:?}");
            assert!((10..=19).contains(&of("H(10-19) * * * *")[0]));
            let stepped = of("H(10-70)/20 * * * *");
            assert!((10..30).contains(&stepped[0]) && stepped[1..] == [59, 20], "{stepped:?}");
        }
    }

    #[test]
    fn schedules_differ_and_stay_the_same() {
        let minutes: std::collections::BTreeSet<String> =
            (0..200).map(|name| spread("H * * * *", &format!("s{name}"))).collect();
        assert!(minutes.len() > 40, "{minutes:?}");
        assert_eq!(spread("H,30 H * * *", "a"), spread("H,30 H * * *", "a"));
        assert!(spread("H,30 * * * *", "a").contains(",30 "));
    }

    #[test]
    fn what_is_no_h_stays() {
        for pattern in
            ["0 3 * * MON", "H/0 * * * *", "H(9-1) * * * *", "H(1) * * * *", "0 0 * MARCH *", "H1 * * * *"]
        {
            assert_eq!(spread(pattern, "a"), pattern);
        }
    }
}
