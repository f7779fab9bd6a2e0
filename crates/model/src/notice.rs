//! What a program says of itself by the protocol that systemd has for it: lines of `NAME=value` in one datagram. Of all
//! names two mean something here; the others are passed over, as they are by everybody who does not know them.

use crate::words::remark;

/// What was said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notice {
    /// `READY=1`: it is ready.
    pub ready: bool,
    /// `STATUS=…`: what it is doing, in one line without control characters.
    pub status: Option<String>,
}

impl Notice {
    /// Reads one datagram.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        let mut notice = Self::default();
        for line in String::from_utf8_lossy(bytes).lines() {
            match line.split_once('=') {
                Some(("READY", "1")) => notice.ready = true,
                Some(("STATUS", text)) => notice.status = remark(text),
                Some(_) | None => {}
            }
        }
        notice
    }

    /// This one after an earlier one: ready stays ready, and the last status is the one that holds.
    #[must_use]
    pub fn after(self, earlier: &Self) -> Self {
        Self { ready: self.ready || earlier.ready, status: self.status.or_else(|| earlier.status.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(ready: bool, status: Option<&str>) -> Notice {
        Notice { ready, status: status.map(str::to_owned) }
    }

    #[test]
    fn two_names_mean_something() {
        let read = |text: &str| Notice::read(text.as_bytes());
        assert_eq!(read("READY=1"), notice(true, None));
        assert_eq!(read("READY=1\nSTATUS=takes requests\n"), notice(true, Some("takes requests")));
        assert_eq!(read("STATUS= a=b\u{1b}[2J \nMAINPID=1"), notice(false, Some("a=b[2J")));
        for other in ["", "READY=0", "READY", "xREADY=1", "STATUS=", "WATCHDOG=1", "BARRIER=1"] {
            assert_eq!(read(other), notice(false, None), "{other}");
        }
        assert_eq!(Notice::read(b"STATUS=\xff\nREADY=1"), notice(true, Some("\u{fffd}")));
        let long = read(&format!("STATUS={}", "x".repeat(10_000)));
        assert_eq!(long.status.map(|status| status.len()), Some(200));
    }

    #[test]
    fn what_was_said_stays_said() {
        let (loading, ready) = (notice(false, Some("loading")), notice(true, None));
        assert_eq!(ready.clone().after(&loading), notice(true, Some("loading")));
        assert_eq!(loading.after(&ready), notice(true, Some("loading")));
    }
}
