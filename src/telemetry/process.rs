//! What the kernel says about this process, read from `/proc` at scrape. A figure that cannot be
//! read is left out.

use std::fs;

/// Ticks per second in `/proc`: `USER_HZ` is 100 on every architecture ringgate runs on.
const USER_HZ: f64 = 100.0;

/// Resident memory in bytes.
pub fn resident_memory_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

/// Open descriptors.
pub fn open_fds() -> Option<u64> {
    // Since Linux 6.2 the size of the directory is their number; before, it is 0 and they are
    // counted, without the one that the count itself opens.
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1)),
        size => Some(size),
    }
}

/// The soft limit of open descriptors; `None` also where there is none.
pub fn max_fds() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system CPU time of all threads, in seconds.
pub fn cpu_seconds() -> Option<f64> {
    let stat = stat()?;
    // Fields 14 and 15 of proc(5), counted after the command name.
    let utime: f64 = field(&stat, 14)?;
    let stime: f64 = field(&stat, 15)?;
    Some((utime + stime) / USER_HZ)
}

/// When the process started, in seconds since the epoch.
pub fn start_time_seconds() -> Option<f64> {
    let ticks_since_boot: f64 = field(&stat()?, 22)?;
    let kernel = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 =
        kernel.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + ticks_since_boot / USER_HZ)
}

/// `/proc/self/stat` after the command name, which may hold blanks and brackets.
fn stat() -> Option<String> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let end_of_name = stat.rfind(')')?;
    Some(stat[end_of_name + 1..].to_owned())
}

/// Field `number` as proc(5) counts; the first after the name is 3.
fn field(stat: &str, number: usize) -> Option<f64> {
    stat.split_whitespace().nth(number - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn reads_plausible_figures_of_this_process() {
        assert!(resident_memory_bytes().expect("VmRSS") > 100_000);
        assert!(cpu_seconds().expect("stat") < 100_000.0);
        let started = start_time_seconds().expect("btime");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
        assert!((now - started).abs() < 86_400.0, "started {started}, now {now}");
    }

    #[test]
    fn counts_descriptors() {
        let files: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").expect("opens")).collect();
        let open = open_fds().expect("fd directory");
        assert!(open >= 50, "{open}");
        assert!(max_fds().is_none_or(|max| max >= open));
        drop(files);
    }
}
