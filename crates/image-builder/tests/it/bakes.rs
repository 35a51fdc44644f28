//! Bakes of a small recipe with packages that the test makes, all stages but the boot: what becomes of
//! a changed byte, and whether the same inputs give the same bytes wherever, by whom and whenever.

mod at_once;
mod exported;
mod host;
mod proved;

use crate::served::{File, deb, file, kernel, module, put, spoil};
use anyhow::Result;
use duct::cmd;
use fs_err as fs;
use host::Baking;
use host_platform::Arch;
use image_builder::{
    apt::{self, store_path},
    bake::{self, BaseLayer, Options, Order},
    lock::{ArchLock, Lock, Package, Release},
    recipe::{self, Recipe},
    sha256,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

const ARCH: Arch = Arch::Arm64;
const RELEASE: &str = "6.12.9-test";

const RECIPE: &str = r#"
version = "1"
summary = "A test"
packages = ["tool"]
include = ["piece"]
[distribution]
name = "debian"
suite = "trixie"
method = "unpack"
[kernel]
package = "linux-image-test"
initrd = ["ext4"]
modules = ["9p"]
[disk]
size = "64M"
[[user]]
name = "tester"
id = 1000
shell = "/bin/sh"
[[file]]
path = "/etc/passwd"
text = "root:x:0:0:root:/root:/bin/sh\n"
[[file]]
path = "/etc/group"
text = "root:x:0:\n"
[[file]]
path = "/etc/shadow"
text = "root:!:::::::\n"
[[file]]
path = "/etc/mine"
source = "mine"
owner = "tester"
"#;
const PIECE: &str = "[[file]]\npath = \"/etc/piece\"\nsource = \"piece\"\n";

/// A folder with recipes, packages, an agent and our sources, and a cache that may lie elsewhere.
struct World {
    folder: PathBuf,
    cache: PathBuf,
}

fn package(name: &str, files: &[File], store: &Path) -> Package {
    let control = format!(
        "Package: {name}\nVersion: 1\nArchitecture: arm64\nMaintainer: t\nDescription: t\n"
    );
    let bytes = deb(&control, files);
    let package = Package {
        name: name.to_owned(),
        version: "1".to_owned(),
        arch: "arm64".to_owned(),
        archive: "debian".to_owned(),
        path: format!("pool/{name}_1_arm64.deb"),
        size: bytes.len() as u64,
        sha256: sha256(&bytes),
    };
    put(&store_path(store, &package), &bytes);
    package
}

impl World {
    fn new(folder: &Path) -> Self {
        let world = Self { folder: folder.to_owned(), cache: folder.join("cache") };
        for (name, text) in [
            ("recipes/small/recipe.toml", RECIPE),
            ("recipes/small/files/mine", "mine"),
            ("recipes/fragments/piece.toml", PIECE),
            ("recipes/fragments/files/piece", "piece"),
            ("agent", "the agent"),
        ] {
            put(&world.folder.join(name), text.as_bytes());
        }
        let store = world.folder.join("packages");
        let modules = format!("./usr/lib/modules/{RELEASE}");
        let mut tool = file("./usr/bin/tool", vec![7; 300_000]);
        (tool.mode, tool.owner) = (0o4755, "root");
        let lock = ArchLock {
            request: String::new(),
            source_date: 1_700_000_000,
            release: vec![Release {
                archive: "debian".to_owned(),
                suite: "trixie".to_owned(),
                date: 1_700_000_000,
                sha256: sha256(b"release"),
            }],
            package: vec![package("tool", &[tool, file("./etc/tool.conf", "x")], &store)],
            kernel: Some(package(
                "linux-image-test",
                &[
                    file(&format!("./boot/vmlinuz-{RELEASE}"), kernel()),
                    file(&format!("{modules}/kernel/ext4.ko"), module("depends=")),
                    file(&format!("{modules}/kernel/9p.ko"), module("depends=")),
                    file(&format!("{modules}/modules.builtin"), ""),
                    file(&format!("{modules}/modules.order"), ""),
                ],
                &store,
            )),
            kernel_modules: Vec::new(),
        };
        let request = apt::request(&world.recipe().unwrap(), ARCH, &[]);
        let mut whole = Lock::default();
        whole.set(ARCH, ArchLock { request, ..lock });
        whole.save(&world.lock_path(), "small").unwrap();
        world
    }

    fn recipe(&self) -> Result<Recipe> {
        Ok(recipe::load(&self.folder.join("recipes"), "small")?)
    }

    fn lock_path(&self) -> PathBuf {
        self.folder.join("recipes/small/recipe.lock")
    }

    fn bake(&self) -> Result<BTreeMap<String, String>> {
        let host = Baking::offline(&self.cache)?;
        self.stages(&host, &self.recipe()?, &self.folder.join("packages"))
    }

    fn options(&self) -> Options {
        Options { agent: Some(self.folder.join("agent")), ..Options::default() }
    }

    /// All stages but the boot; gives the finished files' digests by name.
    fn stages(
        &self,
        host: &Baking,
        recipe: &Recipe,
        store: &Path,
    ) -> Result<BTreeMap<String, String>> {
        self.stages_with(host, recipe, store, &self.options())
    }

    fn stages_with(
        &self,
        host: &Baking,
        recipe: &Recipe,
        store: &Path,
        options: &Options,
    ) -> Result<BTreeMap<String, String>> {
        let order = Order { recipe, arch: ARCH, store, base: BaseLayer::Scratch, options };
        let finished = bake::run(host, order)?;
        let mut digests =
            BTreeMap::from([("wheel".to_owned(), sha256(&fs::read(&finished.wheel)?))]);
        for (path, name) in &finished.files {
            let part = name.rsplit('.').next().unwrap();
            digests.insert(format!("small.{part}"), sha256(&fs::read(path)?));
        }
        Ok(digests)
    }

    /// Nothing of an earlier bake.
    fn forget(&self) {
        if self.cache.exists() {
            fs::remove_dir_all(&self.cache).unwrap();
        }
    }

    /// Replaces the first `from`, and gives the text as it was.
    fn edit(&self, name: &str, from: &str, to: &str) -> String {
        let path = self.folder.join(name);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{name}: {text}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
        text
    }
}

/// How many entries there are of each kind of what a bake makes.
fn entries(cache: &Path) -> BTreeMap<String, usize> {
    fs::read_dir(cache)
        .unwrap()
        .map(|kind| kind.unwrap())
        .map(|kind| (kind.file_name().to_string_lossy().into_owned(), kind.path()))
        .filter(|(name, _)| name.starts_with("image-"))
        .map(|(name, path)| (name, fs::read_dir(path).unwrap().count()))
        .collect()
}

#[test]
fn other_code_makes_every_stage_again_and_the_same_code_none() {
    if !tools_are_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path());
    let (host, recipe) = (Baking::offline(&world.cache).unwrap(), world.recipe().unwrap());
    let store = world.folder.join("packages");
    let bake = |code: Option<&str>| {
        let options = Options { code: code.map(str::to_owned), ..world.options() };
        world.stages_with(&host, &recipe, &store, &options).unwrap()
    };
    let first = bake(None);
    let kinds = ["image-disk", "image-initrd", "image-kernel", "image-rootfs", "image-wheel"];
    let times = |n: usize| kinds.map(|kind| (kind.to_owned(), n)).into_iter().collect();
    assert_eq!(entries(&world.cache), times(1));
    assert_eq!(bake(None), first);
    assert_eq!(entries(&world.cache), times(1));
    assert_eq!(bake(Some("other code")), first);
    assert_eq!(entries(&world.cache), times(2));
}

