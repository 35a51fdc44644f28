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
        page_alignment: 0x1000,
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
    check(&[weak], "manylinux_2_34_x86_64", "manylinux_2_5_x86_64");
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
fn musl_promises_itself_alone() {
    let musl = |needed: &[&str]| elf("a.so", needed, &[]);
    let check = |binary: Binary, claims: &[&str], tag: &str, is_true: bool| {
        let report = claim(&[binary], claims);
        assert_eq!((&*report.tags[0], report.is_true), (tag, is_true), "{:?}", report.lies);
    };
    let libc = "libc.musl-x86_64.so.1";
    check(musl(&[libc]), &["musllinux_1_2_x86_64"], "musllinux_1_2_x86_64", true);
    check(musl(&[libc]), &["musllinux_1_1_x86_64"], "musllinux_1_2_x86_64", true);
    check(musl(&[libc]), &["manylinux_2_17_x86_64"], "musllinux_1_2_x86_64", true);
    check(musl(&[libc, "libgcc_s.so.1"]), &["musllinux_1_2_x86_64"], "linux_x86_64", false);
    let young = change(musl(&[libc]), |elf| elf.unversioned = vec!["qsort_r".to_owned()]);
    check(young, &["musllinux_1_1_x86_64"], "musllinux_1_2_x86_64", false);
}
