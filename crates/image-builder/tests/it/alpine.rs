//! The back end of Alpine against a small repository that the test makes, signs and serves.

use crate::{
    served::{File, file, gz, kernel, module, programs, put, serve, spoil, tar, zboot},
    tool,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use disk_formats::tree::Tree;
use duct::cmd;
use fs_err as fs;
use host_platform::Arch;
use image_builder::StoreError;
use image_builder::{
    Error, apk,
    apk::{Apk, Keys},
    apt::{Archive, checked_path, store_path},
    foreign::Runner,
    kernel_package,
    lock::ArchLock,
    ownership,
    package_sets::PackageSet,
    recipe, rootfs, sha256,
};
use std::path::{Path, PathBuf};

const RECIPE: &str = r#"
version = "3.23"
summary = "A test"
packages = ["accounts", "watcher"]

[distribution]
name = "alpine"
release = "v3.23"
components = ["main", "community"]

[kernel]
flavour = "cloud"
initrd = ["ext4"]
modules = ["cifs", "ghash_generic?"]

[disk]
size = "1G"
"#;

/// What scripts do with owners: they look at what they gave, copy it with its owner, take it back, make
/// files in a folder whose group is handed on, and make files with numbers of files that are gone.
const POST_INSTALL: &str = r#"#!/bin/sh
set -e
echo "$1 $(command -v chown)" > /etc/accounts.state
mkdir -p /srv/mail
chown tester:8 /srv/mail
chmod 2775 /srv/mail
cd /srv/mail
echo letter > letter
chown -h 7:9 ../mail/letter
chown 10 letter
cp -a letter copy
ln=../../srv/mail/copy
stat -c '%n %u:%g %A' . letter copy "$ln" /usr/lib/accounts/tool > /etc/owners.state
mkdir below
echo x > below/file
chown 0:0 copy
echo x > gone
chown 11:12 gone
rm gone
echo x > /etc/new
echo "${QUICKSAND_TEST_LEAK-none}" > /etc/leak.state
chmod 4755 letter
chown 13:14 letter
exec 3< letter
stat -c '%u:%g %A' - <&3 >> /etc/owners.state
"#;

/// A stream that another one follows: its tar has no end marks.
fn stream(files: &[File]) -> Vec<u8> {
    let mut bytes = tar(files);
    bytes.truncate(bytes.len() - 1024);
    gz(&bytes)
}

struct World {
    folder: tempfile::TempDir,
    arch: Arch,
    index: [String; 2],
}

impl World {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn mirror(&self, component: usize, name: &str) -> PathBuf {
        let component = ["main", "community"][component];
        self.path(&format!("mirror/v3.23/{component}/{}/{name}", self.arch.qemu_name()))
    }

    /// A stream before this one with its signature.
    fn signed(&self, bytes: &[u8], key: &str) -> Vec<u8> {
        let pair = self.path(&format!("{key}.pem"));
        if !pair.is_file() {
            cmd!("openssl", "genrsa", "-out", &pair, "2048").stderr_null().run().unwrap();
            fs::create_dir_all(self.path("keys")).unwrap();
            let public = self.path(&format!("keys/{key}.rsa.pub"));
            cmd!("openssl", "rsa", "-in", &pair, "-pubout", "-out", public)
                .stderr_null()
                .run()
                .unwrap();
        }
        let command = cmd!("openssl", "dgst", "-sha1", "-sign", &pair);
        let signature = command.stdin_bytes(bytes).stdout_capture().run().unwrap().stdout;
        let name = format!(".SIGN.RSA.{key}.rsa.pub");
        [stream(&[file(&name, signature)]), bytes.to_vec()].concat()
    }

    /// Puts a package into a component. `info` are lines of `.PKGINFO`.
    fn add(
        &mut self,
        component: usize,
        name: &str,
        info: &[&str],
        scripts: &[(&str, &str)],
        files: &[File],
    ) {
        let data = gz(&tar(files));
        let hash = sha256(&data);
        let arch = self.arch.qemu_name();
        let mut lines =
            format!("pkgname = {name}\npkgver = 1.0-r0\narch = {arch}\nbuilddate = 1700000000\n");
        info.iter().for_each(|line| lines += &format!("{line}\n"));
        lines += &format!("datahash = {hash}\n");
        let mut control = vec![file(".PKGINFO", lines)];
        control.extend(scripts.iter().map(|(kind, text)| file(&format!(".{kind}"), *text)));
        let control = stream(&control);
        let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &control);
        let checksum = STANDARD.encode(digest);
        let whole = self.signed(&[control, data].concat(), "test");
        let many = |key: &str| {
            let values = info.iter().filter_map(|line| line.strip_prefix(&format!("{key} = ")));
            values.collect::<Vec<_>>().join(" ")
        };
        self.index[component] += &format!(
            "C:Q1{checksum}\nP:{name}\nV:1.0-r0\nA:{arch}\nS:{}\nI:9\nT:x\nt:1700000000\nD:{}\np:{}\ni:{}\n\n",
            whole.len(),
            many("depend"),
            many("provides"),
            many("install_if"),
        );
        put(&self.mirror(component, &format!("{name}-1.0-r0.apk")), &whole);
    }

    fn write_indexes(&self, key: &str) {
        for (component, index) in self.index.iter().enumerate() {
            let files = [file("DESCRIPTION", "test"), file("APKINDEX", index.as_str())];
            let signed = self.signed(&gz(&tar(&files)), key);
            put(&self.mirror(component, "APKINDEX.tar.gz"), &signed);
        }
    }

    fn recipe(&self) -> recipe::Recipe {
        put(&self.path("recipes/alpine/recipe.toml"), RECIPE.as_bytes());
        recipe::load(&self.path("recipes"), "alpine").unwrap()
    }

    fn apk(&self, uri: &str) -> Apk {
        let archive = Archive { name: "alpine".to_owned(), uri: uri.to_owned() };
        let keys = Keys::read(&self.path("keys")).unwrap();
        fs::create_dir_all(self.path("apk")).unwrap();
        Apk::new(&self.path("apk"), &self.path("memory"), &self.recipe(), self.arch, archive, keys)
            .unwrap()
    }
}

