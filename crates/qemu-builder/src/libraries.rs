//! The static libraries that QEMU is linked from, each an entry of the build cache of its own: a
//! change of QEMU builds none of them, and a change of one builds only those that need it.
//!
//! `table` says what they are, `plan` how one is built, `execute` builds it; here is decided which
//! version of each is taken and which are built side by side.

mod execute;
mod plan;
mod table;

pub use execute::copy_tree;
pub use plan::PREFIX;

use super::{
    fetch::{Fetched, PrivateApt},
    pins::Pin,
    sysroot::Sysroot,
    target::Target,
    toolchain::Toolchain,
};
use anyhow::{Context as _, Result, anyhow};
use cache_key::code;
use execute::Bench;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};
use table::{Library, Table};
use xtask_base::{cache::Key, context::Context, ui::Step};

/// The crate that builds them: its code decides what an entry holds.
const CODE: &[&str] = &["qemu-builder"];

/// One library as QEMU is, or would be, linked with it.
#[derive(Clone)]
pub struct Chosen {
    library: Library,
    /// Which of the pinned versions.
    pub pin: Pin,
    /// The hash of everything that decides it.
    pub key: Key,
    /// The folder of our patches.
    patches: PathBuf,
    target: Target,
}

impl Chosen {
    /// The name of its source package.
    pub fn name(&self) -> &str {
        &self.library.name
    }

    /// The SPDX expression of its archives.
    pub fn licence(&self) -> &str {
        &self.library.licence
    }

    /// Our changes to its source.
    pub fn patches(&self) -> Vec<PathBuf> {
        self.pin.patches.iter().map(|name| self.patches.join(name)).collect()
    }

    fn kind(&self) -> String {
        match self.target.is_host() {
            true => format!("libraries/{}", self.name()),
            false => format!("libraries-{}/{}", self.target, self.name()),
        }
    }

    /// Its entry of the cache.
    pub fn entry(&self, context: &Context) -> Result<PathBuf> {
        context
            .cache
            .find(&self.kind(), &self.key)
            .with_context(|| format!("`{}` is not in the build cache any more", self.name()))
    }
}

/// The pinned versions of each library, by its name.
pub fn pinned(folder: &Path) -> Result<Vec<(String, Vec<Pin>)>> {
    let libraries = Table::read(folder)?.libraries.into_iter();
    Ok(libraries.map(|library| (library.name, library.sources)).collect())
}

/// How the libraries of a target are built, each in its first version, to be read.
pub fn plan_of(folder: &Path, target: Target, toolchain: &Toolchain) -> Result<String> {
    let table = Table::read(folder)?.for_target(target);
    let mut text = String::new();
    for library in table.for_system(target.system()) {
        let pin = &library.sources[0];
        text += &format!("{} {} {}\n", library.name, pin.version, pin.patches.join(" "));
        let upstream = pin.upstream.as_deref().unwrap_or(&pin.version);
        for action in plan::plan(library, upstream, toolchain) {
            text += &format!("  {action}\n");
        }
    }
    Ok(text)
}

/// All libraries of a target.
pub struct Libraries<'a> {
    context: &'a Context,
    table: Table,
    target: Target,
    toolchain: &'a Toolchain,
    /// What all entries depend on.
    base: Key,
    patches: PathBuf,
}

