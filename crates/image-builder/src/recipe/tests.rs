//! Recipes that are right, and each way of being wrong.

use super::*;

const GOOD: &str = r#"
version = "13"
summary = "A test"
packages = ["bash"]

[distribution]
name = "debian"
suite = "trixie"

[kernel]
package = "linux-image-{arch}"
initrd = ["virtio_blk"]

[disk]
size = "4G"
"#;

fn check(text: &str, line: usize, column: usize, message: &str, hint: Option<&str>) {
    let error = parse(text, Path::new("recipe.toml")).unwrap_err();
    let shown = error.to_string();
    assert!(shown.starts_with(&format!("recipe.toml:{line}:{column}: ")), "{shown}");
    assert!(shown.contains(message), "{shown}");
    assert_eq!(error.hint().as_deref(), hint);
}

#[test]
fn a_good_recipe_has_sensible_defaults() {
    let body = parse(GOOD, Path::new("recipe.toml")).unwrap();
    assert_eq!(body.distribution.method, Method::Install);
    assert_eq!(body.distribution.components, ["main"]);
    assert_eq!(body.disk.size, DiskSize(4 << 30));
}

#[test]
fn unknown_keys_are_refused_where_they_stand() {
    let text = GOOD.replace("packages =", "pakages =");
    check(&text, 4, 1, "unknown field `pakages`", Some("did you mean `packages`?"));
    let text = GOOD.replace("initrd =", "initramfs-modules =");
    check(&text, 12, 1, "unknown field", Some("known here: flavour, package, initrd, modules"));
    let text = GOOD.replace("\"debian\"", "\"debain\"");
    check(&text, 7, 8, "unknown variant `debain`", Some("did you mean `debian`?"));
}

#[test]
fn impossible_values_are_refused_where_they_stand() {
    check(&GOOD.replace("\"4G\"", "\"lots\""), 15, 8, "`lots` is not a size", None);
    let text = GOOD.replace("\"bash\"", "\"bash; rm -rf /\"");
    check(&text, 4, 13, "`bash; rm -rf /` is not the name of a package", None);
    let text = format!("{GOOD}\n[[file]]\npath = \"/etc/x\"\n");
    check(&text, 17, 1, "needs either `text` or `source`", None);
    let text = format!("{GOOD}\n[[file]]\npath = \"/etc/x\"\nsource = \"../../key\"\n");
    check(&text, 19, 10, "leaves the `files` folder", Some("give a path relative to it"));
    check(&GOOD.replace("\"13\"", "\"1/3\""), 2, 11, "cannot be part of a file name", None);
    check(&GOOD.replace("\"trixie\"", "\"a b\""), 8, 9, "`a b` is not one word", None);
    let defaults = |line: &str| format!("{GOOD}\n[defaults]\n{line}\n");
    check(&defaults("cpus = 0"), 18, 8, "0 is not a number of processors", None);
    check(&defaults("memory = \"1K\""), 18, 10, "`1K` is not a machine's memory", None);
    check(&defaults("memory = 512"), 18, 10, "invalid type", None);
    let user = |id: u32| format!("\n[[user]]\nname = \"a\"\nid = {id}\nshell = \"/bin/sh\"\n");
    check(
        &format!("{GOOD}{}", user(0)),
        17,
        1,
        "cannot have the id 0",
        Some("write one from 1 to 65533"),
    );
    let other = user(7).replace("\"a\"", "\"b\"");
    check(&format!("{GOOD}{}{other}", user(7)), 22, 1, "of the user `b` is taken", None);
    let file = "\n[[file]]\npath = \"/etc/x\"\ntext = \"\"\n";
    check(&format!("{GOOD}{file}{file}"), 21, 1, "`/etc/x` is there twice", None);
    check(
        &format!("{GOOD}\n[checks.agent]\nrun = \" \"\n"),
        17,
        9,
        "the check `agent` runs nothing",
        None,
    );
    check(&GOOD.replace("\"4G\"", "\"9T\""), 15, 8, "`9T` is not the size of a disk", None);
    let file = |line: &str| format!("{GOOD}\n[[file]]\npath = \"/etc/x\"\n{line}\n");
    check(&file("source = \"gone\""), 19, 10, "there is no file `gone`", None);
    check(
        &file("text = \"\"\n[checks.a]\nrun = \"x\"\nexit = 300"),
        22,
        8,
        "300 is not an exit",
        None,
    );
    let links = format!("{GOOD}\n[[links]]\nfolder = \"/a\"\ntarget = \"x\"\nnames = [\"b/c\"]\n");
    check(&links, 20, 10, "`b/c` is not the name of a file", None);
    let text = GOOD.replace("suite = \"trixie\"", "suite = \"trixie\"\ncomponents = []");
    check(&text, 6, 1, "`components` is empty", Some("leave it out for [\"main\"]"));
    check(&GOOD.replace("A test", "A\\rtest"), 3, 11, "not one line of text", None);
    let both = GOOD.replace("initrd =", "flavour = \"cloud\"\ninitrd =");
    let hint = Some("flavours are generic and cloud");
    check(&both, 10, 1, "needs either `flavour` or `package`", hint);
}

