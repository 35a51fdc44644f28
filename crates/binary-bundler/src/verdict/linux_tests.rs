//! Verdicts on made-up ELF facts, table by table.

use crate::{
    inspect::{Binary, Elf, Format, Import},
    verdict::{Report, judge},
};

fn elf(path: &str, needed: &[&str], versions: &[(&str, &str)]) -> Binary {
    let mut elf = Elf {
        arch: "x86_64".to_owned(),
        is_executable: false,
        interpreter: None,
        soname: None,
        needed: needed.iter().map(|name| (*name).to_owned()).collect(),
        rpath: Vec::new(),
        runpath: None,
        no_default_folders: false,
        versions: Default::default(),
        unversioned: Vec::new(),
        page_alignment: 0x1_0000,
        dlopened: Vec::new(),
        searches_working_folder: false,
        executable_stack: Some(false),
        isa_level: 1,
        foreign_abi: None,
        android_api: None,
    };
    for (library, version) in versions {
        elf.versions.entry((*library).to_owned()).or_default().push(Import {
            version: (*version).to_owned(),
            symbol: "fstat64".to_owned(),
            is_weak: false,
        });
    }
    Binary { path: path.into(), format: Format::Elf(elf) }
}

fn change(mut binary: Binary, change: impl FnOnce(&mut Elf)) -> Binary {
    let Format::Elf(elf) = &mut binary.format else { unreachable!() };
    change(elf);
    binary
}

fn claim(binaries: &[Binary], claims: &[&str]) -> Report {
    let claims: Vec<String> = claims.iter().map(|claim| (*claim).to_owned()).collect();
    judge("subject", binaries, &claims)
}

#[test]
fn the_tag_is_the_lowest_that_is_true() {
    let check = |binaries: &[Binary], tag: &str, lowest: &str| {
        let report = claim(binaries, &[]);
        assert_eq!((&*report.verdicts[0].tag, &*report.verdicts[0].lowest), (tag, lowest));
    };
    let libc = |version| elf("a.so", &["libc.so.6"], &[("libc.so.6", version)]);
    check(&[elf("a", &[], &[])], "manylinux_2_5_x86_64", "manylinux_2_5_x86_64");
    check(&[libc("GLIBC_2.14")], "manylinux_2_17_x86_64", "manylinux_2_14_x86_64");
    check(&[libc("GLIBC_2.25")], "manylinux_2_26_x86_64", "manylinux_2_25_x86_64");
    check(
        &[libc("GLIBC_2.2.5"), elf("b.so", &["libc.so.6"], &[("libc.so.6", "GLIBC_2.34")])],
        "manylinux_2_34_x86_64",
        "manylinux_2_34_x86_64",
    );
    let cxx = elf("c.so", &["libstdc++.so.6"], &[("libstdc++.so.6", "GLIBCXX_3.4.29")]);
    check(&[cxx], "manylinux_2_34_x86_64", "manylinux_2_34_x86_64");
    let arm = change(libc("GLIBC_2.17"), |elf| elf.arch = "aarch64".to_owned());
    check(&[arm], "manylinux_2_17_aarch64", "manylinux_2_17_aarch64");
    let weak = change(libc("GLIBC_2.34"), |elf| {
        elf.versions.get_mut("libc.so.6").unwrap()[0].is_weak = true;
    });
    check(&[weak], "manylinux_2_34_x86_64", "manylinux_2_34_x86_64");
}

#[test]
fn what_no_platform_has_leaves_the_bare_tag() {
    let check = |binary: Binary, needs: &str| {
        let report = claim(&[binary], &["manylinux_2_41_x86_64"]);
        let verdict = &report.verdicts[0];
        assert_eq!(verdict.tag, "linux_x86_64");
        assert_eq!(verdict.problems[0].needs, needs);
        assert!(!report.is_true);
        assert!(report.lies[0].reason.contains(needs), "{:?}", report.lies);
    };
    check(elf("a.so", &["libfoo.so.1"], &[]), "libfoo.so.1");
    check(elf("a.so", &["libc.so.6"], &[("libc.so.6", "GLIBC_PRIVATE")]), "fstat64@GLIBC_PRIVATE");
    let zlib = change(elf("a.so", &["libz.so.1"], &[]), |elf| {
        elf.unversioned = vec!["__gmon_start__".to_owned(), "_tr_init".to_owned()];
    });
    check(zlib, "_tr_init of libz.so.1");
}

#[test]
fn a_bundled_library_counts_where_the_loader_finds_it() {
    let user = |rpath: &str| {
        change(elf("pkg/a.so", &["libfoo.so.1"], &[("libfoo.so.1", "GLIBC_2.38")]), |elf| {
            elf.runpath = Some(vec![rpath.to_owned()])
        })
    };
    let library = || elf("pkg.libs/libfoo.so.1", &["libc.so.6"], &[("libc.so.6", "GLIBC_2.4")]);
    let report = claim(&[user("$ORIGIN/../pkg.libs"), library()], &["manylinux_2_5_x86_64"]);
    assert!(report.is_true, "{report:?}");
    assert_eq!(report.tags, ["manylinux_2_5_x86_64"]);
    let report = claim(&[user("$ORIGIN/elsewhere"), library()], &["manylinux_2_5_x86_64"]);
    assert!(!report.is_true);
}

