//! "Did you mean …?"

/// No setting is that long, and comparing takes longer with each character.
const LONGEST: usize = 64;

/// The candidate that looks most like `word`, when one looks like it at all.
pub(crate) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if word.len() > LONGEST {
        return None;
    }
    let plain = plainly(word);
    let mut best: Option<(f64, &str)> = None;
    for candidate in candidates {
        let likeness = strsim::jaro_winkler(&plain, &plainly(candidate));
        let close = strsim::damerau_levenshtein(&plain, &plainly(candidate)) <= 1 + plain.len() / 4;
        if close && best.is_none_or(|(before, _)| likeness > before) {
            best = Some((likeness, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Case and separators are what people mix up most: `retryAfter`, `retry_after` and `retry-after` are the same word.
fn plainly(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_nothing_far_away() {
        let known = ["numprocs", "numprocs-start", "stop-wait", "tries", "retry-after"];
        for (word, expected) in [
            ("numproc", Some("numprocs")),
            ("retry_after", Some("retry-after")),
            ("retryAfter", Some("retry-after")),
            ("stopwait", Some("stop-wait")),
            ("trise", Some("tries")),
            ("banana", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }
}
