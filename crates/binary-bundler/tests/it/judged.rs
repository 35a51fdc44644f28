//! Verdicts on files that the host's compiler and binutils make: each kind of file that runs on fewer
//! systems than its symbol versions say.

use crate::tools::{Sources, run};
use binary_bundler::{
    inspect::{Binary, inspect},
    verdict::{Report, Verdict, judge},
};
use std::path::Path;

/// A shared library of one function, linked with these flags.
fn library(sources: &Sources, name: &str, text: &str, flags: &[&str]) -> Vec<u8> {
    let (file, out) = (sources.text(&format!("{name}.c")), sources.text(name));
    fs_err::write(&file, text).unwrap();
    let start = ["-shared", "-fPIC", "-O1", "-o", &out, &file];
    run("gcc", &[&start[..], flags].concat());
    fs_err::read(out).unwrap()
}

fn binary(path: &str, bytes: &[u8]) -> Binary {
    inspect(Path::new(path), bytes).unwrap().unwrap()
}

fn report(binaries: &[Binary], claim: &str) -> Report {
    judge("subject", binaries, &[claim.to_owned()])
}

/// The tag of this host's machine for a glibc.
fn manylinux(glibc: &str) -> String {
    format!("manylinux_{glibc}_{}", std::env::consts::ARCH)
}

fn judge_one(bytes: &[u8]) -> Verdict {
    judge("subject", &[binary("pkg/f.so", bytes)], &[]).verdicts.remove(0)
}

fn warns(verdict: &Verdict, text: &str) -> bool {
    verdict.warnings.iter().any(|warning| warning.contains("`pkg/f.so`") && warning.contains(text))
}

const PLAIN: &str = "int f(void) { return 1; }\n";
/// glibc gave `fstat` a version of its own with 2.33.
const YOUNG: &str = "#include <sys/stat.h>\nint f(struct stat *s) { return fstat(0, s); }\n";

#[test]
fn a_library_without_section_headers_has_the_same_floor() {
    let sources = Sources::new();
    let whole = library(&sources, "f.so", YOUNG, &[]);
    let verdict = judge_one(&whole);
    assert_eq!(verdict.limits[0].version, "GLIBC_2.33", "{verdict:?}");
    assert_eq!(verdict.limits[0].symbol, "fstat");
    // As `llvm-objcopy --strip-sections` leaves it.
    let mut bare = whole.clone();
    bare[0x28..0x30].fill(0);
    bare[0x3a..0x40].fill(0);
    assert_eq!(judge_one(&bare), verdict);
    assert!(!report(&[binary("pkg/f.so", &bare)], &manylinux("2_17")).is_true);
    // Damaged headers, which no loader looks at.
    let mut damaged = whole.clone();
    damaged[0x28..0x30].fill(0xf0);
    assert_eq!(judge_one(&damaged), verdict);
    // A lie about the number of libraries: loaders follow the chain.
    let mut short = whole.clone();
    let count = 0x6fff_ffff_u64.to_le_bytes();
    let at = short.windows(8).position(|window| window == count).unwrap();
    short[at + 8..at + 16].fill(0);
    assert_eq!(judge_one(&short), verdict);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_library_for_newer_processors_is_for_no_platform() {
    let sources = Sources::new();
    for (level, number) in [("x86-64-v2", 2), ("x86-64-v3", 3)] {
        let bytes = library(&sources, "f.so", PLAIN, &[&format!("-Wl,-z,{level}")]);
        let report = report(&[binary("pkg/f.so", &bytes)], "manylinux_2_28_x86_64");
        assert!(!report.is_true);
        assert!(report.lies[0].reason.contains(&format!("x86-64-v{number}")), "{report:?}");
        // Where the loader alone chooses it, by the processor.
        let place = format!("lib/glibc-hwcaps/{level}/f.so");
        let variant = binary(&place, &bytes);
        assert!(judge("subject", &[variant], &["manylinux_2_28_x86_64".to_owned()]).is_true);
    }
    assert!(judge_one(&library(&sources, "f.so", PLAIN, &[])).problems.is_empty());
}

#[test]
fn an_executable_stack_is_a_finding() {
    let sources = Sources::new();
    let verdict = judge_one(&library(&sources, "f.so", PLAIN, &["-z", "execstack"]));
    assert!(warns(&verdict, "executable stack"), "{verdict:?}");
    let verdict = judge_one(&library(&sources, "f.so", PLAIN, &[]));
    assert!(verdict.warnings.is_empty(), "{verdict:?}");
}

#[test]
fn search_paths_of_the_builder_are_findings() {
    let sources = Sources::new();
    let flag = "-Wl,-rpath,/home/builder/lib::$ORIGIN/../..:${ORIGIN}/x:$ORIGIN/..";
    for tags in ["-Wl,--enable-new-dtags", "-Wl,--disable-new-dtags"] {
        let verdict = judge_one(&library(&sources, "f.so", PLAIN, &[flag, tags]));
        assert!(warns(&verdict, "`/home/builder/lib`"), "{verdict:?}");
        assert!(warns(&verdict, "working folder"), "{verdict:?}");
        assert!(warns(&verdict, "`$ORIGIN/../..`, which lies outside"), "{verdict:?}");
        assert_eq!(verdict.warnings.len(), 3, "{verdict:?}");
    }
}

#[test]
fn segments_for_smaller_pages_are_findings() {
    let sources = Sources::new();
    let flags = ["-Wl,-z,max-page-size=512", "-Wl,-z,noseparate-code", "-Wl,-z,norelro"];
    let verdict = judge_one(&library(&sources, "f.so", PLAIN, &flags));
    assert!(verdict.problems[0].needs.contains("512 bytes"), "{verdict:?}");
    // An Arm library with segments for 4 KiB pages.
    let mut arm = library(&sources, "f.so", PLAIN, &["-Wl,-z,max-page-size=4096"]);
    arm[0x12..0x14].copy_from_slice(&183_u16.to_le_bytes());
    assert!(warns(&judge_one(&arm), "pages of 65536 bytes"));
    let mut arm = library(&sources, "f.so", PLAIN, &["-Wl,-z,max-page-size=65536"]);
    arm[0x12..0x14].copy_from_slice(&183_u16.to_le_bytes());
    assert!(judge_one(&arm).warnings.is_empty());
}

#[test]
fn a_program_that_cannot_start_is_not_saved_by_another() {
    let sources = Sources::new();
    let here = format!("-L{}", sources.folder.path().display());
    library(&sources, "libq.so", "int q(void) { return 2; }\n", &["-Wl,-soname,libq.so"]);
    fs_err::write(sources.path("m.c"), "int q(void);\nint main(void) { return q(); }\n").unwrap();
    let program = |name: &str, flags: &[&str]| {
        let (file, out) = (sources.text("m.c"), sources.text(name));
        run("gcc", &[&["-o", &out, &file, &here, "-l:libq.so"][..], flags].concat());
        binary(&format!("bin/{name}"), &fs_err::read(out).unwrap())
    };
    let library = binary("lib/libq.so", &fs_err::read(sources.path("libq.so")).unwrap());
    let good = program("good", &["-Wl,-rpath,$ORIGIN/../lib"]);
    let bad = program("bad", &[]);
    assert!(judge("tree", &[good.clone(), library.clone()], &[]).is_true);
    let report = judge("tree", &[good, bad, library], &[]);
    assert!(!report.is_true);
    let problems = &report.verdicts[0].problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].file, Path::new("bin/bad"));
}

