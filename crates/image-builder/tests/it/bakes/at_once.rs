//! Bakes and locks that are made at the same time on one host, with one cache and in one folder of recipes,
//! each of which chooses its packages again: every one must be what it is when nobody else bakes.

use super::*;
use crate::{
    served::serve,
    signed::{Deb, NOBLE, Repository, package},
};
use image_builder::bake::Wanted;

const BASE: &str = r#"
version = "1"
summary = "A test"
packages = ["@PACKAGE@"]
[distribution]
name = "ubuntu"
suite = "noble"
components = ["main", "universe"]
method = "unpack"
[kernel]
flavour = "generic"
initrd = ["ext4"]
modules = ["9p"]
[disk]
size = "64M"
"#;

/// Two images on the bare system, and one on each of them. What is on one of them is below the other's
/// overlay, so that a list of installed packages that got mixed up makes another lock.
const IMAGES: [(&str, Result<&str, &str>, &str); 4] = [
    ("lower", Err("tool"), "libtool1 tool"),
    ("other", Err("gadget"), "gadget libgadget"),
    ("upper", Ok("lower"), "gadget libgadget"),
    ("side", Ok("other"), "libtool1 tool"),
];

/// The variable that names the image to bake.
const IMAGE: &str = "QUICKSAND_TEST_IMAGE";

fn repository() -> Repository {
    let repository = Repository::new("mirrors/deb");
    let mut main = vec![
        package("base-files", "13", "Essential: yes\n", &[file("./etc/os-release", "ID=ubuntu\n")]),
        package("apt", "2.8", "", &[file("./usr/share/apt/x", "x")]),
        package("libtool1", "1-1", "", &[file("./usr/lib/libtool1", "1")]),
        package("libgadget", "1-1", "", &[file("./usr/lib/libgadget", "1")]),
    ];
    main.extend(NOBLE.packages());
    let universe = [
        package("tool", "1-1", "Depends: libtool1\n", &[file("./usr/bin/tool", "tool")]),
        package("gadget", "1-1", "Depends: libgadget\n", &[file("./usr/bin/gadget", "gadget")]),
    ];
    let suite = |suite: &str, components: [&[Deb]; 2]| repository.suite(suite, "noble", components);
    suite("noble", [&main, &universe]);
    suite("noble-updates", [&[], &[]]);
    suite("noble-security", [&[], &[]]);
    repository
}

/// A folder of recipes without locks.
fn recipes() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, kind, _) in IMAGES {
        let text = match kind {
            Err(package) => BASE.replace("@PACKAGE@", package),
            Ok(base) => {
                format!("base = \"{base}\"\nsummary = \"x\"\npackages = [\"gadget\", \"tool\"]\n")
            }
        };
        put(&folder.path().join(format!("recipes/{name}/recipe.toml")), text.as_bytes());
    }
    put(&folder.path().join("agent"), b"the agent");
    folder
}

#[test]
#[ignore = "it is run by the one that follows, eight times at once"]
fn bakes_one_image_anew() {
    let (Some(folder), Ok(image)) = (std::env::var_os(WORLD), std::env::var(IMAGE)) else { return };
    let folder = PathBuf::from(folder);
    let cache = PathBuf::from(std::env::var_os("QUICKSAND_CACHE").unwrap());
    let host = &Baking::online(&cache).unwrap();
    let recipe = recipe::load(&folder.join("recipes"), &image).unwrap();
    let store = host.cache.folder("packages").unwrap();
    let agent = Some(folder.join("agent"));
    let options = Options { renewed: Some(image), agent, ..Options::default() };
    if let Some(below) = &recipe.base {
        // What is installed on another image is chosen by what that image's lock says is there; installing
        // it needs a system with dpkg, which this one is not.
        let mut base: Vec<ArchLock> = Vec::new();
        for layer in [below.as_ref(), &recipe] {
            let wanted = Wanted {
                host,
                recipe: layer,
                arch: ARCH,
                store: &store,
                base: &base,
                status: None,
            };
            let path = layer.folder.join("recipe.lock");
            base.push(bake::read_or_renewed(&options, &wanted, &path).unwrap());
        }
        println!("digest lock {}", sha256(format!("{base:?}").as_bytes()));
        return;
    }
    let order = Order {
        recipe: &recipe,
        arch: ARCH,
        store: &store,
        base: BaseLayer::Scratch,
        options: &options,
    };
    let finished = bake::run(host, order).unwrap();
    for (path, name) in &finished.files {
        println!("digest {name} {}", sha256(&fs::read(path).unwrap()));
    }
}

