//! The back end of Ubuntu against a small repository that the test makes, signs and serves: its
//! suites, its components, and its kernels, whose modules are packages of their own.

use crate::{
    served::{deb, file, kernel, module, put, serve, spoil},
    tool,
};
use duct::cmd;
use fs_err as fs;
use host_platform::Arch;
use image_builder::{
    Error,
    apt::{Apt, Archive, checked_path, pool_path},
    kernel_package,
    lock::ArchLock,
    recipe, sha256,
};
use std::path::{Path, PathBuf};

const RECIPE: &str = r#"
version = "24.04"
summary = "A test"
packages = ["tool"]

[distribution]
name = "ubuntu"
suite = "noble"
components = ["main", "universe"]

[kernel]
flavour = "generic"
initrd = ["ext4"]
modules = ["9p"]

[disk]
size = "1G"
"#;

const RELEASE: &str = "6.8.0-45-generic";

struct World {
    folder: tempfile::TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        // GnuPG leaves an agent behind for each home.
        let _ = self.gnupg("gpgconf", &["--kill", "all"]).run();
    }
}

impl World {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn gnupg(&self, program: &str, args: &[&str]) -> duct::Expression {
        let home = self.path("gnupg");
        cmd(program, args).env("GNUPGHOME", home).stderr_null().stdout_null()
    }

    /// Makes a key and gives its keyring.
    fn key(&self, name: &str) -> PathBuf {
        let make = ["--batch", "--passphrase", "", "--quick-gen-key", name, "rsa2048", "sign", "0"];
        self.gnupg("gpg", &make).run().unwrap();
        let keyring = self.path(&format!("{name}.gpg"));
        let path = keyring.to_str().unwrap();
        self.gnupg("gpg", &["--batch", "--output", path, "--export", name]).run().unwrap();
        keyring
    }

    /// Writes a suite: packages by component, each `(control fields, file of the package)`.
    fn suite(&self, suite: &str, components: [&[(String, Vec<u8>)]; 2]) {
        let folder = self.path(&format!("ubuntu-ports/dists/{suite}"));
        let mut sums = String::new();
        for (component, packages) in ["main", "universe"].into_iter().zip(components) {
            let mut index = String::new();
            for (control, bytes) in packages {
                let field = |name| image_builder::deb::field(control, name).unwrap();
                let (name, version) = (field("Package"), field("Version"));
                let path = format!("pool/{component}/{name}_{version}_arm64.deb");
                put(&self.path("ubuntu-ports").join(&path), bytes);
                let (size, hash) = (bytes.len(), sha256(bytes));
                index += &format!("{control}Filename: {path}\nSize: {size}\nSHA256: {hash}\n\n");
            }
            let name = format!("{component}/binary-arm64/Packages");
            put(&folder.join(&name), index.as_bytes());
            sums += &format!(" {} {} {name}\n", sha256(index.as_bytes()), index.len());
        }
        let release = format!(
            "Origin: Ubuntu\nSuite: {suite}\nCodename: noble\nDate: Thu, 25 Apr 2024 15:10:33 UTC\nArchitectures: arm64\nComponents: main universe\nSHA256:\n{sums}"
        );
        put(&folder.join("Release"), release.as_bytes());
        self.sign(suite, "right");
    }

    fn sign(&self, suite: &str, key: &str) {
        let folder = self.path(&format!("ubuntu-ports/dists/{suite}"));
        let (from, to) = (folder.join("Release"), folder.join("InRelease"));
        let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
        let args = ["--batch", "--yes", "--local-user", key, "--output", to, "--clear-sign", from];
        self.gnupg("gpg", &args).run().unwrap();
    }

    fn recipe(&self) -> recipe::Recipe {
        self.recipe_of(RECIPE)
    }

    fn recipe_of(&self, text: &str) -> recipe::Recipe {
        put(&self.path("recipes/ubuntu/recipe.toml"), text.as_bytes());
        recipe::load(&self.path("recipes"), "ubuntu").unwrap()
    }

