//! Writes an index as a folder that any file server can serve, and that pip and uv read.
//!
//! `simple/` holds the pages (`index.html`, and `index.json` for servers that choose by what the
//! client accepts), `files/` the wheels with their metadata beside them.

use crate::{
    Error,
    pages::{self, Listed},
};
use fs_err as fs;
use host_platform::rename_whole_folder;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use wheel_retag::{normalize_distribution, normalize_version, read_entries};

/// From a project's page to the wheels.
const FILES_FROM_PAGE: &str = "../../files";

/// Writes the index of these wheels to `place`, whole or not at all; one that is there is replaced.
pub fn write(wheels: &[PathBuf], place: &Path) -> Result<Vec<Listed>, Error> {
    let place = std::path::absolute(place)?;
    let parent = place.parent().ok_or_else(|| Error::NotAnIndex { place: place.clone() })?;
    fs::create_dir_all(parent)?;
    let beside = tempfile::Builder::new().prefix(".index-").tempdir_in(parent)?;
    let listed = fill(wheels, beside.path())?;
    readable_by_all(beside.path())?;
    let old = tempfile::Builder::new().prefix(".index-old-").tempdir_in(parent)?;
    if place.exists() {
        let is_index = place.join("simple").is_dir() || fs::read_dir(&place)?.next().is_none();
        if !is_index {
            return Err(Error::NotAnIndex { place });
        }
        fs::rename(&place, old.path().join("index"))?;
    }
    rename_whole_folder(&beside.keep(), &place)?;
    Ok(listed)
}

fn fill(wheels: &[PathBuf], place: &Path) -> Result<Vec<Listed>, Error> {
    let files = place.join("files");
    fs::create_dir_all(&files)?;
    let mut listed = Vec::new();
    for wheel in wheels {
        let (facts, metadata) = read(wheel)?;
        let copy = files.join(&facts.file_name);
        copy_for_all(wheel, &copy)?;
        fs::write(files.join(format!("{}.metadata", facts.file_name)), metadata)?;
        listed.push(facts);
    }
    let mut projects: BTreeMap<&str, Vec<&Listed>> = BTreeMap::new();
    for wheel in &listed {
        projects.entry(&wheel.project).or_default().push(wheel);
    }
    let simple = place.join("simple");
    for (project, listed) in &projects {
        let page = simple.join(project);
        fs::create_dir_all(&page)?;
        let html = pages::project_html(project, listed, FILES_FROM_PAGE);
        fs::write(page.join("index.html"), html)?;
        let json = pages::project_json(project, listed, FILES_FROM_PAGE);
        fs::write(page.join("index.json"), pretty(&json))?;
    }
    let names: Vec<&str> = projects.keys().copied().collect();
    fs::write(simple.join("index.html"), pages::root_html(&names))?;
    fs::write(simple.join("index.json"), pretty(&pages::root_json(&names)))?;
    Ok(listed)
}

/// JSON as it is in a file.
fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}")
}

/// What the index says about one wheel, and its METADATA.
fn read(wheel: &Path) -> Result<(Listed, Vec<u8>), Error> {
    let mut metadata = Vec::new();
    let name = read_entries(wheel, |path, _, contents| {
        let is_metadata = path
            .split_once('/')
            .is_some_and(|(folder, file)| folder.ends_with(".dist-info") && file == "METADATA");
        if is_metadata {
            contents.read_to_end(&mut metadata)?;
        }
        Ok(())
    })?;
    let text = String::from_utf8_lossy(&metadata);
    let mut fields = text.lines().take_while(|line| !line.is_empty());
    let requires_python = fields.find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case("Requires-Python").then(|| value.trim().to_owned())
    });
    let listed = Listed {
        file_name: name.to_string(),
        project: normalize_distribution(&name.distribution)?,
        version: normalize_version(&name.version)?,
        size: fs::metadata(wheel)?.len(),
        sha256: checksum::sha256_of(fs::File::open(wheel)?)?,
        metadata_sha256: checksum::sha256(&metadata),
        requires_python,
    };
    Ok((listed, metadata))
}

/// Copies a wheel so that all may read it. No link: the wheel that was given keeps its mode, and what happens to the
/// copy does not happen to it. The folder is flushed as a whole, before it gets its name.
pub(crate) fn copy_for_all(wheel: &Path, copy: &Path) -> std::io::Result<()> {
    fs::copy(wheel, copy)?;
    set_mode(copy, 0o644)
}

/// tempfile makes a folder private; an index is not, nor is what is staged.
pub(crate) fn readable_by_all(folder: &Path) -> std::io::Result<()> {
    set_mode(folder, 0o755)
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn set_mode(_path: &Path, _mode: u32) -> std::io::Result<()> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    #[test]
    fn what_is_published_is_for_all_and_what_was_given_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let [wheel, copy] = ["wheel", "copy"].map(|name| folder.path().join(name));
        fs::write(&wheel, "bytes").unwrap();
        fs::set_permissions(&wheel, std::fs::Permissions::from_mode(0o600)).unwrap();
        copy_for_all(&wheel, &copy).unwrap();
        let of = |path: &Path| fs::metadata(path).unwrap();
        assert_eq!(of(&copy).permissions().mode() & 0o777, 0o644);
        assert_eq!(of(&wheel).permissions().mode() & 0o777, 0o600);
        assert_ne!(of(&wheel).ino(), of(&copy).ino());
    }
}
