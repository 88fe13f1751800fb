//! What /proc tells about a process.

use std::fs;

/// Linux counts process time in hundredths of a second on every architecture it shows to users.
const TICKS_PER_SECOND: f64 = 100.0;

/// A look at a process.
#[derive(Clone, Copy)]
pub struct Usage {
    /// User and system time of all threads so far, in seconds.
    pub cpu_s: f64,
    /// Resident memory in KiB.
    pub rss_kib: u64,
}

pub fn usage(pid: u32) -> Result<Usage, String> {
    let read = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))
    };
    let (stat, status) = (read("stat")?, read("status")?);
    cpu_seconds(&stat)
        .zip(field(&status, "VmRSS:"))
        .map(|(cpu_s, rss_kib)| Usage { cpu_s, rss_kib })
        .ok_or_else(|| format!("process {pid} has ended"))
}

/// utime and stime, fields 14 and 15; the name in field 2 may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// How many descriptors this process may open.
pub fn descriptors_max() -> Option<u64> {
    field(&fs::read_to_string("/proc/self/limits").ok()?, "Max open files")
}

fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times_behind_an_awkward_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 100 1 1";
        assert_eq!(cpu_seconds(stat), Some(3.0));
    }

    #[test]
    fn sees_itself() {
        let usage = usage(std::process::id()).expect("we run");
        assert!(usage.rss_kib > 100);
        assert!(descriptors_max().expect("a limit") > 10);
    }
}
