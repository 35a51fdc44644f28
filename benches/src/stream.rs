//! 50 MB through `execute` with a callback, complete to the byte.

use crate::figure::{Figure, GoalKind};
use anyhow::Result;
use sandbox::{ExecuteRequest, Sandbox, SandboxConfig};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex},
    time::Instant,
};

const N_BYTES: u64 = 50_000_000;

/// Megabytes a second, each run checked against the guest's own digest.
pub async fn measure(n_samples: u32) -> Result<Vec<Figure>> {
    let options = json!({ "image": "minimal", "accel": crate::host::accelerator(), "warm": "off" });
    let sandbox = Sandbox::new(SandboxConfig::from_value(options)?);
    sandbox.start().await?;
    let prepare = format!(
        "head -c {N_BYTES} /dev/urandom > /dev/shm/data && sha256sum /dev/shm/data | cut -d' ' -f1"
    );
    let digest = sandbox.execute(ExecuteRequest::new(prepare)).await?;
    let expected = String::from_utf8(digest.stdout)?.trim().to_owned();
    let mut rates = vec![];
    for _ in 0..n_samples {
        let seen = Arc::new(Mutex::new((Sha256::new(), 0_u64)));
        let sink = {
            let seen = seen.clone();
            move |_stream, bytes: bytes::Bytes| {
                let mut seen = seen.lock().expect("no holder of this lock panics");
                seen.0.update(&bytes);
                seen.1 += bytes.len() as u64;
                std::future::ready(ControlFlow::Continue(()))
            }
        };
        let begin = Instant::now();
        sandbox
            .stream(ExecuteRequest::new("dd if=/dev/shm/data bs=256k 2>/dev/null"), sink)
            .await?;
        let seconds = begin.elapsed().as_secs_f64();
        let (hasher, n_bytes) = seen.lock().expect("no holder of this lock panics").clone();
        let found: String = hex::encode(hasher.finalize());
        anyhow::ensure!(n_bytes == N_BYTES, "{n_bytes} of {N_BYTES} bytes arrived");
        anyhow::ensure!(found == expected, "The bytes that arrived are not those that were sent");
        rates.push(n_bytes as f64 / 1e6 / seconds);
    }
    sandbox.stop().await?;
    let figure = Figure::new("50 MB through execute", "MB/s", rates);
    Ok(vec![figure.goal(GoalKind::AtLeast, 100.0)])
}
