//! Memory and processor time of a living process, as the system counts them.

use std::collections::HashMap;
use std::fmt::Display;
use std::fs;
use std::io;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

/// Memory that nobody shares with this process, in bytes: what would be free if it ended. Costs up to milliseconds on big
/// processes; measure between jobs, not in a loop.
///
/// # Errors
/// `/proc` is not mounted, or the kernel is older than 4.14.
pub fn own_private_memory() -> io::Result<u64> {
    read("self", "smaps_rollup").map(|text| private(&text))
}

/// [`own_private_memory`] of another process.
///
/// # Errors
/// No such process, or not permitted to look.
pub fn private_memory(pid: i32) -> io::Result<u64> {
    read(pid, "smaps_rollup").map(|text| private(&text))
}

/// Private memory of process groups, in bytes: that of all members of each added up. Looks at every process there is,
/// once.
///
/// # Errors
/// `/proc` is not mounted.
pub fn memory_of_groups(groups: &[i32]) -> io::Result<HashMap<i32, u64>> {
    let mut used = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // One that ends while we look has nothing any more.
        if let Ok(usage) = of(pid)
            && groups.contains(&usage.group)
        {
            *used.entry(usage.group).or_default() += private_memory(pid).unwrap_or(0);
        }
    }
    Ok(used)
}

/// What the system says of a process at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessUsage {
    /// When it started, in clock ticks since boot. With the number it names a process for good, since numbers are reused.
    pub started_at: u64,
    /// One letter: `R` runs, `S` sleeps, `D` waits for a device, `T` is stopped, `Z` has ended and is not reaped.
    pub state: char,
    /// Its parent's number.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Processor time used.
    pub cpu: Duration,
    /// Resident memory in bytes, shared pages included.
    pub resident: u64,
}

/// What the system says of a process.
///
/// # Errors
/// No such process.
pub fn of(pid: i32) -> io::Result<ProcessUsage> {
    let text = read(pid, "stat")?;
    stat(&text, page_size(), ticks_per_second()).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("`/proc/{pid}/stat` is not as expected"))
    })
}

/// The living members of a process group, zombies not counted. Looks at every process there is.
///
/// # Errors
/// `/proc` is not mounted.
pub fn group_members(group: i32) -> io::Result<Vec<i32>> {
    let mut members = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // One that ends while we look is no member any more.
        if of(pid).is_ok_and(|usage| usage.group == group && !matches!(usage.state, 'Z' | 'X')) {
            members.push(pid);
        }
    }
    Ok(members)
}

fn read(process: impl Display, file: &str) -> io::Result<String> {
    // The name of a program need not be UTF-8.
    Ok(String::from_utf8_lossy(&fs::read(format!("/proc/{process}/{file}"))?).into_owned())
}

fn private(rollup: &str) -> u64 {
    let kibibytes = |line: &str| -> Option<u64> {
        let (name, value) = line.split_once(':')?;
        let counts = matches!(name, "Private_Clean" | "Private_Dirty" | "Private_Hugetlb");
        if counts { value.trim().strip_suffix("kB")?.trim().parse().ok() } else { None }
    };
    rollup.lines().filter_map(kibibytes).sum::<u64>().saturating_mul(1024)
}

/// The second field is the name in parentheses and may hold anything, so fields are counted from the last parenthesis.
fn stat(text: &str, page_size: u64, ticks_per_second: u64) -> Option<ProcessUsage> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let ticks = number(11)?.saturating_add(number(12)?);
    Some(ProcessUsage {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        cpu: Duration::from_millis(ticks.saturating_mul(1000) / ticks_per_second.max(1)),
        started_at: number(19)?,
        resident: number(21)?.saturating_mul(page_size),
    })
}

fn page_size() -> u64 {
    configured(SysconfVar::PAGE_SIZE, 4096)
}

fn ticks_per_second() -> u64 {
    configured(SysconfVar::CLK_TCK, 100)
}

fn configured(variable: SysconfVar, otherwise: u64) -> u64 {
    sysconf(variable).ok().flatten().and_then(|value| u64::try_from(value).ok()).unwrap_or(otherwise)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let text = "77 (a) b (c) S 1 77 77 0 -1 4194304 1 0 0 0 250 50 0 0 20 0 1 0 4242 1000 3 18446744073709551615 0";
        let usage = stat(text, 4096, 100).unwrap();
        let expected = ProcessUsage {
            started_at: 4242,
            state: 'S',
            parent: 1,
            group: 77,
            cpu: Duration::from_secs(3),
            resident: 3 * 4096,
        };
        assert_eq!(usage, expected);
    }

    #[test]
    fn private_memory_is_the_sum_of_private_lines() {
        let text = "55d0-7ff0 ---p 00000000 00:00 0 [rollup]\nRss: 5000 kB\nPrivate_Clean: 12 kB\nPrivate_Dirty:  30 kB\nShared_Clean: 900 kB\n";
        assert_eq!(private(text), 42 * 1024);
    }

    #[test]
    fn memory_that_was_touched_shows_up() {
        let before = own_private_memory().unwrap();
        let block = vec![1u8; 32 << 20];
        let after = own_private_memory().unwrap();
        assert!(block.iter().all(|byte| *byte == 1));
        assert!(after >= before + (30 << 20), "{before} to {after}");
    }

    #[test]
    fn this_process_is_found() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let usage = of(pid).unwrap();
        assert!(usage.resident > 0 && usage.started_at > 0);
        assert!(group_members(usage.group).unwrap().contains(&pid));
        assert_eq!(of(i32::MAX).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
