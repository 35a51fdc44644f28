//! The C library of another architecture, with its headers and the kernel's: the distribution's own
//! packages for it, at the versions of today, unpacked in the build cache. The packages that Debian
//! has for cross compilers are of the day on which the distribution was released, without the fixes
//! since.
//!
//! ```text
//! ENTRY/root/usr/lib/...         what the packages hold
//! ENTRY/database/status, info/   what dpkg needs to say whose a file is
//! ```

use super::fetch;
use anyhow::{Context as _, Result, ensure};
use duct::cmd;
use fs_err as fs;
use host_platform::Arch;
use image_builder::apt::{self, Download, Private};
use std::path::{Path, PathBuf};
use xtask_base::{cache::Key, context::Context, ui::hinted};
use xtask_host::unpacked::{Address, addresses};

/// What a static program is compiled and linked with.
const PACKAGES: &[&str] = &["libc6-dev", "linux-libc-dev"];

/// An unpacked C library.
#[derive(Clone)]
pub struct Sysroot {
    entry: PathBuf,
    digest: String,
    arch: Arch,
}

impl Sysroot {
    /// Unpacks it, unless the cache has the newest that the lists of packages name.
    pub fn for_arch(context: &Context, arch: Arch) -> Result<Self> {
        let lines = fetch::lines("deb", &apt::repositories(Path::new("/etc/apt"))?);
        if lines.is_empty() {
            return Err(hinted(
                "This host's apt names no archive of a distribution",
                "the C library of another architecture comes from the distribution's own archive",
            ));
        }
        let folder = context.cache.folder(&format!("apt/sysroot-{}", arch.image_name()))?;
        let apt = Private::new(&folder, arch, &lines)?;
        let mut files = files(&apt);
        if files.is_empty() && !context.offline {
            context.ui.step("Fetch lists of packages", |step| step.run(apt.update()))?;
            files = self::files(&apt);
        }
        ensure!(!files.is_empty(), "No list of packages for {} is known", arch.image_name());
        let mut key = Key::new("sysroot 1");
        files.iter().for_each(|address| key.add("file", address.file.as_bytes()));
        let entry = context.cache.entry("sysroot", &key, |place| {
            ensure!(
                !context.offline,
                "The C library for {} is not in the cache",
                arch.image_name()
            );
            let title = format!("Fetch the C library for {}", arch.image_name());
            context.ui.step(&title, |step| {
                let fetched = tempfile::tempdir()?;
                let download = |address: &Address| Download {
                    uri: address.uri.clone(),
                    path: fetched.path().join(&address.file),
                    sha256: address.sha256.clone(),
                };
                let downloads: Vec<Download> = files.iter().map(download).collect();
                step.run(apt.download(&downloads)).map_err(|error| {
                    // The mirror has replaced what the list names: the next run fetches a new one.
                    let _ = fs::remove_dir_all(apt.lists());
                    hinted(error.to_string(), "run the same command again: it fetches new lists")
                })?;
                for found in fs::read_dir(fetched.path())? {
                    unpack(&found?.path(), place)?;
                }
                ensure!(place.join("root/usr/include/stdio.h").is_file(), "There is no C library");
                Ok(())
            })
        })?;
        Ok(Self { entry, digest: key.digest(), arch })
    }

    /// The hash of the packages.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The folder that the compiler takes for the root of the target's file system.
    pub fn root(&self) -> PathBuf {
        self.entry.join("root")
    }

    /// Where dpkg finds whose the files are.
    pub fn database(&self) -> PathBuf {
        self.entry.join("database")
    }

    /// The folders with headers, in the order in which they are looked into.
    pub fn headers(&self) -> Vec<PathBuf> {
        let include = self.root().join("usr/include");
        vec![include.join(format!("{}-linux-gnu", self.arch.qemu_name())), include]
    }
}

/// Where the packages are; none without a list of packages.
fn files(apt: &Private) -> Vec<Address> {
    let mut line = vec!["download".to_owned(), "--print-uris".to_owned()];
    line.extend(PACKAGES.iter().map(|name| (*name).to_owned()));
    // apt complains where it has no list.
    let text = apt.read("apt-get", line).unwrap_or_default();
    addresses(&text)
}

/// Unpacks one package, and writes down what it holds.
fn unpack(package: &Path, place: &Path) -> Result<()> {
    let (root, database) = (place.join("root"), place.join("database"));
    fs::create_dir_all(&root)?;
    fs::create_dir_all(database.join("info"))?;
    cmd!("dpkg-deb", "--extract", package, &root).run()?;
    let fields = cmd!("dpkg-deb", "--field", package).read()?;
    let field = |name: &str| {
        let line = fields.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.with_context(|| format!("`{}` has no field `{name}`", package.display()))
    };
    let (name, arch) = (field("Package")?, field("Architecture")?);
    let mut list = String::new();
    let contents = cmd!("dpkg-deb", "--fsys-tarfile", package)
        .pipe(cmd!("tar", "--list", "--file", "-"))
        .read()?;
    for path in contents.lines() {
        let path = path.strip_prefix('.').unwrap_or(path).trim_end_matches('/');
        list += if path.is_empty() { "/." } else { path };
        list.push('\n');
    }
    let info = database.join("info");
    fs::write(info.join("format"), "1\n")?;
    fs::write(info.join(format!("{name}:{arch}.list")), list)?;
    fs::write(database.join("arch"), format!("{arch}\n"))?;
    let status = database.join("status");
    let before = fs::read_to_string(&status).unwrap_or_default();
    let state = "Status: install ok installed";
    Ok(fs::write(status, format!("{before}{}\n{state}\n\n", fields.trim_end()))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linked::Owners;

    #[test]
    #[cfg(target_os = "linux")]
    fn whose_an_unpacked_file_is_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        fs::create_dir_all(tree.join("usr/lib/aarch64-linux-gnu")).unwrap();
        fs::write(tree.join("usr/lib/aarch64-linux-gnu/libc.a"), "").unwrap();
        let control = "Package: libc6-dev\nSource: glibc\nVersion: 2.36-9\nArchitecture: arm64\n\
                       Multi-Arch: same\nMaintainer: nobody\nDescription: none\n";
        fs::write(tree.join("DEBIAN/control"), control).unwrap();
        let package = folder.path().join("libc6-dev.deb");
        // A host without dpkg builds for no other machine.
        let Ok(_) = cmd!("dpkg-deb", "--build", &tree, &package).stdout_null().stderr_null().run()
        else {
            return;
        };
        unpack(&package, folder.path()).unwrap();
        let file = "usr/lib/aarch64-linux-gnu/libc.a";
        assert!(folder.path().join("root").join(file).is_file());
        let mut owners = Owners::from_database(folder.path().join("database"));
        let owner = owners.owner_of(&Path::new("/").join(file)).unwrap();
        assert_eq!((&*owner.source.name, &*owner.source.version), ("glibc", "2.36-9"));
        assert!(owner.package.starts_with("libc6-dev"), "{}", owner.package);
    }
}
