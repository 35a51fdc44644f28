//! Wheels of others to measure and test against: pinned by name, version and sha256 in
//! `corpus.toml`, fetched once by pip into the build cache. auditwheel stands beside us.

use crate::{cache::Key, context::Context, setup, ui::hinted};
use anyhow::{Context as _, Result, ensure};
use duct::cmd;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

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
    let digest = Sha256::digest(fs_err::read(path)?);
    let found: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(found == sha256, "`{}` has the sha256 {found} instead of {sha256}", path.display());
    Ok(())
}

/// The program auditwheel, installed at the first time.
pub fn auditwheel(context: &Context) -> Result<PathBuf> {
    Ok(setup::python_tools(context, AUDITWHEEL)?.join("auditwheel"))
}

/// Processor time (user and system) of both auditors over the Linux wheels of the corpus.
pub struct Figures {
    n_wheels: usize,
    ours: Duration,
    auditwheel: Duration,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ours, theirs) = (self.ours.as_secs_f64(), self.auditwheel.as_secs_f64());
        writeln!(f, "audit of {} wheels, CPU-seconds, one process for each wheel:", self.n_wheels)?;
        writeln!(f, "  cargo xtask audit  {ours:.2}")?;
        writeln!(f, "  auditwheel show    {theirs:.2}")?;
        writeln!(f, "  ratio              {:.3}", ours / theirs)
    }
}

/// Measures both, each wheel in a process of its own, as a release would.
pub fn measure(context: &Context) -> Result<Figures> {
    let folder = folder(context)?;
    let auditwheel = auditwheel(context)?;
    let this = std::env::current_exe()?;
    let mut figures = Figures { n_wheels: 0, ours: Duration::ZERO, auditwheel: Duration::ZERO };
    let mut wheels: Vec<PathBuf> =
        fs_err::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    wheels.retain(|path| path.to_string_lossy().contains("linux"));
    wheels.sort();
    for wheel in &wheels {
        figures.n_wheels += 1;
        figures.ours += processor_time(&cmd!(&this, "audit", wheel))?;
        figures.auditwheel += processor_time(&cmd!(&auditwheel, "show", wheel))?;
    }
    Ok(figures)
}

/// The processor time that a command takes, its children's included.
fn processor_time(command: &duct::Expression) -> Result<Duration> {
    let before = children_time()?;
    command.stdout_null().stderr_null().unchecked().run()?;
    Ok(children_time()?.saturating_sub(before))
}

/// User and system time of all ended children: fields 16 and 17 of /proc/self/stat, in ticks of
/// 10 ms (proc_pid_stat(5)). Too coarse for one small wheel, fine enough for the sum.
fn children_time() -> Result<Duration> {
    let stat = fs_err::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(") ").context("/proc/self/stat has no name")?.1;
    let mut fields = after_name.split(' ').skip(13).map(str::parse::<u64>);
    let mut next = || fields.next().context("/proc/self/stat is short")?.context("no number");
    Ok(Duration::from_millis((next()? + next()?) * 10))
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
