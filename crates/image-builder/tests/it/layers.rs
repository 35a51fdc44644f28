//! Tars and layers become the disk that the field's own programs make of them. The judges are others'
//! work: GNU tar, bsdtar and Python pack; the kernel reads the disk and lays layers on each other
//! (overlayfs), in a mount namespace that ends with its process.

use super::{tool, write_raw};
use disk_formats::{
    ext4,
    tree::{Node, Tree},
};
use duct::cmd;
use fs_err as fs;
use host_platform::Arch;
use image_builder::{recipe::Root, root};
use std::path::Path;

/// Makes a folder with everything that a tar can hold, prints what a folder holds, packs one.
const FILES: &str = r#"
import hashlib, os, stat, struct, sys, tarfile
def acl(*entries):
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)
NONE = 0xffffffff
def make(top):
    os.makedirs(top); os.chdir(top)
    def file(name, data=b"x", mode=0o644, uid=0, gid=0, time=1_000_000_000):
        os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        with open(name, "wb") as f: f.write(data)
        os.chown(name, uid, gid); os.chmod(name, mode); os.utime(name, (time, time))
    file("plain"); file("suid", mode=0o6755); file("empty", b"")
    file("far-owner", uid=3_000_000, gid=4_000_000_000); file("two/owner", uid=65_534, gid=70_000)
    for time in (-1, -86_400, -2_000_000_000, 0, 2**31 - 1, 2**31, 4_102_444_800, 9_000_000_000):
        file(f"times/{time}", time=time)
    file("a/" * 60 + "f" * 200); file("n" * 255); file("new\nline"); file(b"caf\xe9".decode("utf-8", "surrogateescape"))
    os.symlink("t" * 3000, "long-link"); os.symlink("../x\ny", "link"); os.symlink("missing", "dangling")
    file("one", b"same", 0o600, 7, 8); os.link("one", "other"); os.makedirs("z"); os.link("one", "z/third")
    with open("holes", "wb") as f:
        f.truncate(3 << 20)
        for at in (0, 1 << 20, (3 << 20) - 3): f.seek(at); f.write(b"abc")
    with open("hole-only", "wb") as f: f.truncate(1 << 20)
    with open("many-holes", "wb") as f:
        for n in range(60): f.seek(n * 65536); f.write(b"%d" % n)
    os.mknod("null", 0o666 | stat.S_IFCHR, os.makedev(1, 3)); os.mknod("far", 0o660 | stat.S_IFBLK, os.makedev(259, 70_000)); os.mkfifo("pipe", 0o640)
    file("attributes")
    for name, value in (("user.plain", b"1"), ("user.bytes", bytes(range(256))), ("user.two\u00e9", b"\n\n"), ("user.a=b", b"="), ("user.100%", b"%41")):
        try: os.setxattr("attributes", name, value)
        except OSError: pass
    file("capable", mode=0o755); os.setxattr("capable", "security.capability", struct.pack("<IIIII", 0x2000001, 0x0a << 8, 10, 0, 0))
    os.setxattr("z", "user.folder", b"1"); os.setxattr("z", "trusted.x", b"\x00")
    file("shared", mode=0o640)
    os.setxattr("shared", "system.posix_acl_access", acl((1, 6, NONE), (2, 7, 1234), (4, 4, NONE), (8, 1, 2_000_000_000), (16, 7, NONE), (32, 0, NONE)))
    os.makedirs("shared-folder"); os.setxattr("shared-folder", "system.posix_acl_default", acl((1, 7, NONE), (2, 5, 1), (4, 5, NONE), (16, 5, NONE), (32, 0, NONE)))
    os.makedirs("sticky"); os.chmod("sticky", 0o3777); os.chown("sticky", 5, 6)
    os.chmod(".", 0o711); os.chown(".", 9, 10); os.setxattr(".", "user.root", b"r")
    for folder, _, _ in os.walk(".", topdown=False): os.utime(folder, (1_234_567_890, 1_234_567_890))
