//! Hands out the files of a wheel one after the other, for those who look into them.

use crate::{Error, WheelFileName, archive::Archive};
use std::{
    io::{self, Read},
    path::Path,
};

/// Visits every file of the wheel in the archive's order: its path, its size in bytes, its
/// contents. A visit that does not read to the end costs nothing more; one that does gets an
/// error where the checksum is wrong. Returns the parts of the wheel's file name.
pub fn read_entries(
    wheel: &Path,
    visit: impl FnMut(&str, u64, &mut dyn Read) -> io::Result<()>,
) -> Result<WheelFileName, Error> {
    let file_name = wheel.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name: WheelFileName = file_name.parse()?;
    read_files(wheel, visit)?;
    Ok(name)
}

/// The same of a wheel that is kept under a name of another kind, such as its digest.
pub fn read_files(
    wheel: &Path,
    mut visit: impl FnMut(&str, u64, &mut dyn Read) -> io::Result<()>,
) -> Result<(), Error> {
    let mut archive = Archive::open(wheel)?;
    for index in 0..archive.entries.len() {
        let entry = archive.entries[index].clone();
        if entry.is_dir() {
            continue;
        }
        let failed =
            |source| Error::Entry { path: wheel.to_owned(), entry: entry.name.clone(), source };
        let file = archive.zip.by_index(index).map_err(|error| failed(error.into()))?;
        // A visit gets one byte more than declared at most, whatever the compressed bytes hold. The
        // one byte lets a reader that stops at the declared size meet the end of the entry, which
        // is where the checksum is looked at.
        let mut contents = file.take(entry.size.saturating_add(1));
        visit(&entry.name, entry.size, &mut contents).map_err(failed)?;
    }
    Ok(())
}
