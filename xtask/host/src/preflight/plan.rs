//! Compares what a task needs with what the host has: what will be installed, fetched and made, how
//! long that takes, and all that stands in the way. Pure: it asks nothing.

use super::{
    disk::{CACHE, Place},
    facts::{Facts, Privilege, Problem},
};
use crate::needs::{Needs, Registry};
use image_builder::rootfs::InstallMode;
use std::collections::BTreeMap;
use xtask_base::ui::hinted;

/// The oldest python3 that the tools and wheels take.
const PYTHON: (u32, u32) = (3, 10);

/// Less free memory than this and the compiler or a machine is killed, in MiB.
const MEMORY: u64 = 1500;

/// The part of the work that no second processor makes shorter: `demo` from nothing took 1,104 seconds
/// of processors in 594 seconds on two.
const SERIAL: f64 = 0.076;

/// What will be done, and what stands in the way.
#[derive(Debug, Default)]
pub struct Plan {
    /// Packages of the distribution to install.
    pub install: Vec<String>,
    /// What to tell the person.
    pub lines: Vec<String>,
    /// What stands in the way.
    pub problems: Vec<Problem>,
}

impl Plan {
    fn problem(&mut self, what: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem { what: what.into(), hint: hint.into() });
    }

    /// All problems as one error.
    pub fn refusal(&self, task: &str) -> anyhow::Error {
        if let [only] = &self.problems[..] {
            return hinted(only.what.clone(), only.hint.clone());
        }
        let n = self.problems.len();
        let list: String = self
            .problems
            .iter()
            .map(|problem| format!("\n    - {}\n      hint: {}", problem.what, problem.hint))
            .collect();
        hinted(
            format!("{n} things are in the way of `cargo xtask {task}`:{list}"),
            "nothing was begun; run the same command again when they are mended",
        )
    }
}

/// What follows from needs and facts.
pub fn plan(needs: &Needs, facts: &Facts) -> Plan {
    let mut plan = Plan::default();
    packages(&mut plan, needs, facts);
    compiler(&mut plan, facts);
    fetches(&mut plan, needs, facts);
    root_file_systems(&mut plan, facts);
    disks(&mut plan, &facts.places);
    names(&mut plan, needs, &facts.places);
    builds(&mut plan, needs, facts);
    plan
}

fn packages(plan: &mut Plan, needs: &Needs, facts: &Facts) {
    let mut wanted = needs.packages.clone();
    match &facts.python {
        Err(_) if needs.python => {
            wanted.extend(["python3", "python3-venv"].map(str::to_owned));
        }
        Ok(python) if python.version < PYTHON => {
            let ((major, minor), (needed, least)) = (python.version, PYTHON);
            plan.problem(
                format!("python3 is {major}.{minor}, and {needed}.{least} or newer is needed"),
                "put a newer python3 before it in PATH",
            );
        }
        Ok(python) if !python.has_venv && python.is_of_distribution => {
            wanted.insert("python3-venv".to_owned());
        }
        Ok(python) if !python.has_venv => plan.problem(
            "python3 makes no virtual environments: it lacks ensurepip, and it is not the distribution's",
            "put a whole python3 before it in PATH, such as /usr/bin with the package python3-venv",
        ),
        _ => {}
    }
    if needs.root_file_system.is_some()
        && facts.install_mode == Ok(Some(InstallMode::UserNamespace))
    {
        wanted.insert("uidmap".to_owned());
    }
    let Some(installed) = &facts.installed else {
        if !wanted.is_empty() {
            plan.problem(
                "dpkg does not answer: set-up knows Debian and Ubuntu",
                format!("run it there; these are the packages: {}", listed(&wanted)),
            );
        }
        return;
    };
    plan.install = wanted.into_iter().filter(|name| !installed.contains(name)).collect();
    if plan.install.is_empty() {
        return;
    }
    let list = plan.install.join(" ");
    let command = format!("apt-get install --no-install-recommends {list}");
    if facts.offline {
        plan.problem(
            format!("These packages are not installed: {list}"),
            format!("run once without --offline, or as root: {command}"),
        );
        return;
    }
    let how = match &facts.privilege {
        Privilege::Root => "as root",
        Privilege::Sudo => "with sudo",
        Privilege::SudoAsks => "with sudo, which will ask for your password now",
        Privilege::None(why) => {
            plan.problem(
                format!("Packages are missing, and nobody may install them: {why}"),
                format!("as root: apt-get update && {command}"),
            );
            return;
        }
    };
    let n = plan.install.len();
    plan.lines.push(format!("installs {n} packages with apt-get, {how}: {list}"));
}

fn compiler(plan: &mut Plan, facts: &Facts) {
    let brings_one = plan.install.iter().any(|name| name == "gcc" || name == "libc6-dev");
    if let Err(said) = &facts.linker
        && !brings_one
    {
        plan.problem(
            format!("The C compiler makes no programs: {said}"),
            "install the packages gcc and libc6-dev, and see what `cc` in PATH is",
        );
    }
}

