//! Replacement, and what a process that is killed in the middle of it leaves.

use super::*;
use std::time::{Duration, Instant};

const STEPS: [&str; 5] = ["flush", "gather", "replace", "replaced", "clean"];

fn write(target: &Path, content: &str, step: &mut dyn FnMut(&str)) -> Result<()> {
    let mut staging = Staging::create(target)?;
    fill(&mut staging, 0, content);
    staging.commit(&format!("{{\"content\": \"{content}\"}}"), step)
}

fn fill(staging: &mut Staging, number: usize, content: &str) {
    let mut layer = staging.layer(number).unwrap().file();
    std::io::Write::write_all(&mut layer, content.as_bytes()).unwrap();
}

/// What a save holds, when both of its parts are of one save.
fn content(target: &Path) -> Option<String> {
    let overlay = fs_err::read_to_string(target.join("overlays/0.qcow2")).ok()?;
    let manifest = fs_err::read_to_string(target.join("manifest.json")).ok()?;
    (manifest == format!("{{\"content\": \"{overlay}\"}}")).then_some(overlay)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs_err::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_save_replaces_another_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("new/parent/x");
    for round in ["one", "two"] {
        write(&target, round, &mut |_| {}).unwrap();
        assert_eq!(content(&target).as_deref(), Some(round));
        assert_eq!(names(target.parent().unwrap()), ["x"]);
    }
    fs_err::create_dir(folder.path().join("empty")).unwrap();
    fs_err::write(folder.path().join("file"), "keep").unwrap();
    #[cfg(unix)]
    fs_err::os::unix::fs::symlink(&target, folder.path().join("link")).unwrap();
    // Making a link is a privilege on Windows.
    #[cfg(not(unix))]
    fs_err::write(folder.path().join("link"), "keep").unwrap();
    for name in ["empty", "file", "link"] {
        let error = write(&folder.path().join(name), "x", &mut |_| {}).unwrap_err();
        assert!(matches!(error, Error::SaveInTheWay { .. }), "{name}: {error}");
    }
    assert_eq!(content(&target).as_deref(), Some("two"));
    assert_eq!(names(folder.path()), ["empty", "file", "link", "new"]);
}

const CHILD: &str = "QUICKSAND_TEST_KILLED_WRITER";

/// Not a test by itself: the writer that the next test has kill itself.
#[test]
fn killed_writer() {
    let Some(orders) = std::env::var_os(CHILD) else { return };
    let orders = orders.into_string().unwrap();
    let (step, target) = orders.split_once(':').unwrap();
    let _ = write(Path::new(target), "new", &mut |at| {
        if at == step {
            std::process::abort();
        }
    });
}

#[test]
fn a_writer_that_is_killed_at_any_step_leaves_the_old_save_or_the_new_one() {
    for had_one in [true, false] {
        for step in STEPS {
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("x");
            if had_one {
                write(&target, "old", &mut |_| {}).unwrap();
            }
            // Runs this very test program again, which no wrapper of ours is for.
            #[allow(clippy::disallowed_methods)]
            let ended = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "save::store::tests::killed_writer", "--test-threads=1"])
                .env(CHILD, format!("{step}:{}", target.display()))
                .output()
                .unwrap();
            assert!(!ended.status.success(), "{step}: the writer was not killed");
            let is_new = matches!(step, "replaced" | "clean");
            let expect = if is_new { Some("new") } else { had_one.then_some("old") };
            assert_eq!(content(&target).as_deref(), expect, "{step}");
            // Only when all is written does anything have a name, which another process removes.
            let patience = if cfg!(target_os = "linux") { 2 } else { 0 };
            let soon = Instant::now() + Duration::from_secs(patience);
            let is_clean = || names(folder.path()).iter().all(|name| name == "x");
            while !is_clean() && Instant::now() < soon {
                std::thread::sleep(Duration::from_millis(10));
            }
            let is_unnamed = matches!(step, "flush" | "gather");
            assert!(is_clean() || !(is_unnamed || cfg!(target_os = "linux")), "{step}");
            // The next one finds the way free and leaves nothing behind.
            write(&target, "next", &mut |_| {}).unwrap();
            assert_eq!(content(&target).as_deref(), Some("next"));
            assert_eq!(names(folder.path()), ["x"], "{step}");
        }
    }
}

