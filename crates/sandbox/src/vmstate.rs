//! What QEMU is told at both ends of a template: the state of a machine is written, and read by a copy.
//!
//! See <https://www.qemu.org/docs/master/devel/migration/main.html> and, for memory that lies in a
//! file already, the capability `x-ignore-shared`.

use crate::error::{Error, Result};
use crate::qmp::Qmp;
use serde_json::{Value, json};
use std::fs::File;
use std::time::{Duration, Instant};

/// The descriptor set of the state; those of disks are others.
const STATE_SET: u32 = 91;
/// What puts each page of the memory at a place of its own.
const PAGES: &str = "mapped-ram";
/// More bytes a second than any disk takes.
const NO_LIMIT: u64 = 1 << 40;
/// How long QEMU may take for either end of a template.
const TIME: Duration = Duration::from_secs(30);

/// Writes the state of a machine that stands still into a file, which is open for writing alone.
pub(crate) async fn write(qmp: &Qmp, state: File) -> Result<()> {
    share(qmp, true).await?;
    qmp.pass_file(state, STATE_SET).await?;
    qmp.execute("migrate", json!({ "uri": uri() })).await?;
    wait_within(TIME, qmp, "query-migrate", has_completed).await
}

/// Has a copy begin with a state, from a file that is open for reading alone, and lets it run.
pub(crate) async fn read(qmp: &Qmp, state: File) -> Result<()> {
    share(qmp, true).await?;
    qmp.pass_file(state, STATE_SET).await?;
    qmp.execute("migrate-incoming", json!({ "uri": uri() })).await?;
    // A state that cannot be read ends QEMU.
    let has_begun = |status: &str| (status != "inmigrate").then_some(Ok(()));
    wait_within(TIME, qmp, "query-status", has_begun).await?;
    // Its own checkpoints hold its memory.
    share(qmp, false).await?;
    qmp.execute("cont", json!({})).await?;
    Ok(())
}

fn uri() -> String {
    format!("file:/dev/fdset/{STATE_SET}")
}

async fn share(qmp: &Qmp, state: bool) -> Result<()> {
    set(qmp, "x-ignore-shared", state).await
}

async fn set(qmp: &Qmp, capability: &str, state: bool) -> Result<()> {
    let capabilities = json!([{ "capability": capability, "state": state }]);
    qmp.execute("migrate-set-capabilities", json!({ "capabilities": capabilities })).await?;
    Ok(())
}

/// Writes memory and devices of a machine that stands still into a file, which is open for writing
/// alone, each page at a place of its own.
/// See <https://www.qemu.org/docs/master/devel/migration/mapped-ram.html>.
pub(crate) async fn write_all(qmp: &Qmp, state: File, limit: Duration) -> Result<()> {
    set(qmp, PAGES, true).await?;
    let written = async {
        // A disk is no network that others want their share of.
        qmp.execute("migrate-set-parameters", json!({ "max-bandwidth": NO_LIMIT })).await?;
        qmp.pass_file(state, STATE_SET).await?;
        qmp.execute("migrate", json!({ "uri": uri() })).await?;
        wait_within(limit, qmp, "query-migrate", has_completed).await
    };
    let written = written.await;
    // The next one brings a file of its own.
    let _ = qmp.execute("remove-fd", json!({ "fdset-id": STATE_SET })).await;
    written.and(set(qmp, PAGES, false).await)
}

/// Has a machine begin with memory and devices from a file that is open for reading alone.
pub(crate) async fn read_all(qmp: &Qmp, state: File, limit: Duration) -> Result<()> {
    set(qmp, PAGES, true).await?;
    qmp.pass_file(state, STATE_SET).await?;
    qmp.execute("migrate-incoming", json!({ "uri": uri() })).await?;
    // A state that cannot be read ends QEMU.
    let has_begun = |status: &str| (status != "inmigrate").then_some(Ok(()));
    wait_within(limit, qmp, "query-status", has_begun).await?;
    let _ = qmp.execute("remove-fd", json!({ "fdset-id": STATE_SET })).await;
    set(qmp, PAGES, false).await?;
    qmp.execute("cont", json!({})).await?;
    Ok(())
}

fn has_completed(status: &str) -> Option<std::result::Result<(), String>> {
    match status {
        "completed" => Some(Ok(())),
        "failed" | "cancelled" => Some(Err(format!("it ended as {status}"))),
        _ => None,
    }
}

async fn wait_within(
    limit: Duration,
    qmp: &Qmp,
    command: &str,
    end: impl Fn(&str) -> Option<std::result::Result<(), String>>,
) -> Result<()> {
    let failed = |reason: String| Error::Qmp { command: command.to_owned(), reason };
    let deadline = Instant::now() + limit;
    loop {
        let answer: Value = qmp.execute(command, json!({})).await?;
        let status = answer["status"].as_str().unwrap_or_default();
        if let Some(end) = end(status) {
            let detail = answer["error-desc"].as_str().unwrap_or_default();
            return end.map_err(|reason| failed(format!("{reason} {detail}")));
        }
        if Instant::now() >= deadline {
            return Err(failed(format!("no end within {} s", limit.as_secs())));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
