//! The proof by boot of an image that was just baked: the agent answers and the recipe's checks pass.

use crate::report::{FAILURE, Failure};
use host_platform::Arch;
use image_builder::{
    outside::Baked,
    proof::{self, Answer},
};
use runtime_locator::Search;
use sandbox::{ExecuteRequest, Sandbox, SandboxConfig};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The memory of a machine whose recipe names none.
const MEMORY: &str = "512M";

/// Boots the image and gives the report.
pub fn prove(baked: &Baked, arch: Arch, search: Search) -> Result<Value, Failure> {
    let failed = |error: &sandbox::Error| Failure::task(error);
    let defaults = &baked.defaults;
    let config = SandboxConfig::from_value(json!({
        "image": baked.name,
        "arch": arch.image_name(),
        "accel": "auto",
        "memory": defaults.memory.as_ref().map_or(MEMORY, |memory| memory.as_str()),
        "cpus": defaults.cpus.map_or(1, |cpus| cpus.0),
    }))
    .map_err(|error| failed(&error))?;
    let machine = Sandbox::new(config).with_locator(search);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(machine.start()).map_err(|error| failed(&error))?;
    let mut run = |command: &str, timeout: Duration| -> std::io::Result<Answer> {
        let request = ExecuteRequest::new(command).timeout(timeout);
        let result = runtime.block_on(machine.execute(request)).map_err(std::io::Error::other)?;
        let output = [result.stdout, result.stderr].concat();
        let output = String::from_utf8_lossy(&output).into_owned();
        Ok(Answer { exit_code: result.exit_code, output })
    };
    // Without a shell no sandbox is of use, whatever the recipe checks.
    let answer = run("true", Duration::from_secs(120))?;
    let outcome = proof::prove(&baked.checks, &mut run);
    let timing = machine.boot_timing().unwrap_or_default();
    let accelerator = machine.accelerator().map(|accelerator| accelerator.name());
    runtime.block_on(machine.stop()).map_err(|error| failed(&error))?;
    if answer.exit_code != 0 {
        let message = format!("The image cannot run commands: {}", answer.output.trim());
        let hint = "commands are run by /bin/sh, which the root file system must have";
        return Err(Failure::new(FAILURE, message, Some(hint)));
    }
    let checks: Value = outcome?
        .into_iter()
        .map(|(name, time)| (name, seconds(time)))
        .collect::<Map<_, _>>()
        .into();
    let marks: Map<String, Value> =
        timing.guest_marks.iter().map(|(name, time)| (name.clone(), Value::from(*time))).collect();
    Ok(json!({
        "image": baked.name,
        "arch": arch.image_name(),
        "accelerator": accelerator,
        "checks_seconds": checks,
        "boot_seconds": {
            "launch": seconds(timing.launch),
            "ready": seconds(timing.boot),
            "guest": marks,
        },
    }))
}

/// To the millisecond.
fn seconds(time: Duration) -> Value {
    Value::from((time.as_secs_f64() * 1000.0).round() / 1000.0)
}
