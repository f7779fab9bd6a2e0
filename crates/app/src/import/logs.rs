//! Where output goes: supervisord names a file for each channel, the manifest one directory for all.

use std::collections::BTreeMap;

use super::notes::Notes;
use super::section::Reading;

/// What the programs say of their log files.
#[derive(Debug, Default)]
pub(super) struct Logs {
    /// How many files were named in each directory.
    dirs: BTreeMap<String, usize>,
    sizes: Vec<u64>,
    copies: Vec<i64>,
}

/// What `logging` is to say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) dir: Option<String>,
    /// In bytes.
    pub(super) max_size: Option<u64>,
    pub(super) keep: Option<i64>,
}

impl Logs {
    /// Takes note of what a program says of both channels.
    pub(super) fn note(&mut self, reading: &Reading<'_>, notes: &mut Notes) {
        for channel in ["stdout", "stderr"] {
            let file = reading.text(&format!("{channel}_logfile"), notes);
            let is_file = file.as_deref().is_none_or(|file| self.note_file(reading, channel, file, notes));
            self.note_rotation(reading, channel, is_file, notes);
            for (end, usual) in [("capture_maxbytes", "0"), ("events_enabled", "false"), ("syslog", "false")]
            {
                let key = format!("{channel}_{end}");
                let said = reading.text(&key, notes);
                if said.is_some_and(|said| {
                    said != usual && !["0", "off", "no", "false"].contains(&said.to_lowercase().as_str())
                }) {
                    reading.remark(&key, advice(end), notes);
                }
            }
        }
    }

    fn note_file(&mut self, reading: &Reading<'_>, channel: &str, file: &str, notes: &mut Notes) -> bool {
        let key = format!("{channel}_logfile");
        match file.to_ascii_lowercase().as_str() {
            "auto" | "" => return true,
            "none" | "off" => {
                reading.remark(&key, "output is never thrown away; it goes to the daemon's own", notes);
                return false;
            }
            "syslog" => {
                reading.remark(
                    &key,
                    "output goes to the daemon's own, which the service manager can log",
                    notes,
                );
                return false;
            }
            _ if file.starts_with("/dev/") || file.starts_with("/proc/") => return false,
            _ => {}
        }
        let Some((dir, _)) = file.rsplit_once('/').filter(|(dir, _)| dir.starts_with('/')) else {
            reading.remark(
                &key,
                "a path that is not absolute has no counterpart; see `logging: {dir: …}`",
                notes,
            );
            return true;
        };
        *self.dirs.entry(dir.to_owned()).or_default() += 1;
        reading.remark(&key, &format!("`{file}` is not written: each process has one file of its own in `logging: {{dir: …}}`, both channels in it"), notes);
        true
    }

    fn note_rotation(&mut self, reading: &Reading<'_>, channel: &str, is_file: bool, notes: &mut Notes) {
        let (size, copies) = (format!("{channel}_logfile_maxbytes"), format!("{channel}_logfile_backups"));
        if reading.section.get(&size).is_some() {
            let bytes = reading.size(&size, notes);
            self.sizes.extend(bytes.filter(|_| is_file));
        }
        if reading.section.get(&copies).is_some() {
            let count = reading.number(&copies, 10_000, notes).and_then(|count| count.parse::<i64>().ok());
            self.copies.extend(count.filter(|_| is_file));
        }
    }

    /// One directory and one size for all; the most generous where they differ.
    pub(super) fn choose(&self, child_dir: Option<String>) -> Chosen {
        let used = self.dirs.iter().max_by(|one, other| one.1.cmp(other.1).then(other.0.cmp(one.0)));
        let Some(dir) = child_dir.or_else(|| used.map(|(dir, _)| dir.clone())) else {
            return Chosen::default();
        };
        let endless = self.sizes.contains(&0);
        let size = if endless {
            Some(1 << 40)
        } else {
            self.sizes.iter().max().map(|size| (*size).clamp(4096, 1 << 40))
        };
        Chosen {
            dir: Some(dir),
            max_size: size.filter(|size| *size != 50 << 20),
            keep: self.copies.iter().max().copied().filter(|keep| *keep != 10),
        }
    }
}

fn advice(end: &str) -> &'static str {
    match end {
        "capture_maxbytes" => "capture mode has no counterpart; everything is a line of the log",
        "events_enabled" => "there are no events; follow the log, or `qfleet tail -f`",
        _ => "output goes to the daemon's own, which the service manager can log",
    }
}
