//! From what the binaries of a wheel ask for to the platform tag that is true of all of them.
//!
//! The tags: PEP 600 (`manylinux_X_Y_ARCH`: every glibc from X.Y on). Differences from auditwheel:
//! the tag is the lowest that is true, never one that was asserted; and only libraries whose floor
//! can be proved from symbol versions are let through (glibc's own and `libgcc_s`), not the X11, GL
//! and C++ libraries that the policy also lists.

use crate::{
    elf::{ElfFloor, Linkage, libc_version},
    error::Error,
    libc_version::LibcVersion,
};
use std::path::Path;

/// The lowest glibc that a tag of ours names. PEP 600 would allow less for a static file, which runs
/// on any Linux, but installers before pip 20.3 know no lower name of this form, and the published
/// matrix of wheels names this one. A higher tag than the truth is safe: it promises less.
pub const POLICY_FLOOR: LibcVersion = LibcVersion { major: 2, minor: 17 };

/// What PEP 600 platforms promise and glibc's and GCC's symbol versions bound.
const LIBRARIES: &[&str] = &[
    "ld-linux-aarch64.so.1",
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "libresolv.so.2",
    "librt.so.1",
    "libutil.so.1",
];

/// The highest libgcc version that systems with glibc 2.17 have: GCC 4.8.
const GCC_CEILING: [u32; 2] = [4, 8];

/// The platform tags of a wheel that holds these binaries, lowest true floor first.
///
/// `asked` refuses a floor above it: pass the tag's version when a wheel must carry a given tag.
///
/// # Errors
/// When a file needs what no platform promises, when the files are for different machines, or when
/// one needs a newer glibc than `asked`; the file and the symbol are named.
pub fn wheel_platforms(
    floors: &[ElfFloor],
    asked: Option<LibcVersion>,
) -> Result<Vec<String>, Error> {
    let arch = floors.first().ok_or(Error::Empty)?.arch;
    let mut glibc = asked.unwrap_or(POLICY_FLOOR);
    for floor in floors {
        if floor.arch != arch {
            let path = floor.path.clone();
            return Err(Error::Mixed { path, found: floor.arch, expected: arch });
        }
        let Some(needed) = provable_floor(floor)? else { continue };
        if let Some(wanted) = asked.filter(|wanted| needed > *wanted) {
            let symbol =
                floor.glibc_witness().map(|bound| bound.symbol.clone()).unwrap_or_default();
            return Err(Error::Floor { path: floor.path.clone(), symbol, needed, wanted });
        }
        glibc = glibc.max(needed);
    }
    Ok(vec![format!("manylinux_{}_{}_{}", glibc.major, glibc.minor, arch.qemu_name())])
}

/// The glibc that one file needs; none when it needs none.
fn provable_floor(floor: &ElfFloor) -> Result<Option<LibcVersion>, Error> {
    let Linkage::Dynamic(libraries) = &floor.linkage else { return Ok(None) };
    let path = || floor.path.clone();
    if let Some(library) = libraries.iter().find(|name| !LIBRARIES.contains(&name.as_str())) {
        return Err(Error::Library { path: path(), library: library.clone() });
    }
    for (space, bound) in &floor.bounds {
        let is_known = match space.as_str() {
            "GLIBC" | "GLIBC_ABI_DT_RELR" => libc_version(&bound.version).is_some(),
            "GCC" => is_below_gcc_ceiling(&bound.version),
            _ => false,
        };
        if !is_known {
            let (symbol, version) = (bound.symbol.clone(), bound.version.clone());
            return Err(Error::Version { path: path(), symbol, version });
        }
    }
    match floor.glibc {
        Some(glibc) => Ok(Some(glibc)),
        // A data-only library that asks for nothing is fine; one that imports without versions was
        // linked against another libc, or its tables were stripped.
        None if libraries.is_empty() => Ok(None),
        None => Err(Error::Unversioned { path: path() }),
    }
}

fn is_below_gcc_ceiling(version: &str) -> bool {
    let numbers = version.trim_start_matches("GCC_").split('.').map(str::parse::<u32>);
    numbers.collect::<Result<Vec<u32>, _>>().is_ok_and(|numbers| {
        numbers.iter().take(2).copied().lt([GCC_CEILING[0], GCC_CEILING[1] + 1])
    })
}