#[test]
fn a_wheel_is_pinned_for_known_architectures() {
    let wheel = |lines: &str| {
        format!(
            "{GOOD}\n[[wheel]]\nname = \"uv\"\nversion = \"1\"\nlicence = \"MIT\"\nprograms = [\"uv\"]\n{lines}\n"
        )
    };
    let digest = "0".repeat(64);
    let good = wheel(&format!("sha256.amd64 = \"{digest}\""));
    let body = parse(&good, Path::new("recipe.toml")).unwrap();
    assert_eq!(
        Recipe::places_of(&body.wheel[0]),
        ["/usr/local/bin/uv", "/usr/share/doc/uv/copyright"]
    );
    let hint = Some("as in sha256.amd64 = \"0123...\"");
    check(&wheel("sha256 = {}"), 17, 1, "needs `sha256` of 64 digits", hint);
    check(&wheel("sha256.amd64 = \"12\""), 17, 1, "needs `sha256` of 64 digits", hint);
    let other = wheel(&format!("sha256.riscv = \"{digest}\""));
    let hint = "riscv".parse::<host_platform::Arch>().unwrap_err().hint();
    check(&other, 17, 1, "Unknown architecture `riscv`", hint.as_deref());
    // Every spelling that is known elsewhere, and the digits of either case.
    let (upper, other) = ("AB".repeat(32), "1".repeat(64));
    let spelled = wheel(&format!("sha256 = {{ x86_64 = \"{upper}\", aarch64 = \"{other}\" }}"));
    let body = parse(&spelled, Path::new("recipe.toml")).unwrap();
    assert_eq!(body.wheel[0].sha256["amd64"], "ab".repeat(32));
    assert_eq!(body.wheel[0].sha256["arm64"], other);
    let twice = wheel(&format!("sha256 = {{ x86_64 = \"{upper}\", amd64 = \"{other}\" }}"));
    check(&twice, 17, 1, "has two sha256 for amd64", Some("leave one of them out"));
    let hint =
        Some("as in \"MIT OR Apache-2.0\", or \"LicenseRef-Theirs\" for one that SPDX lacks");
    check(&good.replace("\"MIT\"", "\"free\""), 17, 1, "`free` of the wheel `uv` is no SPDX", hint);
    check(&good.replace("[\"uv\"]", "[]"), 17, 1, "needs `programs` and `licence`", None);
    check(&good.replace("[\"uv\"]", "[\"../uv\"]"), 21, 13, "`../uv` is not one word", None);
}

#[test]
fn a_flavour_names_the_kernels_package() {
    let text = GOOD.replace("package = \"linux-image-{arch}\"", "flavour = \"cloud\"");
    let body = parse(&text, Path::new("recipe.toml")).unwrap();
    assert_eq!(body.kernel.package, "linux-image-cloud-{arch}");
    let text = text.replace("\"cloud\"", "\"clod\"");
    check(&text, 11, 11, "unknown variant `clod`", Some("did you mean `cloud`?"));
}

