//! What is true of wheels by the binaries in them: the lowest platform tag of a wheel, tree or binary, which
//! wheels may bear other tags, and whether both halves of a fat wheel would run.
//!
//! Composes `wheel-retag`, which opens and writes wheels, and `binary-bundler`, which judges binaries. Says
//! nothing: the tasks, the builds and the release print what it finds.

mod error;
mod fat;
mod print;
mod retag;
mod verified;

use binary_bundler::{
    inspect::{self, Binary, Format},
    verdict::{Report, judge},
};
use std::path::{Path, PathBuf};
use xtask_base::ui::hinted;

pub use error::Error;
pub use fat::{Merged, merge};
pub use print::text;
pub use retag::{Retagged, retag_images};
pub use verified::{Verified, check_sound, expanded};

/// The reports of one wheel, folder or file. The wheels of a folder are judged one by one, as wheels.
///
/// # Errors
/// When it cannot be read, and for a file that is neither a wheel nor a binary.
pub fn audit(path: &Path) -> Result<Vec<Report>, Error> {
    let subject = path
        .file_name()
        .map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    if path.is_dir() {
        let found = read_tree(path)?;
        let mut reports: Vec<Report> =
            found.wheels.iter().map(|wheel| audit_wheel(wheel)).collect::<Result<_, Error>>()?;
        let is_wheels_alone = found.binaries.is_empty() && found.damaged.is_empty();
        if reports.is_empty() || !is_wheels_alone {
            reports.push(found.report(&subject, &[]));
        }
        return Ok(reports);
    }
    if is_wheel(path) {
        return Ok(vec![audit_wheel(path)?]);
    }
    match inspect::inspect_file(path)? {
        Some(mut binary) => {
            binary.path = PathBuf::from(&subject);
            Ok(vec![judge(&subject, &[binary], &[])])
        }
        None => Err(Error::NotAuditable { path: path.to_owned() }),
    }
}

fn is_wheel(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "whl")
}

/// The report of one wheel.
///
/// # Errors
/// When it cannot be read.
pub fn audit_wheel(path: &Path) -> Result<Report, Error> {
    let subject = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let (found, claimed) =
        read_wheel(path).map_err(|source| Error::Wheel { path: path.to_owned(), source })?;
    Ok(found.report(&subject, &claimed))
}

/// The one tag that a wheel with the binaries of these folders and files is true under.
///
/// # Errors
/// When there is none, or more than one: the machines or systems differ; and when a file is damaged.
pub fn one_tag(name: &str, paths: &[PathBuf]) -> Result<String, Error> {
    let mut all = Found::default();
    for path in paths {
        match path.is_dir() {
            true => all.add(read_tree(path)?),
            false => all.binaries.extend(inspect::inspect_file(path)?),
        }
    }
    if let Some((_, error)) = all.damaged.pop() {
        return Err(error.into());
    }
    let report = all.report(name, &[]);
    match report.tags.as_slice() {
        [tag] if report.is_true => Ok(tag.clone()),
        _ => Err(Error::NoOneTag { name: name.to_owned(), report: text(&report) }),
    }
}

/// What a wheel or folder holds.
#[derive(Default)]
struct Found {
    binaries: Vec<Binary>,
    /// Files that begin as binaries do and cannot be read.
    damaged: Vec<(PathBuf, binary_bundler::Error)>,
    wheels: Vec<PathBuf>,
}

impl Found {
    /// Reads one file, of which `start` was read already.
    fn read(
        &mut self,
        inside: &Path,
        start: Vec<u8>,
        rest: &mut dyn std::io::Read,
    ) -> std::io::Result<()> {
        if !inspect::may_be_binary(&start) {
            return Ok(());
        }
        let mut bytes = start;
        rest.read_to_end(&mut bytes)?;
        match inspect::inspect(inside, &bytes) {
            Ok(found) => self.binaries.extend(found.filter(|binary| !is_firmware(binary))),
            Err(_) if is_below_firmware(&inside.to_string_lossy()) => {}
            Err(error) => self.damaged.push((inside.to_path_buf(), error)),
        }
        Ok(())
    }

