//! What the kernel says of the server's process.

use std::time::Duration;

/// How often resident memory is looked at, and how long it must stay the same.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const LOOKS_ALIKE: usize = 8;
/// A difference that is none.
const SAME_KIB: u64 = 64;
/// Looks in all.
const LOOKS_MAX: usize = 240;

/// CPU time, of user and system, in microseconds.
pub fn cpu_us(pid: u32) -> Result<u64, String> {
    let stat = read(pid, "stat")?;
    let after_name = stat.rsplit_once(')').map(|(_, rest)| rest).ok_or("/proc/…/stat is odd")?;
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let (user, system) = ticks(11).zip(ticks(12)).ok_or("/proc/…/stat is odd")?;
    // SAFETY: sysconf has no memory effects.
    let per_s = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Ok((user + system) * 1_000_000 / u64::try_from(per_s).map_err(|_| "no clock ticks")?)
}

/// Resident memory in KiB once it does not change any more.
pub fn settled_rss_kib(pid: u32) -> Result<u64, String> {
    let (mut last, mut alike) = (rss_kib(pid)?, 0);
    for _ in 0..LOOKS_MAX {
        std::thread::sleep(LOOK_EVERY);
        let now = rss_kib(pid)?;
        alike = if now.abs_diff(last) <= SAME_KIB { alike + 1 } else { 0 };
        last = now;
        if alike == LOOKS_ALIKE {
            return Ok(now);
        }
    }
    Err("resident memory does not come to rest".to_owned())
}

fn rss_kib(pid: u32) -> Result<u64, String> {
    let status = read(pid, "status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok());
    kib.ok_or_else(|| "no VmRSS in /proc/…/status".to_owned())
}

fn read(pid: u32, file: &str) -> Result<String, String> {
    std::fs::read_to_string(format!("/proc/{pid}/{file}"))
        .map_err(|error| format!("process {pid}: {error}"))
}
