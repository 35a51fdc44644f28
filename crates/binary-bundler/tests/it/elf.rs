//! ELF: closure and relocation of files that the host's compiler makes, run from another place, in an
//! empty root, and by the loader's own list.

use crate::tools::{Sources, run};
use binary_bundler::{
    closure::{Found, Options, Root, closure},
    inspect::{Format, inspect_file},
    relocate::{self, Placed, Request},
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// `tool` -> `libwide.so.1` -> `libdeep.so.1` (a second level), with folders by the given flags.
fn build(flags: &[&str]) -> Sources {
    let sources = Sources::new();
    let library = |name: &str, needs: &[&str]| {
        let file = sources.text(&format!("{name}.c"));
        let soname = format!("-Wl,-soname,lib{name}.so.1");
        let out = sources.text(&format!("lib{name}.so.1"));
        let here = format!("-L{}", sources.folder.path().display());
        let mut args = vec!["-shared", "-fPIC", "-o", &out, &file, &soname, &here];
        args.extend(needs);
        run("gcc", &args);
    };
    library("deep", &[]);
    library("wide", &["-l:libdeep.so.1", "-Wl,-rpath,$ORIGIN", "-Wl,--enable-new-dtags"]);
    library("module", &["-l:libdeep.so.1"]);
    let (file, out) = (sources.text("tool.c"), sources.text("tool"));
    let here = format!("-L{}", sources.folder.path().display());
    let link = format!("-Wl,-rpath-link,{}", sources.folder.path().display());
    let mut args = vec!["-o", &out, &file, &here, &link, "-l:libwide.so.1"];
    args.extend(flags);
    run("gcc", &args);
    sources
}

fn request(sources: &Sources) -> Request {
    Request {
        root: Root::host(),
        files: vec![Placed { from: sources.path("tool"), to: "tool".into() }],
        data: Vec::new(),
        library_folder: "lib".into(),
        options: Options::default(),
        entitlements: Vec::new(),
    }
}

/// Makes the tree and moves it, so that only relative paths still lead to its files.
fn relocated(request: &Request, sources: &Sources) -> PathBuf {
    let plan = relocate::plan(request).unwrap();
    let first = sources.path("first");
    relocate::apply(&plan, &first).unwrap();
    relocate::verify(&plan, &first).unwrap();
    let second = sources.path("second");
    fs_err::rename(&first, &second).unwrap();
    second
}

#[test]
fn a_tool_with_two_levels_runs_elsewhere_and_in_an_empty_root() {
    for flags in [
        &["-Wl,-rpath,$ORIGIN"][..],
        &["-Wl,-rpath,$ORIGIN", "-Wl,--disable-new-dtags"],
        &["-Wl,-rpath,$ORIGIN", "-no-pie"],
        // No free row in the dynamic table: it must move.
        &["-Wl,-rpath,$ORIGIN", "-Wl,-z,now", "-Wl,--spare-dynamic-tags=0"],
        &["-Wl,-rpath,$ORIGIN", "-Wl,-z,max-page-size=0x10000"],
        &["-Wl,-rpath,$ORIGIN", "-Wl,-z,noseparate-code"],
    ] {
        let sources = build(flags);
        let tree = relocated(&request(&sources), &sources);
        for name in ["libwide.so.1", "libdeep.so.1"] {
            fs_err::remove_file(sources.path(name)).unwrap();
        }
        assert_eq!(run(tree.join("tool"), &[]), "42", "{flags:?}");
        let listed = relocate::ask_loader(&tree.join("tool")).unwrap();
        for name in ["libwide.so.1", "libdeep.so.1"] {
            assert_eq!(listed[name], tree.join("lib").join(name), "{flags:?}");
        }
        assert_eq!(in_empty_root(&tree, "tool"), "42", "{flags:?}");
    }
}

#[test]
fn a_library_without_a_free_row_still_gets_its_path() {
    let sources = build(&["-Wl,-rpath,$ORIGIN"]);
    let (file, out) = (sources.text("wide.c"), sources.text("libwide.so.1"));
    let here = format!("-L{}", sources.folder.path().display());
    run(
        "gcc",
        &[
            "-shared",
            "-fPIC",
            "-o",
            &out,
            &file,
            &here,
            "-l:libdeep.so.1",
            "-Wl,-soname,libwide.so.1",
            "-Wl,-z,norelro",
            "-Wl,--spare-dynamic-tags=0",
        ],
    );
    // Its needs are found by the tool's own path only when that is inherited.
    let (file, tool) = (sources.text("tool.c"), sources.text("tool"));
    let link = format!("-Wl,-rpath-link,{}", sources.folder.path().display());
    run(
        "gcc",
        &[
            "-o",
            &tool,
            &file,
            &here,
            &link,
            "-l:libwide.so.1",
            "-Wl,-rpath,$ORIGIN",
            "-Wl,--disable-new-dtags",
        ],
    );
    let tree = relocated(&request(&sources), &sources);
    fs_err::remove_file(sources.path("libdeep.so.1")).unwrap();
    assert_eq!(run(tree.join("tool"), &[]), "42");
}

#[test]
fn modules_find_the_libraries_from_their_own_folder() {
    let sources = build(&["-Wl,-rpath,$ORIGIN"]);
    let mut request = request(&sources);
    let pattern = sources.text("libmod*.so.1");
    request
        .files
        .extend(relocate::modules(&Root::host(), &pattern, Path::new("lib/qemu")).unwrap());
    let tree = relocated(&request, &sources);
    let Some(binary) = inspect_file(&tree.join("lib/qemu/libmodule.so.1")).unwrap() else {
        panic!()
    };
    let Format::Elf(elf) = binary.format else { panic!() };
    assert_eq!(elf.rpath, ["$ORIGIN/.."]);
    for name in ["libwide.so.1", "libdeep.so.1"] {
        fs_err::remove_file(sources.path(name)).unwrap();
    }
    let preload = tree.join("lib/qemu/libmodule.so.1");
    let text =
        duct::cmd!("/bin/cat", "/proc/self/maps").env("LD_PRELOAD", &preload).read().unwrap();
    assert!(text.contains(tree.join("lib/libdeep.so.1").to_str().unwrap()), "{text}");
    let error = relocate::modules(&Root::host(), "/nowhere/*.so", Path::new("m")).unwrap_err();
    assert_eq!(error.to_string(), "No file matches `/nowhere/*.so`");
}

#[test]
fn a_library_that_was_linked_by_its_path_comes_along() {
    let sources = Sources::new();
    let (file, deep) = (sources.text("deep.c"), sources.text("libdeep.so"));
    run("gcc", &["-shared", "-fPIC", "-o", &deep, &file]);
    let (file, wide) = (sources.text("wide.c"), sources.text("libwide.so"));
    run("gcc", &["-shared", "-fPIC", "-o", &wide, &file, &deep]);
    let (file, tool) = (sources.text("tool.c"), sources.text("tool"));
    run("gcc", &["-o", &tool, &file, &wide, "-Wl,--allow-shlib-undefined"]);
    let Some(Format::Elf(before)) = inspect_file(&sources.path("tool")).unwrap().map(|b| b.format)
    else {
        panic!()
    };
    assert!(before.needed.iter().any(|name| name.starts_with('/')), "{:?}", before.needed);
    let tree = relocated(&request(&sources), &sources);
    for name in ["libdeep.so", "libwide.so"] {
        fs_err::remove_file(sources.path(name)).unwrap();
    }
    assert_eq!(run(tree.join("tool"), &[]), "42");
    assert_eq!(in_empty_root(&tree, "tool"), "42");
}

#[test]
fn runpath_is_not_inherited_and_rpath_is() {
    // libwide has no path of its own here; its need must come from the tool.
    let plain = |sources: &Sources| {
        let (file, out) = (sources.text("wide.c"), sources.text("libwide.so.1"));
        let here = format!("-L{}", sources.folder.path().display());
        let soname = "-Wl,-soname,libwide.so.1";
        run("gcc", &["-shared", "-fPIC", "-o", &out, &file, &here, "-l:libdeep.so.1", soname]);
    };
    let inherited = build(&["-Wl,-rpath,$ORIGIN", "-Wl,--disable-new-dtags"]);
    plain(&inherited);
    let found = closure(&Root::host(), &[inherited.path("tool")], &Options::default()).unwrap();
    assert_eq!(found.objects.len(), 3);
    assert!(found.system.contains("libc.so.6"));
    let not_inherited = build(&["-Wl,-rpath,$ORIGIN", "-Wl,--enable-new-dtags"]);
    plain(&not_inherited);
    let error =
        closure(&Root::host(), &[not_inherited.path("tool")], &Options::default()).unwrap_err();
    assert!(error.to_string().contains("needs `libdeep.so.1`"), "{error}");
    // The loader is of the same opinion.
    assert!(relocate::ask_loader(&not_inherited.path("tool")).is_err());
}

#[test]
fn a_system_below_a_root_is_searched_by_its_own_configuration() {
    let sources = build(&["-Wl,-rpath,/opt/tool/lib"]);
    let folder = tempfile::tempdir().unwrap();
    let root = Root::at(folder.path()).unwrap();
    let put = |name: &str, place: &str| {
        let to = root.path().join(place);
        fs_err::create_dir_all(to.parent().unwrap()).unwrap();
        fs_err::copy(sources.path(name), to).unwrap();
    };
    put("tool", "usr/bin/tool");
    put("libwide.so.1", "opt/tool/lib/libwide.so.1");
    put("libdeep.so.1", "opt/deep/libdeep.so.1");
    put("libdeep.so.1", "opt/deep/glibc-hwcaps/x86-64-v3/libdeep.so.1");
    let tool = [root.path().join("usr/bin/tool")];
    let error = closure(&root, &tool, &Options::default()).unwrap_err();
    assert!(error.hint().unwrap().contains("libdeep.so.1"));
    fs_err::create_dir_all(root.path().join("etc/ld.so.conf.d")).unwrap();
    fs_err::write(root.path().join("etc/ld.so.conf"), "include ld.so.conf.d/*.conf\n").unwrap();
    fs_err::write(root.path().join("etc/ld.so.conf.d/deep.conf"), "/opt/deep\n").unwrap();
    let found = closure(&root, &tool, &Options::default()).unwrap();
    let files: BTreeSet<_> = found
        .objects
        .iter()
        .map(|object| object.file.strip_prefix(root.path()).unwrap().to_str().unwrap())
        .collect();
    assert_eq!(
        files,
        BTreeSet::from(["opt/deep/libdeep.so.1", "opt/tool/lib/libwide.so.1", "usr/bin/tool"])
    );
    assert!(found.objects[0].needs.iter().any(|(_, found)| *found == Found::System));
    let mut request = request(&sources);
    request.root = root.clone();
    request.files[0].from = "/usr/bin/tool".into();
    let plan = relocate::plan(&request).unwrap();
    let variant = plan
        .copies
        .iter()
        .find(|copy| copy.to == Path::new("lib/glibc-hwcaps/x86-64-v3/libdeep.so.1"));
    assert_eq!(variant.unwrap().edit, relocate::Edit::Rpath("$ORIGIN/../..".to_owned()));
    let tree = relocated(&request, &sources);
    assert_eq!(run(tree.join("tool"), &[]), "42");
}

#[test]
fn an_edit_leaves_every_other_byte_and_the_sections_true() {
    let sources = build(&["-Wl,-rpath,$ORIGIN"]);
    let path = sources.path("libwide.so.1");
    let before = fs_err::read(&path).unwrap();
    let after = relocate::set_rpath(&path, &before, "$ORIGIN/../a/longer/way").unwrap().unwrap();
    fs_err::write(&path, &after).unwrap();
    let text = run("readelf", &["-W", "-d", "-S", "-l", path.to_str().unwrap()]);
    assert!(text.contains("Library rpath: [$ORIGIN/../a/longer/way]"), "{text}");
    assert!(!text.to_lowercase().contains("warning"), "{text}");
    let n_changed = before.iter().zip(&after).filter(|(a, b)| a != b).count();
    assert!(n_changed < 200, "{n_changed} bytes of the original changed");
}

#[test]
fn arm64_segments_suit_64k_pages() {
    let Some(zig) = crate::tools::zig() else { return };
    let sources = Sources::new();
    let (file, out) = (sources.text("deep.c"), sources.text("libdeep.so"));
    run(
        &zig,
        &[
            "cc",
            "-target",
            "aarch64-linux-gnu.2.17",
            "-nostdlib",
            "-shared",
            "-fPIC",
            "-o",
            &out,
            &file,
        ],
    );
    let before = fs_err::read(&out).unwrap();
    let after = relocate::set_rpath(Path::new(&out), &before, "$ORIGIN").unwrap().unwrap();
    fs_err::write(&out, &after).unwrap();
    let text = run("readelf", &["-W", "-l", &out]);
    let loads: Vec<[u64; 3]> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("LOAD"))
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |word: &str| u64::from_str_radix(&word[2..], 16).unwrap();
            [number(words[0]), number(words[1]), number(words[words.len() - 1])]
        })
        .collect();
    let [offset, address, alignment] = *loads.last().unwrap();
    assert_eq!(alignment, 0x10000);
    assert_eq!((offset % alignment, address % alignment), (0, 0));
    assert!(loads.is_sorted_by_key(|load| load[1]));
}

