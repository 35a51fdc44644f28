//! The package store: fetched packages and wheels in one folder, each called by its sha256. Mirrors drop old
//! versions, so what was fetched once is kept, and can be carried from one host to another as a tar.

use crate::{
    Error, PackageError, StoreError,
    apt::{checked_path, store_path},
    lock::{ArchLock, Package},
    programs,
};
use fs_err as fs;
use host_platform::{rename_whole, write_whole};
use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    path::Path,
};

/// The packages of a lock that the store does not hold. One of another size is no package of this lock:
/// a look at each byte is for those who use it.
pub fn missing<'a>(lock: &'a ArchLock, store: &Path) -> Result<Vec<&'a Package>, Error> {
    let mut missing = Vec::new();
    for package in lock.all() {
        let path = store_path(store, package);
        match fs::metadata(&path) {
            Ok(there) if there.len() == package.size => {}
            Ok(there) if there.is_file() => {
                let (found, expected) = (there.len(), package.size);
                return Err(Error::Store(StoreError::WrongSize { path, found, expected }));
            }
            _ => missing.push(package),
        }
    }
    Ok(missing)
}

/// Moves what arrived in a folder into the store, each file checked against its lock, and gives
/// `name version` of what did not arrive.
pub fn take_in(packages: &[&Package], arrived: &Path, store: &Path) -> Result<Vec<String>, Error> {
    let mut gone = Vec::new();
    for package in packages {
        if store_path(arrived, package).is_file() {
            rename_whole(&checked_path(arrived, package)?, &store_path(store, package))?;
        } else {
            gone.push(format!("{} {}", package.name, package.version));
        }
    }
    Ok(gone)
}

/// The endings of what lies in a store.
const SUFFIXES: [&str; 3] = [".deb", ".apk", ".whl"];

/// Writes the packages of these locks and the wheels of these digests to a tar, the same bytes for
/// the same ones; gives how many files there are.
pub fn export(
    locks: &[&ArchLock],
    wheels: &[String],
    store: &Path,
    file: &Path,
) -> Result<usize, Error> {
    let mut seen = BTreeSet::new();
    let packages = locks.iter().flat_map(|lock| lock.all()).map(|it| checked_path(store, it));
    let wheels = wheels.iter().map(|digest| programs::checked_path(store, digest));
    write_whole(file, |part| -> Result<(), Error> {
        let mut builder = tar::Builder::new(std::io::BufWriter::new(part));
        for path in packages.chain(wheels) {
            let path = path?;
            let name = path.file_name().unwrap_or_default().to_owned();
            if !seen.insert(name.clone()) {
                continue;
            }
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(fs::metadata(&path)?.len());
            builder.append_data(&mut header, name, fs::File::open(&path)?)?;
        }
        builder.into_inner()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        Ok(())
    })?;
    Ok(seen.len())
}

/// Puts what `export` wrote into the store; gives how many files were new. A file that is not what
/// its name says ends it.
pub fn import(file: &Path, store: &Path) -> Result<usize, Error> {
    let mut n_new = 0;
    let mut archive = tar::Archive::new(std::io::BufReader::new(fs::File::open(file)?));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let digest = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix));
        let is_digest =
            |text: &str| text.len() == 64 && text.bytes().all(|c| c.is_ascii_hexdigit());
        let Some(expected) = digest.filter(|digest| is_digest(digest)) else {
            let detail = "it holds something else than packages and wheels by their digests";
            return Err(Error::Package(PackageError::BadPackage { path: file.to_owned(), detail }));
        };
        let place = store.join(&name);
        if place.is_file() {
            continue;
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        let found = crate::sha256(&bytes);
        if found != expected {
            return Err(Error::Store(StoreError::WrongHash {
                path: file.join(&name),
                found,
                expected: expected.to_owned(),
            }));
        }
        write_whole(&place, |part| part.write_all(&bytes))?;
        n_new += 1;
    }
    Ok(n_new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::tests::{arch_lock, package};

    /// A store with the packages of a lock, whose content is their name.
    fn filled(lock: &ArchLock) -> tempfile::TempDir {
        let store = tempfile::tempdir().unwrap();
        for package in lock.all() {
            fs::write(store_path(store.path(), package), &package.name).unwrap();
        }
        store
    }

    #[test]
    fn what_is_exported_is_imported_elsewhere() {
        let lock = arch_lock(&[("bash", "5"), ("less", "1")]);
        let (store, other) = (filled(&lock), tempfile::tempdir().unwrap());
        let file = store.path().join("export.tar");
        let wheel = [crate::sha256(b"wheel")];
        fs::write(programs::store_path(store.path(), &wheel[0]), "wheel").unwrap();
        assert_eq!(export(&[&lock, &lock], &wheel, store.path(), &file).unwrap(), 4);
        let first = fs::read(&file).unwrap();
        export(&[&lock], &wheel, store.path(), &file).unwrap();
        assert!(fs::read(&file).unwrap() == first, "the same locks give the same file");

        assert_eq!(missing(&lock, other.path()).unwrap().len(), 3);
        assert_eq!(import(&file, other.path()).unwrap(), 4);
        assert!(missing(&lock, other.path()).unwrap().is_empty());
        programs::checked_path(other.path(), &wheel[0]).unwrap();
        assert_eq!(import(&file, other.path()).unwrap(), 0);

        // A byte of a package that changed on the way.
        let mut torn = first.clone();
        torn[512] ^= 1;
        fs::write(&file, torn).unwrap();
        let fresh = tempfile::tempdir().unwrap();
        assert!(matches!(
            import(&file, fresh.path()),
            Err(Error::Store(StoreError::WrongHash { .. }))
        ));
        assert!(fs::read_dir(fresh.path()).unwrap().next().is_none());
    }

    #[test]
    fn what_did_not_arrive_is_named() {
        let lock = arch_lock(&[("bash", "5"), ("less", "1")]);
        let (arrived, store) = (filled(&lock), tempfile::tempdir().unwrap());
        let less = package("less", "1");
        fs::remove_file(store_path(arrived.path(), &less)).unwrap();
        let wanted = missing(&lock, store.path()).unwrap();
        let gone = take_in(&wanted, arrived.path(), store.path()).unwrap();
        assert_eq!(gone, ["less 1"]);
        assert_eq!(missing(&lock, store.path()).unwrap().len(), 1);
        let (recipe, renewal) = ("debian".to_owned(), "bake debian --update".to_owned());
        let error = Error::Lock(crate::LockError::Gone { recipe, renewal, packages: gone });
        assert!(error.to_string().contains("less 1"), "{error}");
        assert!(error.hint().unwrap().ends_with("renew the lock with: bake debian --update"));
    }
}