    fn add(&mut self, other: Self) {
        self.binaries.extend(other.binaries);
        self.damaged.extend(other.damaged);
        self.wheels.extend(other.wheels);
    }

    fn report(&self, subject: &str, claimed: &[String]) -> Report {
        let mut report = judge(subject, &self.binaries, claimed);
        for (file, error) in &self.damaged {
            report.note_damage(file, error);
        }
        report
    }
}

/// The binaries of a wheel with the platform tags of its name.
fn read_wheel(path: &Path) -> Result<(Found, Vec<String>), wheel_retag::Error> {
    let mut found = Found::default();
    let name = wheel_retag::read_entries(path, |entry, size, contents| {
        if is_of_an_image(entry) {
            return Ok(());
        }
        let mut bytes = vec![0; inspect::N_MAGIC_BYTES];
        let n_read = read_start(contents, &mut bytes)?;
        bytes.truncate(n_read);
        // The size is the archive's word: a lie must not reserve memory.
        const MAX_RESERVED: u64 = 64 << 20;
        if inspect::may_be_binary(&bytes) {
            bytes.reserve(size.min(MAX_RESERVED) as usize);
        }
        found.read(Path::new(entry), bytes, contents)
    })?;
    Ok((found, name.tag.platforms))
}

/// Whether it is a part of an image, whose kernel is an executable: no host executes it, whatever host
/// the wheel is for.
fn is_of_an_image(entry: &str) -> bool {
    let file_name = entry.rsplit('/').next().unwrap_or(entry);
    package_layout::image::ImageFileName::parse(file_name).is_some()
}

/// Whether it lies where QEMU has its firmware, some of which comes as ELF or PE files.
fn is_below_firmware(inside: &str) -> bool {
    let folder = package_layout::qemu::FIRMWARE_DIR;
    let inside = inside.replace('\\', "/");
    inside.starts_with(&format!("{folder}/")) || inside.contains(&format!("/{folder}/"))
}

/// Whether it is firmware, which guests execute and no host: a file in QEMU's folder for it that no
/// loader of a host could start. A program that lies there is judged like any other.
fn is_firmware(binary: &Binary) -> bool {
    is_below_firmware(&binary.path.to_string_lossy())
        && match &binary.format {
            Format::Elf(elf) => elf.interpreter.is_none() && elf.needed.is_empty(),
            Format::Pe(pe) => !pe.is_for_windows,
            Format::MachO(_) => false,
        }
}

fn read_start(contents: &mut dyn std::io::Read, start: &mut [u8]) -> std::io::Result<usize> {
    let mut n_read = 0;
    while n_read < start.len() {
        match contents.read(&mut start[n_read..])? {
            0 => break,
            n => n_read += n,
        }
    }
    Ok(n_read)
}

/// What lies below a folder, with its paths in it; links are not followed.
fn read_tree(root: &Path) -> Result<Found, Error> {
    let mut found = Found::default();
    for entry in walkdir::WalkDir::new(root).sort_by_file_name() {
        let entry = entry.map_err(|source| Error::Walk { folder: root.to_owned(), source })?;
        let inside = entry.path().strip_prefix(root).unwrap_or(entry.path());
        if !entry.file_type().is_file() || is_of_an_image(&inside.to_string_lossy()) {
            continue;
        }
        if is_wheel(entry.path()) {
            found.wheels.push(entry.path().to_path_buf());
            continue;
        }
        let mut start = vec![0; inspect::N_MAGIC_BYTES];
        let mut file = fs_err::File::open(entry.path())?;
        let n_read = read_start(&mut file, &mut start)?;
        start.truncate(n_read);
        found.read(inside, start, &mut file)?;
    }
    Ok(found)
}

/// An error of `binary-bundler` with its hint, in the form that a task prints.
pub fn with_hint(error: binary_bundler::Error) -> anyhow::Error {
    let hint = error.hint();
    let error = anyhow::Error::new(error);
    match hint {
        Some(hint) => hinted(format!("{error:#}"), hint),
        None => error,
    }
}
