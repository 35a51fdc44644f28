//! Tests that boot real machines: real QEMU, real image, real agent.
//!
//! They share one machine where they can, as a boot is the costly part.

mod bad_input;
mod bills;
#[cfg(unix)]
mod brought;
mod budgets;
mod channel;
mod checkpoints;
#[cfg(target_os = "linux")]
mod checkpoints_in_memory;
#[cfg(target_os = "linux")]
mod children;
#[cfg(unix)]
mod container;
mod desktop;
mod execute;
mod files;
#[cfg(target_os = "linux")]
mod forks;
#[cfg(target_os = "linux")]
mod host_death;
#[cfg(target_os = "linux")]
mod hostile_qemu;
#[cfg(unix)]
mod in_use;
mod lifecycle;
#[cfg(target_os = "linux")]
mod live_forks;
mod many;
mod mounts;
mod network;
mod other_arch;
#[cfg(unix)]
mod paused;
#[cfg(target_os = "linux")]
mod plan9;
mod reports;
mod revocation;
mod saves;
#[cfg(target_os = "linux")]
mod shares;
mod transport;
#[cfg(target_os = "linux")]
mod warm;
mod world;

use sandbox::{ExecuteRequest, ExecuteResult, Sandbox};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// A machine that lives as long as the test process, on a runtime that does too. QEMU dies with
/// the process.
static SHARED: LazyLock<(Runtime, Sandbox)> = LazyLock::new(|| {
    let runtime = Runtime::new().expect("a runtime");
    let sandbox = runtime.block_on(vm_tests::started(vm_tests::minimal()));
    (runtime, sandbox)
});

/// Runs a test on the shared machine.
fn on_shared<T>(test: impl AsyncFnOnce(&Sandbox) -> T) -> T {
    let (runtime, sandbox) = &*SHARED;
    runtime.block_on(test(sandbox))
}

/// Runs a command that must succeed and gives its output without the last line break.
async fn run(sandbox: &Sandbox, command: &str) -> String {
    let result = execute(sandbox, command).await;
    assert_eq!(result.exit_code, 0, "{command}: {result:?}");
    result.stdout_lossy().trim_end().to_owned()
}

async fn execute(sandbox: &Sandbox, command: &str) -> ExecuteResult {
    sandbox.execute(ExecuteRequest::new(command)).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Waits until something holds, for a bounded time.
async fn eventually(what: &str, limit: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < limit, "{what} does not hold after {limit:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How many processes of the guest have these words in their command line.
async fn count_in_guest(sandbox: &Sandbox, words: &str) -> usize {
    let (first, rest) = words.split_at(1);
    // The brackets keep the search from finding itself.
    let command =
        format!("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c '[{first}]{rest}'");
    execute(sandbox, &command).await.stdout_lossy().trim().parse().unwrap_or(usize::MAX)
}

/// Sets a guest's clock far back, as though its machine had stood still for long.
async fn set_clock_back(sandbox: &Sandbox) {
    run(sandbox, "date -s @1000000000").await;
}

/// The guest's clock is the host's, to a second.
async fn assert_clock_is_of_now(sandbox: &Sandbox) {
    let before = unix_seconds();
    let guest: u64 = run(sandbox, "date +%s").await.parse().unwrap();
    let after = unix_seconds();
    assert!((before - 1..=after + 1).contains(&guest), "{guest} is not of {before} to {after}");
}

/// Seconds since 1970, by the host's clock.
fn unix_seconds() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// Processes of the host whose command line holds a word.
fn host_processes(word: &str) -> Vec<u32> {
    let Ok(entries) = fs_err::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok())
        .filter(|pid| {
            let path = PathBuf::from(format!("/proc/{pid}/cmdline"));
            fs_err::read(path).is_ok_and(|line| String::from_utf8_lossy(&line).contains(word))
        })
        .collect()
}

/// A TCP port that was free a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback works");
    listener.local_addr().expect("a bound listener has an address").port()
}