impl<'a> Libraries<'a> {
    /// Reads the table; `tools` are the versions of the Python tools.
    pub fn read(
        context: &'a Context,
        (target, toolchain, sysroot): (Target, &'a Toolchain, Option<&Sysroot>),
        folder: &Path,
        tools: &[&str],
    ) -> Result<Self> {
        let mut base = Key::new("library");
        base.add("code", code::own(&context.root, CODE)?.as_bytes());
        toolchain.add_to(&mut base)?;
        if let Some(sysroot) = sysroot {
            base.add("sysroot", sysroot.digest().as_bytes());
        }
        for tool in tools {
            base.add("tool", tool.as_bytes());
        }
        let table = Table::read(folder)?.for_target(target);
        Ok(Self { context, table, target, toolchain, base, patches: folder.join("patches") })
    }

    /// What QEMU would be linked with, without asking a registry: of each library the version that is
    /// in the cache, else the first.
    pub fn expected(&self) -> Result<Vec<Chosen>> {
        let chosen = self.decide(|candidates| Ok((candidates[0].clone(), ())))?;
        Ok(chosen.into_iter().map(|(chosen, _)| chosen).collect())
    }

    /// Fetches what is not in the cache, in the step of the caller.
    pub fn fetch(&self, apt: &PrivateApt, step: &Step) -> Result<Vec<(Chosen, Option<Fetched>)>> {
        self.decide(|candidates| {
            let library = &candidates[0].library;
            let fetched = apt.fetch(self.context, step, &library.name, &library.sources)?;
            let fits = |chosen: &&Chosen| chosen.pin == fetched.pin;
            let chosen = candidates.iter().find(fits).context("The pin is gone")?;
            Ok((chosen.clone(), fetched))
        })
    }

    /// Chooses a version of each library: one that is in the cache, else what `absent` takes of the
    /// candidates, with what it brings along.
    fn decide<T>(
        &self,
        mut absent: impl FnMut(&[Chosen]) -> Result<(Chosen, T)>,
    ) -> Result<Vec<(Chosen, Option<T>)>> {
        let mut decided: Vec<(Chosen, Option<T>)> = vec![];
        for library in self.table.for_system(self.target.system()) {
            let needs: Vec<&Chosen> = decided
                .iter()
                .map(|(chosen, _)| chosen)
                .filter(|chosen| library.needs.iter().any(|need| need == chosen.name()))
                .collect();
            let candidates: Vec<Chosen> = library
                .sources
                .iter()
                .map(|pin| self.candidate(library, pin, &needs))
                .collect::<Result<_>>()?;
            let is_there =
                |chosen: &&Chosen| self.context.cache.find(&chosen.kind(), &chosen.key).is_some();
            decided.push(match candidates.iter().find(is_there) {
                Some(chosen) => (chosen.clone(), None),
                None => {
                    let (chosen, with) = absent(&candidates)?;
                    (chosen, Some(with))
                }
            });
        }
        Ok(decided)
    }

    fn candidate(&self, library: &Library, pin: &Pin, needs: &[&Chosen]) -> Result<Chosen> {
        let mut key = self.base.clone();
        // The whole list of versions is in it, so that a new one is taken rather than what is there.
        key.add("library", &serde_json::to_vec(library)?);
        key.add("pin", &serde_json::to_vec(pin)?);
        for action in self.plan(library, pin) {
            key.add("step", action.to_string().as_bytes());
        }
        for name in &pin.patches {
            key.add_file(&self.patches.join(name))?;
        }
        for need in needs {
            key.add("needs", need.key.digest().as_bytes());
        }
        let patches = self.patches.clone();
        let (library, pin, target) = (library.clone(), pin.clone(), self.target);
        Ok(Chosen { library, pin, key, patches, target })
    }

    fn plan(&self, library: &Library, pin: &Pin) -> Vec<plan::Action> {
        plan::plan(library, pin.upstream.as_deref().unwrap_or(&pin.version), self.toolchain)
    }

    /// Builds what was fetched, as many libraries side by side as there are processors.
    pub fn build(
        &self,
        fetched: &[(Chosen, Option<Fetched>)],
        (tools, programs, headers): (&Path, &[PathBuf], &[PathBuf]),
        n_jobs: usize,
    ) -> Result<()> {
        let bench = Bench { tools, programs, headers, n_jobs, patches: &self.patches };
        let waiting: Vec<usize> =
            (0..fetched.len()).filter(|&it| fetched[it].1.is_some()).collect();
        let board = Mutex::new(Board { waiting, ..Board::default() });
        let changed = std::sync::Condvar::new();
        std::thread::scope(|scope| {
            for _ in 0..n_jobs {
                scope.spawn(|| {
                    while let Some(index) = next(&board, &changed, fetched) {
                        // A thread that is gone would leave the others waiting for its library.
                        let work = AssertUnwindSafe(|| self.build_one(fetched, index, &bench));
                        let outcome = catch_unwind(work).unwrap_or_else(|_| {
                            Err(anyhow!("The build of {} panicked", fetched[index].0.name()))
                        });
                        let mut board = board.lock().unwrap_or_else(PoisonError::into_inner);
                        board.building.retain(|&other| other != index);
                        if let Err(error) = outcome {
                            board.waiting.clear();
                            board.failed.get_or_insert(error);
                        }
                        changed.notify_all();
                    }
                });
            }
        });
        let board = board.into_inner().unwrap_or_else(PoisonError::into_inner);
        board.failed.map_or(Ok(()), Err)
    }

    fn build_one(
        &self,
        fetched: &[(Chosen, Option<Fetched>)],
        index: usize,
        bench: &Bench<'_>,
    ) -> Result<()> {
        let (chosen, source) = &fetched[index];
        let source = source.as_ref().ok_or_else(|| anyhow!("Nothing was fetched"))?;
        let needs: Vec<PathBuf> = fetched
            .iter()
            .map(|(other, _)| other)
            .filter(|other| chosen.library.needs.iter().any(|need| need == other.name()))
            .map(|other| other.entry(self.context))
            .collect::<Result<_>>()?;
        let plan = self.plan(&chosen.library, &chosen.pin);
        self.context.cache.entry(&chosen.kind(), &chosen.key, |entry| {
            let title = match self.target.is_host() {
                true => format!("Build {}", chosen.name()),
                false => format!("Build {} ({})", chosen.name(), self.target),
            };
            self.context
                .ui
                .step(&title, |step| execute::build(bench, step, &plan, source, &needs, entry))
        })?;
        Ok(())
    }
}

/// Which libraries wait and which are being built, by their place in the list.
#[derive(Default)]
struct Board {
    waiting: Vec<usize>,
    building: Vec<usize>,
    failed: Option<anyhow::Error>,
}

/// Takes the first library that waits for none that is not built yet; waits until there is one.
fn next(
    board: &Mutex<Board>,
    changed: &std::sync::Condvar,
    fetched: &[(Chosen, Option<Fetched>)],
) -> Option<usize> {
    let mut board = board.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let is_ready = |&&index: &&usize| {
            let mut open = board.waiting.iter().chain(&board.building);
            let needs = &fetched[index].0.library.needs;
            !open.any(|&other| needs.iter().any(|need| need == fetched[other].0.name()))
        };
        if let Some(&index) = board.waiting.iter().find(is_ready) {
            board.waiting.retain(|&other| other != index);
            board.building.push(index);
            return Some(index);
        }
        if board.waiting.is_empty() {
            return None;
        }
        board = changed.wait(board).unwrap_or_else(PoisonError::into_inner);
    }
}
