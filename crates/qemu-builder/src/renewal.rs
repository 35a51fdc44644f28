//! Which pins move: of what Debian's archive offers the newest version of the series that is pinned, because our
//! patches and recipes were tried with that series; a newer series is named and left to a person. What is from
//! a release's own updates stays among them. Pure: what is offered is read from apt's records, the tables are
//! changed as text, so that their comments stay.

use super::pins::{Day, File, Pin};
use image_builder::audit::debian_order;

/// A version that the archive has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The distribution's version.
    pub version: String,
    /// The source's tarball, or the package itself.
    pub file: File,
    /// The distribution's changes.
    pub debian: Option<File>,
}

/// What becomes of the first pin of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is the newest of its series.
    Stays,
    Moves(Offer),
    /// Only the distribution's own changes are newer, which this pin does not apply; their version.
    Patched(String),
    /// The archive has nothing of its series.
    Gone,
}

/// The outcome of a pin, and the newest version of a newer series where there is one.
pub fn outcome(pin: &Pin, offers: &[Offer]) -> (Outcome, Option<String>) {
    let newest = |of: &dyn Fn(&&Offer) -> bool| {
        offers.iter().filter(of).max_by(|a, b| order(&a.version, &b.version))
    };
    let own = series(&pin.version);
    let mark = release(&pin.version);
    let of_series = newest(&|offer| {
        series(&offer.version) == own && (mark.is_none() || release(&offer.version) == mark)
    });
    let later = newest(&|offer| {
        order(&offer.version, &pin.version).is_gt() && series(&offer.version) != own
    });
    let outcome = match of_series {
        Some(offer) if order(&offer.version, &pin.version).is_le() => Outcome::Stays,
        Some(offer) if pin.debian.is_none() && offer.file.sha256 == pin.sha256 => {
            Outcome::Patched(offer.version.clone())
        }
        Some(offer) => Outcome::Moves(offer.clone()),
        None => Outcome::Gone,
    };
    (outcome, later.map(|offer| offer.version.clone()))
}

/// The order of two versions without their epochs, which some pins leave out.
fn order(a: &str, b: &str) -> std::cmp::Ordering {
    debian_order(without_epoch(a), without_epoch(b))
}

fn without_epoch(version: &str) -> &str {
    version.split_once(':').map_or(version, |(_, rest)| rest)
}

/// A version without the distribution's part: `1:1.3.dfsg+really1.3.2-4` is upstream's 1.3.2.
pub fn upstream(version: &str) -> String {
    let version = without_epoch(version);
    let version = version.rsplit_once('-').map_or(version, |(before, _)| before);
    let version = version.rsplit_once("+really").map_or(version, |(_, after)| after);
    let end = version.find(['+', '~']).unwrap_or(version.len());
    version[..end].trim_end_matches(".dfsg").to_owned()
}

/// The first two numbers of the upstream's version.
fn series(version: &str) -> Vec<String> {
    upstream(version).split('.').take(2).map(str::to_owned).collect()
}

/// The release whose own updates a version is from, `13` of `2.84.4-3~deb13u5`.
fn release(version: &str) -> Option<&str> {
    let (_, rest) = version.split_once("~deb").or_else(|| version.split_once("+deb"))?;
    Some(rest.split_once('u')?.0)
}

/// What records of `apt-cache showsrc` offer of a source package.
pub fn offers_of_sources(records: &str, package: &str) -> Vec<Offer> {
    let offer = |record: &str| {
        let is_of_package =
            ["Package", "Source"].iter().any(|it| field(record, it) == Some(package));
        let (version, folder) = (field(record, "Version")?, field(record, "Directory")?);
        let files: Vec<File> = record
            .lines()
            .skip_while(|line| !line.starts_with("Checksums-Sha256:"))
            .skip(1)
            .take_while(|line| line.starts_with(' '))
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let (hash, _size, name) = (words.next()?, words.next()?, words.next()?);
                Some(File { path: format!("{folder}/{name}"), sha256: hash.parse().ok()? })
            })
            .collect();
        let find = |part: &str| {
            let is_it = |file: &&File| file.path.contains(part) && !file.path.ends_with(".asc");
            files.iter().find(is_it).cloned()
        };
        let offer = Offer {
            version: version.to_owned(),
            file: find(".orig.tar.")?,
            debian: find(".debian.tar."),
        };
        is_of_package.then_some(offer)
    };
    records.split("\n\n").filter_map(offer).collect()
}

/// What records of `apt-cache show` offer of a binary package.
pub fn offers_of_binaries(records: &str, package: &str) -> Vec<Offer> {
    let offer = |record: &str| {
        let sha256 = field(record, "SHA256")?.parse().ok()?;
        let file = File { path: field(record, "Filename")?.to_owned(), sha256 };
        let version = field(record, "Version")?.to_owned();
        (field(record, "Package") == Some(package)).then_some(Offer { version, file, debian: None })
    };
    records.split("\n\n").filter_map(offer).collect()
}

