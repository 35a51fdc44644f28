//! A guest that lies, and what must come of it on the host.

use super::*;
use bytes::Bytes;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::time::{Duration, Instant};

use EntryKind::{File as F, Folder as D, Link as L, Other};

const THEN: i64 = 1_000_000_000_123_456_789;

fn entry(path: impl AsRef<[u8]>, kind: EntryKind, target: &str) -> Option<Part> {
    Some(Part::Entry(FileEntry {
        mode: Some(0o6751),
        mtime_ns: Some(THEN),
        target: (!target.is_empty()).then(|| target.into()),
        ..FileEntry::new(path.as_ref(), kind)
    }))
}

fn with_mode(path: &str, kind: EntryKind, mode: u32) -> Option<Part> {
    Some(Part::Entry(FileEntry { mode: Some(mode), ..FileEntry::new(path, kind) }))
}

fn data(bytes: &'static [u8]) -> Option<Part> {
    Some(Part::Data(Bytes::from_static(bytes)))
}

fn hole(length: u64) -> Option<Part> {
    Some(Part::Hole(length))
}

fn run_with(parts: Vec<Option<Part>>, host: &Path, options: DownloadOptions) -> Result<Transfer> {
    let (sender, queue) = mpsc::channel(parts.len().max(1));
    for part in parts {
        sender.try_send(part).unwrap();
    }
    drop(sender);
    receive(queue, &Request { guest: "/root/name".into(), host: host.to_owned(), options })
}

fn run(parts: Vec<Option<Part>>, host: &Path) -> Result<Transfer> {
    run_with(parts, host, DownloadOptions::default())
}

fn tree() -> DownloadOptions {
    DownloadOptions { tree: Some(true), ..DownloadOptions::default() }
}

fn mode(path: &Path) -> u32 {
    fs_err::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// All paths below a folder, so that a file that was left behind is seen. Another process may remove some of them
/// meanwhile.
fn names(folder: &Path) -> Vec<String> {
    let items = match fs_err::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        items => items.unwrap(),
    };
    let mut names = Vec::new();
    for item in items {
        let item = item.unwrap();
        let name = item.file_name().to_string_lossy().into_owned();
        // As the folder says it: the item itself may be gone.
        if item.file_type().unwrap().is_dir() {
            names.extend(self::names(&item.path()).iter().map(|below| format!("{name}/{below}")));
        }
        names.push(name);
    }
    names.sort();
    names
}

#[test]
fn a_tree_arrives_with_its_times_and_without_the_bits_that_give_rights() {
    let folder = tempfile::tempdir().unwrap();
    let host = folder.path().join("new/copy");
    let parts = vec![
        entry("", D, ""),
        entry("sub", D, ""),
        entry("sub/a", F, ""),
        data(b"on"),
        data(b"e"),
        entry("sub/l", L, "../sub/a"),
        entry("z", F, ""),
        entry("device", Other, ""),
        None,
    ];
    let received = run(parts, &host).unwrap();
    let skipped = vec!["device".to_owned()];
    assert_eq!(received, Transfer { n_files: 2, n_bytes: 3, skipped });
    assert_eq!(fs_err::read(host.join("sub/l")).unwrap(), b"one");
    for path in ["", "sub", "sub/a", "z", "sub/l"] {
        let metadata = fs_err::symlink_metadata(host.join(path)).unwrap();
        assert_eq!(metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(), THEN, "{path}");
        if !path.ends_with('l') {
            assert_eq!(mode(&host.join(path)), 0o751, "{path}");
        }
    }
    assert_eq!(
        names(folder.path()),
        ["new", "new/copy", "new/copy/sub", "new/copy/sub/a", "new/copy/sub/l", "new/copy/z"]
    );
}

#[test]
fn modes_are_cut_by_the_umask_and_folders_keep_theirs() {
    let folder = tempfile::tempdir().unwrap();
    // The umask is the process's, so that it is looked at and not set.
    let probe = folder.path().join("probe");
    fs_err::create_dir(&probe).unwrap();
    let umask = 0o777 & !mode(&probe);
    let host = folder.path().join("copy");
    let parts = vec![
        with_mode("", D, 0o777),
        with_mode("closed", D, 0o700),
        with_mode("closed/key", F, 0o600),
        with_mode("readonly", D, 0o555),
        with_mode("readonly/f", F, 0o4777),
        with_mode("open", F, 0o666),
        Some(Part::Entry(FileEntry::new("plain", F))),
        None,
    ];
    run(parts, &host).unwrap();
    for (path, expect) in [
        ("", 0o777),
        ("closed", 0o700),
        ("closed/key", 0o600),
        ("readonly", 0o555),
        ("readonly/f", 0o777),
        ("open", 0o666),
        ("plain", 0o666),
    ] {
        assert_eq!(mode(&host.join(path)), expect & !umask, "{path}");
    }
}

