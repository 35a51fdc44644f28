//! Mach-O and PE: relocated here, read again here. Only macOS can run the former.

use crate::tools::{Sources, run, zig};
use binary_bundler::{
    closure::{Options, Root},
    inspect::{Format, MachO, Pe, inspect_file},
    macho,
    relocate::{self, Placed, Request},
};
use std::path::Path;

fn request(root: &Path, to: &str) -> Request {
    Request {
        root: Root::at(root).unwrap(),
        files: vec![Placed { from: format!("/bin/{to}").into(), to: to.into() }],
        data: Vec::new(),
        library_folder: "lib".into(),
        options: Options::default(),
        entitlements: vec![macho::HYPERVISOR.to_owned()],
    }
}

fn macho_of(path: &Path) -> MachO {
    match inspect_file(path).unwrap().unwrap().format {
        Format::MachO(macho) => macho,
        other => panic!("{other:?}"),
    }
}

fn pe_of(path: &Path) -> Pe {
    match inspect_file(path).unwrap().unwrap().format {
        Format::Pe(pe) => pe,
        other => panic!("{other:?}"),
    }
}

/// A package manager's prefix: absolute install names, one by `@rpath`.
fn prefix(zig: &Path, target: &str) -> Sources {
    let sources = Sources::new();
    for folder in ["bin", "opt/deep/lib", "opt/wide/lib"] {
        fs_err::create_dir_all(sources.path(folder)).unwrap();
    }
    let pad = "-Wl,-headerpad_max_install_names";
    let (file, deep) = (sources.text("deep.c"), sources.text("opt/deep/lib/libdeep.1.dylib"));
    let name = "-Wl,-install_name,/opt/deep/lib/libdeep.1.dylib";
    run(zig, &["cc", "-target", target, "-dynamiclib", "-o", &deep, &file, name, pad]);
    let (file, wide) = (sources.text("wide.c"), sources.text("opt/wide/lib/libwide.dylib"));
    let name = "-Wl,-install_name,@rpath/libwide.dylib";
    run(zig, &["cc", "-target", target, "-dynamiclib", "-o", &wide, &file, &deep, name, pad]);
    let (file, tool) = (sources.text("tool.c"), sources.text("bin/tool"));
    let rpath = "-Wl,-rpath,@executable_path/../opt/wide/lib";
    run(zig, &["cc", "-target", target, "-o", &tool, &file, &wide, rpath, pad]);
    sources
}

#[test]
fn macho_names_lead_into_the_tree_and_signatures_hold() {
    let Some(zig) = zig() else { return };
    for target in ["aarch64-macos.11.0", "x86_64-macos.10.15"] {
        let sources = prefix(&zig, target);
        let request = request(sources.folder.path(), "tool");
        let plan = relocate::plan(&request).unwrap();
        assert_eq!(plan.n_libraries(&request), 2);
        let tree = sources.path("tree");
        relocate::apply(&plan, &tree).unwrap();
        relocate::verify(&plan, &tree).unwrap();
        let tool = &macho_of(&tree.join("tool")).slices[0];
        assert!(tool.needed.contains(&"@loader_path/lib/libwide.dylib".to_owned()), "{tool:?}");
        assert!(tool.rpaths.is_empty() && tool.is_signed);
        let wide = &macho_of(&tree.join("lib/libwide.dylib")).slices[0];
        assert!(wide.needed.contains(&"@loader_path/libdeep.1.dylib".to_owned()), "{wide:?}");
        assert_eq!(wide.install_name.as_deref(), Some("@loader_path/libwide.dylib"));
        for (name, is_entitled) in [("tool", true), ("lib/libwide.dylib", false)] {
            let bytes = fs_err::read(tree.join(name)).unwrap();
            macho::check_signature(&bytes).unwrap();
            let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
            assert_eq!(has(b"<key>com.apple.security.hypervisor</key>"), is_entitled, "{name}");
            assert_eq!(has(b"\x0c\x1dcom.apple.security.hypervisor\x01\x01\xff"), is_entitled);
            let mut damaged = bytes.clone();
            damaged[5000] ^= 1;
            assert!(macho::check_signature(&damaged).is_err());
        }
    }
}

#[test]
fn our_check_agrees_with_the_signature_of_another_linker() {
    let Some(zig) = zig() else { return };
    let sources = prefix(&zig, "aarch64-macos.11.0");
    let bytes = fs_err::read(sources.path("bin/tool")).unwrap();
    macho::check_signature(&bytes).unwrap();
}

