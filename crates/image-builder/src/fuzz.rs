//! Hostile recipes, indexes, packages, tars and disks.

use crate::{
    apk, apt, deb, disk::SparseDisk, ext4, kernel, lock::Lock, qcow2, recipe, root, tree::Tree,
};
use fuzz_driver::Target;
use host_platform::Arch;
use std::path::Path;

#[test]
fn fuzz_recipe() {
    let words: &[&[u8]] = &[
        b"[distribution]\n",
        b"[kernel]\n",
        b"[disk]\n",
        b"[[file]]\n",
        b"packages = [",
        b"size = ",
        b"base = ",
        b"'''",
        b"\"\\u0000\"",
        b"[user]\n",
        b"[checks.",
        b"[[wheel]]\n",
    ];
    let path = Path::new("recipes/fuzzed/recipe.toml");
    Target::new("recipe").words(words).run(|input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let _ = recipe::base_name(text, path);
        if let Err(error) = recipe::parse(text, path) {
            let _ = (error.to_string(), error.hint());
        }
    });
}

#[test]
fn fuzz_lock() {
    let words: &[&[u8]] =
        &[b"version = ", b"[arch.amd64]\n", b"[[arch.amd64.package]]\n", b"sha256 = "];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recipe.lock");
    Target::new("lock").words(words).run(|input| {
        fs_err::write(&path, input).unwrap();
        if let Ok(lock) = Lock::load(&path) {
            lock.save(&path, "fuzzed").unwrap();
            Lock::load(&path).unwrap();
        }
    });
}

#[test]
fn fuzz_apt_index() {
    let words: &[&[u8]] = &[
        b"Package: ",
        b"Version: ",
        b"Filename: ",
        b"SHA256: ",
        b"Size: ",
        b"\n\n",
        b"Inst ",
        b"URIs: ",
        b"deb [",
        b"Signed-By:",
        b"Suites:",
        b"Enabled: no",
    ];
    Target::new("apt_index").words(words).run(|input| {
        let text = String::from_utf8_lossy(input);
        let _ = (apt::repositories::parse_one_line(&text), apt::repositories::parse_deb822(&text));
        let choices: Vec<_> = text.lines().filter_map(apt::answer::choice).collect();
        let _ = apt::answer::packages(&choices, &text, &[]);
        let _ = apt::answer::unknown_package(&text);
        let _ = deb::field(&text, "Package");
    });
}

#[test]
fn fuzz_apk_index() {
    let words: &[&[u8]] =
        &[b"P:", b"V:", b"C:Q1", b"D:", b"p:", b"i:", b"so:", b">=", b"~", b"\n\n", b"1.0_rc1-r0"];
    Target::new("apk_index").words(words).run(|input| {
        let text = String::from_utf8_lossy(input);
        if let Ok(records) = apk::index::parse(&text, "main/x86_64", Path::new("APKINDEX")) {
            for record in &records {
                assert!(record.path().matches('/').count() == 2, "{}", record.path());
            }
        }
        let (before, after) = text.split_at(text.floor_char_boundary(text.len() / 2));
        let order = apk::version::compare(before, after);
        assert_eq!(apk::version::compare(after, before), order.reverse());
    });
}