#[test]
fn what_is_being_written_is_this_user_s_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (sender, queue) = mpsc::channel(8);
    let host = folder.path().join("copy");
    let request =
        Request { guest: "/t".into(), host: host.clone(), options: DownloadOptions::default() };
    let writer = std::thread::spawn(move || receive(queue, &request));
    for part in
        [with_mode("", D, 0o777), with_mode("d", D, 0o777), with_mode("d/f", F, 0o666), data(b"x")]
    {
        sender.blocking_send(part).unwrap();
    }
    let found = (0..500).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        let part = names(folder.path()).into_iter().find(|name| name.ends_with("d/f"))?;
        Some(folder.path().join(part))
    });
    let file = found.expect("the part file");
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    assert_eq!(mode(file.parent().unwrap().parent().unwrap()), 0o700);
    assert!(!host.exists());
    // A transfer that breaks off leaves nothing.
    drop(sender);
    assert!(writer.join().unwrap().is_err());
    assert_eq!(names(folder.path()), [] as [&str; 0]);
}

#[test]
fn the_caller_says_whether_it_is_a_file_or_a_tree() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    fs_err::create_dir(&home).unwrap();
    fs_err::write(home.join(".bashrc"), "mine").unwrap();
    let evil = || vec![entry("", D, ""), entry(".bashrc", F, ""), data(b"evil"), None];
    let file = || vec![entry("", F, ""), data(b"1"), None];
    let wants = |tree| DownloadOptions { tree, overwrite: true, ..DownloadOptions::default() };

    for (parts, place, tree) in [
        // A folder in a file's place, into a folder that is there: `download(file, home)`.
        (evil(), &home, None),
        (evil(), &home, Some(false)),
        (evil(), &folder.path().join("new"), Some(false)),
        (file(), &folder.path().join("new"), Some(true)),
        (file(), &home, Some(true)),
    ] {
        let error = run_with(parts, place, wants(tree)).unwrap_err();
        assert!(matches!(error, Error::WrongKind { .. }), "{error}");
        assert!(error.hint().is_some());
    }
    // The same into an empty folder.
    let empty = folder.path().join("empty");
    fs_err::create_dir(&empty).unwrap();
    let error = run(evil(), &empty).unwrap_err();
    assert!(error.hint().unwrap().contains("tree=True"), "{error}");
    assert_eq!(names(folder.path()), ["empty", "home", "home/.bashrc"]);
    assert_eq!(fs_err::read(home.join(".bashrc")).unwrap(), b"mine");

    // What was asked for arrives.
    run_with(file(), &folder.path().join("f"), wants(Some(false))).unwrap();
    run_with(file(), &home, wants(Some(false))).unwrap();
    run_with(evil(), &empty, wants(Some(true))).unwrap();
    run_with(evil(), &folder.path().join("t"), wants(Some(true))).unwrap();
    run(evil(), &folder.path().join("u")).unwrap();
    assert_eq!(
        names(folder.path()),
        [
            "empty",
            "empty/.bashrc",
            "f",
            "home",
            "home/.bashrc",
            "home/name",
            "t",
            "t/.bashrc",
            "u",
            "u/.bashrc"
        ]
    );
}

