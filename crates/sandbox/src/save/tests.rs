//! Names and places, what a check finds, and what an import refuses.

use super::*;
use disk_formats::qcow2::empty_overlay;
use fs_err as fs;
use serde_json::json;

const GIB: u64 = 1 << 30;

/// Writes a whole save by hand, as another program would.
fn save_at(path: &Path, layers: &[&[u8]]) {
    fs::create_dir_all(path.join("overlays")).unwrap();
    let manifest = json!({"version": 6, "config": {"image": "debian"}, "arch": "x86_64"});
    fs::write(path.join("manifest.json"), manifest.to_string()).unwrap();
    for (number, layer) in layers.iter().enumerate() {
        fs::write(path.join(format!("overlays/{number}.qcow2")), layer).unwrap();
    }
}

fn layer() -> Vec<u8> {
    let (mut bytes, length) = empty_overlay(GIB, "").unwrap();
    bytes.resize(length as usize, 0);
    bytes
}

fn search(working_dir: &Path) -> Search {
    Search::nowhere(host_platform::host(), working_dir.to_owned())
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for good in ["my-env", "v1.2", "été", "/srv/saves/x", "/x"] {
        check_name(good).unwrap_or_else(|error| panic!("{good}: {error}"));
    }
    let home = std::env::home_dir().unwrap();
    let home = home.to_str().unwrap();
    let in_home = format!("{home}/../x");
    let bad =
        ["", ".", "..", "a/b", "../x", "~", "~/x", "/", "//", "/a/..", "/a/../b", "a\0b", "nul"];
    for name in bad.into_iter().chain([home, &in_home]) {
        let error = check_name(name).unwrap_err();
        assert!(matches!(error, Error::InvalidValue { option: "save", .. }), "{name}: {error}");
        assert!(error.hint().is_some());
    }
}

#[test]
fn a_save_comes_to_be_in_the_workspace_or_the_working_folder() {
    let search = search(Path::new("/w"));
    let at = |name, workspace: Option<&str>| place(&search, name, workspace.map(Path::new));
    assert_eq!(at("x", None).unwrap(), Path::new("/w/.quicksand/sandboxes/x"));
    assert_eq!(at("x", Some("/s")).unwrap(), Path::new("/s/x"));
    assert_eq!(at("x", Some("s")).unwrap(), Path::new("/w/s/x"));
    assert_eq!(at("/p/x", Some("/s")).unwrap(), Path::new("/p/x"));
    assert!(at("..", Some("/s")).is_err());
}

