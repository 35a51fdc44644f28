//! What runs the programs of an image of another architecture while its packages are installed.

use crate::unpacked;
use anyhow::{Context as _, Result};
use host_platform::Arch;
use image_builder::foreign::{self, Runner};
use xtask_base::{context::Context, ui::hinted};

/// The host's own, else Debian's static emulator, unpacked in the cache.
///
/// # Errors
/// This host lets nobody register one, or it cannot be fetched.
pub fn runner(context: &Context, arch: Arch) -> Result<Runner> {
    if let Some(runner) = Runner::for_arch(arch) {
        return Ok(runner);
    }
    if !foreign::can_register() {
        return Err(hinted(
            format!(
                "The packages of an {} image cannot be installed on this host: its kernel lets no user namespace register an emulator",
                arch.image_name()
            ),
            "that takes Linux 6.7 with binfmt_misc; with an older one install the package qemu-user-static, which registers emulators for the whole host",
        ));
    }
    // Later packages hold it without the suffix; it is static in both.
    let places = ["-static", ""].map(|suffix| format!("usr/bin/qemu-{}{suffix}", arch.qemu_name()));
    let places = places.each_ref().map(String::as_str);
    let packages = unpacked::Packages {
        kind: "emulator",
        title: "Fetch an emulator for programs",
        names: &["qemu-user-static"],
        main: "qemu-user-static",
        keep: &places,
    };
    let root = unpacked::root(context, &packages)?;
    let found = places.iter().map(|place| root.join(place)).find(|path| path.is_file());
    let found = found.with_context(|| format!("`qemu-user-static` holds no {}", places[0]))?;
    // A link of a later package leads to the other name.
    Ok(Runner::Emulator(found.canonicalize()?))
}
