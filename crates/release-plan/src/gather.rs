//! Brings the wheels of all runners into one folder.
//!
//! A name that two runners made: the one that built it wins over one that only retagged to it. The
//! Arm image of Linux is such a name (installation document, "Image wheels").

use crate::{Error, Plan, name_of, plan::from_arm_image};
use fs_err as fs;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use wheel_retag::{Runner, retag, wheels_in};

/// Moves the wheels of the runners' folders below `folder` into it, and says what was done. Does
/// nothing when there are none.
///
/// # Errors
/// Two runners made different wheels of one name, or a file cannot be moved.
pub fn gather(folder: &Path) -> Result<Vec<String>, Error> {
    let plan = Plan::from_this_tree();
    let mut by_name: BTreeMap<String, Vec<(Runner, PathBuf)>> = BTreeMap::new();
    for runner in Runner::ALL {
        let its = folder.join(runner.name());
        if !its.is_dir() {
            continue;
        }
        for wheel in wheels_in(&its)? {
            let name = name_of(&wheel);
            by_name.entry(name).or_default().push((runner, wheel));
        }
    }
    // Everything is decided before the first file moves.
    let mut moves = Vec::new();
    for (name, makers) in &by_name {
        moves.push((name, choose(&plan, name, makers)?));
    }
    let mut news = Vec::new();
    for (name, (runner, chosen)) in moves {
        fs::rename(chosen, folder.join(name))?;
        news.push(format!("{name}: from {runner}"));
        for (_, wheel) in &by_name[name] {
            if wheel != chosen {
                fs::remove_file(wheel)?;
            }
        }
    }
    for runner in Runner::ALL {
        // Only a folder with nothing else in it goes.
        let _ = fs::remove_dir(folder.join(runner.name()));
    }
    Ok(news)
}

/// Gives the images of Linux on Arm the names that the plan has for them, where nobody made them; says which.
///
/// # Errors
/// A wheel cannot be read or written.
pub fn spread(folder: &Path) -> Result<Vec<String>, Error> {
    let mut news = Vec::new();
    for wheel in wheels_in(folder)? {
        let name = name_of(&wheel);
        for (tag, other) in from_arm_image(&name.parse()?) {
            if folder.join(&other).exists() {
                continue;
            }
            retag(&wheel, &tag, folder)?;
            news.push(format!("{other}: from {name}"));
        }
    }
    Ok(news)
}

fn choose<'a>(
    plan: &Plan,
    name: &str,
    makers: &'a [(Runner, PathBuf)],
) -> Result<(Runner, &'a PathBuf), Error> {
    if let [(runner, wheel)] = makers {
        return Ok((*runner, wheel));
    }
    let builders: Vec<&(Runner, PathBuf)> =
        makers.iter().filter(|(runner, _)| plan.is_built_by(*runner, name)).collect();
    if let [(runner, wheel)] = builders[..] {
        return Ok((*runner, wheel));
    }
    let (runner, first) = &makers[0];
    let bytes = fs::read(first)?;
    for (_, other) in &makers[1..] {
        if fs::read(other)? != bytes {
            let names: Vec<String> = makers.iter().map(|(runner, _)| runner.to_string()).collect();
            return Err(Error::Different { name: name.to_owned(), runners: names.join(", ") });
        }
    }
    Ok((*runner, first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, contents) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, contents).unwrap();
        }
        folder
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = walkdir::WalkDir::new(folder).min_depth(1).sort_by_file_name();
        let name = |entry: walkdir::DirEntry| {
            entry.path().strip_prefix(folder).unwrap().to_string_lossy().into_owned()
        };
        entries.into_iter().map(|entry| name(entry.unwrap())).collect()
    }

    #[test]
    fn who_builds_a_name_wins_over_who_retags_to_it() {
        let image =
            format!("quicksand_debian-{}-py3-none-linux_aarch64.whl", env!("CARGO_PKG_VERSION"));
        let folder = folder(&[
            (&format!("macos-arm64/{image}"), "retagged"),
            (&format!("linux-arm64/{image}"), "built"),
            ("linux-x64/other-1-py3-none-any.whl", "same"),
            ("windows-x64/other-1-py3-none-any.whl", "same"),
            ("windows-x64/notes.txt", "not a wheel"),
        ]);
        assert_eq!(gather(folder.path()).unwrap().len(), 2);
        assert_eq!(fs::read_to_string(folder.path().join(&image)).unwrap(), "built");
        assert_eq!(
            names(folder.path()),
            ["other-1-py3-none-any.whl", &image, "windows-x64", "windows-x64/notes.txt"]
        );
        assert_eq!(gather(folder.path()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn two_wheels_of_one_name_are_an_error_and_stay() {
        let folder = folder(&[
            ("linux-x64/other-1-py3-none-any.whl", "one"),
            ("windows-x64/other-1-py3-none-any.whl", "another"),
            ("linux-x64/fine-1-py3-none-any.whl", "x"),
        ]);
        let before = names(folder.path());
        let error = gather(folder.path()).unwrap_err().to_string();
        assert!(error.contains("linux-x64, windows-x64"), "{error}");
        assert_eq!(names(folder.path()), before);
    }
}
