//! Roots of distributions: a tar of each release in the build cache, and a folder unpacked from it, with
//! the source, crates and packages that the host fetched before. It must not know what is run there.

use super::{Suite, User};
use anyhow::{Context as _, Result, ensure};
use cache_key::Key;
use duct::cmd;
use fs_err as fs;
use image_builder::{apt, recipe::DistributionName};
use std::path::{Path, PathBuf};
use xtask_base::{context::Context, ui::hinted};
use xtask_host::setup;

/// What a newcomer has, by the README; rustup's toolchain is lent by the host.
const INCLUDED: &str = "ca-certificates,gcc,git,libc6-dev,python3,sudo";

/// The user with sudo.
pub const NAME: &str = "newcomer";

/// A root that commands run in.
pub struct Place {
    /// The root folder.
    pub root: PathBuf,
    /// What apt has fetched for it, kept between runs; none when everything is fetched again.
    pub archives: Option<PathBuf>,
}

/// The tar of a release, made once.
pub fn base(context: &Context, suite: Suite) -> Result<PathBuf> {
    let distribution = match suite {
        Suite::Bookworm | Suite::Trixie => DistributionName::Debian,
        Suite::Noble | Suite::Resolute => DistributionName::Ubuntu,
    };
    let archives = apt::archives(distribution, host_platform::native_arch())?;
    let keyring = apt::keyring(distribution)?;
    let sources = sources(suite, &archives, &keyring);
    let mut key = Key::new("fresh-root 1");
    key.add("sources", sources.join("\n").as_bytes());
    key.add("included", INCLUDED.as_bytes());
    let entry = context.cache.entry("fresh-root", &key, |folder| {
        if context.offline {
            return Err(hinted(
                format!("The root of {} is not in the cache", suite.title()),
                "run once without --offline",
            ));
        }
        context.ui.step(&format!("Make a root of {}", suite.title()), |step| {
            let tar = folder.join("root.tar").to_string_lossy().into_owned();
            let include = format!("--include={INCLUDED}");
            let mut line = vec!["--mode=root", "--variant=minbase", "--format=tar", &include];
            line.extend([
                "--aptopt=Acquire::Retries \"1\"",
                "--aptopt=Acquire::http::Timeout \"20\"",
            ]);
            line.extend([suite.name(), &tar]);
            line.extend(sources.iter().map(String::as_str));
            step.run(setup::as_root("mmdebstrap", &line)?)
        })
    })?;
    Ok(entry.join("root.tar"))
}

/// The lines of its sources.list.
fn sources(suite: Suite, archives: &[apt::Archive], keyring: &Path) -> Vec<String> {
    let (name, keyring) = (suite.name(), keyring.display());
    let components = match suite {
        Suite::Bookworm | Suite::Trixie => "main",
        Suite::Noble | Suite::Resolute => "main universe",
    };
    let mut lines = Vec::new();
    for archive in archives {
        let suites = match archive.name.as_str() {
            "debian-security" => vec![format!("{name}-security")],
            "debian" => vec![name.to_owned(), format!("{name}-updates")],
            _ => vec![name.to_owned(), format!("{name}-updates"), format!("{name}-security")],
        };
        for suite in suites {
            lines.push(format!("deb [signed-by={keyring}] {} {suite} {components}", archive.uri));
        }
    }
    lines
}

/// Unpacks a root for a user, with this repository's HEAD in the user's home.
pub fn unpack(
    context: &Context,
    base: &Path,
    suite: Suite,
    user: User,
    fetch_all: bool,
) -> Result<Place> {
    let folder = context.cache.folder("fresh")?;
    let made =
        tempfile::Builder::new().prefix(&format!("{}-", suite.name())).tempdir_in(&folder)?;
    let root = made.keep();
    let archives = match fetch_all {
        true => None,
        false => Some(context.cache.folder(&format!("fresh-archives/{}", suite.name()))?),
    };
    let title = format!("Unpack {} for {}", suite.title(), user.title());
    context.ui.step(&title, |step| {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let tar = ["-xpf", &path(base), "-C", &path(&root), "--numeric-owner", "--xattrs"];
        step.run(setup::as_root("tar", &tar)?)?;
        let lent = tempfile::tempdir()?;
        lend(context, lent.path(), fetch_all)?;
        step.run(setup::as_root("cp", &["-r", &path(lent.path()), &path(&root.join("lent"))])?)?;
        step.run(setup::as_root("chroot", &[&path(&root), "/bin/sh", "-euc", SET_UP])?)
    })?;
    Ok(Place { root, archives })
}

