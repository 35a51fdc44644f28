//! Wheels of others to measure and test against: pinned by name, version and sha256 in
//! `corpus.toml`, fetched once by pip into the build cache. auditwheel stands beside us.

use crate::{
    cache::Key,
    context::Context,
    preflight::{Needs, Registry},
    setup,
    ui::hinted,
};
use anyhow::{Context as _, Result, ensure};
use duct::cmd;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// auditwheel and what it needs, pinned.
const AUDITWHEEL: &[&str] = &["auditwheel==6.8.2", "pyelftools==0.33", "packaging==26.3"];

const LIST: &str = include_str!("corpus.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    wheel: Vec<Pin>,
}

/// One wheel.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pin {
    /// The file's name, which holds name, version and tags.
    file: String,
    sha256: String,
}

/// What a comparison with both needs.
pub fn needs(context: &Context) -> Needs {
    let needs = setup::needs_of_python_tools(context, AUDITWHEEL);
    match folder(&context.looking()) {
        Ok(_) => needs,
        Err(_) => needs.fetch("a corpus of wheels", Registry::Python),
    }
}

/// The folder with the corpus, fetched at the first time.
pub fn folder(context: &Context) -> Result<PathBuf> {
    let mut key = Key::new("audit-corpus");
    key.add("list", LIST.as_bytes());
    if let Some(place) = context.cache.find("corpus", &key) {
        return Ok(place);
    }
    if context.offline {
        return Err(hinted(
            "The corpus of wheels is not in the cache",
            "run once without --offline",
        ));
    }
    let list: List = toml::from_str(LIST).context("Failed to read corpus.toml")?;
    let tools = setup::python_tools(context, AUDITWHEEL)?;
    context.cache.entry("corpus", &key, |place| {
        context.ui.step("Fetch the corpus of wheels", |step| {
            step.expect(list.wheel.len() as u64);
            for (index, pin) in list.wheel.iter().enumerate() {
                step.say(pin.file.clone());
                step.run(cmd(tools.join("pip"), download(&pin.file, place)?))?;
                check(&place.join(&pin.file), &pin.sha256)?;
                step.reach(index as u64 + 1);
            }
            Ok(())
        })
    })
}

/// pip's arguments for exactly this file: its name says version, interpreter and platforms.
fn download(file: &str, place: &Path) -> Result<Vec<String>> {
    let name: wheel_retag::WheelFileName = file.parse()?;
    let mut args: Vec<String> =
        ["download", "--quiet", "--no-deps", "--only-binary=:all:"].map(str::to_owned).to_vec();
    args.extend(["--disable-pip-version-check".to_owned(), "--dest".to_owned()]);
    args.push(place.to_str().context("The cache's path is not UTF-8")?.to_owned());
    for platform in &name.tag.platforms {
        args.extend(["--platform".to_owned(), platform.clone()]);
    }
    // `cp311` and `abi3` wheels alike: 3.11 takes both.
    args.extend(["--python-version=3.11", "--implementation=cp"].map(str::to_owned));
    args.extend(["--abi=cp311", "--abi=abi3", "--abi=none"].map(str::to_owned));
    args.push(format!("{}=={}", name.distribution, name.version));
    Ok(args)
}

fn check(path: &Path, sha256: &str) -> Result<()> {
    ensure!(path.is_file(), "pip chose another file than `{}`", path.display());
    let found = checksum::sha256_of(fs_err::File::open(path)?)?;
    ensure!(found == sha256, "`{}` has the sha256 {found} instead of {sha256}", path.display());
    Ok(())
}

/// The program auditwheel, installed at the first time.
pub fn auditwheel(context: &Context) -> Result<PathBuf> {
    Ok(setup::python_tools(context, AUDITWHEEL)?.join("auditwheel"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_whole() {
        let list: List = toml::from_str(LIST).unwrap();
        let n_linux = list.wheel.iter().filter(|pin| pin.file.contains("linux")).count();
        assert!(n_linux >= 12, "{n_linux}");
        assert!(list.wheel.iter().any(|pin| pin.file.contains("musllinux")));
        for pin in &list.wheel {
            assert_eq!(pin.sha256.len(), 64, "{}", pin.file);
            download(&pin.file, Path::new("x")).unwrap();
        }
    }
}
