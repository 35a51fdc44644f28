//! Set-up: installs what a step needs and changes nothing else on the host. Distribution packages
//! come through apt, Python tools go into a private virtual environment of the cache. What a whole task
//! needs, `preflight` asks for at once at its start.

use crate::needs::Needs;
use anyhow::Result;
use duct::cmd;
use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};
use xtask_base::{cache::Key, context::Context, ui::hinted};

/// Installs the distribution's packages that are missing (Debian and Ubuntu).
pub fn ensure_packages(context: &Context, packages: &[&str]) -> Result<()> {
    // Steps may run side by side, but apt takes one caller at a time.
    static APT: Mutex<()> = Mutex::new(());
    let _turn = APT.lock().unwrap_or_else(PoisonError::into_inner);
    let missing = missing_packages(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if context.offline {
        return Err(hinted(
            format!("These packages are missing: {list}"),
            format!("run once without --offline, or: apt-get install {list}"),
        ));
    }
    // A password is asked for here, where a person sees it, and not in the middle of a step.
    if !is_root()? && cmd!("sudo", "-n", "true").stderr_null().run().is_err() {
        context.ui.line("    sudo asks for your password: apt-get installs as root");
        cmd!("sudo", "-v").run().map_err(|error| {
            hinted(
                format!("sudo gave no rights: {error}"),
                format!("as root: apt-get install --no-install-recommends {list}"),
            )
        })?;
    }
    let outcome = context.ui.step("Install packages", |step| {
        step.say(list.clone());
        let install = |step: &xtask_base::ui::Step| {
            let mut args = vec!["install", "--yes", "--no-install-recommends"];
            args.extend(missing.iter().map(String::as_str));
            step.run_to_its_end(as_root("apt-get", &args)?)
        };
        // The lists of a fresh machine may be absent or old: ask for new ones only then.
        if install(step).is_err() {
            step.run_to_its_end(as_root("apt-get", &["update"])?)?;
            install(step)?;
        }
        Ok(())
    });
    *INSTALLED.lock().unwrap_or_else(PoisonError::into_inner) = None;
    outcome
}

fn missing_packages(packages: &[&str]) -> Result<Vec<String>> {
    let installed = installed()?;
    Ok(packages.iter().filter(|it| !installed.contains(**it)).map(|it| (*it).to_owned()).collect())
}

/// What dpkg says is installed; asked once, and again after an installation.
static INSTALLED: Mutex<Option<BTreeSet<String>>> = Mutex::new(None);

/// The distribution's packages that are installed.
pub fn installed() -> Result<BTreeSet<String>> {
    let mut known = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(installed) = &*known {
        return Ok(installed.clone());
    }
    let text = cmd("dpkg-query", ["--show", "--showformat", "${Package} ${db:Status-Status}\n"])
        .read()
        .map_err(|error| {
            hinted(
                format!("Failed to ask dpkg for the installed packages: {error}"),
                "set-up knows Debian and Ubuntu; elsewhere install the tools named in CONTRIBUTING.md by hand",
            )
        })?;
    let installed: BTreeSet<String> =
        text.lines().filter_map(|line| Some(line.strip_suffix(" installed")?.to_owned())).collect();
    *known = Some(installed.clone());
    Ok(installed)
}

/// The variables that name a proxy: apt, cargo and pip read them.
pub const PROXIES: &[&str] =
    &["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];

/// A command that runs as root: directly, or through sudo.
pub fn as_root(program: &str, args: &[&str]) -> Result<duct::Expression> {
    let mut line = if is_root()? { vec![] } else { sudo(|name| std::env::var_os(name).is_some()) };
    line.extend(["env", "DEBIAN_FRONTEND=noninteractive", program].map(str::to_owned));
    line.extend(args.iter().map(|arg| (*arg).to_owned()));
    Ok(cmd(&line[0], &line[1..]))
}

/// sudo, told to keep the proxies that are set: it clears the environment otherwise. They are named, because
/// a value may hold a password, and a command line is for all to read.
fn sudo(is_set: impl Fn(&str) -> bool) -> Vec<String> {
    let set: Vec<&str> = PROXIES.iter().copied().filter(|name| is_set(name)).collect();
    let keep = (!set.is_empty()).then(|| format!("--preserve-env={}", set.join(",")));
    std::iter::once("sudo".to_owned()).chain(keep).collect()
}

fn is_root() -> Result<bool> {
    Ok(cmd!("id", "-u").read()?.trim() == "0")
}

/// Installs what `python3 -m venv` needs, unless this Python has it.
pub fn ensure_venv(context: &Context) -> Result<()> {
    if cmd!("python3", "-c", "import ensurepip, venv").stderr_null().run().is_ok() {
        return Ok(());
    }
    ensure_packages(context, &["python3", "python3-venv"])
}

/// What an environment of [`python_tools`] needs that is not there yet.
pub fn needs_of_python_tools(context: &Context, requirements: &[&str]) -> Needs {
    let is_there =
        tools_place(context, requirements).is_ok_and(|place| place.join("whole").exists());
    let missing = requirements.iter().filter(|_| !is_there).map(|it| (*it).to_owned());
    Needs { python: true, python_tools: missing.collect(), ..Needs::default() }
}

/// A virtual environment of the cache that holds exactly these packages of PyPI (`name==version`).
/// Gives its `bin` folder.
pub fn python_tools(context: &Context, requirements: &[&str]) -> Result<PathBuf> {
    let place = tools_place(context, requirements)?;
    let marker = place.join("whole");
    if !marker.exists() {
        if context.offline {
            return Err(hinted(
                format!("Python tools are not in the cache: {}", requirements.join(" ")),
                "run once without --offline",
            ));
        }
        ensure_venv(context)?;
        let _turn = context.cache.turn("python-tools")?;
        if marker.exists() {
            return Ok(place.join("bin"));
        }
        context.ui.step("Install Python tools", |step| {
            step.run(cmd!("python3", "-m", "venv", "--clear", &place))?;
            let mut args = vec!["install", "--quiet", "--disable-pip-version-check"];
            args.extend(requirements);
            step.run(cmd(place.join("bin/pip"), args))?;
            fs_err::write(&marker, "")?;
            Ok(())
        })?;
    }
    Ok(place.join("bin"))
}

/// An environment holds its own absolute path, so it is made in place and marked when whole.
fn tools_place(context: &Context, requirements: &[&str]) -> Result<PathBuf> {
    let mut key = Key::new("python-tools");
    for requirement in requirements {
        key.add("requirement", requirement.as_bytes());
    }
    Ok(context.cache.folder("python-tools")?.join(key.digest()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sudo_keeps_the_proxies_that_are_set_and_names_no_value() {
        assert_eq!(sudo(|_| false), ["sudo"]);
        let set = |name: &str| name == "http_proxy" || name == "NO_PROXY";
        assert_eq!(sudo(set), ["sudo", "--preserve-env=http_proxy,NO_PROXY"]);
    }
}
