//! `quicksand clean`: removes saves and caches.
//!
//! Saves are people's work, so they are shown before they go, and a folder that is no save stays.

use crate::{
    args::CleanArgs,
    places,
    report::{FAILURE, Failure},
};
use fs_err as fs;
use package_layout::{
    image::{MANIFEST_FILE, OVERLAYS_DIR},
    save::SANDBOXES_DIR,
};
use runtime_locator::Search;
use std::{
    io::{BufRead as _, IsTerminal as _},
    path::{Path, PathBuf},
};

/// Removes the saves below the working folder, or with `--global` those below the home folder and
/// all that can be made or fetched again.
pub fn run(args: &CleanArgs) -> Result<(), Failure> {
    let search = places::search();
    let doomed = doomed(&search, args.global);
    if doomed.is_empty() {
        println!("nothing to remove");
        return Ok(());
    }
    for folder in &doomed {
        eprintln!("{}  {:.1} MB", folder.display(), size(folder) as f64 / 1e6);
    }
    if !args.yes && !agreed()? {
        return Err(Failure::new(FAILURE, "Nothing was removed", None));
    }
    for folder in &doomed {
        fs::remove_dir_all(folder)?;
        println!("removed {}", folder.display());
        // What is left empty by that goes too; a folder with anything else in it stays.
        let parents = folder.ancestors().skip(1).take(2);
        parents.for_each(|parent| drop(fs::remove_dir(parent)));
    }
    Ok(())
}

fn doomed(search: &Search, global: bool) -> Vec<PathBuf> {
    let parent = if global { search.home.as_deref() } else { Some(search.working_dir.as_path()) };
    let mut doomed = parent.map(saves).unwrap_or_default();
    if global {
        doomed.extend(search.cache_dir.clone().filter(|folder| folder.is_dir()));
    }
    doomed
}

/// The folders below a parent's `.quicksand/sandboxes` that are saves.
fn saves(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent.join(SANDBOXES_DIR)).into_iter().flatten().flatten();
    let is_save = |path: &PathBuf| {
        // A link leads to somebody's folder elsewhere.
        path.symlink_metadata().is_ok_and(|it| it.is_dir())
            && path.join(MANIFEST_FILE).is_file()
            && path.join(OVERLAYS_DIR).is_dir()
    };
    let mut saves: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_save).collect();
    saves.sort();
    saves
}

fn agreed() -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        let hint = "nobody is there to ask: add --yes to remove them";
        return Err(Failure::new(FAILURE, "Nothing was removed", Some(hint)));
    }
    eprint!("Remove these folders? [y/N] ");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(matches!(line.trim().to_lowercase().as_str(), "y" | "yes"))
}

fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_saves_are_doomed() {
        let home = tempfile::tempdir().unwrap();
        let sandboxes = home.path().join(SANDBOXES_DIR);
        for (name, files) in [("save", true), ("other", false)] {
            fs::create_dir_all(sandboxes.join(name).join(OVERLAYS_DIR)).unwrap();
            if files {
                fs::write(sandboxes.join(name).join(MANIFEST_FILE), "{}").unwrap();
            }
        }
        let cache = home.path().join("cache");
        fs::create_dir_all(&cache).unwrap();
        let mut search = Search::nowhere(host_platform::host(), home.path());
        search.home = Some(home.path().to_owned());
        search.cache_dir = Some(cache.clone());
        assert_eq!(doomed(&search, false), [sandboxes.join("save")]);
        assert_eq!(doomed(&search, true), [sandboxes.join("save"), cache]);
    }
}