#[test]
fn fuzz_package() {
    let words: &[&[u8]] = &[
        b"!<arch>\n",
        b"`\n",
        b"control.tar",
        b"data.tar.xz",
        b"\x1f\x8b\x08",
        b".PKGINFO",
        b".SIGN.",
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("package");
    Target::new("package").max_input(1 << 15).max_memory(200 << 20).words(words).run(|input| {
        fs_err::write(&path, input).unwrap();
        let _ = deb::data(&path);
        let _ = deb::control_and_time(&path);
        let _ = apk::package::Package::read(&path);
    });
}

#[test]
fn fuzz_tar() {
    let words: &[&[u8]] =
        &[b"ustar\0", b"ustar  \0", b"../", b"GNU.sparse.map", b"30 mtime=1e99\n", b"path="];
    Target::new("tar").max_input(1 << 15).words(words).run(|input| {
        let mut tree = Tree::new(0);
        let _ = tree.add_tar_stream(&with_checksums(input)[..]);
        for (path, _) in tree.iter() {
            assert!(path.split(|byte| *byte == b'/').all(|part| part != b".."), "{path:?}");
        }
    });
}

/// Puts the right checksum into every header of a tar, as a maker of hostile ones would.
fn with_checksums(input: &[u8]) -> Vec<u8> {
    let mut tar = input.to_vec();
    let mut at = 0;
    while let Some(block) = tar.get_mut(at..at + 512) {
        if block.iter().all(|byte| *byte == 0) {
            break;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let header = tar::Header::from_byte_slice(block);
        let length = header.entry_size().unwrap_or(0).min(1 << 20) as usize;
        at += 512 + length.div_ceil(512) * 512;
    }
    tar
}

/// The first line of an input names a layout's files, the rest is what they hold.
#[test]
fn fuzz_oci_layout() {
    let words: &[&[u8]] = &[
        b"\"manifests\"",
        b"\"layers\"",
        b"\"digest\":\"sha256:",
        b"\"platform\"",
        b"\"architecture\"",
        b"\"amd64\"",
        b"../../../etc/passwd",
        b"\n---\n",
    ];
    let folder = tempfile::tempdir().unwrap();
    let blobs = folder.path().join("blobs/sha256");
    fs_err::create_dir_all(&blobs).unwrap();
    Target::new("oci_layout").max_input(1 << 14).words(words).run(|input| {
        // Documents between lines of dashes: the index, then blobs that are named by their digest;
        // `@1@` in a document stands for the digest of the next.
        let text = String::from_utf8_lossy(input);
        let mut next = crate::sha256(b"");
        let documents: Vec<&str> = text.split("\n---\n").take(6).collect();
        let mut written = Vec::new();
        for (number, document) in documents.iter().enumerate().rev() {
            let document = document.replace("@next@", &next);
            next = crate::sha256(document.as_bytes());
            let path =
                if number == 0 { folder.path().join("index.json") } else { blobs.join(&next) };
            fs_err::write(&path, &document).unwrap();
            written.push(path);
        }
        let named = recipe::Root::Oci(String::new());
        let layout = root::read(&named, folder.path(), Arch::Amd64);
        if let Err(error) = layout {
            let _ = (error.to_string(), error.hint());
        }
        for path in written {
            let _ = fs_err::remove_file(path);
        }
    });
}

#[test]
fn fuzz_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.qcow2");
    Target::new("disk").max_input(1 << 16).max_memory(600 << 20).run(|input| {
        fs_err::write(&path, input).unwrap();
        let _ = qcow2::read(&[&path]);
    });
}

/// An input is a small file system with bytes changed: pairs of an offset and a byte.
#[test]
fn fuzz_ext4() {
    let mut tree = Tree::new(0);
    let file = |text: &str| crate::tree::Node::file(text.as_bytes().to_vec(), 0o644, 0);
    for (path, text) in [("a", "short"), ("folder/b", "beta"), ("folder/deep/c", "gamma")] {
        if let Some((folder, _)) = path.rsplit_once('/') {
            let _ = tree.put(folder, crate::tree::Node::folder(0o755, 0));
        }
        tree.put(path, file(text)).unwrap();
    }
    tree.put("link", crate::tree::Node::symlink("a", 0)).unwrap();
    let settings = ext4::Settings { size: 4 << 20, label: "fuzz".into(), uuid: [1; 16], time: 0 };
    let disk = ext4::build(&tree, &settings).unwrap();
    let mut whole = vec![0; 4 << 20];
    assert!(disk.read(0, &mut whole));
    Target::new("ext4").max_input(512).max_memory(128 << 20).run(|input| {
        let disk = SparseDisk::new(4 << 20);
        assert!(disk.write(0, &whole));
        for change in input.chunks_exact(4) {
            // Most of the file system is empty; its tables are at its beginning.
            let at =
                u64::from(u32::from_le_bytes([change[0], change[1], change[2], 0])) % (1 << 20);
            assert!(disk.write(at, &change[3..]));
        }
        let _ = ext4::read(disk);
    });
}

#[test]
fn fuzz_kernel() {
    let words: &[&[u8]] = &[
        b"HdrS",
        b"\x7fELF",
        b"\x1f\x8b",
        b"\xfd7zXZ\0",
        b"\x28\xb5\x2f\xfd",
        b"ARMd",
        b"\x55\xaa",
    ];
    Target::new("kernel").max_input(1 << 15).max_memory(256 << 20).words(words).run(|input| {
        for arch in [Arch::Amd64, Arch::Arm64] {
            let _ = kernel::bootable(input, arch, Path::new("vmlinuz"));
        }
        let _ = (crate::modules::info(input), crate::modules::unsigned_length(input));
    });
}
