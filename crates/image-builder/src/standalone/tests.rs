//! Bakes of small recipes on a small base that the test makes; no mirror and no machine.

use super::*;
use crate::{
    StoreError,
    bake::{Baked, Prover},
    ext4,
    programs::tests as wheels,
    qcow2,
    tree::Node,
};
use host_platform::Arch;
use serde_json::{Value, json};
use std::sync::Mutex;

/// A base image of a few files, and the folder that it lies in.
fn base(folder: &Path) -> Base {
    let mut tree = Tree::new(1000);
    for (path, text) in [
        ("etc/os-release", "ID=debian\nVERSION_CODENAME=trixie\n"),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
        ("etc/group", "root:x:0:\n"),
        ("etc/shadow", "root:!:::::::\n"),
        ("usr/bin/tool", "tool"),
        ("usr/lib/modules/6.1/x.ko", "module"),
    ] {
        tree.put(path, Node::file(text.as_bytes(), 0o644, 900)).unwrap();
    }
    let settings =
        ext4::Settings { size: 32 << 20, label: "base".to_owned(), uuid: [1; 16], time: 1000 };
    let chunks = ext4::build(&tree, &settings).unwrap().into_chunks();
    let name = |part: &str| folder.join(format!("base-13-amd64.{part}"));
    let settings = qcow2::Settings { level: 1, n_threads: 1, backing: None };
    qcow2::write(&name("qcow2"), &chunks, &settings, &|_| {}).unwrap();
    let mut initrd = Tree::new(0);
    initrd.put("init", Node::file(*b"agent", 0o755, 0)).unwrap();
    fs::write(name("initrd"), crate::cpio::archive(&initrd).unwrap()).unwrap();
    fs::write(name("kernel"), "kernel").unwrap();
    let info = folder.join("quicksand_base-0.1.0.dist-info");
    for (name, text) in [
        (
            "sboms/quicksand_base.cdx.json",
            r#"{"components":[{"type":"operating-system","name":"linux-image-6.1","version":"6.1-2","licenses":[{"license":{"id":"GPL-2.0-only"}},{"license":{"name":"LicenseRef-x"}}]}]}"#,
        ),
        (
            "licenses/COPYRIGHT-packages.txt",
            "==== a, linux-image-6.1 ====\n\nby many\n\n==== b ====\n",
        ),
    ] {
        fs::create_dir_all(info.join(name).parent().unwrap()).unwrap();
        fs::write(info.join(name), text).unwrap();
    }
    Base {
        name: "base".to_owned(),
        version: "13".to_owned(),
        arch: Arch::Amd64,
        kernel: name("kernel"),
        initrd: name("initrd"),
        chain: vec![name("qcow2")],
        requirement: Some("quicksand-base==0.1.0".to_owned()),
        info: Some(info),
    }
}

fn bake_in(folder: &Path, base: &Base, update: bool) -> Result<Published, Error> {
    bake_with(folder, base, update, Path::new("/nonexistent/python"))
}

/// What became of a bake.
#[derive(Debug)]
struct Published {
    name: String,
    checks: BTreeMap<String, recipe::Check>,
    wheel: PathBuf,
}

/// What a person sees in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.starts_with('.')).collect()
}

/// Boots nothing, and looks at what it would boot.
struct Looker {
    out: PathBuf,
    before: Vec<String>,
    seen: Mutex<Vec<(String, BTreeMap<String, recipe::Check>)>>,
    fails: bool,
}

impl Prover<Error> for Looker {
    fn identity(&self, _arch: Arch) -> Result<Vec<u8>, Error> {
        Ok(Vec::new())
    }

    fn prove(&self, baked: &Baked, images: &Path, _: &dyn Fn(String)) -> Result<Value, Error> {
        assert_eq!(names(&self.out), self.before, "nothing is published before it is proved");
        for (_, name) in &baked.finished.files {
            assert!(images.join(name).is_file(), "{name}");
        }
        let checks = baked.recipe.body.checks.clone();
        self.seen.lock().unwrap().push((baked.recipe.name.clone(), checks));
        match self.fails {
            true => Err(Error::Proof("it does not boot".into())),
            false => Ok(json!({"proved": "yes"})),
        }
    }
}