#[test]
fn a_broken_save_is_refused_with_the_documented_message() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let message = || validate(&path).unwrap_err().to_string();
    assert!(message().contains("Save not found"));
    fs::write(&path, "").unwrap();
    assert!(message().contains("not a directory"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(message().contains("Missing manifest.json"));
    fs::write(path.join("manifest.json"), "{").unwrap();
    assert!(message().contains("is not a save"));
    let newer = json!({"version": 7, "config": {}}).to_string();
    fs::write(path.join("manifest.json"), newer).unwrap();
    assert!(message().contains("newer than supported"));
    let manifest = json!({"version": 6, "config": {"image": "debian"}, "arch": "x86_64"});
    fs::write(path.join("manifest.json"), manifest.to_string()).unwrap();
    assert!(message().contains("Missing overlays"));
    fs::create_dir(path.join("overlays")).unwrap();
    assert!(message().contains("No overlay files found"));
    fs::write(path.join("overlays/notes.txt"), "x").unwrap();
    assert!(message().contains("No overlay files found"));
    fs::write(path.join("overlays/10.qcow2"), layer()).unwrap();
    assert!(message().contains("overlays/0.qcow2 is missing"));
    for number in 0..10 {
        fs::write(path.join(format!("overlays/{number}.qcow2")), layer()).unwrap();
    }
    assert_eq!(validate(&path).unwrap().base_image(), Some("debian"));
    fs::write(path.join("overlays/3.qcow2"), "QFI").unwrap();
    assert!(message().contains("overlays/3.qcow2 is damaged"));
}

#[test]
fn saves_are_found_listed_and_removed_by_name_and_path() {
    let folder = tempfile::tempdir().unwrap();
    let search = search(folder.path());
    let saves = folder.path().join(".quicksand/sandboxes");
    for name in ["b", "a"] {
        save_at(&saves.join(name), &[&layer()]);
    }
    save_at(&saves.join("broken"), &[]);
    let names = |list: &[SaveInfo]| list.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
    let listed = list(&search, None);
    assert_eq!(names(&listed), ["a", "b", "broken"]);
    assert_eq!(listed[2].problem.as_deref(), Some("No overlay files found"));
    assert_eq!((listed[0].n_overlays, listed[0].base.as_deref()), (1, Some("debian")));
    assert_eq!(find(&search, "a", None).unwrap(), saves.join("a"));
    let path = saves.join("b");
    assert_eq!(find(&search, path.to_str().unwrap(), None).unwrap(), path);
    for name in ["c", "", ".quicksand/sandboxes/c"] {
        assert!(matches!(find(&search, name, None), Err(Error::SaveNotFound { .. })), "{name}");
    }
    // Neither the folder of all saves nor one that holds something else is a save.
    for other in [folder.path(), &saves, Path::new("/")] {
        assert!(matches!(remove(other), Err(Error::SaveInTheWay { .. })), "{}", other.display());
    }
    remove(&path).unwrap();
    assert!(matches!(remove(&path), Err(Error::SaveNotFound { .. })));
    assert_eq!(names(&list(&search, Some(&saves))), ["a", "broken"]);
}

/// One raw tar entry, right but for what a case changes.
fn entry(name: &[u8], kind: u8, content: &[u8], change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut block = [0u8; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000600\0");
    block[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    change(&mut block);
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = block.to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

#[test]
fn an_exported_save_is_imported_and_hostile_ones_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let file = folder.path().join("x.tar");
    let mut upper = layer();
    upper.extend([7; 1000]);
    save_at(&path, &[&layer(), &upper]);
    export(&path, &file).unwrap();
    let first = fs::read(&file).unwrap();
    export(&path, &file).unwrap();
    assert_eq!(fs::read(&file).unwrap(), first, "the same save gives the same file");
    let target = folder.path().join("saves/y");
    assert_eq!(import(&file, &target, false, None).unwrap().base_image(), Some("debian"));
    assert_eq!(fs::read(target.join("overlays/1.qcow2")).unwrap(), upper);
    assert!(matches!(import(&file, &target, false, None), Err(Error::SaveInTheWay { .. })));
    import(&file, &target, true, None).unwrap();

    let manifest = |image: &str| {
        let manifest = json!({"version": 6, "config": {"image": image}, "arch": "x86_64"});
        entry(b"manifest.json", b'0', manifest.to_string().as_bytes(), |_| {})
    };
    let disk = |name: &[u8], kind| entry(name, kind, &layer(), |_| {});
    let zero = || disk(b"overlays/0.qcow2", b'0');
    let whole = manifest("debian");
    let end = vec![0; 1024];
    let link = |kind, to: &[u8]| {
        entry(b"overlays/0.qcow2", kind, b"", |block| {
            block[157..157 + to.len()].copy_from_slice(to)
        })
    };
    let cases: [(&str, Vec<Vec<u8>>, &str); 17] = [
        ("climbing", vec![whole.clone(), zero(), disk(b"../evil", b'0')], "does not belong"),
        ("climbing below", vec![disk(b"overlays/../../evil", b'0')], "does not belong"),
        ("absolute", vec![disk(b"/etc/evil", b'0')], "does not belong"),
        (
            "more",
            vec![whole.clone(), zero(), disk(b"overlays/0.qcow2.sh", b'0')],
            "does not belong",
        ),
        ("symlink", vec![whole.clone(), link(b'2', b"/etc/passwd")], "no plain file"),
        ("hard link", vec![whole.clone(), link(b'1', b"/etc/passwd")], "no plain file"),
        ("folder link", vec![entry(b"overlays", b'2', b"", |_| {})], "no plain file"),
        ("device", vec![entry(b"overlays/0.qcow2", b'3', b"", |_| {})], "no plain file"),
        ("long name", vec![entry(b"././@LongLink", b'L', b"x", |_| {})], "no plain file"),
        ("pax", vec![entry(b"x", b'x', b"30 path=/etc/evil\n", |_| {})], "no plain file"),
        ("twice", vec![whole.clone(), zero(), zero()], "twice"),
        ("gap", vec![whole.clone(), disk(b"overlays/1.qcow2", b'0')], "0.qcow2 is missing"),
        ("no manifest", vec![zero()], "Missing manifest.json"),
        ("path", vec![manifest("../../home/me/disk.qcow2"), zero()], "no name of an image"),
        ("no image", vec![manifest(""), zero()], "no name of an image"),
        (
            "no disk",
            vec![whole.clone(), entry(b"overlays/0.qcow2", b'0', b"#!", |_| {})],
            "damaged",
        ),
        ("cut", vec![whole.clone(), zero()[..700].to_vec()], "too early"),
    ];
    let evil = folder.path().join("evil.tar");
    let before = listing(folder.path());
    for (name, entries, expect) in cases {
        let mut bytes = entries.concat();
        if name != "cut" {
            bytes.extend_from_slice(&end);
        }
        fs::write(&evil, bytes).unwrap();
        let error = import(&evil, &folder.path().join("z"), false, None).unwrap_err();
        assert!(matches!(error, Error::BadArchive { .. }), "{name}: {error}");
        assert!(error.to_string().contains(expect), "{name}: {error}");
        fs::remove_file(&evil).unwrap();
        assert_eq!(listing(folder.path()), before, "{name} has left something");
    }
    // A size that is not there, a damaged head, and no archive at all.
    let huge = entry(b"overlays/0.qcow2", b'0', b"", |block| {
        block[124..136].copy_from_slice(b"77777777777\0");
    });
    let mut flipped = whole.clone();
    flipped[3] ^= 1;
    for bytes in [[whole.clone(), huge].concat(), flipped, b"PK\x03\x04".repeat(300)] {
        fs::write(&evil, bytes).unwrap();
        let error = import(&evil, &folder.path().join("z"), false, None).unwrap_err();
        assert!(matches!(error, Error::BadArchive { .. }), "{error}");
    }
}

fn listing(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}
