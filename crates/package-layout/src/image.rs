//! Names inside the wheels that carry images.
//!
//! A base image is three files for each architecture, `debian-13-amd64.{kernel,initrd,qcow2}`,
//! in `quicksand_debian/images/`. An overlay is `manifest.json` and `overlays/0.qcow2`,
//! `overlays/1.qcow2`, … in the same place.

use crate::Error;
use std::cmp::Ordering;

/// The entry point group under which image packages are found.
pub const ENTRY_POINT_GROUP: &str = "quicksand.images";
/// The folder of the image files below the package.
pub const IMAGES_DIR: &str = "images";
/// The manifest of an overlay (and of a save).
pub const MANIFEST_FILE: &str = "manifest.json";
/// The folder of an overlay's disks (and of a save's).
pub const OVERLAYS_DIR: &str = "overlays";
/// What every image package starts with.
pub const PACKAGE_PREFIX: &str = "quicksand_";
/// What the file name of a disk ends with.
pub const DISK_SUFFIX: &str = ".qcow2";
/// The architectures that image file names know.
pub const ARCHES: [&str; 2] = ["amd64", "arm64"];

/// One of the three files that make a base image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The kernel, given to QEMU's `-kernel`.
    Kernel,
    /// The initial RAM disk, given to QEMU's `-initrd`.
    Initrd,
    /// The root file system's disk, in the qcow2 format.
    Disk,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 3] = [Self::Kernel, Self::Initrd, Self::Disk];

    /// The file name's extension, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Disk => "qcow2",
        }
    }
}

/// The file name of one part, like `debian-13-amd64.kernel`.
pub fn file_name(name: &str, version: &str, arch: &str, part: Part) -> String {
    format!("{name}-{version}-{arch}.{}", part.extension())
}

/// The distribution that carries the image, like `quicksand-debian-desktop`.
pub fn distribution(name: &str) -> String {
    format!("quicksand-{name}")
}

/// The importable package that carries the image, like `quicksand_debian_desktop`.
pub fn package(name: &str) -> String {
    format!("{PACKAGE_PREFIX}{}", name.replace(['-', '.'], "_"))
}

/// Where a file of an installed image is from the overlays of another one that is installed beside it:
/// what an overlay's header names, relative to its own folder `PACKAGE/images/overlays`.
pub fn installed_beside(name: &str, file: &str) -> String {
    format!("../../../{}/{file}", images_dir(name))
}

/// The folder of the image's files below a `site-packages` folder.
pub fn images_dir(name: &str) -> String {
    format!("{}/{IMAGES_DIR}", package(name))
}

/// The file of overlay number `n`, counted from the bottom, relative to the manifest's folder.
pub fn overlay_file(n: usize) -> String {
    format!("{OVERLAYS_DIR}/{}", overlay_name(n))
}

/// The same file, by its name alone.
pub fn overlay_name(n: usize) -> String {
    format!("{n}{DISK_SUFFIX}")
}

/// The number of an overlay by its file name without folders; `None` for any other file, so that
/// `00.qcow2` or `+1.qcow2` never stands for a second overlay of the same number.
pub fn overlay_number(file_name: &str) -> Option<usize> {
    let digits = file_name.strip_suffix(DISK_SUFFIX)?;
    let number: usize = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

/// The parts of a base image's file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageFileName {
    /// The image's name, which can hold dashes.
    pub name: String,
    /// The image's version, without dashes.
    pub version: String,
    /// `amd64` or `arm64`.
    pub arch: String,
    /// Which of the three files it is.
    pub part: Part,
}

impl ImageFileName {
    /// Reads a file name without folders. `None` when it is not the name of an image's part.
    pub fn parse(file_name: &str) -> Option<Self> {
        let (stem, part) = Part::ALL.iter().find_map(|part| {
            let stem = file_name.strip_suffix(part.extension())?.strip_suffix('.')?;
            Some((stem, *part))
        })?;
        let (rest, arch) = stem.rsplit_once('-')?;
        if !ARCHES.contains(&arch) {
            return None;
        }
        let (name, version) = rest.rsplit_once('-')?;
        if name.is_empty() || version.is_empty() {
            return None;
        }
        Some(Self {
            name: name.to_owned(),
            version: version.to_owned(),
            arch: arch.to_owned(),
            part,
        })
    }

    /// The file name that [`parse`](Self::parse) reads back.
    pub fn file_name(&self) -> String {
        file_name(&self.name, &self.version, &self.arch, self.part)
    }
}