#[test]
fn rpath_is_inherited_and_runpath_is_not() {
    let files = |inherits: bool| {
        let top = change(elf("bin/tool", &["liba.so"], &[]), |elf| {
            let folders = vec!["$ORIGIN/lib".to_owned()];
            if inherits { elf.rpath = folders } else { elf.runpath = Some(folders) }
        });
        [top, elf("bin/lib/liba.so", &["libb.so"], &[]), elf("bin/lib/libb.so", &[], &[])]
    };
    assert!(claim(&files(true), &["manylinux_2_17_x86_64"]).is_true);
    assert!(!claim(&files(false), &["manylinux_2_17_x86_64"]).is_true);
}

#[test]
fn a_lower_claim_is_refused_with_file_and_symbol() {
    let binary = || elf("pkg/a.so", &["libc.so.6"], &[("libc.so.6", "GLIBC_2.25")]);
    let check = |claims: &[&str], is_true: bool| {
        let report = claim(&[binary()], claims);
        assert_eq!(report.is_true, is_true, "{claims:?} {:?}", report.lies);
    };
    check(&["manylinux_2_25_x86_64"], true);
    check(&["manylinux_2_28_x86_64"], true);
    check(&["linux_x86_64"], true);
    check(&["manylinux_2_24_x86_64"], false);
    check(&["manylinux2014_x86_64", "manylinux_2_28_x86_64"], false);
    check(&["manylinux_2_28_aarch64"], false);
    check(&["musllinux_1_2_x86_64"], false);
    check(&["win_amd64"], false);
    check(&["any"], false);
    let report = claim(&[binary()], &["manylinux2014_x86_64"]);
    assert_eq!(
        report.lies[0].reason,
        "`pkg/a.so` needs `fstat64` at version `GLIBC_2.25` of `libc.so.6`"
    );
    assert_eq!(report.lies[0].truth.as_deref(), Some("manylinux_2_26_x86_64"));
}

#[test]
fn musl_gives_musllinux_tags_alone() {
    let musl = |needed: &[&str]| elf("a.so", needed, &[]);
    let check = |binary: Binary, claims: &[&str], tag: &str, is_true: bool| {
        let report = claim(&[binary], claims);
        assert_eq!((&*report.tags[0], report.is_true), (tag, is_true), "{:?}", report.lies);
    };
    let libc = "libc.musl-x86_64.so.1";
    check(musl(&[libc]), &["musllinux_1_2_x86_64"], "musllinux_1_2_x86_64", true);
    check(musl(&[libc]), &["musllinux_1_1_x86_64"], "musllinux_1_2_x86_64", true);
    check(musl(&[libc]), &["manylinux_2_17_x86_64"], "musllinux_1_2_x86_64", false);
    // Without a single symbol version, and still not musl's.
    check(musl(&["libc.so.6"]), &["musllinux_1_2_x86_64"], "manylinux_2_5_x86_64", false);
    check(musl(&[]), &["musllinux_1_2_x86_64"], "musllinux_1_2_x86_64", true);
    check(musl(&[]), &["manylinux_2_17_x86_64"], "manylinux_2_5_x86_64", true);
    check(musl(&[libc, "libgcc_s.so.1"]), &["musllinux_1_2_x86_64"], "linux_x86_64", false);
    let young = change(musl(&[libc]), |elf| elf.unversioned = vec!["qsort_r".to_owned()]);
    check(young, &["musllinux_1_1_x86_64"], "musllinux_1_2_x86_64", false);
}

#[test]
fn a_program_finds_what_its_own_path_leads_to() {
    let library = || elf("lib/libq.so", &[], &[]);
    let program = |name: &str, has_path: bool| {
        change(elf(name, &["libq.so"], &[]), |elf| {
            elf.is_executable = true;
            elf.runpath = has_path.then(|| vec!["$ORIGIN/../lib".to_owned()]);
        })
    };
    assert!(claim(&[program("bin/good", true), library()], &[]).is_true);
    let report = claim(&[program("bin/good", true), program("bin/bad", false), library()], &[]);
    assert!(!report.is_true);
    let problems = &report.verdicts[0].problems;
    assert_eq!(problems.len(), 1);
    assert_eq!((&*problems[0].needs, problems[0].file.to_str()), ("libq.so", Some("bin/bad")));
}

#[test]
fn a_library_of_another_machine_is_passed_over() {
    let user = change(elf("pkg/a.so", &["libq.so"], &[]), |elf| {
        elf.runpath = Some(vec!["$ORIGIN".to_owned()]);
    });
    let library =
        |arch: &str| change(elf("pkg/libq.so", &[], &[]), |elf| elf.arch = arch.to_owned());
    assert!(claim(&[user.clone(), library("x86_64")], &["manylinux_2_17_x86_64"]).is_true);
    assert!(!claim(&[user, library("aarch64")], &["manylinux_2_17_x86_64"]).is_true);
}

