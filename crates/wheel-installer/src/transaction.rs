//! Puts many files in place, all or none.
//!
//! Everything is prepared in a folder beside the packages. A journal then names every move, the
//! moves are made, and the journal's new name says that they were all made. What is found after
//! `kill -9` is undone by the next command that writes there: a journal is undone, anything else is
//! only litter. What the journal speaks of is on the disk before the journal is, and the moves before
//! their end is noted, so that a power failure is no worse than a kill. Must not know wheels.

use crate::{Error, Listener, patience};
use fs_err as fs;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Our folder beside the packages. Installers look for other names there.
const WORK_DIR: &str = ".quicksand-install";
const LOCK_FILE: &str = "lock";
const JOURNAL: &str = "journal.json";
const DONE: &str = "done.json";

/// A rename. `to` did not exist when the move was planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Move {
    from: PathBuf,
    to: PathBuf,
}

/// Moves that belong together.
pub struct Transaction {
    folder: PathBuf,
    moves: Vec<Move>,
    n_removed: usize,
}

/// Holds the place, so that two commands do not write there at once, and undoes what an earlier
/// one left half-done. The function gets a transaction to fill and to commit.
pub fn with<T>(
    site: &Path,
    listener: &dyn Listener,
    run: impl FnOnce(&mut Transaction) -> Result<T, Error>,
) -> Result<T, Error> {
    fs::create_dir_all(site)?;
    let work = site.join(WORK_DIR);
    loop {
        fs::create_dir_all(&work)?;
        let path = work.join(LOCK_FILE);
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
        let mut lock = fd_lock::RwLock::new(file.into_file());
        if lock.try_write().is_err() {
            listener.note(&format!("waiting for another installation into {}", site.display()));
        }
        patience::until_free(&mut lock, &|| listener.goes_on())?;
        let held = lock.write()?;
        // Who held it before may have removed the file that is now locked.
        if !is_at(&held, &path) {
            continue;
        }
        let outcome = recover(&work, listener).and_then(|()| run_in(&work.join("now"), run));
        // The folder goes while it is still held: who waits sees that it is gone and makes a new
        // one. Windows cannot delete the open file, and keeps an empty folder.
        let _ = fs::remove_file(&path);
        let _ = fs::remove_dir(&work);
        return outcome;
    }
}

fn run_in<T>(
    folder: &Path,
    run: impl FnOnce(&mut Transaction) -> Result<T, Error>,
) -> Result<T, Error> {
    fs::create_dir(folder)?;
    let mut transaction =
        Transaction { folder: folder.to_owned(), moves: Vec::new(), n_removed: 0 };
    let outcome = run(&mut transaction);
    // When undoing failed, the journal and what it names are what is left to repair with.
    if !folder.join(JOURNAL).exists() {
        let _ = fs::remove_dir_all(folder);
    }
    outcome
}

#[cfg(unix)]
fn is_at(file: &std::fs::File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let place = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    let (held, there) = (file.metadata().map(place), fs::metadata(path).map(place));
    matches!((held, there), (Ok(held), Ok(there)) if held == there)
}

#[cfg(not(unix))]
fn is_at(_: &std::fs::File, path: &Path) -> bool {
    path.exists()
}

/// Undoes what an interrupted command left there, so that what is read next is true.
pub fn tidy(site: &Path, listener: &dyn Listener) -> Result<(), Error> {
    if site.join(WORK_DIR).is_dir() { with(site, listener, |_| Ok(())) } else { Ok(()) }
}

/// Undoes what was not finished, and removes what is left of it.
fn recover(work: &Path, listener: &dyn Listener) -> Result<(), Error> {
    let folder = work.join("now");
    if !folder.is_dir() {
        return Ok(());
    }
    if let Ok(text) = fs::read_to_string(folder.join(JOURNAL)) {
        // A journal is renamed into its place whole, so it can be read or it is not ours.
        let moves: Vec<Move> = serde_json::from_str(&text).map_err(|error| Error::Journal {
            path: folder.join(JOURNAL),
            reason: error.to_string(),
        })?;
        // They are made in order. An earlier one looks unmade where a later one filled its place.
        if !moves.last().is_none_or(is_made) {
            undo(&moves)?;
            listener.note("undid an installation that was interrupted");
        }
    }
    Ok(fs::remove_dir_all(&folder)?)
}

/// A move was made when its source is gone and its target is there.
fn is_made(step: &Move) -> bool {
    let is = |path: &Path| path.symlink_metadata().is_ok();
    !is(&step.from) && is(&step.to)
}

fn undo(moves: &[Move]) -> Result<(), Error> {
    for step in moves.iter().rev().filter(|step| is_made(step)) {
        fs::rename(&step.to, &step.from)?;
    }
    Ok(())
}