fn field<'a>(record: &'a str, name: &str) -> Option<&'a str> {
    record.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

/// A table's text with the first pin of a list moved: `name` is that of a library, or of the list itself.
///
/// # Errors
/// The text does not hold the pin as it was read; what it lacks.
pub fn moved(
    text: &str,
    name: &str,
    pin: &Pin,
    offer: &Offer,
    today: &Day,
) -> Result<String, String> {
    let lacks = |what: &str| format!("the pin of `{name}` has no line with {what}");
    let after = |from: usize, what: &str| {
        text[from..].find(what).map(|at| from + at).ok_or_else(|| lacks(what))
    };
    let is_list = text.contains(&format!("[[{name}]]\n"));
    let start = match is_list {
        true => after(0, &format!("[[{name}]]\n"))?,
        false => after(after(0, &format!("\nname = \"{name}\"\n"))?, "[[library.source]]\n")?,
    };
    let end = text[start + 2..].find("\n[[").map_or(text.len(), |at| start + 2 + at);
    let mut block = text[start..end].to_owned();
    let mut replace = |old: &str, new: &str| -> Result<(), String> {
        let (old, new) = (format!("\"{old}\""), format!("\"{new}\""));
        if !block.contains(&old) {
            return Err(lacks(&old));
        }
        block = block.replace(&old, &new);
        Ok(())
    };
    // Before the version, which may be the upstream's as well.
    let files =
        [(Some(pin_file(pin)), Some(&offer.file)), (pin.debian.clone(), offer.debian.as_ref())];
    for (old, new) in files {
        let (Some(old), Some(new)) = (old, new) else { continue };
        replace(&old.path, &new.path)?;
        replace(old.sha256.as_str(), new.sha256.as_str())?;
    }
    // As it was written before: with its epoch or without.
    let version = match pin.version.contains(':') {
        true => &offer.version,
        false => without_epoch(&offer.version),
    };
    replace(&pin.version, version)?;
    if let Some(old) = &pin.upstream {
        replace(old, &upstream(&offer.version))?;
    }
    if let Some(old) = &pin.day {
        replace(old.as_str(), today.as_str())?;
    }
    Ok(format!("{}{block}{}", &text[..start], &text[end..]))
}

