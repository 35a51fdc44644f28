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
/// How long QEMU may take for either.
const TIME: Duration = Duration::from_secs(30);

/// Writes the state of a machine that stands still into a file, which is open for writing alone.
pub(super) async fn write(qmp: &Qmp, state: File) -> Result<()> {
    share(qmp, true).await?;
    qmp.pass_file(state, STATE_SET).await?;
    qmp.execute("migrate", json!({ "uri": uri() })).await?;
    wait(qmp, "query-migrate", |status| match status {
        "completed" => Some(Ok(())),
        "failed" | "cancelled" => Some(Err(format!("it ended as {status}"))),
        _ => None,
    })
    .await
}

/// Has a copy begin with a state, from a file that is open for reading alone, and lets it run.
pub(crate) async fn read(qmp: &Qmp, state: File) -> Result<()> {
    share(qmp, true).await?;
    qmp.pass_file(state, STATE_SET).await?;
    qmp.execute("migrate-incoming", json!({ "uri": uri() })).await?;
    // A state that cannot be read ends QEMU.
    wait(qmp, "query-status", |status| (status != "inmigrate").then_some(Ok(()))).await?;
    // Its own checkpoints hold its memory.
    share(qmp, false).await?;
    qmp.execute("cont", json!({})).await?;
    Ok(())
}

fn uri() -> String {
    format!("file:/dev/fdset/{STATE_SET}")
}

async fn share(qmp: &Qmp, state: bool) -> Result<()> {
    let capabilities = json!([{ "capability": "x-ignore-shared", "state": state }]);
    qmp.execute("migrate-set-capabilities", json!({ "capabilities": capabilities })).await?;
    Ok(())
}

async fn wait(
    qmp: &Qmp,
    command: &str,
    end: impl Fn(&str) -> Option<std::result::Result<(), String>>,
) -> Result<()> {
    let failed = |reason: String| Error::Qmp { command: command.to_owned(), reason };
    let deadline = Instant::now() + TIME;
    loop {
        let answer: Value = qmp.execute(command, json!({})).await?;
        let status = answer["status"].as_str().unwrap_or_default();
        if let Some(end) = end(status) {
            let detail = answer["error-desc"].as_str().unwrap_or_default();
            return end.map_err(|reason| failed(format!("{reason} {detail}")));
        }
        if Instant::now() >= deadline {
            return Err(failed(format!("no end within {} s", TIME.as_secs())));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
