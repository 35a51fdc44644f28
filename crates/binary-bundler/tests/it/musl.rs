//! musl: its search rules against a made-up root. A file counts as musl's by the library that it
//! names, so that a stand-in for `libc.so` is enough: nothing here is run.

use crate::tools::{Sources, run};
use binary_bundler::closure::{Options, Root, closure};

#[test]
fn the_path_file_replaces_the_default_folders() {
    let sources = Sources::new();
    let here = format!("-L{}", sources.folder.path().display());
    let build = |name: &str, args: &[&str]| {
        let out = sources.text(name);
        let soname = format!("-Wl,-soname,{name}");
        let start = ["-shared", "-fPIC", "-nostdlib", "-o", &out, &here, &soname];
        run("gcc", &[&start[..], args].concat());
    };
    fs_err::write(sources.path("libc.c"), "int standing_in;\n").unwrap();
    let libc = "libc.musl-x86_64.so.1";
    build(libc, &[&sources.text("libc.c")]);
    build("libdeep.so", &[&sources.text("deep.c")]);
    let needs_libc = format!("-l:{libc}");
    build(
        "libwide.so",
        &[&sources.text("wide.c"), "-l:libdeep.so", "-Wl,--no-as-needed", &needs_libc],
    );
    let folder = tempfile::tempdir().unwrap();
    let root = Root::at(folder.path()).unwrap();
    for place in ["usr/local/lib", "usr/lib", "lib/x86_64-linux-gnu", "opt/musl", "etc"] {
        fs_err::create_dir_all(root.path().join(place)).unwrap();
    }
    let put = |place: &str| {
        fs_err::copy(sources.path("libdeep.so"), root.path().join(place)).unwrap();
    };
    let wide = root.path().join("opt/libwide.so");
    fs_err::copy(sources.path("libwide.so"), &wide).unwrap();
    let find = || {
        closure(&root, std::slice::from_ref(&wide), &Options::default())
            .map(|found| found.objects[1].file.clone())
    };
    // glibc would look there, musl does not.
    put("lib/x86_64-linux-gnu/libdeep.so");
    fs_err::write(root.path().join("etc/ld.so.conf"), "/lib/x86_64-linux-gnu\n").unwrap();
    assert!(find().is_err());
    put("usr/lib/libdeep.so");
    assert_eq!(find().unwrap(), root.path().join("usr/lib/libdeep.so"));
    fs_err::write(root.path().join("etc/ld-musl-x86_64.path"), "/opt/musl\n").unwrap();
    assert!(find().is_err(), "the file replaces the built-in folders");
    put("opt/musl/libdeep.so");
    assert_eq!(find().unwrap(), root.path().join("opt/musl/libdeep.so"));
}
