//! The audit of real ELF files: the fixtures are made by `tests/fixtures/make.sh`.

use binary_bundler::{
    Error, LibcVersion, Linkage, POLICY_FLOOR, audit_elf, audit_elf_bytes, audit_folder,
    wheel_platforms,
};
use host_platform::Arch;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

#[test]
fn a_static_file_asks_for_a_kernel_alone() {
    let floor = audit_elf(&fixture("static-pie")).unwrap();
    assert_eq!(floor.arch, Arch::Amd64);
    assert_eq!(floor.linkage, Linkage::Static);
    assert_eq!(floor.glibc, None);
    assert_eq!(floor.kernel, Some((3, 2, 0)));
    assert_eq!(wheel_platforms(&[floor], None).unwrap(), ["manylinux_2_17_x86_64"]);
}

#[test]
fn the_highest_version_counts_and_the_symbol_is_named() {
    let floor = audit_elf(&fixture("needs-2.9.so")).unwrap();
    let libraries = ["libc.so.6", "libgcc_s.so.1"].map(str::to_owned).to_vec();
    assert_eq!(floor.linkage, Linkage::Dynamic(libraries));
    assert_eq!(floor.glibc, Some(LibcVersion { major: 2, minor: 9 }));
    assert_eq!(floor.glibc_witness().unwrap().symbol, "fstat");
    assert_eq!(floor.bounds["GCC"].version, "GCC_3.0");

    let newer = audit_elf(&fixture("needs-2.38.so")).unwrap();
    let both = [floor, newer];
    assert_eq!(wheel_platforms(&both, None).unwrap(), ["manylinux_2_38_x86_64"]);
    let error = wheel_platforms(&both, Some(POLICY_FLOOR)).unwrap_err();
    let Error::Floor { path, symbol, .. } = &error else { panic!("{error}") };
    assert_eq!((path.as_path(), symbol.as_str()), (fixture("needs-2.38.so").as_path(), "strlcpy"));
    assert!(error.hint().unwrap().contains("strlcpy"));
}

#[test]
fn a_folder_is_read_whole() {
    let floors = audit_folder(&fixture("")).unwrap();
    let mut names: Vec<_> = floors.iter().filter_map(|floor| floor.path.file_name()).collect();
    names.sort();
    assert_eq!(names, ["needs-2.38.so", "needs-2.9.so", "static-pie"]);
}

#[test]
fn the_machine_is_read_from_the_header() {
    let path = fixture("static-pie");
    let mut bytes = fs_err::read(&path).unwrap();
    // e_machine: 183 is AArch64, 243 RISC-V.
    bytes[18] = 183;
    assert_eq!(audit_elf_bytes(&path, &bytes).unwrap().arch, Arch::Arm64);
    bytes[18] = 243;
    let error = audit_elf_bytes(&path, &bytes).unwrap_err();
    assert!(matches!(error, Error::Machine { .. }), "{error}");
}

#[test]
fn a_damaged_file_is_an_error_and_never_a_panic() {
    for name in ["static-pie", "needs-2.9.so"] {
        let whole = fs_err::read(fixture(name)).unwrap();
        for length in 0..whole.len().min(1024) {
            let _ = audit_elf_bytes(Path::new(name), &whole[..length]);
        }
        for position in 0..whole.len().min(1024) {
            let mut bytes = whole.clone();
            bytes[position] ^= 0xff;
            let _ = audit_elf_bytes(Path::new(name), &bytes);
        }
    }
}