fn tools_are_there() -> bool {
    let is_there =
        cmd!("sh", "-c", "PATH=$PATH:/usr/sbin:/sbin command -v depmod dpkg-query setpriv taskset")
            .stdout_null()
            .run()
            .is_ok();
    if !is_there {
        eprintln!("skipped: depmod, dpkg-query, setpriv or taskset is not installed");
    }
    is_there
}

#[test]
fn a_byte_changed_in_an_input_is_refused_or_makes_another_image() {
    if !tools_are_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path());
    let first = world.bake().unwrap();
    assert_eq!(first, world.bake().unwrap());
    let lock = fs::read_to_string(world.lock_path()).unwrap();
    let parsed = Lock::load(&world.lock_path()).unwrap().any(ARCH).unwrap().clone();

    // What comes from elsewhere has a digest in the lock, and the lock's own digests name what there is.
    for package in parsed.all() {
        let place = store_path(&folder.path().join("packages"), package);
        spoil(&place, 200);
        world.forget();
        let error = format!("{:#}", world.bake().unwrap_err());
        assert!(error.contains(&package.sha256), "{error}");
        spoil(&place, 200);
        let other = sha256(b"another package");
        world.edit("recipes/small/recipe.lock", &package.sha256, &other);
        let error = format!("{:#}", world.bake().unwrap_err());
        assert!(error.contains(&package.name) && error.contains("not in the cache"), "{error}");
        fs::write(world.lock_path(), &lock).unwrap();
    }
    // The lock answers one question, and another one needs the mirror.
    world.edit("recipes/small/recipe.lock", &parsed.request, "0123456789abcdef");
    let error = format!("{:#}", world.bake().unwrap_err());
    assert!(error.contains("does not answer its recipe"), "{error}");
    world.edit("recipes/small/recipe.lock", "0123456789abcdef", &parsed.request);

    // What the person wrote makes another image, with the cache of the first one there.
    assert_eq!(first, world.bake().unwrap());
    for (name, from, to, changed) in [
        ("recipes/small/recipe.toml", "9p", "ext4", "small.qcow2"),
        ("recipes/small/recipe.toml", "64M", "65M", "small.qcow2"),
        ("recipes/small/recipe.toml", "A test", "B test", "wheel"),
        ("recipes/small/files/mine", "mine", "nine", "small.qcow2"),
        ("recipes/fragments/piece.toml", "etc/piece", "etc/peace", "small.qcow2"),
        ("recipes/fragments/files/piece", "piece", "peace", "small.qcow2"),
        ("agent", "agent", "Agent", "small.initrd"),
    ] {
        let before = world.edit(name, from, to);
        let other = world.bake().unwrap();
        assert_ne!(first[changed], other[changed], "{name}: {from} -> {to}");
        assert_ne!(first["wheel"], other["wheel"], "{name}: {from} -> {to}");
        fs::write(folder.path().join(name), before).unwrap();
        assert_eq!(first, world.bake().unwrap(), "{name} as it was");
    }
    for (name, from, to) in [
        ("recipes/small/recipe.toml", "[disk]", "[dusk]"),
        ("recipes/fragments/piece.toml", "path", "pith"),
        ("recipes/small/recipe.lock", "version = 1", "version = 2"),
        ("recipes/small/recipe.lock", "source_date = 17", "source_date = 16"),
        ("recipes/small/recipe.lock", "version = \"1\"", "version = \"2\""),
        ("recipes/small/recipe.lock", "size = ", "size = 9"),
        ("recipes/small/recipe.lock", "[[arch", "[[arsh"),
    ] {
        let before = world.edit(name, from, to);
        assert!(world.bake().is_err(), "{name}: {from} -> {to}");
        fs::write(folder.path().join(name), before).unwrap();
    }
}

