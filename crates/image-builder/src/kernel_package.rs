//! What an image takes from a kernel's package: the kernel in its fastest form, the modules of the
//! initrd, and the modules on the disk with the tables by which the guest finds them.

use crate::{
    Error, deb,
    kernel::{self, Form},
    modules::{self, Unpacked},
    recipe::Recipe,
    tree::{Node, Tree},
};
use duct::cmd;
use fs_err as fs;
use host_platform::Arch;
use std::path::Path;

/// The parts of a kernel's package that an image uses.
pub struct Parts {
    /// The kernel, to be started directly.
    pub kernel: Vec<u8>,
    /// Which form it has.
    pub form: Form,
    /// `uname -r`.
    pub release: String,
    /// The modules of the initrd in the order of loading.
    pub initrd: Vec<Unpacked>,
    /// `usr/lib/modules/RELEASE` as it goes onto the disk.
    pub disk: Tree,
}

/// depmod's output that kmod and busybox read, and its input that they read too.
const TABLES: [&str; 9] = [
    "modules.alias",
    "modules.alias.bin",
    "modules.builtin",
    "modules.builtin.alias.bin",
    "modules.builtin.bin",
    "modules.builtin.modinfo",
    "modules.dep",
    "modules.dep.bin",
    "modules.softdep",
];

/// Reads a package and takes what the recipe names. `scratch` is an empty folder for depmod.
pub fn take(package: &Path, recipe: &Recipe, arch: Arch, scratch: &Path) -> Result<Parts, Error> {
    let tree = deb::data(package)?;
    let found = modules::find(&tree)?;
    let image = format!("boot/vmlinuz-{}", found.release);
    let packed = tree
        .read(&image)?
        .ok_or_else(|| Error::NoKernel { package: package.to_string_lossy().into_owned() })?;
    let (kernel, form) = kernel::bootable(&packed, arch, Path::new(&image))?;
    // Only the machine type `virt` presents its devices over MMIO.
    let needed = |name: &&String| arch == Arch::Arm64 || *name != "virtio_mmio";
    let names: Vec<String> = recipe.body.kernel.initrd.iter().filter(needed).cloned().collect();
    let initrd = found.closure(&tree, &names)?;
    let wanted: Vec<String> =
        recipe.body.kernel.initrd.iter().chain(&recipe.body.kernel.modules).cloned().collect();
    let on_disk = found.closure(&tree, &wanted)?;

    let folder = scratch.join("lib/modules").join(&found.release);
    fs::create_dir_all(&folder)?;
    for name in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        if let Some(bytes) = tree.read(&format!("{}/{name}", found.folder))? {
            fs::write(folder.join(name), bytes)?;
        }
    }
    let mut disk = Tree::new(0);
    let root = format!("usr/lib/modules/{}", found.release);
    for module in &on_disk {
        // Unpacked: the disk is compressed as a whole, and the guest is spared the work.
        let below = module.path.strip_prefix(&found.folder).unwrap_or(&module.path);
        let below = below.trim_start_matches('/');
        let below =
            below.split_once(".ko").map_or(below.to_owned(), |(stem, _)| format!("{stem}.ko"));
        let place = folder.join(&below);
        fs::create_dir_all(place.parent().unwrap_or(&folder))?;
        fs::write(place, &module.bytes)?;
        disk.put(&format!("{root}/{below}"), Node::file(module.bytes.as_slice(), 0o644, 0))?;
    }
    let depmod = cmd!("depmod", "--basedir", scratch, &found.release);
    // Debian keeps depmod where only root's PATH looks.
    let path = std::env::var("PATH").unwrap_or_default();
    depmod
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .stderr_to_stdout()
        .stdout_capture()
        .run()
        .map_err(|source| Error::Tool { program: "depmod".to_owned(), source })?;
    for name in TABLES {
        if let Ok(bytes) = fs::read(folder.join(name)) {
            disk.put(&format!("{root}/{name}"), Node::file(bytes, 0o644, 0))?;
        }
    }
    Ok(Parts { kernel, form, release: found.release, initrd, disk })
}