impl Transaction {
    /// A new empty folder to prepare files in.
    pub fn prepare(&self, name: &str) -> Result<PathBuf, Error> {
        let folder = self.folder.join("new").join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Plans to take a file or folder away.
    pub fn remove(&mut self, path: &Path) {
        self.n_removed += 1;
        let to = self.folder.join("old").join(self.n_removed.to_string());
        self.moves.push(Move { from: path.to_owned(), to });
    }

    /// Plans to put a prepared file or folder in its place, which must be free by then.
    pub fn put(&mut self, prepared: &Path, place: &Path) {
        self.moves.push(Move { from: prepared.to_owned(), to: place.to_owned() });
    }

    /// Makes all moves; undoes them when one fails.
    pub fn commit(&mut self) -> Result<(), Error> {
        fs::create_dir_all(self.folder.join("old"))?;
        let journal = self.folder.join(JOURNAL);
        let beside = self.folder.join("journal.new");
        fs::write(&beside, serde_json::to_vec(&self.moves).unwrap_or_default())?;
        write_out(&self.folder)?;
        fs::rename(&beside, &journal)?;
        write_out(&self.folder)?;
        if let Err(error) = self.moves.iter().try_for_each(make) {
            undo(&self.moves)?;
            fs::remove_file(&journal)?;
            return Err(error);
        }
        write_out(&self.folder)?;
        fs::rename(&journal, self.folder.join(DONE))?;
        self.moves.clear();
        Ok(())
    }
}

/// Puts everything that was written and renamed on the folder's file system onto its disk.
#[cfg(target_os = "linux")]
fn write_out(folder: &Path) -> Result<(), Error> {
    let folder = fs::File::open(folder)?;
    Ok(rustix::fs::syncfs(&folder).map_err(std::io::Error::from)?)
}

/// Only Linux writes out one file system; elsewhere it is the journal's own file and folder.
#[cfg(not(target_os = "linux"))]
fn write_out(folder: &Path) -> Result<(), Error> {
    for name in ["journal.new", JOURNAL] {
        if let Ok(file) = fs::OpenOptions::new().write(true).open(folder.join(name)) {
            file.sync_all()?;
        }
    }
    // A folder can be opened as a file on macOS, and not on Windows.
    if let Ok(folder) = fs::File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

fn make(step: &Move) -> Result<(), Error> {
    if let Some(folder) = step.to.parent() {
        fs::create_dir_all(folder)?;
    }
    if step.to.symlink_metadata().is_ok() {
        return Err(Error::InTheWay { path: step.to.clone() });
    }
    Ok(fs::rename(&step.from, &step.to)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::Nobody;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn plan(site: &Path, transaction: &mut Transaction) {
        let prepared = transaction.prepare("a").unwrap();
        fs::write(prepared.join("new"), "new").unwrap();
        transaction.remove(&site.join("old"));
        transaction.put(&prepared.join("new"), &site.join("old"));
        transaction.put(&prepared, &site.join("folder"));
    }

    #[test]
    fn all_moves_are_made_and_nothing_else_stays() {
        let site = tempfile::tempdir().unwrap();
        fs::write(site.path().join("old"), "old").unwrap();
        with(site.path(), &Nobody, |transaction| {
            plan(site.path(), transaction);
            transaction.commit()
        })
        .unwrap();
        assert_eq!(names(site.path()), ["folder", "old"]);
        assert_eq!(fs::read_to_string(site.path().join("old")).unwrap(), "new");
    }

    #[test]
    fn a_move_that_fails_undoes_the_others() {
        let site = tempfile::tempdir().unwrap();
        fs::write(site.path().join("old"), "old").unwrap();
        fs::write(site.path().join("folder"), "in the way").unwrap();
        let outcome = with(site.path(), &Nobody, |transaction| {
            plan(site.path(), transaction);
            transaction.commit()
        });
        assert!(outcome.unwrap_err().to_string().contains("in the way"));
        assert_eq!(names(site.path()), ["folder", "old"]);
        assert_eq!(fs::read_to_string(site.path().join("old")).unwrap(), "old");
    }

    /// Every state in which the process can be killed leads back to where it started, or, after
    /// the last move, to the end.
    #[test]
    fn a_kill_between_any_two_moves_is_undone_by_the_next() {
        for (n_made, is_closed) in [(0, false), (1, false), (2, false), (3, false), (3, true)] {
            let site = tempfile::tempdir().unwrap();
            fs::write(site.path().join("old"), "old").unwrap();
            let folder = site.path().join(WORK_DIR).join("now");
            fs::create_dir_all(folder.join("old")).unwrap();
            let mut transaction =
                Transaction { folder: folder.clone(), moves: Vec::new(), n_removed: 0 };
            plan(site.path(), &mut transaction);
            let journal = serde_json::to_vec(&transaction.moves).unwrap();
            fs::write(folder.join(JOURNAL), journal).unwrap();
            transaction.moves.iter().take(n_made).for_each(|step| make(step).unwrap());
            if is_closed {
                fs::rename(folder.join(JOURNAL), folder.join(DONE)).unwrap();
            }
            with(site.path(), &Nobody, |_| Ok(())).unwrap();
            let text = fs::read_to_string(site.path().join("old")).unwrap();
            if n_made == 3 {
                assert_eq!(
                    (names(site.path()), text.as_str()),
                    (vec!["folder".into(), "old".into()], "new")
                );
            } else {
                assert_eq!((names(site.path()), text.as_str()), (vec!["old".to_owned()], "old"));
            }
        }
    }
}
