//! What goes where: a wheel's files in an environment, and those of a distribution that leave it.
//!
//! Plans moves for a [`Transaction`]; nothing of the environment changes here. Follows the packaging
//! specification "Recording installed projects", so that pip sees and can remove what we installed.

use crate::Error;
use crate::{
    environment::{Environment, Installed, installed_in},
    transaction::Transaction,
};
use fs_err as fs;
use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};
use wheel_retag::{RecordRow, WheelFileName, format_record, parse_record, record_hash, unpack};

/// What tools find in INSTALLER.
const INSTALLER: &str = "quicksand\n";

/// Prepares the wheel's files and plans their way into the environment, in place of an installed
/// version. `is_requested` tells what people asked for from what something else needs.
pub fn plan(
    environment: &Environment,
    transaction: &mut Transaction,
    wheel: &Path,
    is_requested: bool,
) -> Result<(), Error> {
    let file_name = wheel.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name: WheelFileName = file_name.parse()?;
    let texts = wheel_retag::read_dist_info(wheel, &["WHEEL", "entry_points.txt"])?;
    let text = |name: &str| texts.get(name).map_or("", String::as_str);
    refuse_generated_scripts(file_name, text("entry_points.txt"))?;
    let is_pure = text("WHEEL").lines().any(|line| {
        let line = line.to_ascii_lowercase().replace(' ', "");
        line == "root-is-purelib:true"
    });
    let root = if is_pure { &environment.purelib } else { &environment.platlib };
    let prepared = transaction.prepare(&name.distribution)?;
    let record = format!("{}/RECORD", name.dist_info());
    let mut rows = Vec::new();
    let mut elsewhere = Vec::new();
    for file in unpack(wheel, &prepared)? {
        let path = file.row.path.clone();
        let source = prepared.join(&path);
        let in_data = path.strip_prefix(&format!("{}/", name.data_dir()));
        if path == record || path.strip_prefix(&record).is_some_and(|end| end.starts_with('.')) {
            fs::remove_file(&source)?;
        } else if let Some(rest) = in_data {
            let row = data_row(environment, root, rest, &source, file.row, &mut elsewhere)?;
            rows.push(row);
        } else {
            rows.push(file.row);
        }
    }
    let info = prepared.join(name.dist_info());
    let mut add = |file: &str, text: &str| {
        let path = format!("{}/{file}", name.dist_info());
        rows.retain(|row| row.path != path);
        let size = text.len().to_string();
        rows.push(RecordRow { path, hash: record_hash(text.as_bytes()), size });
        fs::write(info.join(file), text)
    };
    add("INSTALLER", INSTALLER)?;
    if is_requested {
        add("REQUESTED", "")?;
    }
    rows.push(RecordRow::own(&record));
    rows.sort();
    fs::write(info.join("RECORD"), format_record(&rows))?;

    let distribution = wheel_retag::normalize_distribution(&name.distribution)?;
    let leaving = match environment.installed(&distribution) {
        Some(installed) => plan_removal(environment, transaction, &installed)?,
        None => BTreeSet::new(),
    };
    let mut plan = Plan { transaction, root, leaving, distribution };
    for (source, place) in elsewhere {
        plan.put(&source, &place)?;
    }
    // The metadata comes last: a distribution without it does not exist for installers.
    plan.put_below(&prepared, root, &[name.data_dir(), name.dist_info()])?;
    plan.put(&info, &root.join(name.dist_info()))
}

/// The place of a file of the `.data` folder, and its row.
fn data_row(
    environment: &Environment,
    root: &Path,
    rest: &str,
    source: &Path,
    mut row: RecordRow,
    elsewhere: &mut Vec<(PathBuf, PathBuf)>,
) -> Result<RecordRow, Error> {
    let (scheme, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let base = match scheme {
        "purelib" => &environment.purelib,
        "platlib" => &environment.platlib,
        "scripts" => &environment.scripts,
        "data" => &environment.data,
        _ => {
            let (scheme, file) = (scheme.to_owned(), rest.to_owned());
            return Err(Error::Scheme { scheme, file });
        }
    };
    if scheme == "scripts" {
        let text = fs::read(source)?;
        if let Some(rest) = text.strip_prefix(b"#!python") {
            let Some(python) = &environment.python else {
                return Err(Error::NeedsPython { script: source.to_owned() });
            };
            let mut new = format!("#!{}", python.executable.display()).into_bytes();
            // The rest of the line belongs to a wheel's placeholder, such as the `w` of `pythonw`.
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            new.extend_from_slice(&rest[end..]);
            fs::write(source, &new)?;
            row.hash = record_hash(&new);
            row.size = new.len().to_string();
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mut permissions = fs::metadata(source)?.permissions();
            let mode = permissions.mode();
            // Who may read it may run it.
            permissions.set_mode(mode | ((mode & 0o444) >> 2));
            fs::set_permissions(source, permissions)?;
        }
    }
    let place = base.join(rest);
    row.path = relative(root, &place);
    elsewhere.push((source.to_owned(), place));
    Ok(row)
}

/// Wrappers for `console_scripts` are made by pip (on Windows they are programs).
fn refuse_generated_scripts(file_name: &str, entry_points: &str) -> Result<(), Error> {
    let is_group = |line: &str| matches!(line.trim(), "[console_scripts]" | "[gui_scripts]");
    if !entry_points.lines().any(is_group) {
        return Ok(());
    }
    Err(Error::GeneratedCommands { file_name: file_name.to_owned() })
}

/// The path of a file from a folder, as RECORD writes it.
fn relative(folder: &Path, file: &Path) -> String {
    let mut from = folder.components().peekable();
    let mut to = file.components().peekable();
    while let (Some(a), Some(b)) = (from.peek(), to.peek()) {
        if a != b {
            break;
        }
        from.next();
        to.next();
    }
    let up = from.map(|_| "..".to_owned());
    let down = to.map(|part| part.as_os_str().to_string_lossy().into_owned());
    up.chain(down).collect::<Vec<_>>().join("/")
}

/// Plans what is put; `leaving` is free by then.
struct Plan<'a> {
    transaction: &'a mut Transaction,
    root: &'a Path,
    leaving: BTreeSet<PathBuf>,
    distribution: String,
}

