//! What the host's kernel says of a process.

use std::time::Duration;

/// Its processor time, and bytes of memory that it holds; `None` where the system does not tell. See
/// proc_pid_stat(5): user and system time are the fields 14 and 15, resident pages 24.
#[cfg(target_os = "linux")]
pub(crate) fn used_by(pid: u32) -> Option<(Duration, u64)> {
    let text = fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // SAFETY: asks the C library for constants of the system.
    let (ticks_per_second, page) =
        unsafe { (libc::sysconf(libc::_SC_CLK_TCK), libc::sysconf(libc::_SC_PAGESIZE)) };
    let (ticks, pages) = read_stat(&text)?;
    let cpu = Duration::from_secs_f64(ticks as f64 / ticks_per_second as f64);
    Some((cpu, pages * page.max(0) as u64))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn used_by(_pid: u32) -> Option<(Duration, u64)> {
    None
}

/// Ticks of processor time, and resident pages.
#[cfg(target_os = "linux")]
fn read_stat(text: &str) -> Option<(u64, u64)> {
    // The name in parentheses may hold blanks; the fields after it, from the third on, do not.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some((number(14)? + number(15)?, number(24)?))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let rest = "S 1 2 3 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 12345 1000000 77 18446744073709551615";
        assert_eq!(read_stat(&format!("42 (a ) b) {rest}")), Some((300, 77)));
        assert_eq!(read_stat("42 (a"), None);
        assert_eq!(read_stat("42 (a) S 1"), None);
    }
}
