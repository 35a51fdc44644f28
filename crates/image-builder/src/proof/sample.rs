//! A package of one program, in the form of each package manager, for proofs that an image can install
//! one: small enough to be part of a command, and with a script, a dependency and a file as real ones
//! have them. No mirror is needed, so that the proof says the same everywhere.

use crate::{Error, sha256};
use flate2::{Compression, GzBuilder};
use ring::digest;
use std::io::Write as _;

/// The package's name, and its program's.
pub const NAME: &str = "quicksand-proof";
/// What the program prints once the package's script has run.
pub const SAYS: &str = "installed and configured";

/// Where the script leaves its word for the program.
const STATE: &str = "/var/lib/quicksand-proof";
/// No day in particular: the bytes are the same on each.
const TIME: u64 = 1_700_000_000;

fn program() -> String {
    format!("#!/bin/sh\nexec cat {STATE}\n")
}

fn script() -> String {
    format!("#!/bin/sh\nset -e\necho '{SAYS}' > {STATE}\n")
}

/// A file of a tar: its path, its mode and its content.
type Entry<'a> = (&'a str, u32, &'a [u8]);

/// Packs files, folders (whose paths end with a slash) among them. `with_sums` writes each file's sha1
/// beside it, as apk's own tools do. apk 3 takes an entry without a name for the end, and one of no kind for nothing.
fn tar(entries: &[Entry<'_>], with_sums: bool) -> Result<tar::Builder<Vec<u8>>, Error> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, mode, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_mode(*mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_username("root")?;
        header.set_groupname("root")?;
        header.set_mtime(TIME);
        header.set_entry_type(tar::EntryType::Regular);
        if path.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
        } else if with_sums {
            let sum = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, content);
            let record = format!("68 APK-TOOLS.checksum.SHA1={}\n", hex::encode(sum.as_ref()));
            let mut pax_header = header.clone();
            pax_header.set_entry_type(tar::EntryType::XHeader);
            pax_header.set_size(record.len() as u64);
            builder.append_data(
                &mut pax_header,
                format!("PaxHeaders/{path}"),
                record.as_bytes(),
            )?;
        }
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, path, *content)?;
    }
    Ok(builder)
}

/// The package for apt and dpkg.
///
/// # Errors
/// None is expected: it is written to memory.
pub fn deb() -> Result<Vec<u8>, Error> {
    let control = format!(
        "Package: {NAME}\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@invalid>\n\
         Depends: dpkg\nDescription: a program that says that it is installed\n"
    );
    let (program, script) = (program(), script());
    let control = tar(
        &[("./control", 0o644, control.as_bytes()), ("./postinst", 0o755, script.as_bytes())],
        false,
    )?;
    let place = format!("./usr/bin/{NAME}");
    let data = tar(
        &[
            ("./", 0o755, b""),
            ("./usr/", 0o755, b""),
            ("./usr/bin/", 0o755, b""),
            (&place, 0o755, program.as_bytes()),
        ],
        false,
    )?;
    let mut out = b"!<arch>\n".to_vec();
    for (name, body) in [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.gz", gz(&control.into_inner()?)?),
        ("data.tar.gz", gz(&data.into_inner()?)?),
    ] {
        let (owner, mode, size) = (0, 100_644, body.len());
        writeln!(out, "{name:<16}{TIME:<12}{owner:<6}{owner:<6}{mode:<8}{size:<10}`")?;
        out.extend(body);
        if size % 2 == 1 {
            out.push(b'\n');
        }
    }
    Ok(out)
}

/// The package for apk, in the format that Alpine's repositories have with apk 2 and with apk 3. Nobody
/// signed it.
///
/// # Errors
/// None is expected: it is written to memory.
pub fn apk() -> Result<Vec<u8>, Error> {
    let (program, script) = (program(), script());
    let place = format!("usr/bin/{NAME}");
    let data = tar(
        &[("usr/", 0o755, b""), ("usr/bin/", 0o755, b""), (&place, 0o755, program.as_bytes())],
        true,
    )?;
    let data = gz(&data.into_inner()?)?;
    let info = format!(
        "pkgname = {NAME}\npkgver = 1-r0\npkgdesc = a program that says that it is installed\n\
         url = https://invalid/\nbuilddate = {TIME}\npackager = nobody\nsize = {}\narch = noarch\n\
         license = MIT\ndepend = /bin/sh\ndatahash = {}\n",
        program.len(),
        sha256(&data)
    );
    let control = tar(
        &[(".PKGINFO", 0o644, info.as_bytes()), (".post-install", 0o755, script.as_bytes())],
        false,
    )?;
    // Another stream follows, so that its tar has no end marks.
    let mut control = control.into_inner()?;
    control.truncate(control.len() - 1024);
    Ok([gz(&control)?, data].concat())
}

/// One gzip stream, the same for the same bytes.
fn gz(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err as fs;

    #[test]
    fn both_are_packages_as_our_own_readers_know_them() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a.deb");
        fs::write(&place, deb().unwrap()).unwrap();
        let control = crate::deb::control(&place).unwrap();
        assert_eq!(crate::deb::field(&control, "Package"), Some(NAME));
        let files = crate::deb::data(&place).unwrap();
        assert_eq!(files.get(b"usr/bin/quicksand-proof").unwrap().mode, 0o755);

        let place = folder.path().join("a.apk");
        fs::write(&place, apk().unwrap()).unwrap();
        let package = crate::apk::package::Package::read(&place).unwrap();
        assert_eq!(package.first("pkgname"), Some(NAME));
        assert_eq!(package.scripts["post-install"], script().into_bytes());
        assert!(package.files.get(b"usr/bin/quicksand-proof").is_some());
        assert!(package.owners.is_empty(), "{:?}", package.owners);
        // What apk 3.0.8 was seen to refuse is not in it.
        let packed = fs::read(&place).unwrap();
        let tars = flate2::read::MultiGzDecoder::new(packed.as_slice());
        let mut archive = tar::Archive::new(tars);
        archive.set_ignore_zeros(true);
        let mut n_sums = 0;
        for entry in archive.entries().unwrap().raw(true) {
            let entry = entry.unwrap();
            let header = entry.header();
            assert!(!header.path_bytes().is_empty(), "{header:?}");
            assert_ne!(header.as_bytes()[156], 0, "{header:?}");
            n_sums += usize::from(header.entry_type() == tar::EntryType::XHeader);
        }
        assert_eq!(n_sums, 1);
    }

    #[test]
    fn dpkg_knows_it_too() {
        if duct::cmd!("dpkg-deb", "--version").stdout_null().stderr_null().run().is_err() {
            eprintln!("skipped: dpkg-deb is not installed");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a.deb");
        fs::write(&place, deb().unwrap()).unwrap();
        let listing = duct::cmd!("dpkg-deb", "--contents", &place).read().unwrap();
        assert!(listing.contains("-rwxr-xr-x root/root"), "{listing}");
        let field = duct::cmd!("dpkg-deb", "--field", &place, "Depends").read().unwrap();
        assert_eq!(field, "dpkg");
    }
}