/// A system of a shell and two tools, with scripts, a trigger and files of a user of its own.
fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World { folder, arch: host_platform::native_arch(), index: Default::default() };
    let mut base = programs(&[
        "/bin/dash",
        "/bin/chown",
        "/bin/chmod",
        "/bin/cp",
        "/bin/mkdir",
        "/bin/rm",
        "/bin/stat",
    ]);
    base.push(file("bin/sh -> dash", ""));
    base.push(file("etc/passwd", "root:x:0:0::/root:/bin/sh\n"));
    base.push(file("etc/group", "root:x:0:\n"));
    base.push(file(
        "usr/share/alpine-mirrors/MIRRORS.txt",
        "http://first.test/alpine/\nhttp://b/\n",
    ));
    world.add(0, "base", &["provides = /bin/sh", "provides = so:libc.test.so.1=1"], &[], &base);
    let mut owned = file("usr/lib/accounts/tool", "tool");
    (owned.mode, owned.owner) = (0o4755, "tester");
    world.add(
        1,
        "accounts",
        &["depend = /bin/sh", "depend = so:libc.test.so.1"],
        &[
            (
                "pre-install",
                "#!/bin/sh\necho tester:x:123:124::/:/bin/sh >> /etc/passwd\necho tester:x:124: >> /etc/group\n",
            ),
            ("post-install", POST_INSTALL),
        ],
        &[owned],
    );
    world.add(
        0,
        "watcher",
        &["depend = /bin/sh", "triggers = /usr/share/things/* /no/such"],
        &[("trigger", "#!/bin/sh\necho \"$@\" > /etc/watcher.state\n")],
        &[file("usr/bin/watcher", "w")],
    );
    // It comes by itself because both others are there.
    let things = [file("usr/share/things/a/x", "1"), file("usr/share/things/b/y", "2")];
    world.add(1, "accounts-watcher", &["install_if = accounts=1.0-r0 watcher"], &[], &things);
    // As the release has it: called by its flavour, packed for EFI, ciphers apart from who asks for them.
    let modules = "lib/modules/6.18.2-0-virt";
    let packed = |path: &str, modinfo: &str| {
        file(&format!("{modules}/kernel/{path}.ko.gz"), gz(&module(modinfo)))
    };
    let kernel = [
        file("boot/System.map-6.18.2-0-virt", "ffff T _text\n"),
        file("boot/config-6.18.2-0-virt", "CONFIG_EFI_ZBOOT=y\n"),
        file("boot/vmlinuz-virt", zboot(&kernel())),
        packed("fs/ext4/ext4", "depends="),
        packed("fs/smb/client/cifs", "depends=\0softdep=cmac"),
        packed("crypto/cmac", "alias=crypto-cmac\0depends="),
        file(&format!("{modules}/modules.builtin"), ""),
        file(&format!("{modules}/modules.builtin.modinfo"), ""),
        file(&format!("{modules}/modules.order"), ""),
    ];
    world.add(0, "linux-virt", &["depend = initramfs-generator"], &[], &kernel);
    world.write_indexes("test");
    world
}