fn pin_file(pin: &Pin) -> File {
    File { path: pin.path.clone(), sha256: pin.sha256.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{libraries::pinned, pins::Pins, tests::qemu_folder};

    fn offer(version: &str) -> Offer {
        let file = |name: &str| File {
            path: format!("pool/main/x/{name}_{version}.tar.xz"),
            sha256: checksum::sha256(format!("{name}{version}").as_bytes()).parse().unwrap(),
        };
        Offer { version: version.to_owned(), file: file("orig"), debian: Some(file("debian")) }
    }

    fn pin(version: &str) -> Pin {
        let hash = "ab".repeat(32);
        toml::from_str(&format!("version = '{version}'\npath = 'pool/x'\nsha256 = '{hash}'"))
            .unwrap()
    }

    #[test]
    fn upstream_versions_are_read_out_of_debians() {
        for (version, expect) in [
            ("2.84.4-3~deb13u5", "2.84.4"),
            ("1.5.7+dfsg-1", "1.5.7"),
            ("1.5.4+dfsg2-5", "1.5.4"),
            ("1:1.3.dfsg+really1.3.2-4", "1.3.2"),
            ("1:1.3.dfsg-3", "1.3"),
            ("10.2.2+ds-1", "10.2.2"),
            ("1.16.3-2", "1.16.3"),
            ("11.0.0~rc1+ds-1", "11.0.0"),
        ] {
            assert_eq!(upstream(version), expect, "{version}");
        }
        // And they are what the tables say.
        for (name, pins) in pinned(&qemu_folder()).unwrap() {
            for pin in pins {
                assert_eq!(Some(upstream(&pin.version)), pin.upstream, "{name}");
            }
        }
    }

    #[test]
    fn a_pin_moves_within_its_series_and_a_newer_one_is_named() {
        let of = |version: &str, offers: &[&str]| {
            let offers: Vec<Offer> = offers.iter().map(|it| offer(it)).collect();
            outcome(&pin(version), &offers)
        };
        let stable = "2.84.4-3~deb13u5";
        let (outcome, later) = of(stable, &[stable, "2.84.4-3~deb13u10", "2.84.4-3", "2.86.1-1"]);
        assert_eq!(later.as_deref(), Some("2.86.1-1"));
        // The version without the mark counts as newer and lacks what the release mended since.
        assert_eq!(outcome, Outcome::Moves(offer("2.84.4-3~deb13u10")));
        assert_eq!(of(stable, &[stable, "2.84.4-3"]), (Outcome::Stays, None));
        assert_eq!(of("2.6.0-2", &["2.6.0-2+deb13u1"]).0, Outcome::Moves(offer("2.6.0-2+deb13u1")));
        assert_eq!(
            of("10.2.2+ds-1", &["10.2.2+ds-1", "10.0.8+ds-0+deb13u1"]),
            (Outcome::Stays, None)
        );
        assert_eq!(
            of("10.2.2+ds-1", &["11.0.0+ds-1"]),
            (Outcome::Gone, Some("11.0.0+ds-1".to_owned()))
        );
        assert_eq!(of("10.2.2+ds-1", &[]), (Outcome::Gone, None));
        let next = "1:10.2.3+ds-1";
        assert_eq!(of("10.2.2+ds-1", &[next, "1:10.2.2+ds-1"]).0, Outcome::Moves(offer(next)));
        assert_eq!(of("10.2.2+ds-1", &["1:10.2.2+ds-1"]).0, Outcome::Stays);
        // The same tarball under a newer version brings changes that are applied only where they are pinned too.
        let mut same = offer("2.6.0-2+deb13u1");
        let mut plain = pin("2.6.0-2");
        same.file.sha256 = plain.sha256.clone();
        assert_eq!(
            super::outcome(&plain, &[same.clone()]).0,
            Outcome::Patched(same.version.clone())
        );
        plain.debian = same.debian.clone();
        assert_eq!(super::outcome(&plain, &[same.clone()]).0, Outcome::Moves(same));
    }

    #[test]
    fn offers_are_read_from_apts_records() {
        let hash = |byte: &str| byte.repeat(32);
        let records = format!(
            "Package: zlib\nVersion: 1:1.3-1\nDirectory: pool/main/z/zlib\nChecksums-Sha256:\n {} 9 \
             zlib_1.3-1.dsc\n {} 9 zlib_1.3.orig.tar.gz.asc\n {} 9 zlib_1.3.orig.tar.gz\n {} 9 \
             zlib_1.3-1.debian.tar.xz\nHomepage: x\n\nPackage: other\nVersion: 9\nDirectory: pool/o\n\
             Checksums-Sha256:\n {} 9 other_9.orig.tar.gz\n",
            hash("aa"),
            hash("bb"),
            hash("cc"),
            hash("dd"),
            hash("ee")
        );
        let [found] = &offers_of_sources(&records, "zlib")[..] else { panic!("one version") };
        assert_eq!(found.file.path, "pool/main/z/zlib/zlib_1.3.orig.tar.gz");
        assert_eq!(found.file.sha256.as_str(), hash("cc"));
        assert_eq!(
            found.debian.as_ref().unwrap().path,
            "pool/main/z/zlib/zlib_1.3-1.debian.tar.xz"
        );
        let records = format!(
            "Package: seabios\nVersion: 1.16.3-2\nFilename: pool/s.deb\nSHA256: {}\n",
            hash("ab")
        );
        assert_eq!(offers_of_binaries(&records, "seabios")[0].file.path, "pool/s.deb");
        assert!(offers_of_binaries(&records, "qemu").is_empty());
    }

    #[test]
    fn only_the_first_pin_of_a_list_changes_and_comments_stay() {
        let today = Day::try_from("2027-01-02".to_owned()).unwrap();
        let folder = qemu_folder();
        let text = fs_err::read_to_string(folder.join("pins.toml")).unwrap();
        let old = &Pins::read(&folder).unwrap().qemu[0];
        let new = moved(&text, "qemu", old, &offer("1:10.2.9+ds-1"), &today).unwrap();
        let pins: Pins = toml::from_str(&new).unwrap();
        let first = &pins.qemu[0];
        assert_eq!(first.version, "10.2.9+ds-1");
        assert_eq!(first.path, offer("1:10.2.9+ds-1").file.path);
        assert_eq!(first.sha256, offer("1:10.2.9+ds-1").file.sha256);
        assert_eq!((&first.patches, first.day.as_ref()), (&old.patches, Some(&today)));
        let changed = |a: &str, b: &str| a.lines().zip(b.lines()).filter(|(a, b)| a != b).count();
        assert_eq!((new.lines().count(), changed(&text, &new)), (text.lines().count(), 4));

        let text = fs_err::read_to_string(folder.join("libraries.toml")).unwrap();
        for (name, pins) in pinned(&folder).unwrap() {
            let version = if pins[0].version.contains(':') { "1:99.1.2-3" } else { "99.1.2-3" };
            let new = moved(&text, &name, &pins[0], &offer(version), &today).unwrap();
            let n_of_changes = if pins[0].debian.is_some() { 2 } else { 0 };
            assert_eq!(changed(&text, &new), 5 + n_of_changes, "{name}");
            assert!(new.contains(&format!(
                "version = \"{version}\"\nday = \"2027-01-02\"\nupstream = \"99.1.2\""
            )));
        }
        let error = moved(&text, "zlib", &pin("0"), &offer("1"), &today).unwrap_err();
        assert_eq!(error, "the pin of `zlib` has no line with \"pool/x\"");
    }
}