    fn apt(&self, uri: &str, keyring: &Path) -> Apt {
        let archive =
            Archive { name: "ubuntu-ports".to_owned(), uri: format!("{uri}/ubuntu-ports") };
        // Each time a new one: what apt has fetched before is not asked for again.
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
        Apt::new(&folder, &self.recipe(), Arch::Arm64, vec![archive], keyring).unwrap()
    }
}

fn package(
    name: &str,
    version: &str,
    more: &str,
    files: &[crate::served::File],
) -> (String, Vec<u8>) {
    let control = format!(
        "Package: {name}\nVersion: {version}\nArchitecture: arm64\nMaintainer: t\nDescription: t\n{more}"
    );
    let bytes = deb(&control, files);
    (control, bytes)
}

fn world() -> World {
    let world = World { folder: tempfile::tempdir().unwrap() };
    fs::create_dir(world.path("gnupg")).unwrap();
    cmd!("chmod", "700", world.path("gnupg")).run().unwrap();
    world.key("right");
    let image = format!("linux-image-{RELEASE}");
    let modules = format!("linux-modules-{RELEASE}");
    let folder = format!("./lib/modules/{RELEASE}");
    let zst = |text: &str| zstd::encode_all(module(text).as_slice(), 1).unwrap();
    let of_modules = [
        file(&format!("{folder}/kernel/fs/ext4/ext4.ko.zst"), zst("depends=")),
        file(&format!("{folder}/kernel/fs/9p/9p.ko.zst"), zst("depends=")),
        file(&format!("{folder}/modules.builtin"), ""),
        file(&format!("{folder}/modules.order"), ""),
    ];
    let vmlinuz = [file(&format!("./boot/vmlinuz-{RELEASE}"), kernel())];
    let main = [
        package("base-files", "13", "Essential: yes\n", &[]),
        package("apt", "2.8", "", &[]),
        package("libtool1", "1.0-1", "", &[]),
        package("linux-image-generic", "6.8.0.45", &format!("Depends: {image}\n"), &[]),
        package(&image, "6.8.0-45.45", &format!("Depends: {modules}\n"), &vmlinuz),
        package(&modules, "6.8.0-45.45", "", &of_modules),
    ];
    let universe = [package("tool", "1.0-1", "Depends: libtool1 (>= 1)\n", &[])];
    world.suite("noble", [&main, &universe]);
    world.suite("noble-updates", [&[], &[]]);
    world.suite("noble-security", [&[package("libtool1", "1.0-1ubuntu0.1", "", &[])], &[]]);
    world
}

fn quiet(command: duct::Expression) -> bool {
    command.stdout_null().stderr_null().unchecked().run().unwrap().status.success()
}

fn lock(world: &World, uri: &str) -> Result<ArchLock, Error> {
    let apt = world.apt(uri, &world.path("right.gpg"));
    assert!(quiet(apt.update()));
    apt.resolve(&world.recipe(), Arch::Arm64, &[])
}

fn has_tools() -> bool {
    ["gpg", "gpgv", "gpgconf", "apt-get", "depmod"].iter().all(|name| tool(name).is_some())
}

