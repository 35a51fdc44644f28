//! Links, pipes, budgets and a share that was taken back, on a real folder.

use super::*;
use crate::limits::Limits;
use crate::new_file::tests::make_pipe;
use fs_err::os::unix::fs::symlink;

/// A folder as users have it: links downwards, beside and out, and things that are no files.
struct Shared {
    host: tempfile::TempDir,
    budget: Arc<Budget>,
    revocation: Revocation,
}

impl Shared {
    fn new() -> Self {
        let host = tempfile::tempdir().unwrap();
        let at = |name: &str| host.path().join(name);
        fs_err::create_dir_all(at("docs/releases")).unwrap();
        fs_err::write(at("docs/releases/keep.txt"), "keep").unwrap();
        symlink("releases", at("docs/current")).unwrap();
        symlink("../docs/releases", at("docs/around")).unwrap();
        symlink("releases/keep.txt", at("docs/file")).unwrap();
        symlink("/etc", at("out")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        symlink(".", at("self")).unwrap();
        make_pipe(&at("pipe"));
        let budget = Budget::new(&Limits::default().with_descriptors(16));
        Self { host, budget, revocation: Revocation::default() }
    }

    fn folder(&self) -> Folder {
        let (budget, revocation) = (Arc::clone(&self.budget), self.revocation.clone());
        Folder::open(self.host.path(), false, budget, revocation).unwrap()
    }
}

fn path(text: &str) -> SmbPath {
    text.parse().unwrap()
}

async fn opened(folder: &Folder, name: &str) -> SmbResult<Box<dyn Handle>> {
    folder.open(&path(name), OpenOptions::default()).await.map(|(handle, _)| handle)
}

#[tokio::test]
async fn a_link_is_shown_as_a_link_and_deleted_as_one() {
    let shared = Shared::new();
    let folder = shared.folder();
    for (name, target) in [
        ("docs/current", "releases"),
        ("docs/around", "../docs/releases"),
        ("docs/file", "releases/keep.txt"),
        ("out", "/etc"),
        ("dangling", "nowhere"),
        ("self", "."),
    ] {
        let handle = opened(&folder, name).await.unwrap();
        let seen = handle.stat().await.unwrap();
        assert_eq!((seen.is_directory, seen.end_of_file), (false, link::SIZE), "{name}");
        let content = handle.read(0, 4096).await.unwrap();
        assert_eq!(content, link::file(target.as_bytes()).unwrap(), "{name}");
        assert_eq!(handle.read(43, 1).await.unwrap(), target.as_bytes()[..1], "{name}");
        assert!(handle.read(u64::MAX, 1).await.unwrap().is_empty(), "{name}");
        assert!(handle.write(0, b"x").await.is_err(), "{name}");
        handle.close().await.unwrap();
        // Nothing goes through it: neither a look, nor a new file, nor a removal, nor a rename.
        for below in ["keep.txt", "new", "passwd"] {
            let below = format!("{name}/{below}");
            assert!(opened(&folder, &below).await.is_err(), "{below}");
            let create = OpenOptions {
                write: true,
                intent: OpenIntent::OpenOrCreate,
                ..OpenOptions::default()
            };
            assert!(folder.open(&path(&below), create).await.is_err(), "{below}");
            assert!(folder.unlink(&path(&below)).await.is_err(), "{below}");
            assert!(folder.rename(&path(&below), &path("x"), true).await.is_err(), "{below}");
            assert!(folder.rename(&path("pipe"), &path(&below), true).await.is_err(), "{below}");
        }
        folder.unlink(&path(name)).await.unwrap();
        assert!(opened(&folder, name).await.is_err(), "{name}");
    }
    let kept = fs_err::read_to_string(shared.host.path().join("docs/releases/keep.txt")).unwrap();
    assert_eq!(kept, "keep");
}

#[tokio::test]
async fn a_listing_names_links_and_never_waits_for_a_pipe() {
    let shared = Shared::new();
    let folder = shared.folder();
    let handle = opened(&folder, "").await.unwrap();
    let mut entries = handle.list_dir(None).await.unwrap();
    entries.sort_by(|a, b| a.info.name.cmp(&b.info.name));
    let seen: Vec<_> =
        entries.iter().map(|entry| (entry.info.name.as_str(), entry.info.is_directory)).collect();
    let expect =
        [("dangling", false), ("docs", true), ("out", false), ("pipe", false), ("self", false)];
    assert_eq!(seen, expect);
    // The same number in a listing and by itself, as the guest's kernel compares them.
    for entry in &entries {
        let handle = opened(&folder, &entry.info.name).await.unwrap();
        let info = handle.stat().await.unwrap();
        assert_eq!(info.file_index, entry.info.file_index, "{}", entry.info.name);
        assert_eq!(info.end_of_file, entry.info.end_of_file, "{}", entry.info.name);
    }
    let pipe = opened(&folder, "pipe").await.unwrap();
    assert!(pipe.read(0, 1).await.is_err());
    folder.unlink(&path("pipe")).await.unwrap();
}

#[tokio::test]
async fn opens_and_listings_are_counted_until_they_are_closed() {
    let shared = Shared::new();
    let folder = shared.folder();
    let file = "docs/releases/keep.txt";
    let mut open = Vec::new();
    while let Ok(handle) = opened(&folder, file).await {
        open.push(handle);
    }
    assert_eq!(open.len(), 16);
    open.pop();
    let handle = opened(&folder, "docs").await.unwrap();
    let before = shared.budget.memory_left();
    handle.list_dir(None).await.unwrap();
    let during = shared.budget.memory_left();
    assert!(during < before);
    handle.list_dir(None).await.unwrap();
    assert_eq!(shared.budget.memory_left(), during, "one listing takes the place of another");
    drop(handle);
    assert_eq!(shared.budget.memory_left(), before);

    let all = shared.budget.memory(before).unwrap();
    let handle = opened(&folder, "docs").await.unwrap();
    assert!(handle.list_dir(None).await.is_err());
    drop(all);
    assert!(handle.list_dir(None).await.is_ok());
}

#[tokio::test]
async fn a_revoked_share_answers_nothing_not_even_on_open_files() {
    let shared = Shared::new();
    let folder = shared.folder();
    let handle = opened(&folder, "docs/releases/keep.txt").await.unwrap();
    let listed = opened(&folder, "docs").await.unwrap();
    assert_eq!(handle.read(0, 10).await.unwrap(), "keep");
    shared.revocation.revoke();
    assert!(handle.read(0, 10).await.is_err());
    assert!(handle.write(0, b"gone").await.is_err());
    assert!(handle.stat().await.is_err());
    assert!(listed.list_dir(None).await.is_err());
    assert!(opened(&folder, "docs").await.is_err());
    assert!(folder.unlink(&path("out")).await.is_err());
    assert!(folder.rename(&path("out"), &path("in"), false).await.is_err());
    assert!(folder.volume_info().await.is_err());
}