#[test]
fn what_a_file_loads_itself_is_read_from_its_note() {
    let sources = Sources::new();
    let text = |priority: &str| {
        format!(
            "__asm__(\".section .note.dlopen,\\\"a\\\",%note\\n.balign 4\\n.long 4, 2f - 1f, 0x407c0c0a\\n\"\n\
             \".asciz \\\"FDO\\\"\\n1: .asciz \\\"[{{\\\\\\\"priority\\\\\\\":\\\\\\\"{priority}\\\\\\\",\"\n\
             \"\\\\\\\"soname\\\\\\\":[\\\\\\\"libabsent.so.7\\\\\\\"]}}]\\\"\\n2: .balign 4\\n.previous\\n\");\n{PLAIN}"
        )
    };
    let verdict = judge_one(&library(&sources, "f.so", &text("required"), &[]));
    assert_eq!(verdict.problems[0].needs, "libabsent.so.7", "{verdict:?}");
    let verdict = judge_one(&library(&sources, "f.so", &text("recommended"), &[]));
    assert!(verdict.problems.is_empty() && warns(&verdict, "libabsent.so.7"), "{verdict:?}");
    let verdict = judge_one(&library(&sources, "f.so", &text("suggested"), &[]));
    assert!(verdict.problems.is_empty() && verdict.warnings.is_empty(), "{verdict:?}");
}

#[test]
fn glibc_musl_and_android_are_distinguished() {
    let sources = Sources::new();
    let with_libc = |soname: &str, text: &str| {
        fs_err::create_dir_all(sources.path("libc")).unwrap();
        let out = sources.text("libc/stand-in.so");
        let empty = sources.text("empty.c");
        fs_err::write(&empty, "void *malloc(unsigned long n) { return 0; }\n").unwrap();
        let soname = format!("-Wl,-soname,{soname}");
        run("gcc", &["-shared", "-fPIC", "-nostdlib", "-o", &out, &empty, &soname]);
        let flags = ["-nostdlib", "-Wl,--no-as-needed", out.as_str()];
        binary("pkg/f.so", &library(&sources, "f.so", text, &flags))
    };
    let asks = "void *malloc(unsigned long);\nvoid *f(void) { return malloc(1); }\n";
    let musllinux = format!("musllinux_1_2_{}", std::env::consts::ARCH);
    let check = |file: &Binary, claim: &str, lie: Option<&str>| {
        let report = report(std::slice::from_ref(file), claim);
        let found = report.lies.first().map(|lie| lie.reason.as_str());
        match (found, lie) {
            (None, None) => {}
            (Some(found), Some(lie)) => assert!(found.contains(lie), "{claim}: {found}"),
            _ => panic!("{claim} {report:?}"),
        }
    };
    let musl = with_libc(&format!("libc.musl-{}.so.1", std::env::consts::ARCH), asks);
    check(&musl, &musllinux, None);
    check(&musl, &manylinux("2_28"), Some("linked with musl"));
    let unversioned = with_libc("libc.so.6", asks);
    check(&unversioned, &musllinux, Some("glibc"));
    check(&unversioned, &manylinux("2_28"), Some("malloc of glibc without a version"));
    let note = format!(
        "__asm__(\".section .note.android.ident,\\\"a\\\",%note\\n.balign 4\\n.long 8, 4, 1\\n\"\n\
         \".asciz \\\"Android\\\"\\n.long 24\\n.previous\\n\");\n{asks}"
    );
    let android = with_libc("libc.so", &note);
    check(&android, &musllinux, Some("bionic"));
    check(&android, &manylinux("2_28"), Some("bionic"));
    if std::env::consts::ARCH == "x86_64" {
        check(&android, "android_24_x86_64", None);
        check(&android, "android_21_x86_64", Some("API level 24"));
        check(&android, "android_24_arm64_v8a", Some("the tag for arm64_v8a"));
        check(&unversioned, "android_24_x86_64", Some("Linux with glibc"));
    }
}
