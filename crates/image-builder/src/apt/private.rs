//! An apt of our own beside the host's: its configuration, lists, status and cache live in one folder.
//! Of the host's configuration only the way to reach a mirror (proxies) is taken.

use crate::{Error, RootError};
use duct::{Expression, cmd};
use fs_err as fs;
use host_platform::Arch;
use std::path::{Path, PathBuf};

/// apt's own downloader: it honours apt's proxies and checks what it fetched.
pub const APT_HELPER: &str = "/usr/lib/apt/apt-helper";

/// A private apt.
pub struct Private {
    folder: PathBuf,
}

/// A file to fetch.
#[derive(Clone, Debug)]
pub struct Download {
    /// Where it is.
    pub uri: String,
    /// Where it goes.
    pub path: PathBuf,
    /// Its sha256 in hexadecimal; empty where something else vouches for the file.
    pub sha256: String,
}

impl Private {
    /// Writes the configuration into `folder`. `sources` is a list in apt's one-line format; each
    /// line should name its keyring (`signed-by`), for no other key is trusted.
    pub fn new(folder: &Path, arch: Arch, sources: &str) -> Result<Self, Error> {
        for name in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(name))?;
        }
        fs::write(folder.join("status"), "")?;
        fs::write(folder.join("sources.list"), sources)?;
        let reach = cmd!("apt-config", "dump").read().unwrap_or_default();
        fs::write(folder.join("apt.conf"), configuration(folder, arch, &reach))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Replaces the list of installed packages, in the format of dpkg's status file.
    pub fn set_status(&self, status: &str) -> Result<(), Error> {
        Ok(fs::write(self.folder.join("status"), status)?)
    }

    /// One of apt's programs under this configuration.
    pub fn command(&self, program: &str, args: impl IntoIterator<Item = String>) -> Expression {
        cmd(program, args)
            .env("APT_CONFIG", self.folder.join("apt.conf"))
            .env("LC_ALL", "C.UTF-8")
            .dir(&self.folder)
    }

    /// The command that fetches the lists and checks their signatures.
    pub fn update(&self) -> Expression {
        self.command("apt-get", ["update".to_owned(), "--error-on=any".to_owned()])
    }

    /// The command that fetches files, each checked against its sha256 if it has one.
    pub fn download(&self, downloads: &[Download]) -> Expression {
        let mut args = vec!["download-file".to_owned()];
        for download in downloads {
            args.push(download.uri.replace('+', "%2b"));
            args.push(download.path.to_string_lossy().into_owned());
            // The tool takes an empty one for none.
            args.push(match download.sha256.as_str() {
                "" => String::new(),
                sha256 => format!("SHA256:{sha256}"),
            });
        }
        self.command(APT_HELPER, args)
    }

    /// The folder of fetched lists.
    pub fn lists(&self) -> PathBuf {
        self.folder.join("state/lists")
    }

    /// Runs a program and gives what it prints; what it complains about becomes the error.
    pub fn read(&self, program: &str, args: Vec<String>) -> Result<String, Error> {
        let output = self
            .command(program, args)
            .stdin_null()
            .stdout_capture()
            .stderr_capture()
            .unchecked()
            .run()
            .map_err(|source| {
                Error::Root(RootError::Tool { program: program.to_owned(), source })
            })?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Error::Root(RootError::Tool {
                program: program.to_owned(),
                source: std::io::Error::other(complaint),
            }));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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
         Acquire::http::Proxy::127.0.0.1 \"DIRECT\";\n\
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