#[test]
fn files_for_another_machine_are_held_to_the_claim_too() {
    let own = || elf("a.so", &["libc.so.6"], &[("libc.so.6", "GLIBC_2.17")]);
    let arm = |version: &str| {
        change(elf("b.so", &["libc.so.6"], &[("libc.so.6", version)]), |elf| {
            elf.arch = "aarch64".to_owned();
        })
    };
    let report = claim(&[own(), arm("GLIBC_2.38")], &["manylinux_2_17_x86_64"]);
    assert_eq!(report.lies.len(), 1);
    assert!(report.lies[0].reason.contains("`b.so`"), "{:?}", report.lies);
    let report = claim(&[own(), arm("GLIBC_2.17")], &["manylinux_2_17_x86_64"]);
    assert!(report.is_true, "{:?}", report.lies);
    assert!(report.warnings[0].contains("`b.so` is for aarch64"), "{:?}", report.warnings);
    let both = ["manylinux_2_17_x86_64", "manylinux_2_38_aarch64"];
    let report = claim(&[own(), arm("GLIBC_2.38")], &both);
    assert!(report.is_true && report.warnings.is_empty(), "{report:?}");
}

#[test]
fn what_no_system_grants_is_a_problem() {
    let check = |make: fn(&mut Elf), needs: &str| {
        let report = claim(&[change(elf("a.so", &[], &[]), make)], &["manylinux_2_28_x86_64"]);
        assert!(!report.is_true, "{needs}");
        assert_eq!(report.verdicts[0].problems[0].needs, needs);
        assert_eq!(report.tags, ["linux_x86_64"]);
    };
    check(|elf| elf.isa_level = 3, "a processor of the level x86-64-v3");
    check(|elf| elf.foreign_abi = Some("Arm's soft-float ABI"), "Arm's soft-float ABI");
    check(|elf| elf.unversioned = vec!["PyFPE_jbuf".to_owned()], "PyFPE_jbuf");
    check(|elf| elf.page_alignment = 512, "segments aligned to 512 bytes");
    check(
        |elf| elf.interpreter = Some("/nix/store/x/ld.so".to_owned()),
        "the loader /nix/store/x/ld.so",
    );
    check(
        |elf| {
            elf.dlopened = vec![crate::inspect::Dlopen {
                names: vec!["libidn2.so.0".to_owned(), "libidn.so.1".to_owned()],
                priority: crate::inspect::Priority::Required,
            }];
        },
        "libidn2.so.0 or libidn.so.1",
    );
}

#[test]
fn what_some_systems_refuse_is_a_warning() {
    let check = |make: fn(&mut Elf), text: &str| {
        let binary = change(elf("pkg/a.so", &[], &[]), make);
        let report = claim(&[binary], &["manylinux_2_28_x86_64"]);
        assert!(report.is_true, "{text}");
        let warnings = &report.verdicts[0].warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(
            warnings[0].starts_with("`pkg/a.so` ") && warnings[0].contains(text),
            "{warnings:?}"
        );
    };
    check(|elf| elf.executable_stack = Some(true), "executable stack");
    check(|elf| elf.executable_stack = None, "PT_GNU_STACK");
    check(|elf| elf.searches_working_folder = true, "working folder");
    check(|elf| elf.rpath = vec!["/home/builder/lib".to_owned()], "`/home/builder/lib`");
    check(|elf| elf.runpath = Some(vec!["$ORIGIN/../..".to_owned()]), "`$ORIGIN/../..`");
    check(|elf| elf.runpath = Some(vec!["lib".to_owned()]), "`lib`");
    let quiet = |elf: &mut Elf| {
        elf.runpath = Some(vec!["$ORIGIN/..".to_owned(), "/usr/lib/x86_64-linux-gnu".to_owned()]);
    };
    let report = claim(&[change(elf("pkg/a.so", &[], &[]), quiet)], &[]);
    assert!(report.verdicts[0].warnings.is_empty(), "{report:?}");
    let arm = change(elf("a.so", &[], &[]), |elf| {
        (elf.arch, elf.page_alignment) = ("aarch64".to_owned(), 0x1000);
    });
    assert!(claim(&[arm], &[]).verdicts[0].warnings[0].contains("65536"));
}

#[test]
fn an_import_that_must_be_glibcs_needs_a_version() {
    let file = |symbols: &[&str]| {
        change(elf("a.so", &["libc.so.6"], &[]), |elf| {
            elf.unversioned = symbols.iter().map(|symbol| (*symbol).to_owned()).collect();
        })
    };
    let check = |symbols: &[&str], is_true: bool, n_warnings: usize| {
        let report = claim(&[file(symbols)], &["manylinux_2_17_x86_64"]);
        let verdict = &report.verdicts[0];
        assert_eq!((report.is_true, verdict.warnings.len()), (is_true, n_warnings), "{symbols:?}");
    };
    check(&["PyModule_Create2", "_Py_NoneStruct"], true, 0);
    check(&["its_host_gives_this"], true, 1);
    check(&["PyModule_Create2", "malloc"], false, 0);
}
