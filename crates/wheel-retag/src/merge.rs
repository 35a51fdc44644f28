//! Makes the fat Windows wheel: the binaries of `win_amd64` and of `win_arm64` in one.
//!
//! pip chooses by the interpreter, the emulator has to fit the hardware; on Windows on Arm these
//! two differ for most users. So the `win_amd64` wheel gets both: its own binaries move from `bin/`
//! to `bin/x86_64/`, those of the `win_arm64` wheel go to `bin/arm64/`. Whose machine the binaries
//! are for is the caller's to check, because what files mean is not known here.
//!
//! What is shared: `bin/share/qemu`, where both have files and no path has two contents. Whoever
//! runs a half looks for firmware beside it and then in the folder above, so that one folder serves
//! both. Everything else belongs to one machine. Differences from repacking with Python's
//! `zipfile`: nothing is recompressed, and licences and bills of the second half come along.

use crate::{
    Error, RecordRow, WheelFileName,
    archive::Archive,
    format_record,
    merge::texts::{merged_metadata, moved_lines, moved_paths, unlike_fields},
    retag::{dist_info_of, finish, open_sound, read_rows, read_utf8},
    verify,
    write::{S_IFREG, beside, deflated, sync_folder},
};
use fs_err as fs;
use package_layout::qemu;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};
use zip::ZipWriter;

mod layout;
mod pair;
mod texts;

pub use pair::{FatPair, fat_pairs};

/// One half of a fat wheel, or of what becomes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Half {
    /// The folder's name in the fat wheel: `x86_64` or `arm64`.
    pub folder: &'static str,
    /// The wheel that its files are in now.
    pub wheel: PathBuf,
    /// The path inside that wheel below which they are, with a final `/`.
    pub prefix: String,
}

/// A merge that can be done, or was done before.
pub struct FatPlan {
    pair: FatPair,
    /// Where the two halves' files are now.
    pub halves: [Half; 2],
    /// Whether the wheel is fat already, with exactly these halves.
    pub is_merged: bool,
    /// The files that both halves share, below `bin/`.
    pub shared: Vec<String>,
    /// Files outside `bin/` that the two wheels have with other contents: those of `win_amd64`
    /// are kept.
    pub differing: Vec<String>,
    /// Files outside `bin/` that the `win_arm64` wheel alone has; they are taken along.
    pub added: Vec<String>,
    /// Where the METADATA of the two differ, in words, and what becomes of it.
    pub unlike: Vec<String>,
    first: Side,
    second: Side,
    entries: Vec<layout::Placed>,
}

/// One of the wheels, opened.
pub(crate) struct Side {
    archive: Archive,
    info: String,
    rows: BTreeMap<String, RecordRow>,
}

impl Side {
    fn open(wheel: &Path) -> Result<Self, Error> {
        let (name, mut archive) = open_sound(wheel)?;
        let findings = verify(wheel)?;
        if let Some(finding) = findings.first() {
            return Err(Error::NotAWheel { path: wheel.to_owned(), reason: finding.to_string() });
        }
        let info = dist_info_of(&archive, &name)?;
        let rows = read_rows(&mut archive, &format!("{info}/RECORD"))?;
        let rows = rows.into_iter().map(|row| (row.path.clone(), row)).collect();
        Ok(Self { archive, info, rows })
    }

    /// The files with their hashes, as the pure part sees them.
    fn files(&self) -> BTreeMap<&str, &str> {
        let files = self.archive.entries.iter().filter(|entry| !entry.is_dir());
        files
            .map(|entry| {
                let hash = self.rows.get(&entry.name).map_or("", |row| row.hash.as_str());
                (entry.name.as_str(), hash)
            })
            .collect()
    }

    fn text(&mut self, entry: &str) -> Result<String, Error> {
        read_utf8(&mut self.archive, entry)
    }
}

/// Reads both wheels and decides where each file goes. Changes nothing.
pub fn plan_merge(pair: &FatPair) -> Result<FatPlan, Error> {
    let mut first = Side::open(&pair.x86_64)?;
    let mut second = Side::open(&pair.arm64)?;
    let of_first = format!("{}/METADATA", first.info);
    let of_second = format!("{}/METADATA", second.info);
    let unlike = unlike_fields(&first.text(&of_first)?, &second.text(&of_second)?);
    let layout = layout::lay_out(
        &first.files(),
        &second.files(),
        pair.bin_dir,
        (&format!("{}/", first.info), &format!("{}/", second.info)),
    )
    .map_err(|(is_first, reason)| {
        let wheel = if is_first { &pair.x86_64 } else { &pair.arm64 };
        Error::Merge { wheel: wheel.clone(), reason }
    })?;
    let bin = format!("{}/", pair.bin_dir);
    let half = |folder, wheel: &PathBuf, prefix| Half { folder, wheel: wheel.clone(), prefix };
    let halves = if layout.is_merged {
        [qemu::FAT_X86_64, qemu::FAT_ARM64]
            .map(|folder| half(folder, &pair.x86_64, format!("{bin}{folder}/")))
    } else {
        [half(qemu::FAT_X86_64, &pair.x86_64, bin.clone()), half(qemu::FAT_ARM64, &pair.arm64, bin)]
    };
    Ok(FatPlan {
        pair: pair.clone(),
        halves,
        is_merged: layout.is_merged,
        shared: layout.shared,
        differing: layout.differing,
        added: layout.added,
        unlike,
        first,
        second,
        entries: layout.entries,
    })
}

