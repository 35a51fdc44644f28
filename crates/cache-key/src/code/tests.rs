//! The digests of this workspace's crates: a changed function is seen in every key that depends on it, and in
//! no other.

use super::*;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// A copy of what the digests read.
fn copy() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let put = |from: &Path| {
        let place = copy.path().join(from.strip_prefix(workspace()).unwrap());
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(from, place).unwrap();
    };
    for name in ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", ".cargo/config.toml"] {
        put(&workspace().join(name));
    }
    for folder in manifest::members(&workspace()).unwrap().values() {
        put(&folder.join("Cargo.toml"));
        if folder.join("build.rs").is_file() {
            put(&folder.join("build.rs"));
        }
        if folder.join("src").is_dir() {
            files_below(&folder.join("src")).unwrap().iter().for_each(|path| put(path));
        }
    }
    copy
}

/// Puts a statement into the first function of a crate, and gives what undoes it.
fn change_a_function(folder: &Path) -> impl FnOnce() + use<> {
    for path in files_below(&folder.join("src")).unwrap() {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        // Modules that only tests compile have these names.
        let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
        let is_of_tests = ["tests", "fuzz"].iter().any(|word| name.contains(word));
        let begins = |line: &str| {
            let line = line.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            line.starts_with("fn ") && line.ends_with('{')
        };
        let Some(line) = code.lines().find(|line| begins(line)).filter(|_| !is_of_tests) else {
            continue;
        };
        fs::write(&path, text.replacen(line, &format!("{line}\n    let _ = 17;"), 1)).unwrap();
        return move || fs::write(path, text).unwrap();
    }
    panic!("{} has no function", folder.display());
}

#[test]
fn a_changed_function_is_seen_in_every_key_that_depends_on_its_crate_and_in_no_other() {
    let copy = copy();
    let root = copy.path();
    for (made, names, reading) in [
        ("images", &["image-builder"][..], Reading::Meaning),
        ("proofs", &["image-builder", "sandbox"], Reading::Meaning),
        ("the agent", &["guest-agent"], Reading::Exact),
        ("the runtime", &["quicksand-cli", "quicksand-python"], Reading::Exact),
    ] {
        let first = digest(root, names, reading).unwrap();
        let decides = closure(root, names).unwrap();
        for name in names {
            assert!(decides.contains_key(*name));
        }
        for (name, folder) in manifest::members(root).unwrap() {
            if !folder.join("src").is_dir() {
                continue;
            }
            let undo = change_a_function(&folder);
            let other = digest(root, names, reading).unwrap();
            assert_eq!(first != other, decides.contains_key(&name), "{name} changed for {made}");
            undo();
        }
        assert_eq!(first, digest(root, names, reading).unwrap(), "{made}");
    }
}

#[test]
fn the_agent_is_made_from_itself_and_what_its_protocol_needs() {
    let found = closure(&workspace(), &["guest-agent"]).unwrap();
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        ["agent-protocol", "guest-agent", "parking_lot", "spelling"]
    );
    let images = closure(&workspace(), &["image-builder"]).unwrap();
    assert!(images.contains_key("wheel-retag") && !images.contains_key("sandbox"), "{images:?}");
}

#[test]
fn versions_and_features_of_libraries_count_where_they_are_used() {
    let copy = copy();
    let root = copy.path();
    let keys = || {
        [("image-builder", Reading::Meaning), ("guest-agent", Reading::Exact)]
            .map(|(name, reading)| digest(root, &[name], reading).unwrap())
    };
    let first = keys();
    let edit = |file: &str, from: &str, to: &str| {
        let text = fs::read_to_string(root.join(file)).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        fs::write(root.join(file), text.replacen(from, to, 1)).unwrap();
        text
    };
    for (file, from, to, expect) in [
        (
            "Cargo.lock",
            "name = \"rust-fs-ext4\"\nversion = \"0.8.0\"",
            "name = \"rust-fs-ext4\"\nversion = \"0.8.9\"",
            [true, false],
        ),
        (
            "Cargo.toml",
            "zstd = { version = \"0.14\"",
            "zstd = { version = \"0.14.9\"",
            [true, false],
        ),
        ("Cargo.toml", "opt-level = \"s\"", "opt-level = \"z\"", [false, true]),
        (
            "crates/wheel-retag/Cargo.toml",
            "[dependencies]\n",
            "[dependencies]\nxz = \"1\"\n",
            [true, false],
        ),
        (
            "crates/image-builder/Cargo.toml",
            "[dev-dependencies]\n",
            "[dev-dependencies]\nxz = \"1\"\n",
            [false, false],
        ),
    ] {
        let before = edit(file, from, to);
        let found = keys();
        let changed = [0, 1].map(|at| found[at] != first[at]);
        fs::write(root.join(file), before).unwrap();
        assert_eq!(changed, expect, "{file}: {from}");
    }
}

#[test]
fn comments_and_tests_cost_an_image_nothing_and_an_agent_a_build() {
    let copy = copy();
    let root = copy.path();
    let image = || digest(root, &["image-builder"], Reading::Meaning).unwrap();
    let agent = || digest(root, &["guest-agent"], Reading::Exact).unwrap();
    let (first_image, first_agent) = (image(), agent());
    for file in ["crates/image-builder/src/lib.rs", "crates/guest-agent/src/main.rs"] {
        let place = root.join(file);
        let text = fs::read_to_string(&place).unwrap();
        fs::write(
            &place,
            format!("{text}\n// A remark.\n#[cfg(test)]\nmod more {{ fn a() {{}} }}\n"),
        )
        .unwrap();
    }
    assert_eq!(image(), first_image);
    assert_ne!(agent(), first_agent);
}

#[test]
fn the_own_code_of_crates_is_theirs_alone() {
    let copy = copy();
    let root = copy.path();
    let names = ["qemu-builder", "bill-of-materials"];
    let first = own(root, &names).unwrap();
    for (name, folder) in manifest::members(root).unwrap() {
        if folder.join("src").is_dir() {
            let undo = change_a_function(&folder);
            let decides = names.contains(&name.as_str());
            assert_eq!(first != own(root, &names).unwrap(), decides, "{name} changed");
            undo();
        }
    }
    assert!(own(root, &["attic"]).is_err());
}