/// Chooses and fetches everything, as a bake does.
fn lock(world: &World, uri: &str, store: &Path) -> Result<ArchLock, Error> {
    let (apk, recipe, arch) = (world.apk(uri), world.recipe(), world.arch);
    apk.update()?.stdout_null().stderr_null().run()?;
    let chosen = apk.choose(&recipe, arch, &[], store)?;
    let arriving = tempfile::tempdir_in(store).unwrap();
    apk.fetch_chosen(&chosen, arriving.path()).stdout_null().stderr_null().run()?;
    let packages = chosen
        .iter()
        .map(|package| apk.admit(package, arriving.path(), store))
        .collect::<Result<Vec<_>, _>>()?;
    apk.lock(&recipe, arch, &[], &chosen, packages, store)
}

fn has_tools(names: &[&str]) -> bool {
    names.iter().all(|name| tool(name).is_some())
        && Path::new(image_builder::apt::APT_HELPER).is_file()
}

#[test]
fn packages_of_alpine_become_a_system() {
    if !has_tools(&["openssl", "mmdebstrap", "depmod"]) {
        return;
    }
    let world = world();
    let uri = serve(&world.path("mirror"));
    let store = tempfile::tempdir().unwrap();
    let lock = lock(&world, &uri, store.path()).unwrap();
    let names: Vec<&str> = lock.package.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(names, ["accounts", "accounts-watcher", "base", "watcher"]);
    assert_eq!(lock.kernel.as_ref().unwrap().name, "linux-virt");
    assert_eq!((lock.source_date, lock.release.len()), (1_700_000_000, 2));

    // A second host fetches the same by the lock alone.
    let second = tempfile::tempdir().unwrap();
    let wanted: Vec<_> = lock.all().collect();
    world.apk(&uri).fetch(&wanted, second.path()).stdout_null().run().unwrap();
    assert!(lock.all().all(|package| checked_path(second.path(), package).is_ok()));

    let recipe = world.recipe();
    let runner = Runner::ready(world.arch).unwrap();
    let make = |mode| {
        let installer = rootfs::Installer { mode, runner: runner.clone() };
        let tree = apk::lay_out(&[], &lock, &recipe, store.path(), Tree::new(lock.source_date));
        let folder = tempfile::tempdir().unwrap();
        tree.unwrap().write_tar(&folder.path().join(rootfs::BASE_TAR)).unwrap();
        cmd!("chmod", "755", folder.path()).run().unwrap();
        let tar = folder.path().join("rootfs.tar");
        let all = PackageSet::whole(&lock, &recipe);
        let command = rootfs::configure(&all, world.arch, &installer, folder.path(), &tar);
        let command = command.env("QUICKSAND_TEST_LEAK", "of the host");
        let done = command.stderr_to_stdout().stdout_capture().unchecked().run().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
        fs::read(tar).unwrap()
    };
    let mode = rootfs::install_mode(None).unwrap().0;
    let bytes = make(mode);
    assert!(bytes == make(mode), "the same lock gives the same tar");
    if ownership::is_possible() {
        assert!(bytes == make(rootfs::InstallMode::OneId), "wherever owners are kept");
    } else {
        eprintln!("skipped: no user namespace can be made here");
    }
    let mut tree = Tree::new(0);
    tree.add_tar_stream(bytes.as_slice()).unwrap();
    let text = |path: &str| {
        String::from_utf8_lossy(&tree.read(path).unwrap().unwrap_or_default()).into_owned()
    };
    assert_eq!(text("etc/accounts.state"), "1.0-r0 /bin/chown\n");
    assert_eq!(text("etc/watcher.state"), "/usr/share/things/a /usr/share/things/b\n");
    assert_eq!(text("etc/apk/world"), "accounts\nwatcher\n");
    assert_eq!(
        text("etc/apk/repositories"),
        "http://first.test/alpine/v3.23/main\nhttp://first.test/alpine/v3.23/community\n"
    );
    let owned = tree.get(b"usr/lib/accounts/tool").unwrap();
    assert_eq!((owned.uid, owned.gid, owned.mode), (123, 124, 0o4755));
    assert_eq!(text("etc/leak.state"), "none\n", "the host's environment stays outside");
    assert_eq!(
        text("etc/owners.state"),
        ". 123:8 drwxrwsr-x\nletter 10:9 -rw-r--r--\ncopy 10:9 -rw-r--r--\n\
         ../../srv/mail/copy 10:9 -rw-r--r--\n/usr/lib/accounts/tool 123:124 -rwsr-xr-x\n\
         13:14 -rwxr-xr-x\n"
    );
    for (path, expected) in [
        ("srv/mail", (123, 8)),
        ("srv/mail/letter", (13, 14)),
        ("srv/mail/copy", (0, 0)),
        ("srv/mail/below", (0, 8)),
        ("srv/mail/below/file", (0, 8)),
        ("etc/new", (0, 0)),
    ] {
        let node = tree.get(path.as_bytes()).unwrap();
        assert_eq!((node.uid, node.gid), expected, "{path}");
    }
    let installed = text("lib/apk/db/installed");
    assert!(installed.contains("P:base\nV:1.0-r0\n"), "{installed}");
    assert!(installed.contains("F:usr/share/things/a\nR:x\nZ:Q1"), "{installed}");
    // The scripts that apk runs later, by names that apk 2 and apk 3 read: a checksum in base64 may hold
    // slashes.
    let scripts = tree.read("lib/apk/db/scripts.tar").unwrap().unwrap();
    let mut names: Vec<String> = tar::Archive::new(&*scripts)
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            assert_eq!(entry.header().as_bytes()[156], b'0', "apk 3 knows no other kind of file");
            String::from_utf8_lossy(&entry.path_bytes()).into_owned()
        })
        .collect();
    names.sort();
    let [post, pre, trigger] = &names[..] else { panic!("{names:?}") };
    for (name, package, kind) in [
        (post, "accounts-1.0-r0", "post-install"),
        (pre, "accounts-1.0-r0", "pre-install"),
        (trigger, "watcher-1.0-r0", "trigger"),
    ] {
        let digest = name.strip_prefix(&format!("{package}.X1")).unwrap();
        let digest = digest.strip_suffix(&format!(".{kind}")).unwrap();
        assert!(digest.len() == 40 && digest.bytes().all(|c| c.is_ascii_hexdigit()), "{name}");
    }
    assert_eq!(text("etc/apk/arch"), format!("{}\n", world.arch.qemu_name()));
    for gone in ["quicksand-scripts", "var/lib/dpkg", "etc/apt"] {
        assert!(tree.get(gone.as_bytes()).is_none(), "{gone}");
    }

    let scratch = tempfile::tempdir().unwrap();
    let kernel = checked_path(store.path(), lock.kernel.as_ref().unwrap()).unwrap();
    let parts = kernel_package::take(&[kernel], &recipe, Arch::Arm64, scratch.path()).unwrap();
    assert_eq!((parts.release.as_str(), parts.initrd.len()), ("6.18.2-0-virt", 1));
    for module in ["fs/smb/client/cifs", "crypto/cmac"] {
        let place = format!("usr/lib/modules/6.18.2-0-virt/kernel/{module}.ko");
        assert!(parts.disk.get(place.as_bytes()).is_some(), "{place}");
    }
}