#[test]
fn packages_of_ubuntu_are_locked_and_its_kernel_is_put_together() {
    if !has_tools() {
        return;
    }
    let world = world();
    let uri = serve(world.folder.path());
    let lock = lock(&world, &uri).unwrap();
    let named: Vec<String> = lock
        .package
        .iter()
        .map(|package| format!("{} {}", package.name, package.version))
        .collect();
    // Universe is looked into, and the security suite has the last word.
    assert_eq!(named, ["apt 2.8", "base-files 13", "libtool1 1.0-1ubuntu0.1", "tool 1.0-1"]);
    let suites: Vec<&str> = lock.release.iter().map(|release| release.suite.as_str()).collect();
    assert_eq!(suites, ["noble", "noble-security", "noble-updates"]);
    assert_eq!(lock.kernel.as_ref().unwrap().name, format!("linux-image-{RELEASE}"));
    let modules: Vec<&str> =
        lock.kernel_modules.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(modules, [format!("linux-modules-{RELEASE}")]);

    // A name that is nearly right, and a part of the archive that is none.
    let apt = world.apt(&uri, &world.path("right.gpg"));
    assert!(quiet(apt.update()));
    let refusal = |from: &str, to: &str| {
        apt.resolve(&world.recipe_of(&RECIPE.replace(from, to)), Arch::Arm64, &[]).unwrap_err()
    };
    let error = refusal("[\"tool\"]", "[\"toool\"]");
    assert!(error.to_string().contains("no package `toool`"), "{error}");
    assert_eq!(error.hint().as_deref(), Some("did you mean `tool`?"));
    let error = refusal("universe", "univers");
    assert!(error.to_string().contains("no component `univers`"), "{error}");
    assert_eq!(error.hint().as_deref(), Some("there are: main, universe"));

    let pool = tempfile::tempdir().unwrap();
    let all: Vec<_> = lock.all().collect();
    assert!(quiet(world.apt(&uri, &world.path("right.gpg")).fetch(&all, pool.path()).unwrap()));
    let files: Vec<PathBuf> = lock
        .kernel
        .iter()
        .chain(&lock.kernel_modules)
        .map(|package| checked_path(pool.path(), package).unwrap())
        .collect();
    let scratch = tempfile::tempdir().unwrap();
    let parts = kernel_package::take(&files, &world.recipe(), Arch::Arm64, scratch.path()).unwrap();
    assert_eq!(parts.release, RELEASE);
    assert_eq!(parts.initrd[0].name, "ext4");
    let place = format!("usr/lib/modules/{RELEASE}/kernel/fs/9p/9p.ko");
    assert!(parts.disk.get(place.as_bytes()).is_some());
}

/// Fetches the lock's packages from the archive of its day; how many came.
fn fetch_past(apt: &Apt, lock: &ArchLock, pool: &Path) -> usize {
    let all: Vec<_> = lock.all().collect();
    apt.past(lock).iter().any(|archives| quiet(apt.fetch_from(archives, &all, pool).unwrap()));
    all.iter().filter(|package| checked_path(pool, package).is_ok()).count()
}

#[test]
fn a_lock_outlives_its_mirror() {
    if !has_tools() {
        return;
    }
    let world = world();
    let uri = serve(world.folder.path());
    let lock = lock(&world, &uri).unwrap();
    // The mirror drops all packages; the archive of the past has them under a time after the lock's.
    let past = world.path("past/20240425T211033Z");
    fs::create_dir_all(&past).unwrap();
    fs::rename(world.path("ubuntu-ports/pool"), past.join("pool")).unwrap();
    let pool = tempfile::tempdir().unwrap();
    let apt = world.apt(&uri, &world.path("right.gpg"));
    let all: Vec<_> = lock.all().collect();
    assert!(!quiet(apt.fetch(&all, pool.path()).unwrap()));
    assert!(quiet(apt.update()));
    assert!(apt.past(&lock).is_empty(), "nobody says where the past is");

    // Its signed release does.
    let release = world.path("ubuntu-ports/dists/noble/Release");
    let text = fs::read_to_string(&release).unwrap();
    let text = format!("Snapshots: {uri}/past/@SNAPSHOTID@/\n{text}");
    fs::write(&release, text).unwrap();
    world.sign("noble", "right");
    let apt = world.apt(&uri, &world.path("right.gpg"));
    assert!(quiet(apt.update()));
    assert_eq!(fetch_past(&apt, &lock, pool.path()), all.len());

    // What is there is held against the lock all the same.
    let tool = lock.package.iter().find(|package| package.name == "tool").unwrap();
    spoil(&past.join(&tool.path), 100);
    let pool = tempfile::tempdir().unwrap();
    assert_eq!(fetch_past(&apt, &lock, pool.path()), all.len() - 1);
    assert!(!pool_path(pool.path(), tool).is_file());

    // A mirror that is the archive of a day has releases that expired.
    fs::rename(world.path("ubuntu-ports/dists"), past.join("dists")).unwrap();
    for suite in ["noble", "noble-updates", "noble-security"] {
        let folder = past.join("dists").join(suite);
        let text = fs::read_to_string(folder.join("Release")).unwrap();
        let text = format!("Valid-Until: Thu, 02 May 2024 15:10:33 UTC\n{text}");
        fs::write(folder.join("Release"), text).unwrap();
        let (from, to) = (folder.join("Release"), folder.join("InRelease"));
        let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
        let args =
            ["--batch", "--yes", "--local-user", "right", "--output", to, "--clear-sign", from];
        world.gnupg("gpg", &args).run().unwrap();
    }
    let of = |uri: String, name: &str| {
        let archive = Archive { name: "ubuntu-ports".to_owned(), uri };
        let folder = world.path(name);
        let keyring = world.path("right.gpg");
        Apt::new(&folder, &world.recipe(), Arch::Arm64, vec![archive], &keyring).unwrap()
    };
    let apt = of(format!("{uri}/past/20240425T211033Z"), "dated");
    assert!(quiet(apt.update()));
    let again = apt.resolve(&world.recipe(), Arch::Arm64, &[]).unwrap();
    assert_eq!(again.package, lock.package);
    // Under another name the same releases are refused.
    fs::rename(&past, world.path("ubuntu-now")).unwrap();
    assert!(!quiet(of(format!("{uri}/ubuntu-now"), "now").update()));
}

