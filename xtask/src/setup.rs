//! Set-up: installs what a step needs and changes nothing else on the host. Distribution packages
//! come through apt, Python tools go into a private virtual environment of the cache.

use crate::{cache::Key, context::Context, ui::hinted};
use anyhow::Result;
use duct::cmd;
use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

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
    context.ui.step("Install packages", |step| {
        step.say(list.clone());
        let install = |step: &crate::ui::Step| {
            let mut args = vec!["install", "--yes", "--no-install-recommends"];
            args.extend(missing.iter().map(String::as_str));
            step.run(as_root("apt-get", &args)?)
        };
        // The lists of a fresh machine may be absent or old: ask for new ones only then.
        if install(step).is_err() {
            step.run(as_root("apt-get", &["update"])?)?;
            install(step)?;
        }
        Ok(())
    })
}

fn missing_packages(packages: &[&str]) -> Result<Vec<String>> {
    let installed = cmd("dpkg-query", ["--show", "--showformat", "${Package} ${db:Status-Status}\n"])
        .read()
        .map_err(|error| {
            hinted(
                format!("Failed to ask dpkg for the installed packages: {error}"),
                "set-up knows Debian and Ubuntu; elsewhere install the tools named in CONTRIBUTING.md by hand",
            )
        })?;
    let is_installed = |package: &str| {
        installed.lines().any(|line| line.strip_suffix(" installed") == Some(package))
    };
    Ok(packages.iter().filter(|p| !is_installed(p)).map(|p| (*p).to_owned()).collect())
}

/// A command that runs as root: directly, or through sudo.
fn as_root(program: &str, args: &[&str]) -> Result<duct::Expression> {
    let is_root = cmd!("id", "-u").read()?.trim() == "0";
    let mut line: Vec<&str> = if is_root { vec![] } else { vec!["sudo"] };
    line.extend(["env", "DEBIAN_FRONTEND=noninteractive", program]);
    line.extend(args);
    Ok(cmd(line[0], &line[1..]))
}

/// A virtual environment of the cache that holds exactly these packages of PyPI (`name==version`).
/// Gives its `bin` folder.
pub fn python_tools(context: &Context, requirements: &[&str]) -> Result<PathBuf> {
    ensure_packages(context, &["python3-venv"])?;
    let mut key = Key::new("python-tools");
    for requirement in requirements {
        key.add("requirement", requirement.as_bytes());
    }
    // An environment holds its own absolute path, so it is made in place and marked when whole.
    let place = context.cache.folder("python-tools")?.join(key.digest());
    let marker = place.join("whole");
    if !marker.exists() {
        if context.offline {
            return Err(hinted(
                format!("Python tools are not in the cache: {}", requirements.join(" ")),
                "run once without --offline",
            ));
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