#[test]
fn each_slice_of_a_universal_file_is_changed() {
    let Some(zig) = zig() else { return };
    let slices = ["x86_64-macos.10.15", "aarch64-macos.11.0"].map(|target| {
        let sources = prefix(&zig, target);
        let read = |name: &str| fs_err::read(sources.path(name)).unwrap();
        ["bin/tool", "opt/deep/lib/libdeep.1.dylib", "opt/wide/lib/libwide.dylib"].map(read)
    });
    let folder = tempfile::tempdir().unwrap();
    let names = ["bin/tool", "opt/deep/lib/libdeep.1.dylib", "opt/wide/lib/libwide.dylib"];
    for (index, name) in names.iter().enumerate() {
        let path = folder.path().join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, universal(&slices[0][index], &slices[1][index])).unwrap();
    }
    let plan = relocate::plan(&request(folder.path(), "tool")).unwrap();
    let tree = folder.path().join("tree");
    relocate::apply(&plan, &tree).unwrap();
    relocate::verify(&plan, &tree).unwrap();
    let found = macho_of(&tree.join("tool"));
    let arches: Vec<&str> = found.slices.iter().map(|slice| slice.arch.as_str()).collect();
    assert_eq!(arches, ["x86_64", "arm64"]);
    for slice in &found.slices {
        assert!(slice.needed.contains(&"@loader_path/lib/libwide.dylib".to_owned()));
    }
}

/// A universal file of two slices, as `lipo -create` lays it out.
fn universal(x86_64: &[u8], arm64: &[u8]) -> Vec<u8> {
    const ALIGNMENT_LOG2: u32 = 14;
    let mut file = Vec::new();
    let mut content = Vec::new();
    for word in [0xcafe_babe_u32, 2] {
        file.extend(word.to_be_bytes());
    }
    let page = 1 << ALIGNMENT_LOG2;
    for (cpu, subtype, slice) in [(0x0100_0007_u32, 3_u32, x86_64), (0x0100_000c, 0, arm64)] {
        let offset = page + content.len();
        for word in [cpu, subtype, offset as u32, slice.len() as u32, ALIGNMENT_LOG2] {
            file.extend(word.to_be_bytes());
        }
        content.extend(slice);
        content.resize(content.len().next_multiple_of(page), 0);
    }
    file.resize(page, 0);
    file.extend(content);
    file
}

#[test]
fn dlls_come_along_and_those_of_windows_stay() {
    let Some(zig) = zig() else { return };
    for (target, arch) in [("x86_64-windows-gnu", "amd64"), ("aarch64-windows-gnu", "arm64")] {
        let sources = Sources::new();
        fs_err::create_dir_all(sources.path("bin")).unwrap();
        let write = |name: &str, text: &str| fs_err::write(sources.path(name), text).unwrap();
        // Without a C runtime, which would take minutes to build: entries of their own.
        let entry = "int DllMainCRTStartup(void *a, unsigned b, void *c) { return 1; }\n";
        write("deep.c", &format!("{entry}__declspec(dllexport) int deep(void) {{ return 40; }}\n"));
        write(
            "wide.c",
            &format!(
                "{entry}int deep(void);\n\
                 __declspec(dllexport) int wide(void) {{ return deep() + 2; }}\n"
            ),
        );
        write(
            "tool.c",
            "int wide(void); unsigned GetTickCount(void);\n\
             int wWinMainCRTStartup(void) { return wide() + (int)GetTickCount(); }\n",
        );
        write("kernel32.def", "LIBRARY KERNEL32.dll\nEXPORTS\nGetTickCount\n");
        let (def, kernel) = (sources.text("kernel32.def"), sources.text("kernel.lib"));
        let machine = if arch == "arm64" { "arm64" } else { "i386:x86-64" };
        run(&zig, &["dlltool", "-m", machine, "-d", &def, "-l", &kernel]);
        let build = |args: &[&str]| {
            let start = ["cc", "-target", target, "-nostdlib", "-fno-sanitize=all"];
            run(&zig, &[&start[..], args].concat())
        };
        let (c, dll, lib) =
            (sources.text("deep.c"), sources.text("bin/deep.dll"), sources.text("deep.lib"));
        build(&["-shared", "-o", &dll, &c, &format!("-Wl,--out-implib,{lib}")]);
        let (c, dll, wide) =
            (sources.text("wide.c"), sources.text("bin/wide.dll"), sources.text("wide.lib"));
        build(&["-shared", "-o", &dll, &c, &lib, &format!("-Wl,--out-implib,{wide}")]);
        let (c, exe) = (sources.text("tool.c"), sources.text("bin/tool.exe"));
        build(&["-o", &exe, &c, &wide, &kernel]);
        let pe = pe_of(&sources.path("bin/tool.exe"));
        assert!(pe.imports.iter().any(|name| name == "KERNEL32.dll"), "{pe:?}");
        // The installer's folder has the name in another case than the import.
        fs_err::rename(sources.path("bin/deep.dll"), sources.path("bin/DEEP.DLL")).unwrap();
        let plan = relocate::plan(&request(sources.folder.path(), "tool.exe")).unwrap();
        let tree = sources.path("tree");
        relocate::apply(&plan, &tree).unwrap();
        relocate::verify(&plan, &tree).unwrap();
        let mut names: Vec<String> = fs_err::read_dir(&tree)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["deep.dll", "tool.exe", "wide.dll"]);
        assert_eq!(pe_of(&tree.join("tool.exe")).arch, arch);
        fs_err::remove_file(sources.path("bin/DEEP.DLL")).unwrap();
        let error = relocate::plan(&request(sources.folder.path(), "tool.exe")).unwrap_err();
        assert!(error.to_string().contains("needs `deep.dll`"), "{error}");
    }
}
