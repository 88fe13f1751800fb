//! How many descriptors this process may open.

use std::io;

/// Lets this process open so many, if its hard limit allows that.
pub fn raise_descriptors(needed: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives for the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    if limit.rlim_cur >= needed {
        return Ok(());
    }
    let most = limit.rlim_max;
    if most < needed {
        return Err(io::Error::other(format!("{needed} needed, the hard limit is {most}")));
    }
    limit.rlim_cur = most;
    // SAFETY: `limit` lives for the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
