//! The proof by boot: a machine is started from the finished files, the recipe's checks are run in
//! it, and what came out is written down beside the image.
//!
//! The report is no part of the wheel: the same lock gives the same wheel, and no two boots take
//! the same time.

use super::{Args, Finished};
use crate::{build_qemu, cache::Key, context::Context, ui::Step};
use anyhow::{Context as _, Result, anyhow};
use fs_err as fs;
use host_platform::Arch;
use image_builder::{
    proof::{self, Answer},
    recipe::Recipe,
};
use runtime_locator::Search;
use sandbox::{BootTiming, ExecuteRequest, Sandbox, SandboxConfig};
use serde_json::{Map, Value, json};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// The memory of a machine whose recipe names none.
const MEMORY: &str = "512M";

/// The kind of the cache's entries with reports.
const PROOFS: &str = "image-proof";

/// What the report of an image is called.
pub fn report_name(recipe: &Recipe, arch: Arch) -> String {
    format!("{}-{}-{}.json", recipe.name, recipe.body.version, arch.image_name())
}

/// Proves the image and gives the report, in the cache. What was proved already is not booted again.
pub fn report(
    context: &Context,
    args: &Args,
    recipe: &Recipe,
    arch: Arch,
    finished: &Finished,
) -> Result<PathBuf> {
    let mut key = Key::new("proof 1");
    for (made, name) in finished.below.iter().chain(&finished.files) {
        key.add(name, made.as_os_str().as_encoded_bytes());
    }
    let body = &recipe.body;
    key.add("checks", format!("{:?} {:?}", body.checks, body.defaults).as_bytes());
    key.add("boot", &[u8::from(!args.no_boot)]);
    if args.no_cache {
        context.cache.forget(PROOFS, &key)?;
    }
    let entry = context.cache.entry(PROOFS, &key, |folder| {
        let proof = match args.no_boot {
            true => {
                context.ui.line("warning: the image was not booted, and nothing of it is proved");
                Value::Null
            }
            false => {
                let search = search(context, finished, arch)?;
                let title = format!("Boot {} and check it", recipe.name);
                context.ui.step(&title, |step| boot(step, recipe, arch, search))?
            }
        };
        let report = describe(recipe, arch, finished, proof)?;
        Ok(fs::write(folder.join("report"), format!("{report:#}\n"))?)
    })?;
    Ok(entry.join("report"))
}

/// Where the machine finds its files: the finished ones laid out as a folder of images, and QEMU
/// where everybody looks for it, else the one that is built here.
fn search(
    context: &Context,
    finished: &Finished,
    arch: Arch,
) -> Result<(Search, tempfile::TempDir)> {
    let images = tempfile::Builder::new().prefix("quicksand-").tempdir()?;
    for (made, name) in finished.below.iter().chain(&finished.files) {
        let place = images.path().join(name);
        fs::create_dir_all(place.parent().context("A finished file has a folder")?)?;
        if fs::hard_link(made, &place).is_err() {
            fs::copy(made, &place)?;
        }
    }
    let mut search = Search::of_process(Vec::new());
    search.image_path = vec![images.path().to_owned()];
    if runtime_locator::find_qemu(&search, arch).is_err() {
        let args = build_qemu::Args::default();
        let (bundle, _) = match arch == host_platform::host().process_arch {
            true => build_qemu::bundle(context, &args)?,
            false => build_qemu::cross_bundle(context, &args)?,
        };
        search.qemu_dir = Some(bundle.join("bin"));
    }
    Ok((search, images))
}

fn boot(
    step: &Step,
    recipe: &Recipe,
    arch: Arch,
    (search, _images): (Search, tempfile::TempDir),
) -> Result<Value> {
    let defaults = &recipe.body.defaults;
    let config = SandboxConfig::from_value(json!({
        "image": recipe.name,
        "arch": arch.image_name(),
        "accel": "auto",
        "memory": defaults.memory.as_ref().map_or(MEMORY, |memory| memory.as_str()),
        "cpus": defaults.cpus.map_or(n_cpus(), |cpus| cpus.0),
    }))?;
    let machine = Sandbox::new(config).with_locator(search);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    step.say("Starting");
    runtime.block_on(machine.start()).map_err(|error| match error.hint() {
        Some(hint) => crate::ui::hinted(error.to_string(), hint),
        None => anyhow!(error),
    })?;
    let mut run = |command: &str, timeout: Duration| -> std::io::Result<Answer> {
        step.say(command.to_owned());
        let request = ExecuteRequest::new(command).timeout(timeout);
        let result = runtime.block_on(machine.execute(request)).map_err(std::io::Error::other)?;
        let output = [result.stdout, result.stderr].concat();
        let output = String::from_utf8_lossy(&output).into_owned();
        Ok(Answer { exit_code: result.exit_code, output })
    };
    let outcome = proof::prove(&recipe.body.checks, &mut run);
    let timing = machine.boot_timing().unwrap_or_default();
    let accelerator = machine.accelerator().map(|accelerator| accelerator.name());
    let console = machine.console();
    runtime.block_on(machine.stop())?;
    let passed = outcome.inspect_err(|_| step.say(console))?;
    let seconds = |time: &Duration| Value::from((time.as_secs_f64() * 1000.0).round() / 1000.0);
    let checks: Map<String, Value> =
        passed.iter().map(|(name, time)| (name.clone(), seconds(time))).collect();
    Ok(json!({
        "accelerator": accelerator,
        "checks_seconds": checks,
        "boot_seconds": marks(&timing),
    }))
}

/// The processors of a machine whose recipe names none: the distribution's init starts its services
/// side by side, and the host has little else to do at the end of a bake.
fn n_cpus() -> u16 {
    if std::thread::available_parallelism().is_ok_and(|n_host| n_host.get() > 1) { 2 } else { 1 }
}

fn marks(timing: &BootTiming) -> Value {
    let seconds = |time: Duration| (time.as_secs_f64() * 1000.0).round() / 1000.0;
    let guest: Map<String, Value> =
        timing.guest_marks.iter().map(|(name, time)| (name.clone(), Value::from(*time))).collect();
    json!({"launch": seconds(timing.launch), "ready": seconds(timing.boot), "guest": guest})
}

/// The report: what the image is, its files by digest, what it was made from, what was proved.
fn describe(recipe: &Recipe, arch: Arch, finished: &Finished, proof: Value) -> Result<Value> {
    let mut files = Map::new();
    for (made, name) in &finished.files {
        files.insert(name.clone(), digest(made)?);
    }
    let wheel = finished.wheel.file_name().context("A wheel has a name")?.to_string_lossy();
    files.insert(wheel.into_owned(), digest(&finished.wheel)?);
    let lock = &finished.lock;
    Ok(json!({
        "image": recipe.name,
        "version": recipe.body.version,
        "arch": arch.image_name(),
        "base": recipe.body.base,
        "files": files,
        "source_date": lock.source_date,
        "n_packages": lock.all().count(),
        "proof": proof,
    }))
}

fn digest(path: &Path) -> Result<Value> {
    let bytes = fs::read(path)?;
    Ok(json!({"sha256": image_builder::sha256(&bytes), "bytes": bytes.len()}))
}