#[test]
fn nothing_of_the_host_is_replaced_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let one = || vec![with_mode("", F, 0o644), data(b"new"), None];
    let some = || {
        vec![
            with_mode("", D, 0o755),
            with_mode("d", D, 0o500),
            with_mode("d/x", F, 0o644),
            data(b"new"),
            with_mode("f", F, 0o644),
            data(b"new"),
            None,
        ]
    };
    fs_err::write(at("file"), "old").unwrap();
    fs_err::create_dir(at("full")).unwrap();
    fs_err::create_dir(at("full/d")).unwrap();
    fs_err::write(at("full/f"), "old").unwrap();
    fs_err::write(at("full/d/kept"), "old").unwrap();
    fs_err::os::unix::fs::symlink("file", at("link")).unwrap();
    fs_err::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
    let before = names(folder.path());
    for (parts, place, options) in [
        (one(), "file", DownloadOptions::default()),
        (one(), "link", DownloadOptions::default()),
        (one(), "dangling", DownloadOptions::default()),
        (some(), "file", tree()),
        (some(), "full", tree()),
        (some(), "dangling", tree()),
    ] {
        let error = run_with(parts, &at(place), options).unwrap_err();
        assert!(matches!(error, Error::HostExists { .. }), "{place}: {error}");
    }
    assert_eq!(names(folder.path()), before);
    assert_eq!(fs_err::read(at("file")).unwrap(), b"old");

    // Somebody makes the file while it is on its way: the last step decides.
    let (sender, queue) = mpsc::channel(8);
    let request =
        Request { guest: "/f".into(), host: at("late"), options: DownloadOptions::default() };
    let writer = std::thread::spawn(move || receive(queue, &request));
    let mut parts = one();
    let last = parts.pop().unwrap();
    parts.into_iter().for_each(|part| sender.blocking_send(part).unwrap());
    while sender.capacity() < 8 {
        std::thread::yield_now();
    }
    fs_err::write(at("late"), "theirs").unwrap();
    sender.blocking_send(last).unwrap();
    let error = writer.join().unwrap().unwrap_err();
    assert!(error.hint().unwrap().contains("overwrite=True"), "{error}");
    assert_eq!(fs_err::read(at("late")).unwrap(), b"theirs");
    fs_err::remove_file(at("late")).unwrap();

    // When it is asked for. A link is replaced, and what it led to is not.
    let over = |tree| DownloadOptions { tree, overwrite: true, ..DownloadOptions::default() };
    run_with(one(), &at("link"), over(None)).unwrap();
    assert_eq!(fs_err::read(at("file")).unwrap(), b"old");
    assert_eq!(fs_err::read(at("link")).unwrap(), b"new");
    run_with(some(), &at("full"), over(Some(true))).unwrap();
    for (path, expect) in [("full/f", "new"), ("full/d/kept", "old"), ("full/d/x", "new")] {
        assert_eq!(fs_err::read_to_string(at(path)).unwrap(), expect, "{path}");
    }
    assert_eq!(mode(&at("full/d")), 0o755);
    let mut after = before;
    after.extend(["full/d/x".to_owned()]);
    after.sort();
    assert_eq!(names(folder.path()), after);
}

#[test]
fn a_merge_goes_through_no_link_of_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let outside = folder.path().join("outside");
    let host = folder.path().join("copy");
    fs_err::create_dir(&outside).unwrap();
    fs_err::create_dir(&host).unwrap();
    fs_err::write(outside.join("kept"), b"kept").unwrap();
    fs_err::os::unix::fs::symlink(&outside, host.join("d")).unwrap();
    fs_err::os::unix::fs::symlink(outside.join("kept"), host.join("f")).unwrap();
    let options = || DownloadOptions { overwrite: true, ..tree() };
    let parts = vec![entry("", D, ""), entry("d", D, ""), entry("d/x", F, ""), data(b"x"), None];
    let error = run_with(parts, &host, options()).unwrap_err();
    assert!(matches!(error, Error::HostExists { can_overwrite: false, .. }), "{error}");
    let parts = vec![entry("", D, ""), entry("f", F, ""), data(b"new"), None];
    run_with(parts, &host, options()).unwrap();
    assert_eq!(fs_err::read(host.join("f")).unwrap(), b"new");
    assert_eq!(names(folder.path()), ["copy", "copy/d", "copy/f", "outside", "outside/kept"]);
    assert_eq!(fs_err::read(outside.join("kept")).unwrap(), b"kept");
}

