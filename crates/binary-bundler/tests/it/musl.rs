//! musl: its search rules against a made-up root, with files that zig links for musl.

use crate::tools::{Sources, run, zig};
use binary_bundler::closure::{Options, Root, closure};

#[test]
fn the_path_file_replaces_the_default_folders() {
    let Some(zig) = zig() else { return };
    let sources = Sources::new();
    let here = format!("-L{}", sources.folder.path().display());
    let (deep, out) = (sources.text("deep.c"), sources.text("libdeep.so"));
    let target = ["cc", "-target", "x86_64-linux-musl", "-shared", "-fPIC"];
    run(&zig, &[&target[..], &["-o", &out, &deep, "-Wl,-soname,libdeep.so"]].concat());
    let (wide, out) = (sources.text("wide.c"), sources.text("libwide.so"));
    run(&zig, &[&target[..], &["-o", &out, &wide, &here, "-ldeep", "-lc"]].concat());
    let folder = tempfile::tempdir().unwrap();
    let root = Root::at(folder.path()).unwrap();
    for place in ["usr/local/lib", "usr/lib", "opt/musl", "etc"] {
        fs_err::create_dir_all(root.path().join(place)).unwrap();
    }
    let wide = root.path().join("opt/libwide.so");
    fs_err::copy(sources.path("libwide.so"), &wide).unwrap();
    let find = || closure(&root, std::slice::from_ref(&wide), &Options::default());
    assert!(find().is_err());
    fs_err::copy(sources.path("libdeep.so"), root.path().join("usr/lib/libdeep.so")).unwrap();
    assert_eq!(find().unwrap().objects[1].file, root.path().join("usr/lib/libdeep.so"));
    fs_err::write(root.path().join("etc/ld-musl-x86_64.path"), "/opt/musl\n").unwrap();
    assert!(find().is_err(), "the file replaces the built-in folders");
    fs_err::copy(sources.path("libdeep.so"), root.path().join("opt/musl/libdeep.so")).unwrap();
    let found = find().unwrap();
    assert_eq!(found.objects[1].file, root.path().join("opt/musl/libdeep.so"));
}