/// Runs a program of a tree in a root that has nothing but the tree, the C library and /proc.
fn in_empty_root(tree: &Path, program: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    run("cp", &["-a", tree.to_str().unwrap(), root.join("tree").to_str().unwrap()]);
    let mut files: Vec<PathBuf> = relocate::ask_loader(&tree.join(program))
        .unwrap()
        .into_values()
        .filter(|path| !path.starts_with(tree))
        .collect();
    let Some(Format::Elf(elf)) = inspect_file(&tree.join(program)).unwrap().map(|b| b.format)
    else {
        panic!("{program} is no ELF file")
    };
    files.push(elf.interpreter.unwrap().into());
    for file in files {
        let to = root.join(file.strip_prefix("/").unwrap());
        fs_err::create_dir_all(to.parent().unwrap()).unwrap();
        fs_err::copy(&file, to).unwrap();
    }
    let inside = format!("/tree/{program}");
    // glibc learns `$ORIGIN` of a program from /proc/self/exe alone.
    fs_err::create_dir_all(root.join("proc")).unwrap();
    let script = "mount --rbind /proc \"$1/proc\" && exec chroot \"$1\" \"$2\"";
    let mut args = vec!["--mount"];
    // Elsewhere than as root a user namespace allows it.
    if run("id", &["-u"]) != "0" {
        args.push("--map-root-user");
    }
    args.extend(["sh", "-c", script, "sh", root.to_str().unwrap(), &inside]);
    run("unshare", &args)
}