/// Rewrites the `win_amd64` wheel in its place, whole or not at all, and verifies it before it
/// takes that place. A wheel that is merged already is left alone. Returns its path.
pub fn merge_fat(mut plan: FatPlan) -> Result<PathBuf, Error> {
    let path = plan.pair.x86_64.clone();
    if plan.is_merged {
        return Ok(path);
    }
    let (folder, beside) = beside(&path)?;
    // Under its own name, because that is part of what is verified.
    let part = beside.path().join(path.file_name().unwrap_or_default());
    write_fat(&mut plan, &part)?;
    if let Some(finding) = verify(&part)?.first() {
        return Err(Error::Merge {
            wheel: path,
            reason: format!("the result is unsound: {finding}"),
        });
    }
    // After a loss of power a name must not lead to an empty file.
    let written = fs::File::options().write(true).open(&part).map_err(Error::io("open", &part))?;
    written.sync_all().map_err(Error::io("flush", &part))?;
    drop(written);
    fs::rename(&part, &path).map_err(Error::io("replace", &path))?;
    sync_folder(folder)?;
    Ok(path)
}

fn write_fat(plan: &mut FatPlan, part: &Path) -> Result<(), Error> {
    let file = fs::File::create(part).map_err(Error::io("make", part))?;
    let mut writer = ZipWriter::new(BufWriter::with_capacity(1 << 20, file));
    let moved = [true, false].map(|is_first| moved_names(&plan.entries, is_first));
    let info = plan.first.info.clone();
    let (metadata, record) = (format!("{info}/METADATA"), format!("{info}/RECORD"));
    let mut rows = Vec::new();
    for placed in std::mem::take(&mut plan.entries) {
        if placed.name == record {
            continue;
        }
        let is_bill = placed.name.starts_with(&format!("{info}/sboms/"));
        let is_sources = placed.name.starts_with(&format!("{info}/licenses/"))
            && placed.name.ends_with("/SOURCES");
        let bytes = if placed.name == metadata {
            let second = plan.second.text(&format!("{}/METADATA", plan.second.info))?;
            let first = plan.first.text(&metadata)?;
            Some(merged_metadata(&first, &second, &placed.licenses))
        } else if is_bill || is_sources {
            let side = if placed.is_first { &mut plan.first } else { &mut plan.second };
            let text = side.text(&placed.from)?;
            let moved = &moved[usize::from(!placed.is_first)];
            Some(if is_bill { moved_paths(&text, moved) } else { moved_lines(&text, moved) })
        } else {
            None
        };
        let side = if placed.is_first { &mut plan.first } else { &mut plan.second };
        match bytes {
            Some(text) => rows.push(write_text(&mut writer, &placed.name, &text, part)?),
            None => {
                let mut row = side.rows.get(&placed.from).cloned().unwrap_or_else(|| {
                    // Only signatures have no row, and they are left out.
                    RecordRow::own(&placed.from)
                });
                row.path.clone_from(&placed.name);
                rows.push(row);
                copy_as(&mut writer, &mut side.archive, &placed.from, &placed.name, part)?;
            }
        }
    }
    rows.push(RecordRow::own(&record));
    write_text(&mut writer, &record, &format_record(&rows), part)?;
    finish(writer, part)
}

/// Old and new path of each entry of one side that moves.
fn moved_names(entries: &[layout::Placed], is_first: bool) -> Vec<(String, String)> {
    entries
        .iter()
        .filter(|placed| placed.is_first == is_first && placed.name != placed.from)
        .map(|placed| (placed.from.clone(), placed.name.clone()))
        .collect()
}

type Writer = ZipWriter<BufWriter<fs::File>>;

fn write_text(
    writer: &mut Writer,
    name: &str,
    text: &str,
    part: &Path,
) -> Result<RecordRow, Error> {
    writer
        .start_file(name, deflated((S_IFREG | 0o644) << 16))
        .map_err(Error::zip("write", part))?;
    writer.write_all(text.as_bytes()).map_err(Error::io("write", part))?;
    let hash = crate::record_hash(text.as_bytes());
    Ok(RecordRow { path: name.to_owned(), hash, size: text.len().to_string() })
}

fn copy_as(
    writer: &mut Writer,
    archive: &mut Archive,
    from: &str,
    name: &str,
    part: &Path,
) -> Result<(), Error> {
    let source = archive.path.clone();
    let index = archive.position(from).ok_or_else(|| Error::NotAWheel {
        path: source.clone(),
        reason: format!("`{from}` is gone"),
    })?;
    let file = archive.zip.by_index_raw(index).map_err(Error::zip("read", source))?;
    writer.raw_copy_file_rename(file, name).map_err(Error::zip("write", part))
}

/// The names of wheels, for messages.
pub(crate) fn listed(wheels: &BTreeSet<WheelFileName>) -> String {
    wheels.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