#[test]
fn where_folders_cannot_be_exchanged_the_old_save_returns() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("x");
    let aside = folder.path().join(".x.quicksand-old");
    write(&target, "old", &mut |_| {}).unwrap();
    let mut staging = Staging::create(&target).unwrap();
    fill(&mut staging, 0, "new");
    let made = make_hidden_folder(&staging.parent, PART_PREFIX).unwrap();
    let part = Part { path: folder.path().join(&*made.0), _name: made.0, _lock: made.1 };
    staging.gather(&part.path, "{\"content\": \"new\"}").unwrap();
    let mut seen = Vec::new();
    step_aside(&part.path, &target, &mut |at| {
        // What a crash here leaves, and what the next look makes of it.
        seen.push(at.to_owned());
        if at == "aside" {
            assert!(!target.exists() && aside.exists());
            recover_all(folder.path());
            assert_eq!(content(&target).as_deref(), Some("old"));
            fs_err::rename(&target, &aside).unwrap();
        } else {
            assert!(target.exists() && aside.exists());
        }
    })
    .unwrap();
    assert_eq!(seen, ["aside", "in place"]);
    assert_eq!(content(&target).as_deref(), Some("new"));
    drop(part);
    assert_eq!(names(folder.path()), ["x"]);
}

#[test]
fn a_writer_at_work_is_not_swept_and_shared_layers_are_read_only() {
    let folder = tempfile::tempdir().unwrap();
    let one = folder.path().join("one");
    let mut first = Staging::create(&one).unwrap();
    fill(&mut first, 0, "layer");
    fill(&mut first, 1, "second");
    assert!(first.layer(1).is_err(), "there is one of that number");
    // Both write at once.
    let mut second = Staging::create(&folder.path().join("two")).unwrap();
    first.commit("{}", &mut |_| {}).unwrap();
    let layer = |number| fs_err::File::open(one.join(format!("overlays/{number}.qcow2"))).unwrap();
    second.adopt(layer(0).file(), 0).unwrap();
    // A layer that somebody could write to is copied.
    let open = folder.path().join("open");
    fs_err::write(&open, "open").unwrap();
    second.adopt(fs_err::File::open(&open).unwrap().file(), 1).unwrap();
    fs_err::write(&open, "changed").unwrap();
    // A save that is removed meanwhile takes none of what was adopted with it.
    second.adopt(layer(1).file(), 2).unwrap();
    remove(&one).unwrap();
    second.commit("{}", &mut |_| {}).unwrap();
    for (number, expect) in ["layer", "open", "second"].into_iter().enumerate() {
        let path = folder.path().join(format!("two/overlays/{number}.qcow2"));
        assert_eq!(fs_err::read_to_string(&path).unwrap(), expect);
        assert!(fs_err::metadata(&path).unwrap().permissions().readonly());
    }
    assert_eq!(names(folder.path()), ["open", "two"]);
}

/// The same file, where the file system and the owner allow it.
#[cfg(target_os = "linux")]
#[test]
fn a_layer_that_nobody_can_write_to_is_shared() {
    use std::os::unix::fs::MetadataExt as _;
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("one"), "layer", &mut |_| {}).unwrap();
    let layer = fs_err::File::open(folder.path().join("one/overlays/0.qcow2")).unwrap();
    let mut staging = Staging::create(&folder.path().join("two")).unwrap();
    staging.adopt(layer.file(), 0).unwrap();
    staging.commit("{}", &mut |_| {}).unwrap();
    let number = |name: &str| {
        fs_err::metadata(folder.path().join(name).join("overlays/0.qcow2")).unwrap().ino()
    };
    assert_eq!(number("one"), number("two"));
}
