//! Waits until a guest is at rest: what it is still doing when it is frozen, every copy of it goes on with,
//! beside its first commands. A distribution's init says that all has begun long before the last of it has
//! ended (udev looks at every device in the background).

use crate::agent_client::execution::{Discard, run_to_end};
use crate::error::Result;
use crate::execute::ExecuteRequest;
use crate::machine::Machine;
use std::time::{Duration, Instant};

/// The time between two looks.
const BETWEEN: Duration = Duration::from_millis(250);
/// So many times in a row the guest is found at rest: while a boot waits for a device it looks so for a moment.
const N_LOOKS: u32 = 3;
/// What is left of one processor's time while a guest is at rest. Looking costs some of it.
const IDLE: f64 = 0.5;
/// Seconds since the boot, and those of all processors without work. With no program but the shell.
const LOOK: &str = "read -r both < /proc/uptime; echo \"$both\"";

/// Waits until the guest is at rest, for a time at most: one that always works is frozen in the middle.
pub(super) async fn come_to_rest(machine: &Machine, limit: Duration) -> Result<()> {
    let begin = Instant::now();
    let mut before = look(machine).await?;
    let mut n_at_rest = 0;
    while n_at_rest < N_LOOKS {
        if begin.elapsed() > limit {
            tracing::info!("the guest does not come to rest");
            break;
        }
        tokio::time::sleep(BETWEEN).await;
        let now = look(machine).await?;
        n_at_rest = if is_at_rest(&before, &now, machine.origin.cpus) { n_at_rest + 1 } else { 0 };
        before = now;
    }
    tracing::debug!(waited_s = begin.elapsed().as_secs_f64(), "the guest was let come to rest");
    Ok(())
}

async fn look(machine: &Machine) -> Result<String> {
    let request = ExecuteRequest::new(LOOK).timeout(Duration::from_secs(20)).cwd("/");
    let said = run_to_end(&machine.agent, &request, &mut Discard).await?;
    Ok(said.stdout_lossy())
}

/// Whether less than a part of one processor was in use between two looks. A guest that does not tell is
/// not waited for.
fn is_at_rest(before: &str, now: &str, n_cpus: u16) -> bool {
    let (Some((up, idle)), Some((later, more))) = (numbers(before), numbers(now)) else {
        return true;
    };
    let passed = later - up;
    f64::from(n_cpus) * passed - (more - idle) <= (1.0 - IDLE) * passed
}

fn numbers(uptime: &str) -> Option<(f64, f64)> {
    let mut words = uptime.split_whitespace().map(str::parse);
    Some((words.next()?.ok()?, words.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_at_rest_when_its_processors_are_idle() {
        for (before, now, n_cpus, expect) in [
            ("10.00 3.00", "10.25 3.20", 1, true),
            ("10.00 3.00", "10.25 3.05", 1, false),
            ("10.00 3.00", "10.25 3.00", 1, false),
            // One of two at work is work.
            ("10.00 3.00", "10.25 3.26", 2, false),
            ("10.00 3.00", "10.25 3.45", 2, true),
            // Not what Linux says.
            ("", "10.25 3.45", 1, true),
            ("a b", "c d", 1, true),
        ] {
            assert_eq!(is_at_rest(before, now, n_cpus), expect, "{before}, {now}, {n_cpus}");
        }
    }
}