def show(top, without=""):
    top = os.fsencode(top); first = {}; lines = []
    for folder, folders, files in os.walk(top):
        folders.sort()
        for name in [b""] * (folder == top) + sorted(folders + files):
            path = os.path.join(folder, name) if name else folder
            place = os.path.relpath(path, top)
            if place == b"lost+found": continue
            try: s = os.lstat(path)
            # Overlayfs lists a whiteout in a folder that lies on no other one, and nothing is there.
            except FileNotFoundError: continue
            kind = stat.S_IFMT(s.st_mode)
            what = [place, oct(s.st_mode), s.st_uid, s.st_gid]
            if "times" not in without: what.append(int(s.st_mtime_ns // 10**9))
            if kind == stat.S_IFREG:
                what += [s.st_size, hashlib.sha256(open(path, "rb").read()).hexdigest()]
                what.append(first.setdefault(s.st_ino, place))
            elif kind == stat.S_IFLNK: what.append(os.readlink(path))
            elif kind in (stat.S_IFCHR, stat.S_IFBLK): what.append((os.major(s.st_rdev), os.minor(s.st_rdev)))
            names = os.listxattr(path, follow_symlinks=False)
            what.append(sorted((n, os.getxattr(path, n, follow_symlinks=False)) for n in names if not n.startswith("trusted.overlay.")))
            lines.append(repr(what))
    return sorted(lines)
def same(ours, theirs, without=""):
    ours, theirs = show(ours, without), show(theirs, without)
    wrong = [f"ours   {l}" for l in ours if l not in theirs] + [f"theirs {l}" for l in theirs if l not in ours]
    print("\n".join(sorted(wrong)) or f"same: {len(ours)} entries"); sys.exit(bool(wrong))
globals()[sys.argv[1]](*sys.argv[2:])
"#;

/// Whether this process may make device nodes and mount disks; a test that needs it says so and ends.
fn may_mount() -> bool {
    // `losetup -f` alone names a device that need not be there.
    let trial = "mount -t tmpfs x /mnt && truncate -s 1M /mnt/disk && \
                 device=$(losetup --find --show /mnt/disk) && losetup -d $device";
    let may = cmd!("unshare", "--mount", "sh", "-c", trial)
        .stdout_null()
        .stderr_null()
        .unchecked()
        .run()
        .is_ok_and(|outcome| outcome.status.success());
    if !may {
        eprintln!("skipped: mounting a disk needs root and loop devices");
    }
    may
}

/// The disk of a tree, as a file.
fn disk(tree: &Tree, path: &Path) {
    let settings =
        ext4::Settings { size: 64 << 20, label: "test".to_owned(), uuid: [7; 16], time: 1000 };
    write_raw(path, &ext4::build(tree, &settings).unwrap().into_chunks());
    if let Some(e2fsck) = tool("e2fsck") {
        let check = cmd!(e2fsck, "-fn", path)
            .stderr_to_stdout()
            .stdout_capture()
            .unchecked()
            .run()
            .unwrap();
        let report = String::from_utf8_lossy(&check.stdout);
        assert_eq!(check.status.code(), Some(0), "{report}");
    }
}

/// Mounts the disk and has the kernel's view compared with a folder, which `prepare` makes.
fn assert_same(script: &Path, disk: &Path, prepare: &str, theirs: &Path, without: &str) {
    let commands = format!(
        "set -e; mkdir -p $3.disk; mount -o loop,ro $2 $3.disk; {prepare}; \
         python3 $1 same $3.disk $3 '{without}'"
    );
    let outcome = cmd!("unshare", "--mount", "sh", "-c", commands, "sh", script, disk, theirs)
        .stderr_to_stdout()
        .stdout_capture()
        .unchecked()
        .run()
        .unwrap();
    let report = String::from_utf8_lossy(&outcome.stdout);
    assert!(outcome.status.success() && report.contains("same: "), "{report}");
}

#[test]
fn a_tar_of_any_packer_is_on_the_disk_as_it_was_in_its_folder() {
    if !may_mount() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let (folder, script) = (scratch.path().join("files"), scratch.path().join("files.py"));
    fs::write(&script, FILES).unwrap();
    cmd!("python3", &script, "make", &folder).run().unwrap();
    let tar = scratch.path().join("root.tar");
    let all = ["--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "-S"];
    let packers: [(&str, &[&str], &str); 5] = [
        ("tar", &["--format=pax"], ""),
        ("tar", &["--format=pax", "--sparse-version=0.1"], ""),
        ("tar", &["--format=pax", "--sparse-version=0.0", "-z"], ""),
        // Its format has a place for holes and far times, and none for attributes.
        ("tar", &["--format=gnu"], "attributes"),
        ("bsdtar", &["--format=pax", "--numeric-owner", "--xattrs", "--acls"], ""),
    ];
    for (packer, options, without) in packers {
        let Some(packer) = tool(packer) else { continue };
        let mut args: Vec<&str> = options.to_vec();
        if packer.ends_with("tar") && !packer.ends_with("bsdtar") {
            args.extend(if without.is_empty() { &all[..] } else { &all[3..] });
        }
        let (to, from) = (tar.to_str().unwrap(), folder.to_str().unwrap());
        args.extend(["-cf", to, "-C", from, "."]);
        cmd(&packer, &args).stderr_null().run().unwrap();
        let brought = root::read(&Root::Tar("root.tar".to_owned()), scratch.path(), Arch::Amd64);
        let mut tree = brought.unwrap().tree;
        if !without.is_empty() {
            // What the format cannot say is taken from the folder's own tar.
            let whole = scratch.path().join("whole.tar");
            let to = whole.to_str().unwrap();
            let args = [&["--format=pax", "-cf", to, "-C", from][..], &all, &["."]].concat();
            cmd("tar", args).run().unwrap();
            let name = Root::Tar("whole.tar".to_owned());
            let whole = root::read(&name, scratch.path(), Arch::Amd64).unwrap().tree;
            for (path, node) in tree.iter_mut() {
                node.xattrs.clone_from(&whole.get(path).unwrap().xattrs);
            }
        }
        // Over the form in which a bake hands trees from one stage to the next.
        let between = scratch.path().join("between.tar");
        tree.write_tar(&between).unwrap();
        let mut tree = Tree::new(0);
        tree.add_tar_file(&between).unwrap();
        let image = scratch.path().join("disk");
        disk(&tree, &image);
        assert_same(&script, &image, "true", &folder, "");
    }
}

/// A member: its name, then `/` for a folder, `=text` for a file, `>target` for a symbolic link,
/// `&target` for a hard link.
fn layer(members: &[&str]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for member in members {
        let at = member.find(['=', '>', '&']).unwrap_or(member.len());
        let (name, rest) = member.split_at(at);
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000);
        header.set_size(0);
        match rest.split_at_checked(1) {
            Some(("=", text)) => {
                header.set_size(text.len() as u64);
                builder.append_data(&mut header, name, text.as_bytes()).unwrap();
            }
            Some((kind, target)) => {
                let is_link = kind == ">";
                let kind = if is_link { tar::EntryType::Symlink } else { tar::EntryType::Link };
                header.set_entry_type(kind);
                builder.append_link(&mut header, name, target).unwrap();
            }
            None => {
                header.set_entry_type(tar::EntryType::Directory);
                builder.append_data(&mut header, name, std::io::empty()).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

/// Writes a layout of these layers.
fn layout(folder: &Path, layers: &[Vec<u8>]) {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let blob = |bytes: &[u8]| {
        let digest = image_builder::sha256(bytes);
        fs::write(blobs.join(&digest), bytes).unwrap();
        serde_json::json!({"digest": format!("sha256:{digest}"), "size": bytes.len()})
    };
    let layers: Vec<_> = layers.iter().map(|layer| blob(layer)).collect();
    let manifest = blob(serde_json::json!({"layers": layers}).to_string().as_bytes());
    let index = serde_json::json!({"manifests": [manifest]}).to_string();
    fs::write(folder.join("index.json"), index).unwrap();
}

/// The members of each layer, the lowest first.
type Layers = &'static [&'static [&'static str]];

/// What the kernel is asked about.
const LAYERS: &[Layers] = &[
    // An opaque folder in the place of a link, listed before and after the mark, and not at all.
    &[
        &["target/", "target/keep=k", "link>/target"],
        &["link/", "link/.wh..wh..opq=", "link/new=n"],
    ],
    &[&["target/", "target/keep=k", "link>target"], &["link/.wh..wh..opq=", "link/", "link/new=n"]],
    &[&["target/", "target/keep=k", "link>/target"], &["link/.wh..wh..opq=", "link/new=n"]],
    // A folder in the place of a link, and a whiteout in it.
    &[&["target/", "target/keep=k", "link>/target"], &["link/", "link/new=n"]],
    &[&["target/", "target/keep=k", "link>/target"], &["link/.wh.keep="]],
    &[&["usr/lib/", "usr/lib/a=1", "lib>usr/lib"], &["lib/", "lib/b=2"]],
    // Removed, and removed and brought again, as a folder and as something else.
    &[&["a/", "a/b/", "a/b/c=1", "a/d=1"], &["a/.wh.b="]],
    &[&["a/", "a/b/", "a/b/c=1", "a/d=1"], &["a/", "a/.wh..wh..opq=", "a/e=2"], &["a/f=3"]],
    &[&["a/", "a/b=1"], &[".wh.a="], &["a/", "a/c=2"]],
    &[&["a/", "a/b=1"], &["a=file"], &["a/", "a/c=3"]],
    &[&["a/", "a/b=1"], &["a>elsewhere"], &["b=1"]],
    &[&["a>b", "b=1"], &["a=2"]],
    &[&["a=1"], &["a/", "a/b/", "a/b/c=2"]],
    // What was hidden stays hidden, and a whiteout of what is not there harms nothing.
    &[&["a/", "a/b=1"], &["a/", "a/.wh..wh..opq="], &["a/c=3"]],
    &[&["a/", "a/b=1"], &["a/.wh.nothing=", ".wh.none="]],
    // Links within one layer.
    &[&["a=old", "b&a", "c=1"], &["a=new"]],
    &[&["a=old", "b&a"], &[".wh.a="]],
    &[&["a=old", "b&a"], &["b=new"], &[".wh.a="]],
    &[&["x=1", "a=old", "b&a", "d/", "d/c&a"], &["a>x", "d/c=new"]],
];

#[test]
fn layers_are_what_the_kernel_makes_of_them() {
    if !may_mount() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let script = scratch.path().join("files.py");
    fs::write(&script, FILES).unwrap();
    for (number, layers) in LAYERS.iter().enumerate() {
        let place = |name: &str| scratch.path().join(format!("{number}-{name}"));
        let tars: Vec<Vec<u8>> = layers.iter().map(|members| layer(members)).collect();
        layout(&place("layout"), &tars);
        let name = Root::Oci(format!("{number}-layout"));
        let tree = root::read(&name, scratch.path(), Arch::Amd64).unwrap().tree;
        disk(&tree, &place("disk"));
        // Unpacked by GNU tar, marks turned into what overlayfs has for them, and mounted.
        let mut prepare = "mkdir -p $3 $3.l; mount -t tmpfs x $3.l; mkdir $3.l/none".to_owned();
        let mut lower = "$3.l/none".to_owned();
        for (layer, bytes) in tars.iter().enumerate() {
            let tar = place(&format!("{layer}.tar"));
            fs::write(&tar, bytes).unwrap();
            let at = format!("$3.l/{layer}");
            prepare += &format!(
                "; mkdir {at}; tar -xf {tar} -C {at}; \
                 for f in $(cd {at}; find . -name '.wh.*'); do d=${{f%/*}}; n=${{f##*/.wh.}}; rm {at}/$f; \
                 if [ $n = .wh..opq ]; then python3 -c \"import os; os.setxattr('{at}/$d', 'trusted.overlay.opaque', b'y')\"; \
                 else mknod {at}/$d/$n c 0 0; fi; done",
                tar = tar.display()
            );
            lower = format!("{at}:{lower}");
        }
        prepare += &format!("; mount -t overlay x -o ro,lowerdir={lower} $3");
        eprintln!("{layers:?}");
        // Folders that nobody listed have the time at which the judge made them.
        assert_same(&script, &place("disk"), &prepare, &place("theirs"), "times");
    }
}

/// What links across layers give, where the judges differ or refuse: as inodes have it.
#[test]
fn another_name_keeps_its_file_whatever_a_later_layer_does() {
    let scratch = tempfile::tempdir().unwrap();
    let cases: [(Layers, &[(&str, &str)]); 6] = [
        // The layer links to a file below it, which stays or is replaced behind it.
        (&[&["a=old"], &["b&a"]], &[("a", "old"), ("b", "old")]),
        (&[&["a=old"], &["b&a", "a=new"]], &[("a", "new"), ("b", "old")]),
        // A link back to what is its other name already, and two names that change places.
        (&[&["b=x", "a&b"], &["b&a"]], &[("a", "x"), ("b", "x")]),
        (&[&["a=1", "b=2"], &["a&b"]], &[("a", "2"), ("b", "2")]),
        // The file comes behind its other name.
        (&[&["b&usr/a", "usr/", "usr/a=x"], &["usr/a=new"]], &[("b", "x"), ("usr/a", "new")]),
        // Through a link of folders.
        (&[&["usr/lib/", "usr/lib/a=x", "lib>usr/lib"], &["b&lib/a"]], &[("b", "x")]),
    ];
    for (number, (layers, expected)) in cases.iter().enumerate() {
        let tars: Vec<Vec<u8>> = layers.iter().map(|members| layer(members)).collect();
        layout(&scratch.path().join(number.to_string()), &tars);
        let name = Root::Oci(number.to_string());
        let tree = root::read(&name, scratch.path(), Arch::Amd64).unwrap().tree;
        let settings =
            ext4::Settings { size: 16 << 20, label: String::new(), uuid: [1; 16], time: 1 };
        let tree = ext4::read(ext4::build(&tree, &settings).unwrap()).unwrap();
        for (path, text) in *expected {
            let found = tree.read(path).unwrap().map(|b| String::from_utf8_lossy(&b).into_owned());
            assert_eq!(found.as_deref(), Some(*text), "{path} of {layers:?}");
        }
    }
}

/// `tar rf` adds a member of the same name: unpackers unlink the first one.
#[test]
fn an_appended_member_replaces_a_name_and_not_a_file() {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("r.tar"), layer(&["a=old", "b&a", "a=new", ".wh.c=1"])).unwrap();
    let name = Root::Tar("r.tar".to_owned());
    let tree = root::read(&name, scratch.path(), Arch::Amd64).unwrap().tree;
    for (path, text) in [("a", "new"), ("b", "old"), (".wh.c", "1")] {
        assert_eq!(tree.read(path).unwrap().unwrap().as_ref(), text.as_bytes(), "{path}");
    }
    assert!(tree.get(b"b").is_some_and(|node: &Node| !node.is_folder()));
}

#[test]
fn what_a_layer_must_not_do_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    for (members, expected) in [
        (&["a/", "a/.wh...="][..], "leaves it"),
        (&["a/", "b&a"], "hard link to a folder"),
        (&["b&nowhere"], "`nowhere`, which is not there"),
        (&["a>b", "b>a", "a/x=1"], "lead in circles"),
    ] {
        layout(&scratch.path().join("l"), &[layer(members)]);
        let error = root::read(&Root::Oci("l".to_owned()), scratch.path(), Arch::Amd64);
        let error = error.unwrap_err().to_string();
        assert!(error.contains(expected), "{members:?}: {error}");
        fs::remove_dir_all(scratch.path().join("l")).unwrap();
    }
}