impl Plan<'_> {
    fn put_below(&mut self, source: &Path, place: &Path, without: &[String]) -> Result<(), Error> {
        let mut children: Vec<PathBuf> =
            fs::read_dir(source)?.map(|entry| Ok(entry?.path())).collect::<Result<_, Error>>()?;
        children.sort();
        for child in children {
            let name = child.file_name().unwrap_or_default();
            if !without.iter().any(|without| name == without.as_str()) {
                self.put(&child, &place.join(name))?;
            }
        }
        Ok(())
    }

    /// A folder is put whole where there is none yet; otherwise what is in it is.
    fn put(&mut self, source: &Path, place: &Path) -> Result<(), Error> {
        let is_free = place.symlink_metadata().is_err()
            || place.ancestors().any(|folder| self.leaving.contains(folder));
        if is_free {
            self.transaction.put(source, place);
            return Ok(());
        }
        if source.is_dir() && place.is_dir() {
            return self.put_below(source, place, &[]);
        }
        if let Some(owner) = owner(self.root, place, &self.distribution) {
            return Err(Error::Taken { path: place.to_owned(), owner });
        }
        // Nobody's: what an interrupted installer left, say. It comes back if this fails.
        self.transaction.remove(place);
        self.transaction.put(source, place);
        Ok(())
    }
}

/// The other distribution that has this file in its RECORD.
fn owner(site: &Path, file: &Path, but: &str) -> Option<String> {
    installed_in(site)
        .into_iter()
        .filter(|installed| installed.distribution != but)
        .find(|installed| files(installed).is_ok_and(|files| files.contains(file)))
        .map(|installed| installed.distribution)
}

/// The files of a distribution by its RECORD.
fn files(installed: &Installed) -> Result<BTreeSet<PathBuf>, Error> {
    let path = installed.info.join("RECORD");
    let text = fs::read(&path)
        .map_err(|_| Error::NoRecord { distribution: installed.distribution.clone() })?;
    let rows = parse_record(&text)
        .map_err(|reason| Error::Record { path: path.clone(), reason: reason.to_string() })?;
    Ok(rows.iter().map(|row| lexical(&installed.site.join(&row.path))).collect())
}

/// The path without `.` and `..`, by its words alone.
fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            part => clean.push(part),
        }
    }
    clean
}

/// Plans the removal of a distribution's files. Returns what leaves: folders that it has for itself,
/// and single files.
pub fn plan_removal(
    environment: &Environment,
    transaction: &mut Transaction,
    installed: &Installed,
) -> Result<BTreeSet<PathBuf>, Error> {
    let mut files = files(installed)?;
    // A RECORD is as trustworthy as who wrote it: files outside are not ours to remove.
    for file in &files {
        if !environment.roots().iter().any(|root| file.starts_with(lexical(root))) {
            return Err(Error::Outside {
                distribution: installed.distribution.clone(),
                file: file.clone(),
            });
        }
    }
    files.extend(files_below(&installed.info));
    let mut leaving = BTreeSet::new();
    for file in &files {
        if leaving.iter().any(|folder| file.starts_with(folder)) || !is_there(file) {
            continue;
        }
        let below_site = file.strip_prefix(&installed.site).ok();
        let own = below_site.and_then(|path| {
            let mut folder = installed.site.clone();
            let parts: Vec<Component<'_>> = path.components().collect();
            parts[..parts.len().saturating_sub(1)].iter().find_map(|part| {
                folder.push(part);
                is_whole(&folder, &files).then(|| folder.clone())
            })
        });
        leaving.insert(own.unwrap_or_else(|| file.clone()));
    }
    // The metadata goes first, as it comes last: without it nothing is installed.
    if leaving.contains(&installed.info) {
        transaction.remove(&installed.info);
    }
    leaving
        .iter()
        .filter(|path| **path != installed.info)
        .for_each(|path| transaction.remove(path));
    Ok(leaving)
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Whether a folder holds nothing but these files and what Python compiled from them.
fn is_whole(folder: &Path, files: &BTreeSet<PathBuf>) -> bool {
    files_below(folder).iter().all(|file| {
        let is_compiled = file.extension().is_some_and(|it| it == "pyc")
            && file.parent().and_then(Path::file_name).is_some_and(|it| it == "__pycache__");
        is_compiled || files.contains(file)
    })
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                _ => found.push(entry.path()),
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_record_are_relative() {
        for (folder, file, expect) in [
            ("/v/lib/python3.11/site-packages", "/v/bin/q", "../../../bin/q"),
            ("/v/lib/site-packages", "/v/lib/site-packages/a/b", "a/b"),
            ("/data", "/data/bin/q", "bin/q"),
        ] {
            let path = relative(Path::new(folder), Path::new(file));
            assert_eq!(path, expect);
            assert_eq!(lexical(&Path::new(folder).join(path)), Path::new(file));
        }
    }

    #[test]
    fn a_wheel_with_console_scripts_is_refused() {
        refuse_generated_scripts("a.whl", "[quicksand.images]\na = b:c\n").unwrap();
        refuse_generated_scripts("a.whl", "[console_scripts]\na = b:c\n").unwrap_err();
    }
}
