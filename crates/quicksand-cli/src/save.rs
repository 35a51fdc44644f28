//! `quicksand save`: the saves on disk.
//!
//! What a save is, and what is allowed with it, is `sandbox::save`'s business; here are words and
//! columns.

use crate::{
    args::{SaveAction, SavePlace},
    places,
    report::{FAILURE, Failure},
};
use runtime_locator::Search;
use sandbox::{
    printable,
    save::{self, SaveInfo},
};
use std::path::{Path, PathBuf};

/// Does it.
pub fn run(action: &SaveAction) -> Result<(), Failure> {
    let search = places::search();
    match action {
        SaveAction::List { place, json } => {
            let saves = save::list(&search, place.workspace.as_deref());
            if *json {
                return print_json(&saves);
            }
            if saves.is_empty() {
                eprintln!("There are no saves.");
                eprintln!("hint: `quicksand run IMAGE -o NAME` makes one");
            }
            print!("{}", printable(&table(&saves)));
            Ok(())
        }
        SaveAction::Show { name, place, json } => {
            let path = find(&search, name, place)?;
            let info = save::show(&path).map_err(|error| Failure::task(&error))?;
            if *json {
                return print_json(&info);
            }
            print!("{}", printable(&details(&info)));
            Ok(())
        }
        SaveAction::Validate { names, place } => each(names, |name| {
            let path = find(&search, name, place)?;
            save::validate(&path).map_err(|error| Failure::task(&error))?;
            println!("{name}: whole");
            Ok(())
        }),
        SaveAction::Remove { names, place } => each(names, |name| {
            let path = find(&search, name, place)?;
            save::remove(&path).map_err(|error| Failure::task(&error))
        }),
        SaveAction::Export { name, file, place } => {
            let path = find(&search, name, place)?;
            let file = file.clone().unwrap_or_else(|| {
                let stem = path.file_name().unwrap_or_default().to_string_lossy();
                PathBuf::from(format!("{stem}.tar"))
            });
            save::export(&path, &file).map_err(|error| Failure::task(&error))?;
            println!("{}", file.display());
            Ok(())
        }
        SaveAction::Import { file, name, place, replace } => {
            let name = match name {
                Some(name) => name_or_path(name),
                None => file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            };
            let target = save::place(&search, &name, place.workspace.as_deref())
                .map_err(|error| Failure::task(&error))?;
            save::import(file, &target, *replace, search.data_dir.as_deref())
                .map_err(|error| Failure::task(&error))?;
            println!("{}", target.display());
            Ok(())
        }
    }
}

/// What a person gives for a save's place: a plain name stays one, and anything with a separator is
/// a path from the working folder.
pub fn name_or_path(text: &str) -> String {
    let is_path = text.contains('/') || (cfg!(windows) && text.contains('\\'));
    match is_path.then(|| plain_path(Path::new(text))).flatten() {
        Some(path) => path.to_string_lossy().into_owned(),
        None => text.to_owned(),
    }
}

/// The absolute path without `.` and `..`; `None` where the folder is not known.
fn plain_path(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    let parent = absolute.parent()?;
    let name = absolute.file_name()?;
    // `..` goes through links as the system would go; a folder that is not there yet has none.
    Some(parent.canonicalize().unwrap_or_else(|_| parent.to_owned()).join(name))
}

fn find(search: &Search, name: &str, place: &SavePlace) -> Result<PathBuf, Failure> {
    save::find(search, name, place.workspace.as_deref()).map_err(|error| Failure::task(&error))
}

/// Does it for each, tells each failure, and fails with the last.
fn each(
    names: &[String],
    mut work: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut last = Ok(());
    for name in names {
        if let Err(failure) = work(name)
            && let Err(earlier) = std::mem::replace(&mut last, Err(failure))
        {
            earlier.print();
        }
    }
    last
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new(FAILURE, error.to_string(), None))?;
    println!("{text}");
    Ok(())
}

/// Columns for people: name, base, architecture, layers, size, folder.
fn table(saves: &[SaveInfo]) -> String {
    let rows: Vec<[String; 5]> = saves
        .iter()
        .map(|save| {
            let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            let state = match &save.problem {
                Some(problem) => problem.clone(),
                None => format!("{} of {}", size(save.bytes), layers(save.n_overlays)),
            };
            let path = save.path.display().to_string();
            [save.name.clone(), or_dash(&save.base), or_dash(&save.arch), state, path]
        })
        .collect();
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2), width(3)];
    rows.iter()
        .map(|[name, base, arch, state, path]| {
            let [a, b, c, d] = widths;
            format!("{name:a$}  {base:b$}  {arch:c$}  {state:d$}  {path}\n")
        })
        .collect()
}

fn details(save: &SaveInfo) -> String {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    format!(
        "name:    {}\npath:    {}\nimage:   {}\narch:    {}\nlayers:  {}\nsize:    {}\n",
        save.name,
        save.path.display(),
        or_dash(&save.base),
        or_dash(&save.arch),
        save.n_overlays,
        size(save.bytes)
    )
}

fn layers(n_overlays: usize) -> String {
    if n_overlays == 1 { "1 layer".to_owned() } else { format!("{n_overlays} layers") }
}

/// Bytes in the unit that people would choose.
fn size(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >= 1 << shift {
            return format!("{:.1} {unit}", bytes as f64 / f64::from(1u32 << shift));
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_names_and_paths_become_whole() {
        assert_eq!(name_or_path("my-env"), "my-env");
        assert_eq!(name_or_path(".."), "..");
        let working = std::env::current_dir().unwrap().canonicalize().unwrap();
        assert_eq!(Path::new(&name_or_path("./x")), working.join("x"));
        assert_eq!(Path::new(&name_or_path("../x")), working.parent().unwrap().join("x"));
        assert_eq!(name_or_path("/no/such/x"), "/no/such/x");
    }

    #[test]
    fn columns_line_up_and_problems_are_reported() {
        let whole = SaveInfo {
            name: "my-env".into(),
            path: "/s/my-env".into(),
            base: Some("debian".into()),
            arch: Some("x86_64".into()),
            n_overlays: 2,
            bytes: 3 << 20,
            created: None,
            problem: None,
        };
        let damaged = SaveInfo {
            name: "x".into(),
            path: "/s/x".into(),
            base: None,
            arch: None,
            problem: Some("Missing overlays".into()),
            ..whole.clone()
        };
        assert_eq!(
            table(&[whole, damaged]),
            "my-env  debian  x86_64  3.0 MiB of 2 layers  /s/my-env\n\
             x       -       -       Missing overlays     /s/x\n"
        );
        assert_eq!(size(100), "100 B");
        assert_eq!(size(1536), "1.5 KiB");
    }
}
