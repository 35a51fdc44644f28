//! Tars and layouts that the tests make, those of a hostile maker among them.

use super::*;
use crate::tree::Kind;

/// A tar with these members: files, or folders where the name ends with a slash.
fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        let kind = match name.ends_with('/') {
            true => tar::EntryType::Directory,
            false => tar::EntryType::Regular,
        };
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(3);
        header.set_gid(4);
        header.set_mtime(5);
        header.set_size(content.len() as u64);
        // Written by hand: the library would refuse the names that a hostile maker chooses.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

/// A layout of these layers, as name and bytes of its files.
fn layout(layers: &[Vec<u8>]) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut blob = |bytes: Vec<u8>| {
        let digest = crate::sha256(&bytes);
        let descriptor =
            serde_json::json!({"digest": format!("sha256:{digest}"), "size": bytes.len()});
        files.push((format!("blobs/sha256/{digest}"), bytes));
        descriptor
    };
    let layers: Vec<_> = layers.iter().map(|layer| blob(layer.clone())).collect();
    let of = |arch: &str, mut descriptor: serde_json::Value| {
        descriptor["platform"] = serde_json::json!({"architecture": arch, "os": "linux"});
        descriptor
    };
    let document = |value: serde_json::Value| value.to_string().into_bytes();
    let other = of("s390x", blob(document(serde_json::json!({"layers": [], "n": 1}))));
    let ours = of("amd64", blob(document(serde_json::json!({"layers": layers}))));
    let inner = blob(document(serde_json::json!({"manifests": [other, ours]})));
    let index = document(serde_json::json!({"schemaVersion": 2, "manifests": [inner]}));
    files.push(("index.json".to_owned(), index));
    files.push(("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    files
}

fn write(folder: &Path, files: &[(String, Vec<u8>)]) {
    for (name, bytes) in files {
        let place = folder.join(name);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, bytes).unwrap();
    }
}

fn paths(tree: &Tree) -> Vec<String> {
    let text = |path: &Vec<u8>| String::from_utf8_lossy(path).into_owned();
    tree.iter().filter(|(_, node)| !node.is_folder()).map(|(path, _)| text(path)).collect()
}

fn oci(name: &str) -> Root {
    Root::Oci(name.to_owned())
}

#[test]
fn a_tar_is_read_whatever_its_packing() {
    let folder = tempfile::tempdir().unwrap();
    let plain = archive(&[("./etc/", b""), ("./etc/a", b"1"), ("/b", b"2")]);
    let packed = [plain.clone(), gzip(&plain), zstd::encode_all(plain.as_slice(), 1).unwrap()];
    for (number, bytes) in packed.iter().enumerate() {
        let name = format!("{number}.tar");
        fs::write(folder.path().join(&name), bytes).unwrap();
        let brought = read(&Root::Tar(name), folder.path(), Arch::Amd64).unwrap();
        assert_eq!(paths(&brought.tree), ["b", "etc/a"]);
        assert_eq!(brought.tree.get(b"b").unwrap().uid, 3);
        assert_eq!(brought.sha256, crate::sha256(bytes));
    }
}

#[test]
fn layers_add_replace_and_remove() {
    let folder = tempfile::tempdir().unwrap();
    let layers = [
        archive(&[
            ("etc/", b""),
            ("etc/old", b"1"),
            ("etc/kept", b"1"),
            ("opt/a/b", b"1"),
            ("x", b"1"),
        ]),
        // The whiteouts come last here: they are about lower layers all the same.
        gzip(&archive(&[
            ("etc/new", b"2"),
            ("x/y", b"2"),
            ("opt/c", b"2"),
            ("etc/.wh.old", b""),
            ("opt/.wh..wh..opq", b""),
            (".wh.x", b""),
        ])),
    ];
    let files = layout(&layers);
    write(&folder.path().join("l"), &files);
    let brought = read(&oci("l"), folder.path(), Arch::Amd64).unwrap();
    assert_eq!(paths(&brought.tree), ["etc/kept", "etc/new", "opt/c", "x/y"]);

    // The same layout in a tar is the same image.
    let members: Vec<(&str, &[u8])> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    // Names of blobs fit into a tar's old header.
    fs::write(folder.path().join("l.tar"), archive(&members)).unwrap();
    let packed = read(&oci("l.tar"), folder.path(), Arch::Amd64).unwrap();
    assert_eq!(packed.sha256, brought.sha256);
    assert_eq!(paths(&packed.tree), paths(&brought.tree));
}

#[test]
fn what_is_not_what_its_digest_says_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = layout(&[archive(&[("a", b"1")])]);
    files[0].1[600] ^= 1;
    write(folder.path(), &files);
    let error = read(&oci("."), folder.path(), Arch::Amd64).unwrap_err().to_string();
    assert!(error.contains("are others"), "{error}");
    let error = read(&oci("."), folder.path(), Arch::Arm64).unwrap_err().to_string();
    assert!(error.contains("for arm64"), "{error}");
    fs::write(
        folder.path().join("index.json"),
        r#"{"manifests":[{"digest":"sha256:../../../../etc/passwd"}]}"#,
    )
    .unwrap();
    let error = read(&oci("."), folder.path(), Arch::Amd64).unwrap_err().to_string();
    assert!(error.contains("no sha256 digest"), "{error}");
}

#[test]
fn paths_that_leave_the_tree_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["../evil", "a/../../evil", "usr/../etc/.wh.passwd"] {
        let bytes = archive(&[(name, b"1")]);
        fs::write(folder.path().join("r.tar"), &bytes).unwrap();
        let error = read(&Root::Tar("r.tar".to_owned()), folder.path(), Arch::Amd64);
        assert!(error.unwrap_err().to_string().contains("leaves it"), "{name}");
        write(&folder.path().join("l"), &layout(&[bytes]));
        let error = read(&oci("l"), folder.path(), Arch::Amd64);
        assert!(error.unwrap_err().to_string().contains("leaves it"), "{name}");
    }
}

#[test]
fn what_a_link_leads_out_of_stays_inside() {
    let folder = tempfile::tempdir().unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    let mut link = |kind, name: &str, target: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        builder.append_link(&mut header, name, target).unwrap();
    };
    link(tar::EntryType::Symlink, "out", "/../../srv");
    link(tar::EntryType::Symlink, "lib", "usr/lib");
    link(tar::EntryType::Link, "same", "lib/x");
    let mut bytes = builder.into_inner().unwrap();
    bytes.truncate(bytes.len() - 1024);
    bytes.extend(archive(&[("usr/lib/x", b"1"), ("srv/", b""), ("out/file", b"2")]));
    fs::write(folder.path().join("r.tar"), &bytes).unwrap();
    let brought = read(&Root::Tar("r.tar".to_owned()), folder.path(), Arch::Amd64).unwrap();
    assert!(brought.tree.get(b"srv/file").is_some() || brought.tree.get(b"out/file").is_some());
    let file = &brought.tree.get(b"usr/lib/x").unwrap().kind;
    assert!(matches!(file, Kind::Hardlink(to) if to == b"same"), "{file:?}");
}

#[test]
fn an_archive_that_grows_without_end_is_cut() {
    let packed = gzip(&vec![0; 1 << 20]);
    let mut out = Vec::new();
    let error = unpacked(&packed, 1000).unwrap().read_to_end(&mut out).unwrap_err();
    assert!(error.to_string().contains("more than"), "{error}");
}