/// A folder of recipes and fragments.
fn recipes(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn refusal(files: &[(&str, &str)], name: &str) -> (String, Option<String>) {
    let folder = recipes(files);
    let error = load(folder.path(), name).unwrap_err();
    let place = format!("{}/", folder.path().display());
    (error.to_string().replace(&place, ""), error.hint())
}

#[test]
fn fragments_come_before_the_recipe_and_yield_to_it() {
    let fragment = r#"
packages = ["less"]
[defaults]
memory = "1G"
cpus = 2
[kernel]
modules = ["9p"]
[[file]]
path = "/etc/a"
text = "of the fragment"
[[file]]
path = "/etc/b"
source = "b.txt"
[checks.shell]
run = "true"
"#;
    let recipe = format!(
        "include = [\"shares\"]\n{}\n[defaults]\ncpus = 4\n[[file]]\npath = \"/etc/a\"\ntext = \"own\"\n",
        GOOD.replace("[\"virtio_blk\"]", "[\"virtio_blk\"]\nmodules = [\"cifs\", \"md4?\"]")
    );
    let folder = recipes(&[
        ("fragments/shares.toml", fragment),
        ("fragments/files/b.txt", "bytes"),
        ("test/recipe.toml", &recipe),
    ]);
    let recipe = load(folder.path(), "test").unwrap();
    let body = &recipe.body;
    assert_eq!(body.packages, ["less", "bash"]);
    assert_eq!(body.kernel.modules, ["9p", "cifs", "md4?"]);
    assert_eq!(body.defaults.memory.as_ref().unwrap().as_str(), "1G");
    assert_eq!(body.defaults.cpus, Some(Cpus(4)));
    let content = |path: &str| {
        let file = body.file.iter().find(|file| file.path.as_str() == path).unwrap();
        String::from_utf8(recipe.content(file).unwrap()).unwrap()
    };
    assert_eq!((content("/etc/a"), content("/etc/b")), ("own".to_owned(), "bytes".to_owned()));
    assert_eq!(body.checks["shell"].run, "true");
}

#[test]
fn faults_of_fragments_are_named_where_they_stand() {
    let with = |line: &str| format!("include = [\"x\"]\n{GOOD}{line}");
    let (message, hint) = refusal(&[("test/recipe.toml", &with(""))], "test");
    assert!(message.starts_with("test/recipe.toml:1:12: no fragment is called `x`"), "{message}");
    assert!(hint.unwrap().ends_with("/fragments/x.toml"));
    let check = |fragment: &str, expect: &str| {
        let files = [("fragments/x.toml", fragment), ("test/recipe.toml", &with(""))];
        let (message, _) = refusal(&files, "test");
        assert!(message.starts_with(expect), "{message}");
    };
    check("\nversion = \"1\"\n", "fragments/x.toml:2:11: a fragment cannot set `version`");
    check("pakages = []\n", "fragments/x.toml:1:1: unknown field `pakages`");
    check("include = [\"x\"]\n", "fragments/x.toml:1:12: fragments include each other");
}

#[test]
fn an_overlay_has_distribution_kernel_and_disk_from_its_base() {
    let overlay = "base = \"lower\"\nsummary = \"On top\"\npackages = [\"git\"]\n";
    let lower = ("lower/recipe.toml", GOOD);
    let folder = recipes(&[lower, ("upper/recipe.toml", overlay)]);
    let upper = load(folder.path(), "upper").unwrap();
    assert_eq!(upper.body.packages, ["git"]);
    assert_eq!(upper.body.version, "13");
    assert_eq!(upper.body.distribution.suite, "trixie");
    let names: Vec<&str> = upper.layers().iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(names, ["lower", "upper"]);

    let check = |text: &str, expect: &str| {
        let (message, _) = refusal(&[lower, ("upper/recipe.toml", text)], "upper");
        assert!(message.starts_with(expect), "{message}");
    };
    let with_disk = format!("{overlay}[disk]\nsize = \"8G\"\n");
    check(&with_disk, "upper/recipe.toml:4:1: an overlay cannot have its own `disk`");
    check(&overlay.replace("lower", "lowr"), "upper/recipe.toml:1:8: No recipe is called `lowr`");
    check(&overlay.replace("\"lower\"", "\"upper\""), "Overlays lie on each other without end");
}

#[test]
fn what_a_fragment_brings_twice_counts_once_and_the_recipes_word_is_the_last() {
    let user = "[[user]]\nname = \"a\"\nid = 7\nshell = \"/bin/sh\"\n";
    let link = "[[link]]\npath = \"/etc/x\"\ntarget = \"y\"\n";
    let own = "[[file]]\npath = \"/etc/x\"\ntext = \"own\"\n";
    let folder = recipes(&[
        ("fragments/c.toml", &format!("{user}{link}")),
        ("fragments/a.toml", "include = [\"c\"]\n"),
        ("fragments/b.toml", "include = [\"c\"]\n"),
        ("test/recipe.toml", &format!("include = [\"a\", \"b\"]\n{GOOD}{own}")),
    ]);
    let body = load(folder.path(), "test").unwrap().body;
    assert_eq!((body.user.len(), body.link.len(), body.file.len()), (1, 0, 1));
}

#[cfg(unix)]
#[test]
fn a_link_among_the_files_leads_to_none_outside() {
    let source = "[[file]]\npath = \"/etc/x\"\nsource = \"link\"\n";
    let folder = recipes(&[
        ("secret", "x"),
        ("test/files/real", "x"),
        ("test/recipe.toml", &format!("{GOOD}{source}")),
    ]);
    let link = folder.path().join("test/files/link");
    fs_err::os::unix::fs::symlink("real", &link).unwrap();
    load(folder.path(), "test").unwrap();
    fs::remove_file(&link).unwrap();
    fs_err::os::unix::fs::symlink("../../secret", &link).unwrap();
    let error = load(folder.path(), "test").unwrap_err().to_string();
    assert!(error.contains(":18:10: ") && error.contains("by a link"), "{error}");
}

#[test]
fn text_that_is_none_is_pointed_at() {
    let folder = recipes(&[("test/recipe.toml", GOOD)]);
    let path = folder.path().join("test/recipe.toml");
    let bytes = GOOD.replace("A test", "A t\u{e9}st");
    let bytes: Vec<u8> = bytes.bytes().filter(|byte| *byte != 0xc3).collect();
    fs::write(&path, bytes).unwrap();
    let error = load(folder.path(), "test").unwrap_err().to_string();
    assert!(error.ends_with("recipe.toml:3:15: this is not UTF-8 text"), "{error}");
}

#[test]
fn a_root_file_system_is_for_recipes_elsewhere() {
    let root = "base = \"lower\"\nsummary = \"x\"\n[root]\ntar = \"x.tar\"\n";
    let files = [("lower/recipe.toml", GOOD), ("upper/recipe.toml", root)];
    let (message, hint) = refusal(&files, "upper");
    assert!(message.starts_with("upper/recipe.toml:3:1: "), "{message}");
    assert!(hint.unwrap().starts_with("quicksand dev scaffold base"));
}

#[test]
fn what_is_missing_is_named() {
    let error = parse("version = \"1\"\n", Path::new("recipe.toml")).unwrap_err();
    assert!(error.to_string().contains("missing field"), "{error}");
}

#[test]
fn an_unknown_recipe_offers_the_nearest() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["debian", "minimal"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("recipe.toml"), GOOD).unwrap();
    }
    let error = load(folder.path(), "debain").unwrap_err();
    assert_eq!(error.hint().unwrap(), "did you mean `debian`? There are: debian, minimal");
    assert!(load(folder.path(), "../debian").is_err());
    assert_eq!(load(folder.path(), "minimal").unwrap().name, "minimal");
}

#[test]
fn the_recipes_of_this_repository_are_sound() {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    let names = names(&recipes);
    assert!(names.len() > 5, "{names:?}");
    for name in names {
        let recipe = load(&recipes, &name).unwrap_or_else(|error| panic!("{error}"));
        for file in &recipe.body.file {
            recipe.content(file).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

#[test]
fn the_recipes_of_the_documentation_are_sound() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(root.join("recipes/README.md")).unwrap();
    let blocks: Vec<String> = page
        .split("```toml\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap().replace("d7f459fe...", &"d7".repeat(32)))
        .collect();
    let recipes = root.join("recipes");
    let whole = parse(&blocks[0], &recipes.join("new/recipe.toml"))
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(!whole.wheel.is_empty() && !whole.checks.is_empty() && !whole.links.is_empty());
    let body = Recipe { name: "debian".to_owned(), folder: root, body: whole, base: None };
    for block in &blocks[1..] {
        // An installed image has no folder of recipes: fragments are beside the recipe then.
        parse_on(block, &recipes.join("recipe.toml"), &body)
            .unwrap_or_else(|error| panic!("{error}: {block}"));
    }
    assert!(blocks.len() > 2);
}
