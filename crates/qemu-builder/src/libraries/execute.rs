//! Carries out the plan of one library: unpacks and patches its source, runs the steps, and leaves
//! what others compile and link with.
//!
//! ```text
//! ENTRY/prefix/lib/*.a                  the archives
//! ENTRY/prefix/lib/pkgconfig/*.pc       their descriptions, which name their own place
//! ENTRY/prefix/include/...              headers
//! ENTRY/licences/...                    the texts of its source
//! ```

use super::plan::{Action, PREFIX};
use crate::{
    fetch::Fetched,
    source_tree::{self, Places},
};
use anyhow::{Context as _, Result, ensure};
use fs_err as fs;
use std::path::{Path, PathBuf};
use xtask_base::ui::Step;

/// What a build works with.
pub struct Bench<'a> {
    /// The Python tools' `bin` folder.
    pub tools: &'a Path,
    /// Where programs are found first: the tools, the compiler.
    pub programs: &'a [PathBuf],
    /// The headers of the C library.
    pub headers: &'a [PathBuf],
    /// How many compilers run side by side.
    pub n_jobs: usize,
    /// Our patches.
    pub patches: &'a Path,
}

/// Builds a library from its fetched source into `entry`, linked with the entries that it needs.
pub fn build(
    bench: &Bench<'_>,
    step: &Step,
    actions: &[Action],
    source: &Fetched,
    needs: &[PathBuf],
    entry: &Path,
) -> Result<()> {
    let root = entry.join("work");
    let folder = |name: &str| root.join(name);
    for name in ["source", "build", "out", "libraries"] {
        fs::create_dir_all(folder(name))?;
    }
    source_tree::unpack(step, &source.file, &folder("source"))?;
    if let Some(debian) = &source.debian {
        source_tree::patch_as_distributor(step, debian, &folder("source"))?;
    }
    for name in &source.pin.patches {
        source_tree::patch(step, &bench.patches.join(name), &folder("source"))?;
    }
    for need in needs {
        copy_tree(&need.join("prefix"), &folder("libraries"))?;
    }
    let mut values = vec![
        ("{root}", source_tree::text(&root)?),
        ("{tools}", source_tree::text(bench.tools)?),
        ("{jobs}", bench.n_jobs.to_string()),
    ];
    for (name, place) in [
        ("{source}", "source"),
        ("{build}", "build"),
        ("{out}", "out"),
        ("{libraries}", "libraries"),
    ] {
        values.push((name, source_tree::text(&folder(place))?));
    }
    let fill = |text: &str| {
        values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    };
    let installed = folder("out").join(PREFIX.trim_start_matches('/'));
    for action in actions {
        match action {
            Action::Run { folder: place, line } => {
                let line: Vec<String> = line.iter().map(|word| fill(word)).collect();
                let (program, args) = line.split_first().context("A step without a program")?;
                let place = PathBuf::from(fill(place));
                let libraries = folder("libraries");
                let (programs, headers) = (bench.programs, bench.headers);
                let places = Places { programs, libraries: &libraries, headers };
                step.run(source_tree::command(&place, program, args, places)?)?;
            }
            Action::Write { path, text } => {
                let path = PathBuf::from(fill(path));
                fs::create_dir_all(path.parent().context("A file has a folder")?)?;
                fs::write(path, text)?;
            }
            Action::Install { pattern, folder } => {
                install(&fill(pattern), Path::new(&fill(folder)))?;
            }
            Action::RelocatePkgConfig => relocate(&installed.join("lib/pkgconfig"))?,
        }
    }
    for name in ["lib", "include"] {
        copy_tree(&installed.join(name), &entry.join("prefix").join(name))?;
    }
    copy_tree(&folder("out").join("licences"), &entry.join("licences"))?;
    Ok(fs::remove_dir_all(&root)?)
}

/// Copies the files of a pattern, of which there must be one at least, into a folder.
fn install(pattern: &str, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let mut n_files = 0;
    for found in glob::glob(pattern)? {
        let found = found?;
        fs::copy(&found, folder.join(found.file_name().unwrap_or_default()))?;
        n_files += 1;
    }
    ensure!(n_files > 0, "No file of the library's source is called `{pattern}`");
    Ok(())
}

/// Lets each file for pkg-config begin with its own place, so that the folder can be moved.
fn relocate(folder: &Path) -> Result<()> {
    for found in fs::read_dir(folder).into_iter().flatten() {
        let path = found?.path();
        fs::write(&path, relocated(&fs::read_to_string(&path)?))?;
    }
    Ok(())
}

fn relocated(text: &str) -> String {
    let mut lines = vec!["prefix=${pcfiledir}/../..".to_owned()];
    let rest = text.lines().filter(|line| !line.starts_with("prefix="));
    lines.extend(rest.map(|line| line.replace(PREFIX, "${prefix}")));
    lines.join("\n") + "\n"
}

/// Copies the files below a folder, as they lie there, into another; they may meet files of others.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    for found in walkdir::WalkDir::new(from).sort_by_file_name() {
        let found = found?;
        let place = to.join(found.path().strip_prefix(from)?);
        if found.file_type().is_dir() {
            fs::create_dir_all(&place)?;
        } else {
            fs::copy(found.path(), &place)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_for_pkg_config_names_its_own_place() {
        let text = format!(
            "prefix={PREFIX}\nlibdir={PREFIX}/lib\nincludedir=${{prefix}}/include\nName: z\n\
             Libs: -L${{libdir}} -lz\n"
        );
        assert_eq!(
            relocated(&text),
            "prefix=${pcfiledir}/../..\nlibdir=${prefix}/lib\nincludedir=${prefix}/include\n\
             Name: z\nLibs: -L${libdir} -lz\n"
        );
    }

    #[test]
    fn a_pattern_that_finds_nothing_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.h"), "a").unwrap();
        let pattern = |name: &str| folder.path().join(name).display().to_string();
        let to = folder.path().join("include");
        install(&pattern("*.h"), &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("a.h")).unwrap(), "a");
        let error = install(&pattern("*.hh"), &to).unwrap_err().to_string();
        assert!(error.contains("*.hh"), "{error}");
    }
}
