//! Bytes through the guest's network by a forwarded port. What the guest sends counts as sent when its kernel
//! has taken the last of it.

use crate::figure::Figure;
use anyhow::{Context, Result};
use sandbox::{ExecuteRequest, Forward, Sandbox, SandboxConfig};
use serde_json::json;
use std::time::Instant;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

const N_BYTES: u64 = 50_000_000;
/// The guest's way to the host: bytes from there, and bytes to there.
const FROM_HOST: u16 = 7000;
const TO_HOST: u16 = 7001;

/// Seconds, and QEMU's seconds of processor time.
type Spent = (f64, f64);

async fn run(sandbox: &Sandbox, script: &str) -> Result<(Spent, String)> {
    let pid = sandbox.pid().context("A machine that runs has a process")?;
    let (begin, before) = (Instant::now(), crate::start::cpu_seconds(pid)?);
    let request = ExecuteRequest::new(format!("bash -c '{script}'"));
    let result = sandbox.execute(request).await?;
    let spent = (begin.elapsed().as_secs_f64(), crate::start::cpu_seconds(pid)? - before);
    anyhow::ensure!(result.exit_code == 0, "{script}: {result:?}");
    Ok((spent, String::from_utf8(result.stdout)?.trim().to_owned()))
}

/// Two servers of the host's: one sends to whoever connects, one receives from it.
async fn serve() -> Result<[u16; 2]> {
    let (sending, receiving) =
        (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
    let ports = [sending.local_addr()?.port(), receiving.local_addr()?.port()];
    tokio::spawn(async move {
        let bytes = vec![b'x'; N_BYTES as usize];
        while let Ok((mut stream, _)) = sending.accept().await {
            // The guest counts what it has.
            let _ = stream.write_all(&bytes).await;
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = receiving.accept().await {
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    });
    Ok(ports)
}

/// Megabytes a second both ways, and QEMU's processor time.
pub async fn measure(n_samples: u32) -> Result<Vec<Figure>> {
    let options = json!({ "image": "debian", "accel": crate::host::accelerator(), "warm": "off" });
    let sandbox = Sandbox::new(SandboxConfig::from_value(options)?);
    sandbox.start().await?;
    let [sending, receiving] = serve().await?;
    sandbox.add_forward(Forward::to_host(FROM_HOST, sending)).await?;
    sandbox.add_forward(Forward::to_host(TO_HOST, receiving)).await?;
    let receive = format!("cat < /dev/tcp/10.0.2.101/{FROM_HOST} | wc -c");
    let send = format!("exec 3<> /dev/tcp/10.0.2.101/{TO_HOST}; head -c {N_BYTES} /dev/zero >&3");
    let mut figures = Vec::new();
    for (name, script) in [("to", receive), ("from", send)] {
        let mut samples = Vec::new();
        for _ in 0..n_samples {
            let (spent, counted) = run(&sandbox, &script).await?;
            anyhow::ensure!(name == "from" || counted == N_BYTES.to_string(), "{counted}");
            samples.push(spent);
        }
        let rates = samples.iter().map(|(seconds, _)| N_BYTES as f64 / 1e6 / seconds).collect();
        let cpu = samples.iter().map(|(_, cpu)| *cpu).collect();
        figures.push(Figure::new(format!("50 MB {name} the guest"), "MB/s", rates));
        figures.push(Figure::new(format!("50 MB {name} the guest, CPU of QEMU"), "s", cpu));
    }
    sandbox.stop().await?;
    Ok(figures)
}