fn bake_with(folder: &Path, base: &Base, update: bool, python: &Path) -> Result<Published, Error> {
    bake_proved(folder, base, (update, false), python)
}

fn bake_proved(
    folder: &Path,
    base: &Base,
    (update, fails): (bool, bool),
    python: &Path,
) -> Result<Published, Error> {
    let said = Mutex::new(Vec::new());
    let out = folder.join("dist");
    let prover = Looker { out: out.clone(), before: names(&out), seen: Mutex::default(), fails };
    let options = Options {
        pull: &|_| Err("no registry is at hand".to_owned()),
        out: &out,
        cache: &folder.join("cache"),
        python: python.as_os_str(),
        ownership: None,
        update,
        prover: Some(&prover),
        say: &|what| said.lock().unwrap().push(what.to_owned()),
    };
    let outcome = bake(folder, base, &options);
    let refused = said.lock().unwrap().iter().any(|line| line.contains("nothing was written"));
    assert_eq!(refused, matches!(outcome, Err(Error::Proof(_))));
    let wheel = outcome?;
    let (name, checks) = prover.seen.into_inner().unwrap().remove(0);
    let report = fs::read_to_string(out.join(format!("{name}.json"))).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report, json!({"proved": "yes", "image": name, "arch": base.arch.image_name()}));
    Ok(Published { name, checks, wheel })
}

#[test]
fn what_is_not_proved_is_not_published() {
    let scratch = tempfile::tempdir().unwrap();
    let base = base(scratch.path());
    let folder = project(scratch.path(), "base = \"base\"\nsummary = \"x\"\n");
    let python = Path::new("/nonexistent/python");
    let error = bake_proved(&folder, &base, (false, true), python).unwrap_err();
    assert_eq!(error.to_string(), "it does not boot");
    assert_eq!(names(&folder.join("dist")), [""; 0]);
    bake_proved(&folder, &base, (false, false), python).unwrap();
}

fn project(parent: &Path, recipe: &str) -> PathBuf {
    let folder = parent.join("mine");
    fs::create_dir_all(folder.join("files")).unwrap();
    fs::write(folder.join(RECIPE), recipe).unwrap();
    folder
}

#[test]
fn a_new_folder_bakes_an_overlay_as_it_is() {
    let scratch = tempfile::tempdir().unwrap();
    let base = base(scratch.path());
    let folder = project(scratch.path(), "");
    for (name, text) in template::files("mine", "base", "13", template::RootFs::Base) {
        fs::write(folder.join(name), text).unwrap();
    }
    assert_eq!(base_of(&folder).unwrap(), "base");
    let baked = bake_in(&folder, &base, false).unwrap();
    assert_eq!(baked.name, "mine");
    assert_eq!(baked.checks["motd"].prints.as_deref(), Some("mine"));
    let overlay = folder.join("dist/mine/overlays/0.qcow2");
    let chain = [base.chain[0].as_path(), &overlay];
    let tree = ext4::read(qcow2::read_disk(&chain).unwrap()).unwrap();
    assert_eq!(tree.read("etc/motd").unwrap().unwrap().as_ref(), b"Welcome to mine.\n");
    assert_eq!(tree.read("usr/bin/tool").unwrap().unwrap().as_ref(), b"tool");
    let manifest = fs::read_to_string(folder.join("dist/mine/manifest.json")).unwrap();
    let manifest = package_layout::manifest::Manifest::parse(&manifest).unwrap();
    assert_eq!(manifest.base_image(), Some("base"));
    assert_eq!(
        manifest.base_disk.unwrap().sha256,
        crate::sha256(&fs::read(&base.chain[0]).unwrap())
    );
    assert!(wheel_retag::verify(&baked.wheel).unwrap().is_empty());

    // The same again is the same, and another base than the lock's is refused.
    let wheel = fs::read(&baked.wheel).unwrap();
    bake_in(&folder, &base, false).unwrap();
    assert!(fs::read(&baked.wheel).unwrap() == wheel);
    let mut disk = fs::read(&base.chain[0]).unwrap();
    disk.extend([0; 512]);
    fs::write(&base.chain[0], disk).unwrap();
    let error = bake_in(&folder, &base, false).unwrap_err();
    assert!(error.hint().unwrap().contains("--update"), "{error}");
    bake_in(&folder, &base, true).unwrap();
}

