//! Chooses and fetches packages with the host's apt under a configuration of our own: the host's
//! lists, caches and status are neither read nor changed. Of the host's configuration only the
//! mirrors and the way to reach them (proxies) are taken.
//!
//! Signatures are checked by apt against the distribution's keyring alone, whatever other keys the
//! host trusts.

mod answer;
mod sources;

use crate::{
    Error,
    lock::{ArchLock, Package},
    recipe::{Method, Recipe},
};
use answer::Choice;
use duct::{Expression, cmd};
use fs_err as fs;
use host_platform::Arch;
use std::path::{Path, PathBuf};

pub use sources::{Archive, archives, canonical};

/// Debian's keys, in the package `debian-archive-keyring`.
const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const APT_HELPER: &str = "/usr/lib/apt/apt-helper";

/// A private apt.
pub struct Apt {
    folder: PathBuf,
    archives: Vec<Archive>,
}

impl Apt {
    /// Writes the configuration for a recipe and an architecture into `folder`.
    pub fn new(
        folder: &Path,
        recipe: &Recipe,
        arch: Arch,
        archives: Vec<Archive>,
    ) -> Result<Self, Error> {
        let keyring = Path::new(DEBIAN_KEYRING);
        if !keyring.is_file() {
            return Err(Error::NoKeyring {
                path: keyring.to_owned(),
                package: "debian-archive-keyring",
            });
        }
        for name in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(name))?;
        }
        fs::write(folder.join("status"), "")?;
        let sources = sources::list(&archives, &recipe.body.distribution, keyring);
        fs::write(folder.join("sources.list"), sources)?;
        let reach = cmd!("apt-config", "dump").read().unwrap_or_default();
        fs::write(folder.join("apt.conf"), configuration(folder, arch, &reach))?;
        Ok(Self { folder: folder.to_owned(), archives })
    }

    fn command(&self, program: &str, args: impl IntoIterator<Item = String>) -> Expression {
        cmd(program, args)
            .env("APT_CONFIG", self.folder.join("apt.conf"))
            .env("LC_ALL", "C.UTF-8")
            .dir(&self.folder)
    }

    /// The command that fetches the package lists and checks their signatures.
    pub fn update(&self) -> Expression {
        self.command("apt-get", ["update".to_owned(), "--error-on=any".to_owned()])
    }

    /// Chooses packages and their versions; the lists must have been fetched.
    pub fn resolve(&self, recipe: &Recipe, arch: Arch) -> Result<ArchLock, Error> {
        let mut wanted = recipe.body.packages.clone();
        if recipe.body.distribution.method == Method::Install {
            wanted.insert(0, "?essential".to_owned());
            wanted.push("apt".to_owned());
        }
        let package = self.choose(wanted)?;
        let kernel_package = recipe.kernel_package(arch);
        let kernel = self
            .choose(vec![kernel_package.clone()])?
            .into_iter()
            // The meta package depends on the real one, which is called by its release.
            .find(|package| {
                package
                    .name
                    .strip_prefix("linux-image-")
                    .is_some_and(|release| release.starts_with(|c: char| c.is_ascii_digit()))
            })
            .ok_or(Error::NoKernel { package: kernel_package })?;
        let release = answer::releases(&self.folder.join("state/lists"), &self.archives)?;
        Ok(ArchLock {
            request: request(recipe, arch),
            source_date: release.iter().map(|release| release.date).max().unwrap_or(0),
            release,
            package,
            kernel,
        })
    }

    fn choose(&self, wanted: Vec<String>) -> Result<Vec<Package>, Error> {
        let mut args: Vec<String> =
            ["install", "--print-uris", "-qq", "--no-install-recommends", "--"]
                .map(str::to_owned)
                .into();
        args.extend(wanted);
        let uris = self.read("apt-get", args)?;
        let choices: Vec<Choice> = uris
            .lines()
            .filter(|line| !line.is_empty())
            .map(|line| {
                answer::choice(line).ok_or_else(|| Error::AptAnswer { line: line.to_owned() })
            })
            .collect::<Result<_, _>>()?;
        let mut args = vec!["show".to_owned()];
        args.extend(choices.iter().map(|choice| format!("{}={}", choice.name, choice.version)));
        let records = self.read("apt-cache", args)?;
        answer::packages(&choices, &records, &self.archives)
    }

    fn read(&self, program: &str, args: Vec<String>) -> Result<String, Error> {
        let output = self
            .command(program, args)
            .stdin_null()
            .stdout_capture()
            .stderr_capture()
            .unchecked()
            .run()
            .map_err(|source| Error::Tool { program: program.to_owned(), source })?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Error::Tool {
                program: program.to_owned(),
                source: std::io::Error::other(complaint),
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The command that fetches packages into `pool`, each checked against its sha256.
    pub fn fetch(&self, packages: &[&Package], pool: &Path) -> Result<Expression, Error> {
        let mut args = vec!["download-file".to_owned()];
        for package in packages {
            let archive = self
                .archives
                .iter()
                .find(|archive| archive.name == package.archive)
                .ok_or_else(|| Error::NoMirror { distribution: package.archive.clone() })?;
            args.push(format!("{}/{}", archive.uri, package.path.replace('+', "%2b")));
            args.push(pool_path(pool, package).to_string_lossy().into_owned());
            args.push(format!("SHA256:{}", package.sha256));
        }
        Ok(self.command(APT_HELPER, args))
    }
}

/// A digest of what a recipe asks of the package manager.
pub fn request(recipe: &Recipe, arch: Arch) -> String {
    let asked = format!(
        "{:?} {:?} {} {}",
        recipe.body.distribution,
        recipe.body.packages,
        recipe.kernel_package(arch),
        arch.image_name()
    );
    crate::sha256(asked.as_bytes())[..16].to_owned()
}

/// Where a package lies in a content-addressed pool.
pub fn pool_path(pool: &Path, package: &Package) -> PathBuf {
    pool.join(format!("{}.deb", package.sha256))
}

/// Fails when a package of the pool is not what the lock names.
pub fn verify(pool: &Path, package: &Package) -> Result<(), Error> {
    let path = pool_path(pool, package);
    let found = crate::sha256(&fs::read(&path)?);
    if found == package.sha256 {
        Ok(())
    } else {
        Err(Error::WrongHash { path, found, expected: package.sha256.clone() })
    }
}

/// apt's configuration: everything below our folder, and from the host's how to reach a mirror.
fn configuration(folder: &Path, arch: Arch, host_dump: &str) -> String {
    let reach: String = host_dump
        .lines()
        .filter(|line| line.starts_with("Acquire::") && line.contains("Proxy"))
        .map(|line| format!("{line}\n"))
        .collect();
    let (folder, arch) = (folder.display(), arch.image_name());
    format!(
        "{reach}\
         Dir::Etc::parts \"/dev/null\";\n\
         Dir::Etc::main \"/dev/null\";\n\
         Dir::Etc::sourcelist \"{folder}/sources.list\";\n\
         Dir::Etc::sourceparts \"/dev/null\";\n\
         Dir::Etc::preferences \"/dev/null\";\n\
         Dir::Etc::preferencesparts \"/dev/null\";\n\
         Dir::Etc::trusted \"/dev/null\";\n\
         Dir::Etc::trustedparts \"/dev/null\";\n\
         Dir::State \"{folder}/state\";\n\
         Dir::State::status \"{folder}/status\";\n\
         Dir::Cache \"{folder}/cache\";\n\
         APT::Architecture \"{arch}\";\n\
         APT::Architectures {{ \"{arch}\"; }};\n\
         APT::Get::AllowUnauthenticated \"false\";\n\
         APT::Install-Recommends \"false\";\n\
         APT::Sandbox::User \"root\";\n\
         Acquire::AllowInsecureRepositories \"false\";\n\
         Acquire::Languages \"none\";\n\
         Acquire::Retries \"3\";\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_proxies_come_from_the_host() {
        let dump = "Dir \"/\";\nAcquire::http::Proxy \"http://127.0.0.1:3128\";\nAPT::Update::Post-Invoke:: \"rm -rf /\";\nAcquire::AllowInsecureRepositories \"true\";\n";
        let text = configuration(Path::new("/c"), Arch::Arm64, dump);
        assert!(text.contains("Acquire::http::Proxy \"http://127.0.0.1:3128\";"));
        assert!(!text.contains("Post-Invoke") && !text.contains("\"true\""), "{text}");
        assert!(text.contains("APT::Architecture \"arm64\";"));
        assert!(text.contains("Dir::State::status \"/c/status\";"));
    }
}