/// Makes the user, and gives both users the source and the crates. Runs inside.
const SET_UP: &str = "
chmod 755 / /lent
cp /lent/resolv.conf /etc/resolv.conf
cp /lent/certificates /etc/ssl/certs/ca-certificates.crt
printf '127.0.0.1 localhost fresh\\n::1 localhost\\n' > /etc/hosts
cp /lent/apt.conf /etc/apt/apt.conf.d/90lent
if [ -f /lent/pip.conf ]; then cp /lent/pip.conf /etc/pip.conf; fi
touch /etc/subuid /etc/subgid
useradd --create-home --shell /bin/bash newcomer
echo 'newcomer ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/newcomer
for home in /root /home/newcomer; do
  mkdir -p $home/.cargo
  cp /lent/cargo.toml $home/.cargo/config.toml
  if [ -d /lent/registry ]; then cp -r /lent/registry $home/.cargo/registry; fi
  if [ -d /lent/packages ]; then
    mkdir -p $home/.cache/quicksand-build
    cp -r /lent/packages /lent/downloads $home/.cache/quicksand-build/
  fi
  git -c advice.detachedHead=false -c init.defaultBranch=main clone --quiet /lent/source $home/quicksand
done
chown -R newcomer:newcomer /home/newcomer
rm -r /lent
";

/// Lays what the host lends into a folder: the source, how it reaches the network, and what it fetched.
fn lend(context: &Context, folder: &Path, fetch_all: bool) -> Result<()> {
    cmd!("git", "bundle", "create", "--quiet", folder.join("source"), "HEAD")
        .dir(&context.root)
        .stderr_null()
        .run()
        .context("Failed to pack HEAD with git bundle")?;
    for (from, name) in [
        ("/etc/resolv.conf", "resolv.conf"),
        ("/etc/ssl/certs/ca-certificates.crt", "certificates"),
    ] {
        fs::write(folder.join(name), fs::read(from).unwrap_or_default())?;
    }
    if let Ok(text) = fs::read("/etc/pip.conf") {
        fs::write(folder.join("pip.conf"), text)?;
    }
    let reach = cmd!("apt-config", "dump").read().unwrap_or_default();
    let reach =
        reach.lines().filter(|line| line.starts_with("Acquire::") && line.contains("Proxy"));
    let keep = ["APT::Keep-Downloaded-Packages \"true\";"];
    let conf: Vec<&str> = keep.into_iter().chain(reach).collect();
    fs::write(folder.join("apt.conf"), conf.join("\n") + "\n")?;
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).unwrap_or_default();
    fs::write(folder.join("cargo.toml"), fs::read(home.join("config.toml")).unwrap_or_default())?;
    if fetch_all {
        return Ok(());
    }
    fs::create_dir(folder.join("registry"))?;
    for name in ["cache", "index"] {
        copy_tree(&home.join("registry").join(name), &folder.join("registry").join(name))?;
    }
    for name in ["packages", "downloads"] {
        copy_tree(&context.cache.folder(name)?, &folder.join(name))?;
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        cmd!("cp", "-r", "--reflink=auto", from, to).run()?;
    }
    Ok(())
}

impl Place {
    /// Removes the root. What ran there has ended with its mounts; a root that still has one is left
    /// alone.
    pub fn remove(&self) -> Result<()> {
        let root = self.root.to_string_lossy().into_owned();
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        ensure!(!is_mounted(&mounts, &root), "Something is mounted below `{root}`, so it is kept");
        setup::as_root("rm", &["-r", "--one-file-system", &root])?.run()?;
        Ok(())
    }
}

/// Whether mountinfo of proc(5) names a mount at or below this folder.
fn is_mounted(mounts: &str, root: &str) -> bool {
    let below = format!("{root}/");
    let mut places = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    places.any(|place| place == root || place.starts_with(&below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_below_a_root_keeps_it() {
        let line = |place: &str| format!("21 1 254:0 / {place} rw - ext4 /dev/vda rw\n");
        assert!(is_mounted(&(line("/") + &line("/c/fresh/x/proc")), "/c/fresh/x"));
        assert!(is_mounted(&line("/c/fresh/x"), "/c/fresh/x"));
        assert!(!is_mounted(&(line("/") + &line("/c/fresh/xy")), "/c/fresh/x"));
    }

    #[test]
    fn sources_have_updates_and_security() {
        let archive = |name: &str, uri: &str| apt::Archive { name: name.into(), uri: uri.into() };
        let keyring = Path::new("/k.gpg");
        let debian = [
            archive("debian", "http://m.test/debian"),
            archive("debian-security", "http://s.test/s"),
        ];
        assert_eq!(
            sources(Suite::Trixie, &debian, keyring),
            [
                "deb [signed-by=/k.gpg] http://m.test/debian trixie main",
                "deb [signed-by=/k.gpg] http://m.test/debian trixie-updates main",
                "deb [signed-by=/k.gpg] http://s.test/s trixie-security main"
            ]
        );
        let ubuntu = sources(Suite::Noble, &[archive("ubuntu", "http://u.test/ubuntu")], keyring);
        assert_eq!(ubuntu.len(), 3);
        assert!(ubuntu[2].ends_with("noble-security main universe"), "{ubuntu:?}");
    }
}