#[test]
fn nothing_leaves_the_tree() {
    let folder = tempfile::tempdir().unwrap();
    let outside = folder.path().join("outside");
    fs_err::create_dir(&outside).unwrap();
    let outside_text = outside.to_str().unwrap();
    // Links out of the tree are left out, by whatever way they lead there.
    for (number, target) in
        [outside_text, "../outside", "sub/../../outside", "..", "", "../..", "a/.."]
            .iter()
            .enumerate()
    {
        let host = folder.path().join(format!("copy{number}"));
        let received = run(vec![entry("", D, ""), entry("l", L, target), None], &host).unwrap();
        assert_eq!(received.skipped, ["l"], "{target}");
        assert_eq!(names(&host), [] as [&str; 0]);
        fs_err::remove_dir(&host).unwrap();
    }
    let host = folder.path().join("copy");
    for parts in [
        // Through a link that was sent, through folders that were not, or no more.
        vec![entry("", D, ""), entry("l", L, "."), entry("l/f", F, ""), None],
        vec![entry("", D, ""), entry("d/f", F, ""), data(b"x"), None],
        vec![entry("", D, ""), entry("d", D, ""), entry("f", F, ""), entry("d/f", F, ""), None],
        vec![entry("", D, ""), entry("f", F, ""), entry("f/g", F, ""), None],
        // Malformed paths.
        vec![entry("", D, ""), entry("../outside/f", F, ""), data(b"x"), None],
        vec![entry("", D, ""), entry("a/../../outside/f", F, ""), data(b"x"), None],
        vec![entry("", D, ""), entry("/tmp/f", F, ""), None],
        vec![entry("", D, ""), entry("a\0b", F, ""), None],
        vec![entry("", D, ""), entry("", D, ""), None],
        // A root that does not exist, and a file that becomes a tree.
        vec![entry("x", F, ""), None],
        vec![entry("", F, ""), entry("f", F, ""), None],
        vec![entry("", F, ""), entry("", D, ""), entry("f", F, ""), None],
        vec![entry("", L, outside_text), None],
        vec![entry("", Other, ""), None],
        vec![data(b"x"), None],
        vec![entry("", D, ""), data(b"x"), None],
        vec![entry("", D, ""), entry("d", D, ""), hole(1), None],
        vec![None],
        // Sizes beyond any file, and a transfer without an end.
        vec![entry("", F, ""), hole(u64::MAX), None],
        vec![entry("", F, ""), data(b"x"), hole(i64::MAX as u64), None],
        vec![entry("", D, ""), entry("f", F, ""), data(b"half")],
    ] {
        let shown = format!("{parts:?}");
        let again = parts.iter().map(|part| part.as_ref().map(copied)).collect();
        assert!(run(parts, &host).is_err(), "{shown}");
        assert!(run(again, &folder.path().join("not/yet/there")).is_err(), "{shown}");
        assert_eq!(names(folder.path()), ["outside"], "{shown}");
    }
}

#[test]
fn the_same_name_twice_is_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let host = folder.path().join("copy");
    let parts = vec![
        entry("", D, ""),
        entry("a", F, ""),
        data(b"1"),
        entry("a", F, ""),
        data(b"22"),
        entry("a", L, "b"),
        entry("a", D, ""),
        entry("a/b", F, ""),
        data(b"333"),
        entry("a/b/c", D, ""),
        entry("b", F, ""),
        None,
    ];
    let received = run(parts, &host).unwrap();
    assert_eq!((received.n_files, received.n_bytes), (2, 1));
    assert_eq!(received.skipped, ["a", "a", "a"]);
    assert_eq!(fs_err::read(host.join("a")).unwrap(), b"1");
    assert_eq!(names(&host), ["a", "b"]);
}

#[test]
fn names_arrive_byte_for_byte_and_are_shown_safely() {
    let folder = tempfile::tempdir().unwrap();
    let host = folder.path().join("copy");
    let names: [&[u8]; 5] =
        [b"a\xff", b"d\xff", b"d\xff/x", "u\u{fffd}".as_bytes(), b"\x1b]0;title\x07"];
    let kind = |name: &[u8]| if name == b"d\xff" { D } else { F };
    let mut parts = vec![entry("", D, "")];
    parts.extend(names.iter().map(|name| entry(name, kind(name), "")));
    parts.extend([entry("\x1b[2Jgone", Other, ""), None]);
    let received = run(parts, &host).unwrap();
    for name in names {
        assert!(host.join(OsStr::from_bytes(name)).exists(), "{}", agent_protocol::shown(name));
    }
    assert_eq!(received.skipped, [r"\x1b[2Jgone"]);
    let error =
        run(vec![entry("", D, ""), entry("x/\x1b[2J", F, ""), None], &folder.path().join("c"));
    assert!(error.unwrap_err().to_string().contains(r"x/\x1b[2J"));
}

#[test]
fn holes_stay_holes() {
    let folder = tempfile::tempdir().unwrap();
    let host = folder.path().join("f");
    let parts = vec![entry("", F, ""), hole(1 << 30), data(b"end"), hole(1 << 20), None];
    let received = run(parts, &host).unwrap();
    let metadata = fs_err::metadata(&host).unwrap();
    assert_eq!(received.n_bytes, (1 << 30) + 3 + (1 << 20));
    assert_eq!(metadata.len(), received.n_bytes);
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
}