#[test]
fn an_overlay_may_ask_for_what_is_there_already_and_for_nothing() {
    if !has_tools() {
        return;
    }
    let world = world();
    let uri = serve(world.folder.path());
    let base = [lock(&world, &uri).unwrap()];
    let apt = world.apt(&uri, &world.path("right.gpg"));
    assert!(quiet(apt.update()));
    let pool = tempfile::tempdir().unwrap();
    let all: Vec<_> = base[0].all().collect();
    assert!(quiet(apt.fetch(&all, pool.path()).unwrap()));
    apt.assume(&base, pool.path()).unwrap();
    for packages in ["packages = [\"tool\"]", "packages = []"] {
        let recipe = world.recipe_of(&RECIPE.replace("packages = [\"tool\"]", packages));
        let lock = apt.resolve(&recipe, Arch::Arm64, &base).unwrap();
        assert!(lock.package.is_empty(), "{lock:?}");
    }
}

#[test]
fn nothing_of_ubuntu_is_taken_on_trust() {
    if !has_tools() {
        return;
    }
    let world = world();
    let uri = serve(world.folder.path());
    let right = world.path("right.gpg");
    let other = world.key("other");
    assert!(!quiet(world.apt(&uri, &other).update()), "the keyring has another key");
    world.sign("noble-security", "other");
    assert!(!quiet(world.apt(&uri, &right).update()), "one suite is signed by a stranger");
    world.sign("noble-security", "right");
    let lock = lock(&world, &uri).unwrap();
    let index = world.path("ubuntu-ports/dists/noble/universe/binary-arm64/Packages");
    spoil(&index, 10);
    assert!(!quiet(world.apt(&uri, &right).update()), "an index was changed behind its release");
    spoil(&index, 10);

    for place in [60, 300] {
        let release = world.path("ubuntu-ports/dists/noble/InRelease");
        spoil(&release, place);
        assert!(
            !quiet(world.apt(&uri, &right).update()),
            "a signed release was changed at {place}"
        );
        spoil(&release, place);
    }

    let pool = tempfile::tempdir().unwrap();
    let tool = lock.package.iter().find(|package| package.name == "tool").unwrap();
    let place = world.path("ubuntu-ports").join(&tool.path);
    let fetch = || quiet(world.apt(&uri, &right).fetch(&[tool], pool.path()).unwrap());
    spoil(&place, 100);
    assert!(!fetch() && !pool_path(pool.path(), tool).is_file(), "a package was changed");
    spoil(&place, 100);
    assert!(fetch());
    spoil(&pool_path(pool.path(), tool), 100);
    assert!(matches!(checked_path(pool.path(), tool), Err(Error::WrongHash { .. })));
}
