//! The proof by boot: `image-prover` starts a machine from the finished files and runs the recipe's checks in
//! it, and what came out is written down beside the image.

use super::Args;
use crate::{cache::Key, context::Context};
use anyhow::Result;
use cache_key::code::{self, Reading};
use fs_err as fs;
use host_platform::Arch;
use image_builder::{
    bake::{CODE, Finished},
    recipe::Recipe,
};
use image_prover::Subject;
use runtime_locator::Search;
use serde_json::Value;
use std::path::PathBuf;

/// The kind of the cache's entries with reports.
const PROOFS: &str = "image-proof";

/// Proves the image and gives the report, in the cache. What was proved already is not booted again.
pub fn report(
    context: &Context,
    args: &Args,
    recipe: &Recipe,
    arch: Arch,
    finished: &Finished,
) -> Result<PathBuf> {
    let key = key(context, args, recipe, arch, finished)?;
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
                let (search, _images) = search(context, finished, arch)?;
                let title = format!("Boot {} and check it", recipe.name);
                context.ui.step(&title, |step| {
                    let say = |what| step.say(what);
                    Ok(image_prover::prove(&Subject::of(recipe, arch)?, search, &say)?)
                })?
            }
        };
        let report = finished.report(recipe, arch, &proof)?;
        Ok(fs::write(folder.join("report"), format!("{report:#}\n"))?)
    })?;
    Ok(entry.join("report"))
}

/// The hash of all that a proof depends on: the files, the checks, and what boots and runs them.
fn key(
    context: &Context,
    args: &Args,
    recipe: &Recipe,
    arch: Arch,
    finished: &Finished,
) -> Result<Key> {
    let mut key = Key::new("proof");
    key.add("code", CODE.as_bytes());
    for (made, name) in finished.below.iter().chain(&finished.files) {
        key.add(name, made.as_os_str().as_encoded_bytes());
    }
    let body = &recipe.body;
    key.add("checks", format!("{:?} {:?}", body.checks, body.defaults).as_bytes());
    key.add("boot", &[u8::from(!args.no_boot)]);
    if !args.no_boot {
        let prover = code::digest(&context.root, &["image-prover"], Reading::Meaning)?;
        key.add("prover", prover.as_bytes());
        let found = runtime_locator::find_qemu(&Search::of_process(Vec::new()), arch);
        let qemu = match &found {
            Ok(found) => fs::read(&found.system)?,
            Err(_) => own_qemu(context, arch)?.1.digest().into_bytes(),
        };
        key.add("qemu", &qemu);
    }
    Ok(key)
}

/// Where the machine finds its files: the finished ones laid out as a folder of images, and QEMU
/// where everybody looks for it, else the one that is built here.
fn search(
    context: &Context,
    finished: &Finished,
    arch: Arch,
) -> Result<(Search, tempfile::TempDir)> {
    let images = tempfile::Builder::new().prefix("quicksand-").tempdir()?;
    finished.lay_out(images.path())?;
    let mut search = Search::of_process(Vec::new());
    search.image_path = vec![images.path().to_owned()];
    if runtime_locator::find_qemu(&search, arch).is_err() {
        search.qemu_dir = Some(own_qemu(context, arch)?.0.join("bin"));
    }
    Ok((search, images))
}

/// The QEMU that is built here, and the key of what it was built from.
fn own_qemu(context: &Context, arch: Arch) -> Result<(PathBuf, Key)> {
    let args = qemu_builder::Args::default();
    match arch == host_platform::host().process_arch {
        true => qemu_builder::bundle(context, &args),
        false => qemu_builder::cross_bundle(context, &args),
    }
}
