//! Lines on the serial console, which the host reads as boot messages.

use std::io::Write as _;

use agent_protocol::MARK_PREFIX;
use rustix::fs::{Mode, OFlags};

const CONSOLE: &str = "/dev/console";
const NULL: &str = "/dev/null";

/// Makes the console standard output and error, and `/dev/null` standard input. A machine without
/// a console loses the lines and nothing else.
pub fn open() {
    let input = rustix::fs::open(NULL, OFlags::RDONLY, Mode::empty());
    let output = rustix::fs::open(CONSOLE, OFlags::WRONLY | OFlags::NOCTTY, Mode::empty())
        .or_else(|_| rustix::fs::open(NULL, OFlags::WRONLY, Mode::empty()));
    if let Ok(input) = input {
        let _ = rustix::stdio::dup2_stdin(&input);
    }
    if let Ok(output) = output {
        let _ = rustix::stdio::dup2_stdout(&output);
        let _ = rustix::stdio::dup2_stderr(&output);
    }
}

/// Writes a line. The carriage return brings a terminal back to the start in raw mode as well.
pub fn say(line: &str) {
    let _ = std::io::stdout().write_all(format!("{line}\r\n").as_bytes());
    let _ = std::io::stdout().flush();
}

/// Writes a time mark, in seconds since the kernel's start.
pub fn mark(name: &str) {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    say(&format!("{MARK_PREFIX}{name} {}.{:03}", now.tv_sec, now.tv_nsec / 1_000_000));
}