/// Checks a name that a new image is to have: it becomes part of file names, of a distribution
/// and of a package, so it is lower-case words of letters and digits joined by single dashes.
pub fn check_name(name: &str) -> Result<(), Error> {
    let error = |reason| Err(Error::ImageName { name: name.to_owned(), reason });
    if name.is_empty() {
        return error("it is empty");
    }
    if name.len() > 64 {
        return error("it is longer than 64 bytes");
    }
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return error("it does not start with a lower-case letter");
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return error("only lower-case letters, digits and `-` are allowed");
    }
    if name.ends_with('-') || name.contains("--") {
        return error("a `-` stands between two words only");
    }
    // The runtime and QEMU live in packages with the same prefix.
    if ["qemu", "qemu-cross", "runtime"].contains(&name) {
        return error("it belongs to a package that is not an image");
    }
    Ok(())
}

/// Orders versions as people read them: runs of digits as numbers, so `24.10` is above `24.4`
/// and `9` below `13`. Other characters compare by their code, a longer version above its prefix.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        match (a.is_empty(), b.is_empty()) {
            (true, true) => return Ordering::Equal,
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        let (piece_a, rest_a) = next_piece(a);
        let (piece_b, rest_b) = next_piece(b);
        let both_numbers = is_number(piece_a) && is_number(piece_b);
        let order = if both_numbers {
            // Without leading zeros the longer run of digits is the larger number, however long.
            let (x, y) = (piece_a.trim_start_matches('0'), piece_b.trim_start_matches('0'));
            x.len().cmp(&y.len()).then_with(|| x.cmp(y))
        } else {
            piece_a.cmp(piece_b)
        };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
}

fn is_number(piece: &str) -> bool {
    piece.starts_with(|c: char| c.is_ascii_digit())
}

fn next_piece(text: &str) -> (&str, &str) {
    let digits = is_number(text);
    let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_parse_and_print_back() {
        let table = [
            ("debian-13-amd64.kernel", Some(("debian", "13", "amd64", Part::Kernel))),
            ("ubuntu-24.04-arm64.initrd", Some(("ubuntu", "24.04", "arm64", Part::Initrd))),
            (
                "alpine-desktop-3.22-amd64.qcow2",
                Some(("alpine-desktop", "3.22", "amd64", Part::Disk)),
            ),
            ("debian-amd64.kernel", None),
            ("debian-13-x86_64.kernel", None),
            ("debian-13-amd64.vmlinuz", None),
            ("debian-13-amd64kernel", None),
            ("-13-amd64.kernel", None),
            ("debian--amd64.kernel", None),
            ("manifest.json", None),
            ("", None),
        ];
        for (text, expect) in table {
            let found = ImageFileName::parse(text);
            let expect = expect.map(|(name, version, arch, part)| ImageFileName {
                name: name.into(),
                version: version.into(),
                arch: arch.into(),
                part,
            });
            assert_eq!(found, expect, "{text}");
            if let Some(found) = found {
                assert_eq!(found.file_name(), text);
            }
        }
    }

    #[test]
    fn packages_have_underscores() {
        assert_eq!(package("debian-desktop"), "quicksand_debian_desktop");
        assert_eq!(distribution("debian-desktop"), "quicksand-debian-desktop");
        assert_eq!(images_dir("debian"), "quicksand_debian/images");
    }

    #[test]
    fn overlays_are_numbered_in_one_way_only() {
        for n in [0, 1, 9, 10, 123] {
            let path = overlay_file(n);
            let name = path.strip_prefix("overlays/").unwrap();
            assert_eq!(overlay_number(name), Some(n));
        }
        for other in ["00.qcow2", "+1.qcow2", "-1.qcow2", "a.qcow2", ".qcow2", "1.raw", "1"] {
            assert_eq!(overlay_number(other), None, "{other}");
        }
    }

    #[test]
    fn image_names_are_checked() {
        for good in ["debian", "debian-desktop", "alpine3", "a"] {
            check_name(good).unwrap();
        }
        for bad in [
            "", "Debian", "3alpine", "a_b", "a--b", "a-", "-a", "a/b", "..", "a.b", "qemu",
            "runtime",
        ] {
            let error = check_name(bad).unwrap_err();
            assert!(error.to_string().contains(&format!("`{bad}`")), "{error}");
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn an_overlay_finds_its_base_in_the_package_beside_it() {
        let overlay = format!("{}/{OVERLAYS_DIR}", images_dir("debian-agent"));
        let named = installed_beside("debian", "debian-13-amd64.qcow2");
        let ups = named.matches("../").count();
        assert_eq!(overlay.split('/').count(), ups, "as many steps up as down");
        let rest = named.trim_start_matches("../");
        assert_eq!(rest, "quicksand_debian/images/debian-13-amd64.qcow2");
    }

    #[test]
    fn versions_are_ordered_as_numbers() {
        let ascending = ["", "3.9", "3.22", "12", "13", "13.1", "24.04", "24.10", "100"];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(compare_versions(a, b), i.cmp(&j), "{a} {b}");
            }
        }
        assert_eq!(
            compare_versions("99999999999999999999999", "100000000000000000000000"),
            Ordering::Less
        );
        assert_eq!(compare_versions("1.07", "1.7"), Ordering::Equal);
    }
}