/// What a bake of an image leaves: the digests of its files, and the names in its lock.
type Left = (BTreeMap<String, String>, String);

struct Stage<'a> {
    uri: &'a str,
    keyring: PathBuf,
    folder: &'a Path,
    cache: &'a Path,
}

impl Stage<'_> {
    fn start(&self, image: &str) -> duct::Handle {
        let test = "bakes::at_once::bakes_one_image_anew";
        let program = std::env::current_exe().unwrap();
        // The path of a mirror need not be called as the archive is.
        cmd!(program, "--exact", test, "--ignored", "--nocapture")
            .env(WORLD, self.folder)
            .env(IMAGE, image)
            .env("QUICKSAND_CACHE", self.cache)
            .env("QUICKSAND_MIRROR_UBUNTU_PORTS", format!("{}/mirrors/deb", self.uri))
            .env("QUICKSAND_KEYRING_UBUNTU", &self.keyring)
            .stderr_to_stdout()
            .stdout_capture()
            .unchecked()
            .start()
            .unwrap()
    }

    fn end(&self, image: &str, running: &duct::Handle) -> BTreeMap<String, String> {
        let done = running.wait().unwrap();
        let output = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{image}: {output}");
        let found = digests(&output);
        assert!(!found.is_empty(), "{image}: {output}");
        found
    }

    fn lock(&self, image: &str) -> String {
        fs::read_to_string(self.folder.join(format!("recipes/{image}/recipe.lock"))).unwrap()
    }
}

#[test]
fn eight_bakes_at_once_give_what_each_gives_alone() {
    if !tools_are_there()
        || cmd!("sh", "-c", "command -v gpg gpgconf apt-get").stdout_null().run().is_err()
    {
        eprintln!("skipped: depmod, gpg or apt-get is not installed");
        return;
    }
    let repository = repository();
    let uri = serve(repository.folder());
    let keyring = repository.path("right.gpg");

    // Each by itself, one after the other.
    let (alone, cache) = (recipes(), tempfile::tempdir().unwrap());
    let stage =
        Stage { uri: &uri, keyring: keyring.clone(), folder: alone.path(), cache: cache.path() };
    let mut expected: BTreeMap<&str, Left> = BTreeMap::new();
    for (image, _, names) in IMAGES {
        let found = stage.end(image, &stage.start(image));
        let lock = Lock::load(&alone.path().join(format!("recipes/{image}/recipe.lock"))).unwrap();
        let lock = lock.any(ARCH).unwrap();
        let locked: Vec<&str> = lock.package.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(locked.join(" "), names, "{image}");
        expected.insert(image, (found, stage.lock(image)));
    }

    // Each twice, all of them at once, with nothing of the above.
    let (together, cache) = (recipes(), tempfile::tempdir().unwrap());
    let stage = Stage { uri: &uri, keyring, folder: together.path(), cache: cache.path() };
    let running: Vec<(&str, duct::Handle)> =
        IMAGES.iter().chain(&IMAGES).map(|(image, ..)| (*image, stage.start(image))).collect();
    assert_eq!(running.len(), 8);
    for (image, running) in &running {
        assert_eq!(stage.end(image, running), expected[image].0, "{image}");
    }
    for (image, (_, lock)) in &expected {
        assert_eq!(&stage.lock(image), lock, "{image}");
    }
    let left: Vec<PathBuf> = [together.path(), cache.path()]
        .into_iter()
        .flat_map(walkdir::WalkDir::new)
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(".part-") || name.contains(".lock.part")
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