fn fetches(plan: &mut Plan, needs: &Needs, facts: &Facts) {
    if facts.offline {
        let mut absent: Vec<&str> = needs.fetches.iter().map(|fetch| fetch.what.as_str()).collect();
        absent.extend(needs.python_tools.iter().map(String::as_str));
        if facts.registries.get(&Registry::Crates).is_some_and(Result::is_err) {
            absent.push("crates that Cargo.lock names");
        }
        if !absent.is_empty() {
            plan.problem(
                format!("The caches do not hold: {}", absent.join(", ")),
                "run once without --offline",
            );
        }
        return;
    }
    // One cause is one problem, however many registries it keeps away.
    let mut silent: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (registry, answer) in &facts.registries {
        if let Err(said) = answer {
            silent.entry(said).or_default().push(registry.describe());
        }
    }
    for (said, registries) in silent {
        plan.problem(
            format!("Nothing comes from {}: {said}", registries.join(", ")),
            "is there a network, or a proxy that is not named (http_proxy, https_proxy, apt's Acquire::http::Proxy)? \
             What is in the caches already works with --offline",
        );
    }
    let mut fetched: Vec<&str> = needs.fetches.iter().map(|fetch| fetch.what.as_str()).collect();
    let tools;
    if !needs.python_tools.is_empty() {
        tools = format!("Python tools ({})", listed(&needs.python_tools));
        fetched.push(&tools);
    }
    if !fetched.is_empty() {
        plan.lines.push(format!("fetches {}", fetched.join(", ")));
    }
}

fn root_file_systems(plan: &mut Plan, facts: &Facts) {
    match &facts.install_mode {
        Err(problem) => plan.problems.push(problem.clone()),
        Ok(Some(mode)) => plan.lines.push(format!("makes root file systems {}", mode.describe())),
        Ok(None) => {}
    }
}

/// Whether each file system has room for all that is written to it.
fn disks(plan: &mut Plan, places: &[Place]) {
    let mut seen: Vec<u64> = vec![];
    for place in places {
        let path = place.path.display();
        if let Err(said) = &place.writable {
            let hint = format!("give it to this user, or name another folder: {}", place.elsewhere);
            plan.problem(format!("{path} ({}) cannot be written to: {said}", place.what), hint);
        }
        if place.what == "temporary files" && !place.runs_programs {
            plan.problem(
                format!("{path} starts no programs (it is mounted with noexec), and root file systems are made there"),
                format!("name another folder: {}", place.elsewhere),
            );
        }
        if seen.contains(&place.device) {
            continue;
        }
        seen.push(place.device);
        let here: Vec<&Place> = places.iter().filter(|it| it.device == place.device).collect();
        let needed: u64 = here.iter().map(|place| place.needed).sum();
        let names: Vec<&str> = here.iter().map(|place| place.what).collect();
        let names = names.join(", ");
        let (free, wants) = (gigabytes(place.free), gigabytes(needed));
        if place.free < needed {
            let elsewhere: Vec<&str> = here.iter().map(|place| place.elsewhere).collect();
            plan.problem(
                format!("{free} are free at {path}, and {wants} are needed there ({names})"),
                format!("free some, or name other folders: {}", elsewhere.join(", ")),
            );
        } else if needed > 0 {
            plan.lines
                .push(format!("writes up to {wants} at {path} ({names}), where {free} are free"));
        }
    }
}

/// Whether make, configure and pkg-config can work in the cache.
fn names(plan: &mut Plan, needs: &Needs, places: &[Place]) {
    // pkg-config prints each byte of another letter behind a backslash.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@~,=%".contains(c);
    let caches = places.iter().filter(|place| place.what == CACHE && needs.makes_in_cache);
    for cache in caches {
        let path = cache.path.display().to_string();
        if let Some(odd) = path.chars().find(|c| !is_plain(*c)) {
            plan.problem(
                format!("`{path}` ({CACHE}) has `{odd}` in its name, and QEMU's build takes no such folder"),
                format!("name another folder: {}", cache.elsewhere),
            );
        }
    }
}

fn builds(plan: &mut Plan, needs: &Needs, facts: &Facts) {
    if needs.builds.is_empty() {
        return;
    }
    if let Some(memory) = facts.memory.filter(|memory| *memory < MEMORY) {
        plan.problem(
            format!("{memory} MiB of memory are free, and {MEMORY} are needed"),
            "end other programs, or add swap or memory",
        );
    }
    let what: Vec<&str> = needs.builds.iter().map(|build| build.what.as_str()).collect();
    let cpu_seconds: f64 = needs.builds.iter().map(|build| build.cpu_seconds).sum();
    let n = facts.n_processors.max(1);
    let seconds = cpu_seconds * (SERIAL + (1.0 - SERIAL) / n as f64);
    let minutes = (seconds / 60.0).ceil().max(1.0);
    let processors = if n == 1 { "1 processor".to_owned() } else { format!("{n} processors") };
    plan.lines.push(format!("makes {}", what.join(", ")));
    plan.lines.push(format!("takes about {minutes} min on {processors}"));
}

fn listed(names: &std::collections::BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn gigabytes(mebibytes: u64) -> String {
    format!("{:.1} GiB", mebibytes as f64 / 1024.0)
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;