/// The variable that names a world's folder to the test below, which is its own process.
const WORLD: &str = "QUICKSAND_TEST_WORLD";

#[test]
#[ignore = "it is run by those that follow, each time under other circumstances"]
fn bakes_a_given_world() {
    let Some(folder) = std::env::var_os(WORLD) else { return };
    let cache = std::env::var_os("QUICKSAND_CACHE").unwrap();
    let world = World { folder: folder.into(), cache: cache.into() };
    for (name, digest) in world.bake().unwrap() {
        println!("digest {name} {digest}");
    }
}

/// The command that bakes a world in a process of its own, behind `before`.
fn bake_in_process(
    before: &[&str],
    program: &Path,
    world: &Path,
    cache: &Path,
) -> duct::Expression {
    let program = program.to_str().unwrap();
    let test = ["--exact", "bakes::bakes_a_given_world", "--ignored", "--nocapture"];
    let line: Vec<&str> = before.iter().copied().chain([program]).chain(test).collect();
    cmd(line[0], &line[1..]).env(WORLD, world).env("QUICKSAND_CACHE", cache).stderr_to_stdout()
}

fn digests(output: &str) -> BTreeMap<String, String> {
    output
        .lines()
        .filter_map(|line| {
            let mut words = line.split_once("digest ")?.1.split(' ');
            Some((words.next()?.to_owned(), words.next()?.to_owned()))
        })
        .collect()
}

