//! The proof by boot of an image that was just baked: the agent answers and the recipe's checks pass.

use crate::report::{FAILURE, Failure};
use host_platform::Arch;
use image_builder::{
    outside::Baked,
    proof::{self, Answer, Boot, InUse},
};
use runtime_locator::Search;
use sandbox::{ExecuteRequest, Sandbox, SandboxConfig};
use serde_json::Value;
use std::time::Duration;

/// Boots the image and gives the report.
pub fn prove(baked: &Baked, arch: Arch, search: Search) -> Result<Value, Failure> {
    let failed = |error: &sandbox::Error| Failure::task(error);
    let in_use = InUse::of_any()?;
    let options = proof::machine(&baked.name, arch, &baked.defaults, 1, &in_use);
    let config = SandboxConfig::from_value(options).map_err(|error| failed(&error))?;
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
    let outcome = in_use.prove(&baked.checks, &mut run);
    let timing = machine.boot_timing().unwrap_or_default();
    let accelerator = machine.accelerator().map(|accelerator| accelerator.name());
    runtime.block_on(machine.stop()).map_err(|error| failed(&error))?;
    if answer.exit_code != 0 {
        let message = format!("The image cannot run commands: {}", answer.output.trim());
        let hint = "commands are run by /bin/sh, which the root file system must have";
        return Err(Failure::new(FAILURE, message, Some(hint)));
    }
    let boot =
        Boot { accelerator, launch: timing.launch, ready: timing.boot, marks: &timing.guest_marks };
    let mut report = proof::report(&boot, &outcome?);
    report["image"] = baked.name.as_str().into();
    report["arch"] = arch.image_name().into();
    Ok(report)
}
