//! The program's own code in memory. Reading a manifest and beginning take much more of it than keeping processes up;
//! what is not mapped any more comes back from the program file, page by page, when somebody runs through it again.

use std::fs;
use std::io;

use crate::raw;

/// Part of a file that is mapped and was not changed in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unchanged {
    start: usize,
    end: usize,
}

impl Unchanged {
    pub(crate) const fn start(self) -> usize {
        self.start
    }

    pub(crate) const fn len(self) -> usize {
        self.end - self.start
    }
}

/// Lets go of the program's code and constants, as far as they are as in its file.
///
/// # Errors
/// `/proc` does not say what is mapped, or the system keeps it.
pub fn let_go() -> io::Result<()> {
    let program = fs::read_link("/proc/self/exe")?;
    let mappings = fs::read_to_string("/proc/self/smaps")?;
    unchanged(&mappings, &program.to_string_lossy()).into_iter().try_for_each(raw::let_go)
}

/// What of this file is mapped without the right to write, and holds no page that was written before.
fn unchanged(smaps: &str, file: &str) -> Vec<Unchanged> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        match line.split_once(':').map(|(key, size)| (key, size.trim())) {
            Some(("Anonymous", size)) => candidate = candidate.filter(|_| size == "0 kB"),
            // The last line that matters: what was written may lie there by now.
            Some(("Swap", size)) => found.extend(candidate.take().filter(|_| size == "0 kB")),
            _ => candidate = read_only(line, file).or(candidate),
        }
    }
    found
}

/// The first line of a mapping, if it is one of this file that cannot be written.
fn read_only(line: &str, file: &str) -> Option<Unchanged> {
    let (head, path) = line.split_once('/').map(|(head, _)| (head, line.get(head.len()..)))?;
    let mut words = head.split_whitespace();
    let (range, rights) = (words.next()?, words.next()?);
    let (start, end) = range.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let is_it = path == Some(file) && matches!(rights, "r--p" | "r-xp");
    is_it.then_some(Unchanged { start: address(start)?, end: address(end)? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn mapping(range: &str, rights: &str, file: &str, anonymous: u32, swap: u32) -> String {
        format!(
            "{range} {rights} 00002000 fe:00 247282                     {file}\nSize:   24 kB\nRss:  24 kB\n\
             Private_Dirty:         0 kB\nAnonymous:             {anonymous} kB\nSwap:  {swap} kB\nSwapPss: 0 kB\n\
             VmFlags: rd ex mr mw me\n"
        )
    }

    #[test]
    fn what_was_written_or_belongs_to_others_is_kept() {
        let file = "/usr/bin/q fleet";
        let text = [
            mapping("1000-3000", "r--p", file, 0, 0),
            mapping("3000-5000", "r-xp", file, 0, 0),
            mapping("5000-6000", "r--p", file, 8, 0),
            mapping("6000-7000", "r--p", file, 0, 4),
            mapping("7000-8000", "rw-p", file, 0, 0),
            mapping("8000-9000", "r-xp", "/usr/lib/libc.so.6", 0, 0),
            mapping("9000-a000", "r-xp", "/tmp/usr/bin/q fleet", 0, 0),
            mapping("a000-b000", "rw-p", "", 0, 0),
            mapping("b000-c000", "r-xp", "[vdso]", 0, 0),
            mapping("d000-e000", "r--p", file, 0, 0),
        ];
        let found = unchanged(&text.concat(), file);
        let expected = [(0x1000, 0x3000), (0x3000, 0x5000), (0xd000, 0xe000)];
        assert_eq!(found, expected.map(|(start, end)| Unchanged { start, end }));
        assert_eq!(unchanged("", file), []);
    }

    #[test]
    fn what_was_let_go_comes_back() {
        let_go().unwrap();
        let text: String = ["it", "goes", "on"].join(" ");
        assert_eq!(text, "it goes on");
    }
}