/// The bill of materials, the licences and the manifest of a wheel, as one text.
fn metadata(wheel: &Path) -> String {
    let mut text = String::new();
    wheel_retag::read_entries(wheel, |name, _, reader| {
        let is_manifest = name == "quicksand_mine/images/manifest.json";
        if is_manifest || name.ends_with(".cdx.json") || name.ends_with("COPYRIGHT-packages.txt") {
            reader.read_to_string(&mut text)?;
        }
        Ok(())
    })
    .unwrap();
    text
}

#[cfg(unix)]
#[test]
fn programs_of_a_wheel_are_fetched_once_and_are_in_image_bill_and_licences() {
    let scratch = tempfile::tempdir().unwrap();
    let base = base(scratch.path());
    let links = tempfile::tempdir().unwrap();
    let wheel = wheels::made(links.path(), "1");
    let Some(python) = wheels::python(links.path()) else { return };
    let pinned = &wheel.sha256["amd64"];
    let recipe = |version: &str, program: &str, digest: &str| {
        format!(
            "base = \"base\"\nsummary = \"x\"\n[[wheel]]\nname = \"a-tool\"\nversion = \"{version}\"\n\
             licence = \"MIT\"\nprograms = [\"{program}\"]\nsha256.{digest}\"\n"
        )
    };
    let good = recipe("1", "tool", &format!("x86_64 = \"{pinned}"));
    let folder = project(scratch.path(), &good);
    let error = bake_in(&folder, &base, false).unwrap_err();
    assert!(error.to_string().contains("`a-tool` 1 with pip"), "{error}");
    assert!(error.hint().unwrap().contains("install Python 3 with pip"), "{error}");
    let baked = bake_with(&folder, &base, false, &python).unwrap();
    let overlay = folder.join("dist/mine/overlays/0.qcow2");
    let tree = ext4::read(qcow2::read_disk(&[&base.chain[0], &overlay]).unwrap()).unwrap();
    let program = tree.get(b"usr/local/bin/tool").unwrap();
    assert_eq!(program.mode & 0o7777, 0o755);
    let read = |path: &str| tree.read(path).unwrap().unwrap().to_vec();
    assert_eq!(read("usr/local/bin/tool"), b"#!/bin/sh\necho tool 1\n");
    assert_eq!(read("usr/share/doc/a-tool/copyright"), b"its terms\n");
    let metadata = metadata(&baked.wheel);
    for part in ["pkg:pypi/a-tool@1", "/usr/local/bin/tool", "==== a-tool ====\n\nits terms"] {
        assert!(metadata.contains(part), "{part}: {metadata}");
    }
    assert!(wheel_retag::verify(&baked.wheel).unwrap().is_empty());

    // The same from a fragment beside the recipe, without pip, and the same bytes.
    fs::create_dir(folder.join("fragments")).unwrap();
    let first = fs::read(&baked.wheel).unwrap();
    let fragment = format!("[[{}", good.split_once("[[").unwrap().1);
    fs::write(folder.join("fragments/tool.toml"), fragment).unwrap();
    project(scratch.path(), "base = \"base\"\nsummary = \"x\"\ninclude = [\"tool\"]\n");
    bake_in(&folder, &base, false).unwrap();
    assert!(fs::read(&baked.wheel).unwrap() == first);
    project(scratch.path(), &good);

    // What was fetched once is there without pip, and not when it changed.
    let kept = folder.join(format!("cache/packages/{pinned}.whl"));
    fs::write(&kept, "else").unwrap();
    assert!(matches!(
        bake_in(&folder, &base, false),
        Err(Error::Store(StoreError::WrongHash { .. }))
    ));
    fs::remove_file(&kept).unwrap();

    let other = "0".repeat(64);
    for (recipe, expected) in [
        (
            recipe("1", "tool", &format!("amd64 = \"{other}")),
            format!("{pinned}, the recipe {other}"),
        ),
        (recipe("1", "toll", &format!("amd64 = \"{pinned}")), "no program `toll`".to_owned()),
        (recipe("2", "tool", &format!("amd64 = \"{other}")), "`a-tool` 2 with pip".to_owned()),
        (recipe("1", "tool", &format!("arm64 = \"{pinned}")), "`a-tool` for amd64".to_owned()),
    ] {
        project(scratch.path(), &recipe);
        let error = bake_with(&folder, &base, false, &python).unwrap_err();
        assert!(error.to_string().contains(&expected), "{error}");
        assert!(error.hint().is_some(), "{error}");
        if let Error::Store(StoreError::WheelNotFetched { source, .. }) = &error {
            assert!(source.to_string().contains("a-tool==2"), "{source}");
        }
    }
}

