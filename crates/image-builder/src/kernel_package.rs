//! What an image takes from a kernel's package: the kernel in its fastest form, the modules of the
//! initrd, and the modules on the disk with the tables by which the guest finds them.

use crate::{
    Error, KernelError, RootError, apk, deb,
    kernel::{self, Form},
    modules::{self, Unpacked},
    recipe::Recipe,
    tree::{Node, Tree},
    wheel::Copyrights,
};
use duct::cmd;
use fs_err as fs;
use host_platform::Arch;
use std::path::{Path, PathBuf};

/// The parts of a kernel's package that an image uses.
pub struct Parts {
    /// The kernel, to be started directly.
    pub kernel: Vec<u8>,
    pub form: Form,
    /// `uname -r`.
    pub release: String,
    /// The modules of the initrd in the order of loading.
    pub initrd: Vec<Unpacked>,
    /// `usr/lib/modules/RELEASE` as it goes onto the disk.
    pub disk: Tree,
    /// The packages' copyright files.
    pub copyrights: Copyrights,
}

/// The files of a package of either kind.
fn files(package: &Path) -> Result<Tree, Error> {
    match package.extension().is_some_and(|suffix| suffix == "apk") {
        true => Ok(apk::package::Package::read(package)?.files),
        false => deb::data(package),
    }
}

/// Where the kernel lies: it is called by its release, or as Alpine's by its flavour.
fn image(tree: &Tree, release: &str) -> Option<String> {
    let by_release = format!("boot/vmlinuz-{release}");
    if tree.get(by_release.as_bytes()).is_some() {
        return Some(by_release);
    }
    tree.iter()
        .filter_map(|(path, _)| std::str::from_utf8(path).ok())
        .find(|path| path.starts_with("boot/vmlinuz-"))
        .map(str::to_owned)
}

/// depmod's output that kmod and busybox read, and its input that they read too.
const TABLES: [&str; 10] = [
    "modules.alias",
    "modules.alias.bin",
    "modules.builtin",
    "modules.builtin.alias.bin",
    "modules.builtin.bin",
    "modules.builtin.modinfo",
    "modules.dep",
    "modules.dep.bin",
    "modules.softdep",
    "modules.weakdep",
];

/// Reads the kernel's package, and those with its modules behind it, and takes what the recipe
/// names. `scratch` is an empty folder for depmod.
pub fn take(
    packages: &[PathBuf],
    recipe: &Recipe,
    arch: Arch,
    scratch: &Path,
) -> Result<Parts, Error> {
    let mut tree = Tree::new(0);
    for package in packages {
        for (path, node) in files(package)?.iter() {
            tree.put_bytes(path, node.clone())?;
        }
    }
    let found = modules::find(&tree)?;
    let names: Vec<String> =
        packages.iter().map(|package| package.to_string_lossy().into_owned()).collect();
    let image = image(&tree, &found.release)
        .ok_or_else(|| Error::Kernel(KernelError::NoKernel { package: names.join(", ") }))?;
    let packed = tree
        .read(&image)?
        .ok_or_else(|| Error::Kernel(KernelError::NoKernel { package: names.join(", ") }))?;
    let (kernel, form) = kernel::bootable(&packed, arch, Path::new(&image))?;
    // Only the machine type `virt` presents its devices over MMIO.
    let needed = |name: &&String| arch == Arch::Arm64 || *name != "virtio_mmio";
    let names: Vec<String> = recipe.body.kernel.initrd.iter().filter(needed).cloned().collect();
    let initrd = found.closure(&tree, &names)?;
    let modules = recipe.body.kernel.modules.iter().filter_map(|name| found.wanted(name));
    let wanted: Vec<String> = recipe
        .body
        .kernel
        .initrd
        .iter()
        .map(String::as_str)
        .chain(modules)
        .map(str::to_owned)
        .collect();
    let on_disk = found.closure_with_hints(&tree, &wanted)?;

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
        .map_err(|source| Error::Root(RootError::Tool { program: "depmod".to_owned(), source }))?;
    for name in TABLES {
        if let Ok(bytes) = fs::read(folder.join(name)) {
            disk.put(&format!("{root}/{name}"), Node::file(bytes, 0o644, 0))?;
        }
    }
    let copyrights = copyrights(&tree)?;
    Ok(Parts { kernel, form, release: found.release, initrd, disk, copyrights })
}

/// The copyright files in `usr/share/doc`, by package.
fn copyrights(tree: &Tree) -> Result<Copyrights, Error> {
    let mut found = Copyrights::new();
    for (path, _) in tree.iter() {
        let path = String::from_utf8_lossy(path);
        let below = path.strip_prefix("usr/share/doc/");
        if let Some(name) = below.and_then(|below| below.strip_suffix("/copyright"))
            && let Some(text) = tree.read(&path)?
        {
            found.insert(name.to_owned(), text.to_vec());
        }
    }
    Ok(found)
}
