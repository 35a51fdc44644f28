//! Whether registries answer, each asked by the program that fetches from it later, so that proxies,
//! certificates and mirrors are those of the host.

use super::facts;
use crate::needs::{Needs, Registry};
use anyhow::Result;
use duct::cmd;
use host_platform::Arch;
use image_builder::{
    apt::{self, APT_HELPER, Private},
    recipe::DistributionName,
};
use std::{path::Path, time::Instant};
use xtask_base::context::Context;

/// How long a connection may stand still, in seconds: shorter than the limit of the probe.
const STILL: &str = "5";

/// Asks a registry; else what was said.
pub fn ask(
    context: &Context,
    registry: &Registry,
    needs: &Needs,
    until: Instant,
) -> Result<(), String> {
    let outcome = match registry {
        Registry::Host => host_archive().map_or(Ok(()), |uri| apt_gets(context, &uri, until)),
        Registry::Images(distribution, suite) => {
            images_archive(distribution).and_then(|uri| match uri {
                Some(uri) => apt_gets(context, &format!("{uri}/dists/{suite}/InRelease"), until),
                None => Ok(()),
            })
        }
        Registry::Python => python_index(needs, until),
        Registry::Crates => crates(context, until),
    };
    outcome.map_err(|error| format!("{error:#}"))
}

/// A file of the first archive that this host's apt knows; none when it knows none.
fn host_archive() -> Option<String> {
    let repositories = apt::repositories(Path::new("/etc/apt")).ok()?;
    let first = repositories.iter().find(|it| it.types.iter().any(|kind| kind == "deb"))?;
    let (uri, suite) = (first.uris.first()?, first.suites.first()?);
    let is_network = uri.starts_with("http");
    // A suite with a slash is a folder without `dists`.
    let file = match suite.strip_suffix('/') {
        Some(folder) => format!("{folder}/InRelease"),
        None => format!("dists/{suite}/InRelease"),
    };
    is_network.then(|| format!("{}/{file}", uri.trim_end_matches('/')))
}

/// The first archive of a distribution; none where it is not known before a package is installed, and
/// for Alpine, whose packages come another way.
fn images_archive(distribution: &str) -> Result<Option<String>> {
    let name = match distribution {
        "debian" => DistributionName::Debian,
        "ubuntu" => DistributionName::Ubuntu,
        _ => return Ok(None),
    };
    match apt::archives(name, host_platform::native_arch()) {
        Ok(archives) => Ok(archives.into_iter().next().map(|archive| archive.uri)),
        Err(_) if !Path::new("/usr/bin/mmdebstrap").exists() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Fetches a file as apt does.
fn apt_gets(context: &Context, uri: &str, until: Instant) -> Result<()> {
    let part = host_platform::beside(&context.cache.folder("apt")?)?;
    let apt = Private::new(part.path(), Arch::OF_PROCESS, "")?;
    let file = part.path().join("InRelease").to_string_lossy().into_owned();
    let mut args: Vec<String> = vec!["download-file".to_owned(), uri.to_owned(), file];
    for setting in ["http::Timeout", "https::Timeout"] {
        args.extend(["-o".to_owned(), format!("Acquire::{setting}={STILL}")]);
    }
    args.extend(["-o".to_owned(), "Acquire::Retries=0".to_owned()]);
    let answer = facts::read(&apt.command(APT_HELPER, args), until);
    let Some(answer) = answer else {
        context.ui.line(&format!("warning: {uri} did not answer in time"));
        return Ok(());
    };
    let last = |said: String| said.lines().last().unwrap_or_default().to_owned();
    answer.map_err(|said| anyhow::anyhow!(last(said).trim_start_matches("E: ").to_owned()))?;
    Ok(())
}

/// Fetches a package as pip does: by the pip that comes with Python for new virtual environments. A
/// Python without it is asked again when that is installed.
fn python_index(needs: &Needs, until: Instant) -> Result<()> {
    const SCRIPT: &str = r#"
import glob, os, subprocess, sys, tempfile
try:
    import ensurepip
except ImportError:
    sys.exit()
folders = [os.path.join(os.path.dirname(ensurepip.__file__), "_bundled"), "/usr/share/python-wheels"]
wheels = [wheel for folder in folders for wheel in glob.glob(os.path.join(folder, "pip-*.whl"))]
if not wheels:
    sys.exit()
with tempfile.TemporaryDirectory() as folder:
    pip = [sys.executable, os.path.join(wheels[0], "pip"), "download", "--quiet", "--no-deps"]
    pip += ["--disable-pip-version-check", "--retries=0", "--timeout=" + sys.argv[2], "--dest=" + folder, sys.argv[1]]
    sys.exit(subprocess.run(pip).returncode)
"#;
    let Some(requirement) = needs.python_tools.first() else { return Ok(()) };
    let Some(answer) = facts::read(&cmd!("python3", "-c", SCRIPT, requirement, STILL), until)
    else {
        // pip gives up before on a connection that stands still.
        return Ok(());
    };
    let said = |text: String| {
        let line = text.lines().find(|line| line.contains("ERROR") || line.contains("WARNING"));
        let line = line.or_else(|| text.lines().last()).unwrap_or_default();
        anyhow::anyhow!("{}", line.trim_start_matches("ERROR: ").trim_start_matches("WARNING: "))
    };
    answer.map_err(said)?;
    Ok(())
}

/// Fetches the crates that the lock names, which asks nobody when all are there. cargo gives up on a
/// connection that stands still before the limit, so one that reaches the limit is at work.
fn crates(context: &Context, until: Instant) -> Result<()> {
    let mut args = vec!["fetch", "--locked", "--quiet"];
    if context.offline {
        args.push("--offline");
    }
    let command = cmd("cargo", args)
        .dir(&context.root)
        .env("CARGO_HTTP_TIMEOUT", STILL)
        .env("CARGO_NET_RETRY", "0");
    let Some(answer) = facts::read(&command, until) else { return Ok(()) };
    let said = |text: String| {
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let first = lines.first().map_or("", |line| line.trim_start_matches("error: "));
        match lines.last() {
            Some(last) if lines.len() > 1 => anyhow::anyhow!("{first}: {last}"),
            _ => anyhow::anyhow!("{first}"),
        }
    };
    answer.map_err(said)?;
    Ok(())
}
