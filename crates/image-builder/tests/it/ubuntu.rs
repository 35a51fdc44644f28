//! The back end of Ubuntu against a small repository that the test makes, signs and serves: its
//! suites, its components, and its kernels, whose modules are packages of their own.

use crate::{
    served::{put, serve, spoil},
    signed::{Deb, Linux, NOBLE, RESOLUTE, Repository, package},
    tool,
};
use fs_err as fs;
use host_platform::Arch;
use image_builder::StoreError;
use image_builder::{
    Error,
    apt::{Apt, Archive, checked_path, store_path},
    kernel_package,
    lock::ArchLock,
    recipe,
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
modules = ["9p", "cifs", "ghash_generic?"]

[disk]
size = "1G"
"#;

struct World {
    repository: Repository,
}

impl World {
    fn path(&self, name: &str) -> PathBuf {
        self.repository.path(name)
    }

    fn recipe(&self) -> recipe::Recipe {
        self.recipe_of(RECIPE)
    }

    fn recipe_of(&self, text: &str) -> recipe::Recipe {
        put(&self.path("recipes/ubuntu/recipe.toml"), text.as_bytes());
        recipe::load(&self.path("recipes"), "ubuntu").unwrap()
    }

    fn apt(&self, uri: &str, keyring: &Path) -> Apt {
        self.apt_of(&self.recipe(), uri, keyring)
    }

    fn apt_of(&self, recipe: &recipe::Recipe, uri: &str, keyring: &Path) -> Apt {
        let archive =
            Archive { name: "ubuntu-ports".to_owned(), uri: format!("{uri}/ubuntu-ports") };
        // Each time a new one: what apt has fetched before is not asked for again.
        let folder = tempfile::tempdir_in(self.repository.folder()).unwrap().keep();
        Apt::new(&folder, recipe, Arch::Arm64, vec![archive], keyring).unwrap()
    }
}

fn world() -> World {
    world_of("noble", &NOBLE, "2.8")
}

/// A release with its kernel and its apt.
fn world_of(codename: &str, linux: &Linux, apt: &str) -> World {
    let world = World { repository: Repository::new("ubuntu-ports") };
    let mut main = vec![
        package("base-files", "13", "Essential: yes\n", &[]),
        package("apt", apt, "", &[]),
        package("libtool1", "1.0-1", "", &[]),
    ];
    main.extend(linux.packages());
    let universe = [package("tool", "1.0-1", "Depends: libtool1 (>= 1)\n", &[])];
    let security = [package("libtool1", "1.0-1ubuntu0.1", "", &[])];
    let suite = |behind: &str, components: [&[Deb]; 2]| {
        world.repository.suite(&format!("{codename}{behind}"), codename, components);
    };
    suite("", [&main, &universe]);
    suite("-updates", [&[], &[]]);
    suite("-security", [&security, &[]]);
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
fn packages_of_ubuntu_are_locked() {
    if !has_tools() {
        return;
    }
    let world = world();
    let uri = serve(world.repository.folder());
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

    // A name that is nearly right, and a component that the archive does not have.
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

    assert_eq!(lock.kernel_modules.len(), 2, "those that not each machine needs too");
}

#[test]
fn a_kernel_of_either_release_is_put_together() {
    if !has_tools() {
        return;
    }
    for (codename, linux) in [("noble", &NOBLE), ("resolute", &RESOLUTE)] {
        let world = world_of(codename, linux, "3.1");
        let uri = serve(world.repository.folder());
        let recipe = world.recipe_of(&RECIPE.replace("noble", codename));
        let apt = world.apt_of(&recipe, &uri, &world.path("right.gpg"));
        assert!(quiet(apt.update()));
        let lock = apt.resolve(&recipe, Arch::Arm64, &[]).unwrap();
        let release = linux.release;
        assert_eq!(lock.kernel.as_ref().unwrap().name, format!("linux-image-{release}"));
        let mut modules: Vec<String> =
            lock.kernel_modules.iter().map(|package| package.name.clone()).collect();
        modules.sort();
        let mut expected = vec![format!("linux-modules-{release}")];
        if codename == "noble" {
            expected.push(format!("linux-modules-extra-{release}"));
        }
        assert_eq!(modules, expected);

        let store = tempfile::tempdir().unwrap();
        let all: Vec<_> = lock.all().collect();
        assert!(quiet(apt.fetch(&all, store.path()).unwrap()));
        let files: Vec<PathBuf> = lock
            .kernel
            .iter()
            .chain(&lock.kernel_modules)
            .map(|package| checked_path(store.path(), package).unwrap())
            .collect();
        let scratch = tempfile::tempdir().unwrap();
        let parts = kernel_package::take(&files, &recipe, Arch::Arm64, scratch.path()).unwrap();
        assert_eq!(parts.release, release);
        assert_eq!(parts.initrd[0].name, "ext4");
        // The last one is named by nobody but cifs, which hints at it.
        for module in ["fs/9p/9p", "fs/smb/client/cifs", "crypto/cmac"] {
            let place = format!("usr/lib/modules/{release}/kernel/{module}.ko");
            assert!(parts.disk.get(place.as_bytes()).is_some(), "{place}");
        }
    }
}

/// Fetches the lock's packages from the archive of its day; how many came.
fn fetch_past(apt: &Apt, lock: &ArchLock, store: &Path) -> usize {
    let all: Vec<_> = lock.all().collect();
    apt.past(lock).iter().any(|archives| quiet(apt.fetch_from(archives, &all, store).unwrap()));
    all.iter().filter(|package| checked_path(store, package).is_ok()).count()
}

#[test]
fn a_lock_outlives_its_mirror() {
    if !has_tools() {
        return;
    }
    let world = world();
    let uri = serve(world.repository.folder());
    let lock = lock(&world, &uri).unwrap();
    // The mirror drops all packages; the archive of the past has them under a time after the lock's.
    let past = world.path("past/20240425T211033Z");
    fs::create_dir_all(&past).unwrap();
    fs::rename(world.path("ubuntu-ports/pool"), past.join("pool")).unwrap();
    let store = tempfile::tempdir().unwrap();
    let apt = world.apt(&uri, &world.path("right.gpg"));
    let all: Vec<_> = lock.all().collect();
    assert!(!quiet(apt.fetch(&all, store.path()).unwrap()));
    assert!(quiet(apt.update()));
    assert!(apt.past(&lock).is_empty(), "nobody says where the past is");

    // Its signed release does.
    let release = world.path("ubuntu-ports/dists/noble/Release");
    let text = fs::read_to_string(&release).unwrap();
    let text = format!("Snapshots: {uri}/past/@SNAPSHOTID@/\n{text}");
    fs::write(&release, text).unwrap();
    world.repository.sign("noble", "right");
    let apt = world.apt(&uri, &world.path("right.gpg"));
    assert!(quiet(apt.update()));
    assert_eq!(fetch_past(&apt, &lock, store.path()), all.len());

    // What is there is held against the lock all the same.
    let tool = lock.package.iter().find(|package| package.name == "tool").unwrap();
    spoil(&past.join(&tool.path), 100);
    let store = tempfile::tempdir().unwrap();
    assert_eq!(fetch_past(&apt, &lock, store.path()), all.len() - 1);
    assert!(!store_path(store.path(), tool).is_file());

    // A mirror that is the archive of a day has releases that expired.
    fs::rename(world.path("ubuntu-ports/dists"), past.join("dists")).unwrap();
    for suite in ["noble", "noble-updates", "noble-security"] {
        let folder = past.join("dists").join(suite);
        let text = fs::read_to_string(folder.join("Release")).unwrap();
        let text = format!("Valid-Until: Thu, 02 May 2024 15:10:33 UTC\n{text}");
        fs::write(folder.join("Release"), text).unwrap();
        world.repository.sign_in(&folder, "right");
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
    let uri = serve(world.repository.folder());
    let base = [lock(&world, &uri).unwrap()];
    let apt = world.apt(&uri, &world.path("right.gpg"));
    assert!(quiet(apt.update()));
    let store = tempfile::tempdir().unwrap();
    let all: Vec<_> = base[0].all().collect();
    assert!(quiet(apt.fetch(&all, store.path()).unwrap()));
    apt.assume(&base, store.path()).unwrap();
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
    let uri = serve(world.repository.folder());
    let right = world.path("right.gpg");
    let other = world.repository.key("other");
    assert!(!quiet(world.apt(&uri, &other).update()), "the keyring has another key");
    world.repository.sign("noble-security", "other");
    assert!(!quiet(world.apt(&uri, &right).update()), "one suite is signed by a stranger");
    world.repository.sign("noble-security", "right");
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

    let store = tempfile::tempdir().unwrap();
    let tool = lock.package.iter().find(|package| package.name == "tool").unwrap();
    let place = world.path("ubuntu-ports").join(&tool.path);
    let fetch = || quiet(world.apt(&uri, &right).fetch(&[tool], store.path()).unwrap());
    spoil(&place, 100);
    assert!(!fetch() && !store_path(store.path(), tool).is_file(), "a package was changed");
    spoil(&place, 100);
    assert!(fetch());
    spoil(&store_path(store.path(), tool), 100);
    assert!(matches!(
        checked_path(store.path(), tool),
        Err(Error::Store(StoreError::WrongHash { .. }))
    ));
}