#[test]
fn a_brought_root_gets_the_bases_kernel_modules_and_agent() {
    let scratch = tempfile::tempdir().unwrap();
    let base = base(scratch.path());
    let recipe = "base = \"base\"\nversion = \"1\"\nsummary = \"x\"\n[root]\ntar = \"r.tar\"\n\
        [disk]\nsize = \"64M\"\n[defaults]\nmemory = \"768M\"\ncpus = 2\n\
        [[file]]\npath = \"/etc/mine\"\ntext = \"x\"\n";
    let folder = project(scratch.path(), recipe);
    let mut brought = Tree::new(2000);
    brought.put("bin/sh", Node::file(*b"sh", 0o755, 1500)).unwrap();
    brought.put("etc/resolv.conf", Node::file(*b"", 0o644, 1500)).unwrap();
    brought.write_tar(&folder.join("r.tar")).unwrap();
    let baked = bake_in(&folder, &base, false).unwrap();
    let out = folder.join("dist");
    assert_eq!(fs::read(out.join("mine-1-amd64.kernel")).unwrap(), b"kernel");
    assert_eq!(fs::read(out.join("mine-1-amd64.initrd")).unwrap(), fs::read(&base.initrd).unwrap());
    let disk = out.join("mine-1-amd64.qcow2");
    let tree = ext4::read(qcow2::read_disk(&[&disk]).unwrap()).unwrap();
    // No link leads from lib to usr/lib here, and modprobe looks into lib.
    assert_eq!(tree.read("lib/modules/6.1/x.ko").unwrap().unwrap().as_ref(), b"module");
    assert_eq!(tree.read("etc/mine").unwrap().unwrap().as_ref(), b"x");
    assert!(!tree.read("etc/resolv.conf").unwrap().unwrap().is_empty());
    assert!(tree.get(b"usr/bin/tool").is_none(), "the base's files stay out");
    assert!(wheel_retag::verify(&baked.wheel).unwrap().is_empty());
    // The kernel that comes along is named as the base's wheel names it, with its text.
    let text = metadata(&baked.wheel);
    for part in [
        "linux-image-6.1",
        "6.1-2",
        "LicenseRef-x",
        "by many",
        "/lib/modules/6.1/x.ko",
        "initrd:/init",
        "LicenseRef-mine",
        "\"memory\": \"768M\"",
        "\"cpus\": 2",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    brought.put("bin/sh", Node::file(*b"other", 0o755, 1500)).unwrap();
    brought.write_tar(&folder.join("r.tar")).unwrap();
    let error = bake_in(&folder, &base, false).unwrap_err().to_string();
    assert!(error.contains("r.tar"), "{error}");
}

#[test]
fn an_invalid_recipe_is_refused_at_the_line_of_the_mistake() {
    let scratch = tempfile::tempdir().unwrap();
    let base = base(scratch.path());
    for (recipe, expected) in [
        ("version = \"1\"\n", "missing field `base`"),
        (
            "base = \"base\"\nsummary = \"x\"\n[root]\ntar = \"a\"\noci = \"b\"\n",
            "either `tar` or `oci` or `image`",
        ),
        (
            "base = \"base\"\nsummary = \"x\"\npackages = [\"a\"]\n[root]\ntar = \"a\"\n",
            "has its packages in it",
        ),
        ("base = \"base\"\nsummary = \"x\"\n[disk]\nsize = \"1G\"\n", "cannot have its own `disk`"),
        ("base = \"base\"\nsummary = \"x\"\npackages = [\"a\"]\n", "no package manager"),
    ] {
        let folder = project(scratch.path(), recipe);
        let error = match base_of(&folder) {
            Ok(_) => bake_in(&folder, &base, false).unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(expected), "{error}");
    }
}
