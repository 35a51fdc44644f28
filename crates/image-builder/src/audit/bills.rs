//! Where the bill of materials of an image is: in its wheel, or beside its files once that is installed.

use crate::{AuditError, Error};
use fs_err as fs;
use package_layout::image::{ImageFileName, OVERLAYS_DIR, package};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// How the names of bills end.
const SUFFIX: &str = ".cdx.json";

/// The bill in a wheel.
///
/// # Errors
/// It cannot be read, or holds no bill.
pub fn from_wheel(wheel: &Path) -> Result<Value, Error> {
    let mut bill = None;
    wheel_retag::read_entries(wheel, |name, _, reader| {
        if name.ends_with(SUFFIX) {
            bill = Some(serde_json::from_reader(reader)?);
        }
        Ok(())
    })?;
    bill.ok_or_else(|| Error::Audit(AuditError::NoBill { of: wheel.display().to_string() }))
}

/// The bill in a file of its own.
///
/// # Errors
/// It cannot be read, or is no JSON.
pub fn from_file(path: &Path) -> Result<Value, Error> {
    serde_json::from_slice(&fs::read(path)?)
        .map_err(|_| Error::Audit(AuditError::NoBill { of: path.display().to_string() }))
}

/// The bill of the image that a disk is of: of the installed package that holds it, or of the wheel that a
/// bake wrote into the same folder.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn from_disk(disk: &Path) -> Result<Value, Error> {
    if let Some(installed) = installed(disk) {
        return from_file(&installed);
    }
    if let Some(wheel) = wheel_beside(disk) {
        return from_wheel(&wheel);
    }
    Err(Error::Audit(AuditError::NoBill { of: disk.display().to_string() }))
}

/// The bill in the metadata of the package that holds a disk.
fn installed(disk: &Path) -> Option<PathBuf> {
    let package = disk.ancestors().find(|folder| folder.join("__init__.py").is_file())?;
    let name = package.file_name()?.to_string_lossy().into_owned();
    let infos = fs::read_dir(package.parent()?).ok()?.flatten().map(|entry| entry.path());
    let start = format!("{name}-");
    let info = infos.into_iter().find(|path| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.starts_with(&start) && file.ends_with(".dist-info")
    })?;
    Some(info.join("sboms").join(format!("{name}{SUFFIX}"))).filter(|path| path.is_file())
}

/// The newest wheel of the image in the folder that its files were published to.
fn wheel_beside(disk: &Path) -> Option<PathBuf> {
    let folder = disk.parent()?;
    let file = ImageFileName::parse(&disk.file_name()?.to_string_lossy());
    let (folder, name, arch) = match file {
        Some(file) => (folder, file.name, Some(file.arch)),
        // `NAME/overlays/0.qcow2`
        None if folder.ends_with(OVERLAYS_DIR) => {
            let own = folder.parent()?;
            (own.parent()?, own.file_name()?.to_string_lossy().into_owned(), None)
        }
        None => return None,
    };
    let start = format!("{}-", package(&name));
    let ends: &[&str] = match arch.as_deref() {
        Some("amd64") => &["x86_64.whl", "amd64.whl"],
        Some("arm64") => &["aarch64.whl", "arm64.whl"],
        _ => &[".whl"],
    };
    let mut wheels = wheel_retag::wheels_in(folder).ok()?;
    wheels.retain(|wheel| {
        let file = wheel.file_name().unwrap_or_default().to_string_lossy();
        file.starts_with(&start) && ends.iter().any(|end| file.ends_with(end))
    });
    wheels.into_iter().max_by_key(|wheel| fs::metadata(wheel).and_then(|it| it.modified()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use wheel_retag::{Metadata, WheelSpec, WheelTag};

    fn wheel(folder: &Path, name: &str, platform: &str, word: &str) {
        let spec = WheelSpec {
            name: format!("quicksand-{name}"),
            version: "0.1.0".to_owned(),
            tag: WheelTag::new("py3", "none", [platform]),
            metadata: Metadata { summary: "x".to_owned(), ..Metadata::default() },
            sboms: vec![(
                format!("{}.cdx.json", package(name)),
                format!("{{\"is\": \"{word}\"}}").into(),
            )],
            ..WheelSpec::default()
        };
        wheel_retag::write(&spec, folder).unwrap();
    }

    #[test]
    fn the_bill_is_that_of_the_disks_own_image() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        wheel(folder.path(), "debian", "linux_x86_64", "amd64");
        wheel(folder.path(), "debian", "linux_aarch64", "arm64");
        wheel(folder.path(), "debian-agent", "linux_x86_64", "agent");
        for arch in ["amd64", "arm64"] {
            let disk = at(&format!("debian-13-{arch}.qcow2"));
            assert_eq!(from_disk(&disk).unwrap(), json!({"is": arch}));
        }
        assert_eq!(
            from_disk(&at("debian-agent/overlays/0.qcow2")).unwrap(),
            json!({"is": "agent"})
        );
        for other in ["minimal-13-amd64.qcow2", "debian-desktop/overlays/0.qcow2", "a/b.qcow2"] {
            let error = from_disk(&at(other)).unwrap_err();
            assert!(error.to_string().contains(other) && error.hint().is_some(), "{error}");
        }
    }

    #[test]
    fn an_installed_image_has_it_in_its_metadata() {
        let folder = tempfile::tempdir().unwrap();
        let images = folder.path().join("quicksand_debian/images");
        fs::create_dir_all(&images).unwrap();
        fs::write(folder.path().join("quicksand_debian/__init__.py"), "").unwrap();
        let disk = images.join("debian-13-amd64.qcow2");
        assert!(from_disk(&disk).is_err());
        let sboms = folder.path().join("quicksand_debian-0.1.0.dist-info/sboms");
        fs::create_dir_all(&sboms).unwrap();
        fs::write(sboms.join("quicksand_debian.cdx.json"), "{\"is\": 1}").unwrap();
        assert_eq!(from_disk(&disk).unwrap(), json!({"is": 1}));
    }
}