#[test]
fn a_file_takes_a_name_or_goes_into_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let one = || vec![entry("", F, ""), data(b"1"), None];
    run(one(), &folder.path().join("new/f")).unwrap();
    assert_eq!(fs_err::read(folder.path().join("new/f")).unwrap(), b"1");
    run(one(), &folder.path().join("new")).unwrap();
    assert_eq!(fs_err::read(folder.path().join("new/name")).unwrap(), b"1");
    // A folder of that name in the folder is in the way.
    fs_err::remove_file(folder.path().join("new/name")).unwrap();
    fs_err::create_dir(folder.path().join("new/name")).unwrap();
    let over = DownloadOptions { overwrite: true, ..DownloadOptions::default() };
    let error = run_with(one(), &folder.path().join("new"), over).unwrap_err();
    assert!(matches!(error, Error::HostExists { can_overwrite: false, .. }), "{error}");
}

#[test]
fn a_tree_of_any_depth_arrives_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    let depth = 1500;
    let mut parts = vec![with_mode("", D, 0o555)];
    parts.extend((1..=depth).map(|n| with_mode(&vec!["a"; n].join("/"), D, 0o555)));
    let host = folder.path().join("copy");
    run(parts.iter().map(|part| part.as_ref().map(copied)).chain([None]).collect(), &host).unwrap();
    assert!(host.join(vec!["a"; depth].join("/")).is_dir());
    let root = cap_std::fs::Dir::open_ambient_dir(folder.path(), cap_std::ambient_authority());
    new_file::remove_tree(&root.unwrap(), OsStr::new("copy")).unwrap();
    // One that breaks off is removed.
    assert!(run(parts, &host).is_err());
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 0);
}

fn copied(part: &Part) -> Part {
    match part {
        Part::Entry(entry) => Part::Entry(entry.clone()),
        Part::Data(data) => Part::Data(data.clone()),
        Part::Hole(length) => Part::Hole(*length),
    }
}

const CHILD: &str = "QUICKSAND_TEST_KILLED_DOWNLOAD";

/// Not a test by itself: the download that the next test has killed in its middle.
#[test]
fn killed_download() {
    let Some(orders) = std::env::var_os(CHILD) else { return };
    let orders = orders.into_string().unwrap();
    let (kind, host) = orders.split_once(':').unwrap();
    let options = match kind {
        "tree" => tree(),
        "replaced" => DownloadOptions { overwrite: true, ..DownloadOptions::default() },
        _ => DownloadOptions::default(),
    };
    let parts = match kind {
        "tree" => vec![entry("", D, ""), entry("sub", D, ""), entry("sub/a", F, "")],
        _ => vec![entry("", F, "")],
    };
    let (sender, queue) = mpsc::channel(1);
    let request = Request { guest: "/root/name".into(), host: PathBuf::from(host), options };
    let receiving = std::thread::spawn(move || receive(queue, &request));
    // Each place in the queue is free again when what was in it has been taken: the last one follows
    // data that are written.
    for part in parts.into_iter().chain([data(b"half"), data(b"more"), data(b"")]) {
        sender.blocking_send(part).unwrap();
    }
    assert!(!receiving.is_finished());
    let own = rustix::process::getpid();
    rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_killed_download_leaves_nothing() {
    use std::os::unix::process::ExitStatusExt as _;
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("old"), "old").unwrap();
    let kill = |kind: &str, host: &str| {
        // Runs this very test program again, which no wrapper of ours is for.
        #[allow(clippy::disallowed_methods)]
        let ended = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "files::download::tests::killed_download", "--test-threads=1"])
            .env(CHILD, format!("{kind}:{}", folder.path().join(host).display()))
            .output()
            .unwrap();
        assert_eq!(ended.status.signal(), Some(9), "{kind}: {ended:?}");
    };
    for (kind, host) in [("file", "new"), ("file", "made/for/it"), ("replaced", "old")] {
        kill(kind, host);
        assert_eq!(names(folder.path()), ["old"], "{kind}");
    }
    assert_eq!(fs_err::read(folder.path().join("old")).unwrap(), b"old");
    // A folder cannot be without a name; another process removes it. It does so at once, but a file
    // system that is being written to by others may hold it up for seconds.
    for host in ["copy", "made/copy"] {
        kill("tree", host);
        let soon = Instant::now() + Duration::from_secs(30);
        while names(folder.path()) != ["old"] {
            assert!(Instant::now() < soon, "{host}: {:?}", names(folder.path()));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    run(vec![entry("", D, ""), entry("a", F, ""), None], &folder.path().join("copy")).unwrap();
    assert_eq!(names(folder.path()), ["copy", "copy/a", "old"]);
}
