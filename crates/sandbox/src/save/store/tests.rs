//! Replacement, and what a process that is killed in the middle of it leaves.

use super::*;

const STEPS: [&str; 5] = ["manifest", "flush", "replace", "replaced", "clean"];

fn write(target: &Path, content: &str, step: &mut dyn FnMut(&str)) -> Result<()> {
    let staging = Staging::create(target)?;
    fs_err::write(staging.overlay(0), content).unwrap();
    staging.commit(&format!("{{\"content\": \"{content}\"}}"), step)
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
    std::os::unix::fs::symlink(&target, folder.path().join("link")).unwrap();
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
    let staging = Staging::create(&target).unwrap();
    fs_err::write(staging.overlay(0), "new").unwrap();
    fs_err::write(staging.folder.join("manifest.json"), "{\"content\": \"new\"}").unwrap();
    let mut seen = Vec::new();
    step_aside(&staging.folder, &target, &mut |at| {
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
    drop(staging);
    assert_eq!(names(folder.path()), ["x"]);
}

#[cfg(unix)]
#[test]
fn what_is_no_folder_of_a_save_is_neither_opened_nor_removed() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    fs_err::write(elsewhere.path().join("kept"), "kept").unwrap();
    let below = |name: &str| folder.path().join(name);
    std::os::unix::fs::symlink(elsewhere.path(), below(".quicksand-part-link")).unwrap();
    let pipe = below(".quicksand-part-pipe");
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).unwrap();
    // A download of a tree that is under way.
    fs_err::create_dir(below(".quicksand-download-0")).unwrap();
    fs_err::create_dir(below(".quicksand-part-left")).unwrap();
    Staging::create(&below("one")).unwrap().commit("{}", &mut |_| {}).unwrap();
    assert_eq!(fs_err::read_to_string(elsewhere.path().join("kept")).unwrap(), "kept");
    let left = [".quicksand-download-0", ".quicksand-part-link", ".quicksand-part-pipe", "one"];
    assert_eq!(names(folder.path()), left);
}

#[test]
fn a_writer_at_work_is_not_swept_and_shared_layers_are_read_only() {
    let folder = tempfile::tempdir().unwrap();
    let one = Staging::create(&folder.path().join("one")).unwrap();
    fs_err::write(one.overlay(0), "layer").unwrap();
    make_read_only(&one.overlay(0)).unwrap();
    let two = Staging::create(&folder.path().join("two")).unwrap();
    let layer = fs_err::File::open(one.overlay(0)).unwrap();
    two.adopt(layer.file(), 0).unwrap();
    // A layer that somebody could write to is copied.
    fs_err::write(one.overlay(1), "open").unwrap();
    let open = fs_err::File::open(one.overlay(1)).unwrap();
    two.adopt(open.file(), 1).unwrap();
    fs_err::write(one.overlay(1), "changed").unwrap();
    assert_eq!(fs_err::read_to_string(two.overlay(1)).unwrap(), "open");
    for number in 0..2 {
        assert!(fs_err::metadata(two.overlay(number)).unwrap().permissions().readonly());
    }
    two.commit("{}", &mut |_| {}).unwrap();
    one.commit("{}", &mut |_| {}).unwrap();
    assert_eq!(names(folder.path()), ["one", "two"]);
}
