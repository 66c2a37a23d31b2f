//! Processor time of a process to the nanosecond: `/proc/PID/stat` counts in hundredths of a second, far too coarse for a
//! window of 50 ms. Threads that have ended count too, and so do the kernel's io_uring workers of the process.

use std::io;
use std::time::Duration;

/// Processor time that a process has used so far, user and system; `None`: this process.
///
/// # Errors
/// The operating system's: there is no such process.
#[expect(
    unsafe_code,
    reason = "libc's clock_getcpuclockid and clock_gettime have no safe form here"
)]
pub fn process_time(pid: Option<u32>) -> io::Result<Duration> {
    let mut clock: libc::clockid_t = libc::CLOCK_PROCESS_CPUTIME_ID;
    if let Some(pid) = pid {
        let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
        // SAFETY: the call writes one clockid_t through the pointer, which is to a local that outlives it.
        let error = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
    }
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call writes one timespec through the pointer, which is to a local that outlives it.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let seconds = u64::try_from(time.tv_sec).map_err(io::Error::other)?;
    let nanos = u32::try_from(time.tv_nsec).map_err(io::Error::other)?;
    Ok(Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_while_something_runs_and_this_process_is_its_own_pid() {
        let before = process_time(None).unwrap();
        let mut sum = 0_u64;
        for number in 0..20_000_u64 {
            sum = sum.wrapping_add(crate::workload::rng::mix(number));
        }
        assert_ne!(sum, 1);
        let by_pid = process_time(Some(std::process::id())).unwrap();
        assert!(by_pid > before);
        assert!(process_time(None).unwrap() >= by_pid);
    }

    #[test]
    fn another_process_is_read_and_one_that_is_gone_is_an_error() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let time = process_time(Some(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(time.unwrap() < Duration::from_secs(10));
        assert!(process_time(Some(child.id())).is_err());
    }
}
