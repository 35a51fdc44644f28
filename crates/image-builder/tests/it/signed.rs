//! Signed repositories of apt's form for tests: suites with two components, signed by keys of the tests'
//! own.

use super::served::{File, deb, file, gz, kernel, module, put, zboot};
use duct::cmd;
use fs_err as fs;
use image_builder::{deb::field, sha256};
use std::path::{Path, PathBuf};

/// A package: the fields of its record, and its file.
pub type Deb = (String, Vec<u8>);

/// A folder with an archive, and the keys that sign it.
pub struct Repository {
    folder: tempfile::TempDir,
    /// The archive's path below the folder.
    archive: &'static str,
}

impl Drop for Repository {
    fn drop(&mut self) {
        // GnuPG leaves an agent behind for each home.
        let _ = self.gnupg("gpgconf", &["--kill", "all"]).run();
    }
}

impl Repository {
    /// An archive below a folder of its own, with the key `right`.
    pub fn new(archive: &'static str) -> Self {
        let repository = Self { folder: tempfile::tempdir().unwrap(), archive };
        fs::create_dir(repository.path("gnupg")).unwrap();
        cmd!("chmod", "700", repository.path("gnupg")).run().unwrap();
        repository.key("right");
        repository
    }

    /// What is served.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn gnupg(&self, program: &str, args: &[&str]) -> duct::Expression {
        let home = self.path("gnupg");
        cmd(program, args).env("GNUPGHOME", home).stderr_null().stdout_null()
    }

    /// Makes a key and gives its keyring.
    pub fn key(&self, name: &str) -> PathBuf {
        let make = ["--batch", "--passphrase", "", "--quick-gen-key", name, "rsa2048", "sign", "0"];
        self.gnupg("gpg", &make).run().unwrap();
        let keyring = self.path(&format!("{name}.gpg"));
        let path = keyring.to_str().unwrap();
        self.gnupg("gpg", &["--batch", "--output", path, "--export", name]).run().unwrap();
        keyring
    }

    /// Writes a suite: packages by component.
    pub fn suite(&self, suite: &str, codename: &str, components: [&[Deb]; 2]) {
        let folder = self.path(&format!("{}/dists/{suite}", self.archive));
        let mut sums = String::new();
        for (component, packages) in ["main", "universe"].into_iter().zip(components) {
            let mut index = String::new();
            for (control, bytes) in packages {
                let field = |name| field(control, name).unwrap();
                let (name, version) = (field("Package"), field("Version"));
                let arch = field("Architecture");
                let path = format!("pool/{component}/{name}_{version}_{arch}.deb");
                put(&self.path(self.archive).join(&path), bytes);
                let (size, hash) = (bytes.len(), sha256(bytes));
                index += &format!("{control}Filename: {path}\nSize: {size}\nSHA256: {hash}\n\n");
            }
            let name = format!("{component}/binary-arm64/Packages");
            put(&folder.join(&name), index.as_bytes());
            sums += &format!(" {} {} {name}\n", sha256(index.as_bytes()), index.len());
        }
        let release = format!(
            "Origin: Ubuntu\nSuite: {suite}\nCodename: {codename}\nDate: Thu, 25 Apr 2024 15:10:33 UTC\nArchitectures: arm64\nComponents: main universe\nSHA256:\n{sums}"
        );
        put(&folder.join("Release"), release.as_bytes());
        self.sign(suite, "right");
    }

    /// Signs a suite's release as it is now.
    pub fn sign(&self, suite: &str, key: &str) {
        self.sign_in(&self.path(&format!("{}/dists/{suite}", self.archive)), key);
    }

    pub fn sign_in(&self, folder: &Path, key: &str) {
        let (from, to) = (folder.join("Release"), folder.join("InRelease"));
        let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
        let args = ["--batch", "--yes", "--local-user", key, "--output", to, "--clear-sign", from];
        self.gnupg("gpg", &args).run().unwrap();
    }
}

/// A package for arm64; `more` are further fields of its record.
pub fn package(name: &str, version: &str, more: &str, files: &[File]) -> Deb {
    let control = format!(
        "Package: {name}\nVersion: {version}\nArchitecture: arm64\nMaintainer: t\nDescription: t\n{more}"
    );
    let bytes = deb(&control, files);
    (control, bytes)
}

/// How a release of Ubuntu packs its kernel.
pub struct Linux {
    /// `uname -r`.
    pub release: &'static str,
    /// The version of its packages.
    version: &'static str,
    /// Whether what not every machine needs is in `linux-modules-extra`.
    has_extra: bool,
}

/// As in 24.04: the modules are two packages, and the one with the rest is asked for by the meta package.
pub const NOBLE: Linux =
    Linux { release: "6.8.0-45-generic", version: "6.8.0-45.45", has_extra: true };
/// As in 26.04: one package has them, and needs another one of its own that no image takes.
pub const RESOLUTE: Linux =
    Linux { release: "7.0.0-14-generic", version: "7.0.0-14.14", has_extra: false };

impl Linux {
    /// The packages of the kernel, by the names and with the dependencies that they have there.
    pub fn packages(&self) -> Vec<Deb> {
        let Self { release, version, has_extra } = *self;
        let [image, modules, extra, zfs] =
            ["image", "modules", "modules-extra", "main-modules-zfs"]
                .map(|stem| format!("linux-{stem}-{release}"));
        let at = |path: &str| format!("./lib/modules/{release}/{path}");
        let packed = |path: &str, modinfo: &str| {
            let bytes = zstd::encode_all(module(modinfo).as_slice(), 1).unwrap();
            file(&at(&format!("kernel/{path}.ko.zst")), bytes)
        };
        let mut common = vec![
            file(&format!("./boot/config-{release}"), "CONFIG_EXT4_FS=m\n"),
            file(&format!("./boot/System.map-{release}"), "ffff T _text\n"),
            packed("fs/ext4/ext4", "depends="),
            file(&at("modules.builtin"), ""),
            file(&at("modules.builtin.modinfo"), ""),
            file(&at("modules.order"), ""),
        ];
        // What the file system names as a hint must come along from whichever package has it.
        let rest = [
            packed("fs/9p/9p", "depends="),
            packed("fs/smb/client/cifs", "depends=\0softdep=cmac"),
            packed("crypto/cmac", "alias=crypto-cmac\0depends="),
        ];
        let depends = |on: &str| format!("Depends: {on}\n");
        let mut packages = Vec::new();
        let meta = if has_extra {
            packages.push(package(&extra, version, &depends(&modules), &rest));
            format!("{image}, {extra}, linux-firmware")
        } else {
            common.extend(rest);
            packages.push(package(&zfs, version, "", &[packed("zfs/zfs", "depends=")]));
            format!("{image}, {zfs}, {modules}")
        };
        let of_modules = if has_extra { String::new() } else { depends(&zfs) };
        let start = if has_extra { gz(&kernel()) } else { zboot(&kernel()) };
        let vmlinuz = file(&format!("./boot/vmlinuz-{release}"), start);
        packages.extend([
            package("linux-image-generic", version, &depends(&meta), &[]),
            package(&image, version, &depends(&modules), &[vmlinuz]),
            package(&modules, version, &of_modules, &common),
            package("linux-firmware", "1", "", &[file("./lib/firmware/x", "large")]),
        ]);
        packages
    }
}