/// The tag's file-name part for one bundle folder: every ELF file below it is read.
///
/// # Errors
/// As [`crate::audit_elf`], and when the folder cannot be walked.
pub fn audit_folder(root: &Path) -> Result<Vec<ElfFloor>, Error> {
    let mut floors = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<_> = fs_err::read_dir(&folder)?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_, std::io::Error>>()?;
        entries.sort();
        for path in entries {
            if path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = fs_err::read(&path)?;
            if bytes.starts_with(b"\x7fELF") {
                floors.push(crate::elf::audit_elf_bytes(&path, &bytes)?);
            }
        }
    }
    Ok(floors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::Bound;
    use host_platform::Arch;

    fn floor(arch: Arch, libraries: &[&str], versions: &[&str]) -> ElfFloor {
        let bounds = versions.iter().map(|version| {
            let space = version.split('_').next().unwrap().to_owned();
            (space, Bound { version: (*version).to_owned(), symbol: "fstat64".to_owned() })
        });
        let minor = versions.iter().find_map(|v| v.strip_prefix("GLIBC_2.")?.parse().ok());
        ElfFloor {
            path: "bin/tool".into(),
            arch,
            linkage: match libraries {
                [] => Linkage::Static,
                names => Linkage::Dynamic(names.iter().map(|n| (*n).to_owned()).collect()),
            },
            kernel: None,
            glibc: minor.map(|minor| LibcVersion { major: 2, minor }),
            bounds: bounds.collect(),
        }
    }

    #[test]
    fn the_tag_is_the_lowest_that_is_true_of_all() {
        let amd64 = |libraries: &[&str], versions: &[&str]| floor(Arch::Amd64, libraries, versions);
        let check = |floors: &[ElfFloor], expect: &str| {
            assert_eq!(wheel_platforms(floors, None).unwrap(), [expect]);
        };
        let whole = amd64(&[], &[]);
        check(std::slice::from_ref(&whole), "manylinux_2_17_x86_64");
        check(&[amd64(&["libc.so.6"], &["GLIBC_2.14"])], "manylinux_2_17_x86_64");
        check(
            &[whole, amd64(&["libc.so.6", "libgcc_s.so.1"], &["GLIBC_2.34", "GCC_4.2.0"])],
            "manylinux_2_34_x86_64",
        );
        check(&[floor(Arch::Arm64, &["libc.so.6"], &["GLIBC_2.17"])], "manylinux_2_17_aarch64");
    }

    #[test]
    fn a_library_of_no_platforms_list_is_refused() {
        let check = |floors: &[ElfFloor], asked, expect: &str| {
            assert_eq!(wheel_platforms(floors, asked).unwrap_err().to_string(), expect);
        };
        let amd64 = |libraries: &[&str], versions: &[&str]| floor(Arch::Amd64, libraries, versions);
        check(&[], None, "Failed to derive a platform tag: the bundle holds no binary");
        check(
            &[amd64(&["libslirp.so.0"], &[])],
            None,
            "`bin/tool` needs `libslirp.so.0`, which the manylinux platforms do not promise",
        );
        check(
            &[amd64(&["libgcc_s.so.1", "libc.so.6"], &["GLIBC_2.5", "GCC_7.0.0"])],
            None,
            "`bin/tool` needs `fstat64` at version `GCC_7.0.0`, whose floor is not known",
        );
        check(
            &[amd64(&["libc.so.6"], &["GLIBC_PRIVATE"])],
            None,
            "`bin/tool` needs `fstat64` at version `GLIBC_PRIVATE`, whose floor is not known",
        );
        check(
            &[amd64(&["libc.so.6"], &[])],
            None,
            "`bin/tool` is linked dynamically but has no symbol versions",
        );
        check(
            &[amd64(&["libc.so.6"], &["GLIBC_2.38"])],
            Some(POLICY_FLOOR),
            "`bin/tool` needs `fstat64` of glibc 2.38, which forbids a tag for glibc 2.17",
        );
        check(
            &[amd64(&[], &[]), floor(Arch::Arm64, &[], &[])],
            None,
            "`bin/tool` is for arm64, the other files of the wheel are for amd64",
        );
    }
}
