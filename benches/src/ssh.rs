//! `execute` beside SSH into the same machine: the first call after a start, and later ones.
//!
//! SSH is measured both ways that people use it: a connection for each command, and commands over
//! one connection that stays open.

use crate::figure::{Figure, GoalKind};
use anyhow::{Context as _, Result};
use duct::cmd;
use sandbox::{ExecuteRequest, Forward, Sandbox, SandboxConfig};
use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Instant;

/// Calls of each kind in each machine after the first.
const N_CALLS: usize = 10;

/// Starts the server, with a key of its own.
const SERVE: &str = "mkdir -p /etc/dropbear /root/.ssh && chmod 700 /root/.ssh && \
    dropbearkey -t ed25519 -f /etc/dropbear/dropbear_ed25519_host_key >/dev/null && \
    dropbear -p 22 -r /etc/dropbear/dropbear_ed25519_host_key";

/// Milliseconds of calls.
#[derive(Default)]
struct Times {
    first: Vec<f64>,
    later: Vec<f64>,
}

/// A few machines, in each of which the three take turns.
pub async fn measure(n_samples: u32) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let key = folder.path().join("key");
    cmd!("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", &key).run()?;
    let public = fs_err::read(key.with_extension("pub"))?;
    let (mut ours, mut plain, mut open) = (Times::default(), Times::default(), vec![]);
    for round in 0..n_samples {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let config = SandboxConfig::builder("ssh-server")
            .option("accel", crate::host::accelerator())
            .port_forward(Forward::new(port, 22))
            .build()?;
        let sandbox = Sandbox::new(config);
        sandbox.start().await?;
        ours.first.push(execute(&sandbox, "true").await?);
        execute(&sandbox, SERVE).await?;
        sandbox.write_file("/root/.ssh/authorized_keys", public.clone(), Some(0o600)).await?;
        let control = folder.path().join(format!("control-{round}"));
        let alone = line(&key, port, None);
        let shared = line(&key, port, Some(&control));
        plain.first.push(ssh(&alone, &[], Some("true"))?);
        // The connection that stays open is made by a call that does not count.
        ssh(&shared, &["-o", "ControlMaster=yes", "-o", "ControlPersist=yes"], Some("true"))?;
        for _ in 0..N_CALLS {
            ours.later.push(execute(&sandbox, "true").await?);
            plain.later.push(ssh(&alone, &[], Some("true"))?);
            open.push(ssh(&shared, &[], Some("true"))?);
        }
        ssh(&shared, &["-O", "exit"], None)?;
        sandbox.stop().await?;
    }
    let figure = |name: &str, ours: &[f64], label: &str, theirs: Vec<f64>| {
        Figure::new(name, "ms", ours.to_vec())
            .beside(label, theirs)
            .goal(GoalKind::RatioAtMost, 1.0)
    };
    Ok(vec![
        figure("first execute of a machine", &ours.first, "first ssh", plain.first),
        figure("later execute", &ours.later, "ssh, connecting each time", plain.later),
        figure("later execute", &ours.later, "ssh over an open connection", open),
    ])
}

async fn execute(sandbox: &Sandbox, command: &str) -> Result<f64> {
    let begin = Instant::now();
    let answer = sandbox.execute(ExecuteRequest::new(command)).await?;
    let elapsed = begin.elapsed().as_secs_f64() * 1e3;
    anyhow::ensure!(answer.exit_code == 0, "`{command}` failed: {answer:?}");
    Ok(elapsed)
}

/// The words before the command. Nothing of the user's own settings has a part in it.
fn line(key: &Path, port: u16, control: Option<&Path>) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["-F", "none", "-q", "-p"].map(Into::into).into();
    words.push(port.to_string().into());
    words.extend(["-i".into(), key.into()]);
    for option in [
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "ConnectTimeout=30",
    ] {
        words.extend(["-o".into(), option.into()]);
    }
    if let Some(control) = control {
        words.extend(["-S".into(), control.into()]);
    }
    words
}

/// Milliseconds of one call.
fn ssh(line: &[OsString], options: &[&str], command: Option<&str>) -> Result<f64> {
    let mut words = line.to_vec();
    words.extend(options.iter().map(OsString::from));
    words.push("root@127.0.0.1".into());
    words.extend(command.map(OsString::from));
    let begin = Instant::now();
    let output = cmd("ssh", words)
        .stdin_null()
        .stdout_null()
        .stderr_null()
        .unchecked()
        .run()
        .context("ssh is not installed")?;
    anyhow::ensure!(output.status.success(), "ssh ended with {}", output.status);
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}
