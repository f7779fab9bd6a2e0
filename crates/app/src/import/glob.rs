//! Names with `*`, `?` and `[…]`, as `files=` of `[include]` has them.

/// Whether a part of a path stands for several.
pub(super) fn is_pattern(part: &str) -> bool {
    part.contains(['*', '?', '['])
}

/// Whether a file's name fits one part of a pattern. Names that begin with a dot want the dot said.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    (name.first() != Some(&'.') || pattern.first() == Some(&'.')) && rest_fits(&pattern, &name)
}

/// The last `*` takes one more character whenever what follows it does not fit.
fn rest_fits(pattern: &[char], name: &[char]) -> bool {
    let (mut at, mut taken) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while taken < name.len() {
        if pattern.get(at) == Some(&'*') {
            star = Some((at + 1, taken));
            at += 1;
        } else if let Some(length) = one_fits(&pattern[at..], name[taken]) {
            at += length;
            taken += 1;
        } else if let Some((behind, from)) = star {
            star = Some((behind, from + 1));
            (at, taken) = (behind, from + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

/// How many characters of the pattern stand for this one, if they do.
fn one_fits(pattern: &[char], c: char) -> Option<usize> {
    match *pattern.first()? {
        '?' => Some(1),
        '[' => {
            let inner = &pattern[1..];
            let denied = inner.first() == Some(&'!');
            let from = usize::from(denied);
            // A bracket that comes first is one of the set.
            let end = inner.iter().skip(from + 1).position(|c| *c == ']').map(|at| at + from + 1);
            let Some(end) = end else { return (c == '[').then_some(1) };
            (in_set(&inner[from..end], c) != denied).then_some(end + 2)
        }
        other => (other == c).then_some(1),
    }
}

fn in_set(set: &[char], c: char) -> bool {
    let mut rest = set;
    while let [first, tail @ ..] = rest {
        rest = match tail {
            ['-', last, after @ ..] => {
                if (*first..=*last).contains(&c) {
                    return true;
                }
                after
            }
            _ if *first == c => return true,
            _ => tail,
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_names() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".conf", false),
            (".*", ".conf", true),
            ("*.conf", "a.conf.bak", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxc", false),
            ("?.c", "a.c", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]", "]", true),
            ("[", "[", true),
            ("", "", true),
            ("é*", "été", true),
            ("é*", "eté", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} and {name}");
        }
    }
}