/// A folder that everybody may look into.
fn open_folder(parent: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir_in(parent).unwrap();
    cmd!("chmod", "777", folder.path()).run().unwrap();
    folder
}

#[test]
fn the_same_lock_gives_the_same_bytes_anywhere_to_anybody_at_any_time() {
    if !tools_are_there() {
        return;
    }
    let folder = open_folder(&std::env::temp_dir());
    World::new(folder.path());
    let program = folder.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let memory = Path::new("/dev/shm");
    let elsewhere = if memory.is_dir() { open_folder(memory) } else { open_folder(folder.path()) };
    let is_root = cmd!("id", "-u").read().unwrap().trim() == "0";
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let other_user: &[&str] = if is_root {
        &nobody
    } else {
        eprintln!("skipped in part: only root can become another user");
        &[]
    };
    let one_processor = ["taskset", "-c", "0"];
    let private = ["sh", "-c", "umask 077; exec \"$@\"", "sh"];
    let open = ["sh", "-c", "umask 0; exec \"$@\"", "sh"];
    let mut found = BTreeMap::new();
    for (name, before, place, zone, language, age) in [
        ("first", &[][..], folder.path(), "UTC", "C", "now"),
        (
            "other user and file system",
            other_user,
            elsewhere.path(),
            "Asia/Tokyo",
            "C.UTF-8",
            "now",
        ),
        (
            "private, later",
            &private,
            folder.path(),
            "America/New_York",
            "de_DE.UTF-8",
            "1999-12-31",
        ),
        (
            "open, one processor",
            &open,
            elsewhere.path(),
            "UTC",
            "tr_TR.UTF-8",
            "2031-07-01 03:04:05",
        ),
        ("one processor", &one_processor, folder.path(), "UTC", "C", "1970-01-02"),
    ] {
        // The inputs are as old as somebody's checkout, and their order on disk is another.
        let paths = ["recipes", "packages", "agent"].map(|path| folder.path().join(path));
        let touch =
            cmd!("find", &paths[0], &paths[1], &paths[2], "-exec", "touch", "-d", age, "{}", "+");
        touch.run().unwrap();
        let cache = open_folder(place);
        let bake = bake_in_process(before, &program, folder.path(), cache.path());
        let output = bake.env("TZ", zone).env("LC_ALL", language).read().unwrap();
        let digests = digests(&output);
        assert_eq!(digests.len(), 4, "{name}: {output}");
        found.insert(name, digests);
    }
    let first = &found["first"];
    for (name, digests) in &found {
        assert_eq!(first, digests, "{name}");
    }
}

/// Whether an entry of a kind is begun and not whole yet.
fn is_being_made(kind: &Path) -> bool {
    let entries = fs::read_dir(kind).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(".part-"))
}

#[test]
fn a_killed_bake_leaves_nothing_half_made_and_is_resumed() {
    if !tools_are_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path());
    let program = std::env::current_exe().unwrap();
    let expected = world.bake().unwrap();
    world.forget();
    let mut n_killed = 0;
    for kind in ["image-kernel", "image-rootfs", "image-disk", "image-initrd", "image-wheel"] {
        let bake = bake_in_process(&[], &program, folder.path(), &world.cache).stdout_null();
        let running = bake.unchecked().start().unwrap();
        // As soon as the stage has begun, however fast the host is.
        while running.try_wait().unwrap().is_none() && !is_being_made(&world.cache.join(kind)) {}
        n_killed += usize::from(running.try_wait().unwrap().is_none());
        // SIGKILL: nothing can be tidied up.
        running.kill().unwrap();
        running.wait().unwrap();
    }
    assert!(n_killed > 0, "every bake was through before it could be killed");
    assert_eq!(world.bake().unwrap(), expected);
    // What was left unfinished went with the bake that finished it.
    let left: Vec<PathBuf> = walkdir::WalkDir::new(&world.cache)
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".part-"))
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