#[test]
fn nothing_of_alpine_is_taken_on_trust() {
    if !has_tools(&["openssl"]) {
        return;
    }
    let world = world();
    let uri = serve(&world.path("mirror"));
    let store = tempfile::tempdir().unwrap();
    let refused = |expected: &str| {
        let error = lock(&world, &uri, store.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    // The index was changed behind its signature.
    let index = world.mirror(1, "APKINDEX.tar.gz");
    let length = fs::read(&index).unwrap().len();
    spoil(&index, length - 5);
    refused("does not fit");
    // The signature is right, and its key is not among the trusted ones.
    world.write_indexes("stranger");
    fs::remove_file(world.path("keys/stranger.rsa.pub")).unwrap();
    refused("`stranger.rsa.pub`, which is not trusted");
    world.write_indexes("test");
    lock(&world, &uri, store.path()).unwrap();

    // One byte of a package's data, of its control files, and a whole other package.
    let package = world.mirror(1, "accounts-1.0-r0.apk");
    let good = fs::read(&package).unwrap();
    for place in [good.len() - 5, good.len() / 2] {
        spoil(&package, place);
        refused("accounts-1.0-r0.apk");
        fs::write(&package, &good).unwrap();
    }
    fs::copy(world.mirror(0, "watcher-1.0-r0.apk"), &package).unwrap();
    refused("not the file that the signed index names");
    fs::write(&package, &good).unwrap();

    // An older index with the right signature, given again.
    let newer =
        World { index: world.index.clone().map(|text| text.replace("t:17", "t:18")), ..world };
    let world = newer;
    world.write_indexes("test");
    lock(&world, &uri, store.path()).unwrap();
    let older =
        World { index: world.index.clone().map(|text| text.replace("t:18", "t:17")), ..world };
    let world = older;
    world.write_indexes("test");
    let error = lock(&world, &uri, store.path()).unwrap_err().to_string();
    assert!(error.contains("older than one that was used before"), "{error}");
    fs::remove_dir_all(world.path("memory")).unwrap();

    // By the lock: one byte on the mirror, then one in the store.
    let lock = lock(&world, &uri, store.path()).unwrap();
    let locked = lock.package.iter().find(|package| package.name == "accounts").unwrap();
    spoil(&package, good.len() - 5);
    let fresh = tempfile::tempdir().unwrap();
    let fetched = world.apk(&uri).fetch(&[locked], fresh.path());
    let outcome = fetched.stdout_null().stderr_null().unchecked().run().unwrap();
    assert!(!outcome.status.success() && !store_path(fresh.path(), locked).is_file());
    spoil(&store_path(store.path(), locked), 100);
    let error = checked_path(store.path(), locked).unwrap_err();
    assert!(matches!(error, Error::Store(StoreError::WrongHash { .. })), "{error}");
}
