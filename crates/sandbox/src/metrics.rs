//! What a running machine uses: processor, memory, disk and network.
//!
//! The host's figures are QEMU's and the kernel's; the guest's are what it says of itself, bounded and
//! never trusted for more than to be shown.

use crate::agent_client::execution::{Discard, run_to_end};
use crate::error::Result;
use crate::execute::ExecuteRequest;
use crate::host_process;
use crate::machine::Machine;
use crate::plan::DRIVE;
use serde_json::json;
use std::time::Duration;

/// How long the guest has to tell its own figures.
const GUEST_TIME: Duration = Duration::from_secs(5);
/// The most bytes that it may tell.
const GUEST_BYTES: usize = 64 << 10;

/// What a machine uses, since its start where it adds up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// The time since the start.
    pub uptime: Duration,
    /// Processor time of the host; `None` where the system does not tell.
    pub cpu: Option<Duration>,
    /// Bytes of the host's memory that are held now; `None` where the system does not tell.
    pub memory_rss: Option<u64>,
    /// Bytes that the guest has read from its disk.
    pub disk_read_bytes: u64,
    /// Bytes that the guest has written to its disk.
    pub disk_written_bytes: u64,
    /// Bytes that the guest's changes take on the host.
    pub overlay_bytes: u64,
    /// Bytes that the guest has received, as it says; `None` without a network.
    pub network_received_bytes: Option<u64>,
    /// Bytes that the guest has sent, as it says.
    pub network_sent_bytes: Option<u64>,
    /// Bytes of memory that the guest's kernel has, as it says.
    pub guest_memory_total: Option<u64>,
    /// Bytes of memory that the guest's programs could still get, as it says.
    pub guest_memory_available: Option<u64>,
}

/// Asks the host, QEMU and the guest.
pub(crate) async fn measure(machine: &Machine) -> Result<Metrics> {
    let stats = machine.qmp.execute("query-blockstats", json!({})).await?;
    let own = stats.as_array().into_iter().flatten().find(|drive| drive["device"] == DRIVE);
    let count = |name: &str| own.and_then(|it| it["stats"][name].as_u64()).unwrap_or_default();
    let mut metrics = Metrics {
        uptime: machine.since.elapsed(),
        disk_read_bytes: count("rd_bytes"),
        disk_written_bytes: count("wr_bytes"),
        overlay_bytes: crate::quota::written(&machine.origin).unwrap_or_default(),
        ..Metrics::default()
    };
    if let Some((cpu, memory)) = host_process::used_by(machine.qemu.process.pid()) {
        (metrics.cpu, metrics.memory_rss) = (Some(cpu), Some(memory));
    }
    let request = ExecuteRequest::new("cat /proc/meminfo /proc/net/dev")
        .timeout(GUEST_TIME)
        .cwd("/")
        .max_output(GUEST_BYTES);
    match run_to_end(&machine.agent, &request, &mut Discard).await {
        Ok(result) => read_guest(&result.stdout_lossy(), &mut metrics),
        Err(error) => tracing::debug!(%error, "the guest does not tell its figures"),
    }
    Ok(metrics)
}

/// Reads `/proc/meminfo` and `/proc/net/dev`, in whatever state a guest sends them.
fn read_guest(text: &str, metrics: &mut Metrics) {
    for line in text.lines() {
        let Some((name, rest)) = line.split_once(':') else { continue };
        let numbers: Vec<u64> = rest.split_whitespace().map_while(|it| it.parse().ok()).collect();
        match (name.trim(), numbers.as_slice()) {
            ("MemTotal", [kib, ..]) => metrics.guest_memory_total = kib.checked_mul(1024),
            ("MemAvailable", [kib, ..]) => metrics.guest_memory_available = kib.checked_mul(1024),
            ("lo", _) => {}
            // Received bytes come first, sent ones ninth.
            (_, [received, _, _, _, _, _, _, _, sent, ..]) => {
                let add = |sum: &mut Option<u64>, more: u64| {
                    *sum = Some(sum.unwrap_or_default().saturating_add(more));
                };
                add(&mut metrics.network_received_bytes, *received);
                add(&mut metrics.network_sent_bytes, *sent);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_figures_are_read_as_far_as_they_are_some() {
        let text = "MemTotal:         101236 kB\nMemFree: 1 kB\nMemAvailable:  77000 kB\n\
            Inter-|   Receive                |  Transmit\n\
            \x20face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n\
            \x20   lo:    1000 10 0 0 0 0 0 0 1000 10 0 0 0 0 0 0\n\
            \x20 eth0:     590 7 0 0 0 0 0 0 738 8 0 0 0 0 0 0\n";
        let mut metrics = Metrics::default();
        read_guest(text, &mut metrics);
        assert_eq!(metrics.guest_memory_total, Some(101_236 << 10));
        assert_eq!(metrics.guest_memory_available, Some(77_000 << 10));
        assert_eq!(metrics.network_received_bytes, Some(590));
        assert_eq!(metrics.network_sent_bytes, Some(738));
        let mut metrics = Metrics::default();
        let huge = u64::MAX;
        read_guest(
            &format!(
                "MemTotal: {huge} kB\n:::\na: {huge} 1 1 1 1 1 1 1 {huge}\nb: {huge} 1 1 1 1 1 1 1 {huge}"
            ),
            &mut metrics,
        );
        assert_eq!(metrics.guest_memory_total, None);
        assert_eq!(metrics.network_sent_bytes, Some(huge));
    }
}
