//! Recipes: what an image is made of, as `recipes/NAME/recipe.toml`. The schema is described for
//! its readers in `recipes/README.md`.
//!
//! This module owns parsing and validation, and refuses what it does not know with line and
//! column. It must not know how any of it is carried out.

mod diagnose;
mod value;

use crate::Error;
use fs_err as fs;
use host_platform::Arch;
use serde::Deserialize;
use std::path::{Path, PathBuf};
pub use value::{AbsolutePath, ByteSize, Mode, Pattern, UserName};

/// A recipe with the folder that it came from.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The image's name, which is the folder's.
    pub name: String,
    /// The folder of `recipe.toml`, its lock and its files.
    pub folder: PathBuf,
    /// What `recipe.toml` says.
    pub body: Body,
}

/// What `recipe.toml` says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Body {
    /// The version in the names of the image's files, usually the distribution's.
    pub version: String,
    /// One line for people, the wheel's summary.
    pub summary: String,
    /// Packages to install; what they depend on comes by itself, what they recommend does not.
    pub packages: Vec<String>,
    /// Files that are left out.
    #[serde(default)]
    pub exclude: Vec<Pattern>,
    /// Files that stay although `exclude` names them.
    #[serde(default)]
    pub keep: Vec<Pattern>,
    /// Shell commands that run as root inside the new root file system, in order.
    #[serde(default)]
    pub commands: Vec<String>,
    /// Where packages come from.
    pub distribution: Distribution,
    /// The kernel and its modules.
    pub kernel: Kernel,
    /// The disk.
    pub disk: Disk,
    /// Users.
    #[serde(default)]
    pub user: Vec<User>,
    /// Files.
    #[serde(default)]
    pub file: Vec<File>,
    /// Symbolic links.
    #[serde(default)]
    pub link: Vec<Link>,
    /// Folders of symbolic links to one program.
    #[serde(default)]
    pub links: Vec<Links>,
}

/// Where packages come from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Distribution {
    /// The distribution.
    pub name: DistributionName,
    /// The suite, such as `trixie`; its updates and security suites are used too.
    pub suite: String,
    /// The parts of the archive.
    #[serde(default = "main_component")]
    pub components: Vec<String>,
    /// How packages become files.
    #[serde(default)]
    pub method: Method,
}

fn main_component() -> Vec<String> {
    vec!["main".to_owned()]
}

/// A distribution that there is a back end for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum DistributionName {
    /// Debian.
    Debian,
}

impl DistributionName {
    /// The name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debian => "debian",
        }
    }
}

/// How packages become files.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Installed and configured, with the distribution's essential packages.
    #[default]
    Install,
    /// Unpacked and no more: no package's scripts run, and nothing comes along by itself.
    Unpack,
}

/// The kernel and its modules.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Kernel {
    /// The package that depends on the kernel's; `{arch}` stands for the architecture.
    pub package: String,
    /// Modules that are loaded before the disk is mounted.
    pub initrd: Vec<String>,
    /// Modules on the disk, which load when they are needed.
    #[serde(default)]
    pub modules: Vec<String>,
}

/// The disk.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Disk {
    /// The size that the guest sees; the image holds only what is used of it.
    pub size: ByteSize,
}

/// A user.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct User {
    /// The login name.
    pub name: UserName,
    /// The user's and the group's number.
    pub id: u32,
    /// The login shell.
    pub shell: AbsolutePath,
    /// Further groups, which must exist.
    #[serde(default)]
    pub groups: Vec<UserName>,
    /// Whether sudo asks no password of this user.
    #[serde(default)]
    pub sudo: bool,
}

/// A file: `text`, or the content of `source`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    /// Where it goes.
    pub path: AbsolutePath,
    /// Its text.
    pub text: Option<String>,
    /// A file below the recipe's `files` folder.
    pub source: Option<String>,
    /// Its permissions in octal, 0644 unless said otherwise.
    #[serde(default)]
    pub mode: Mode,
}

/// A symbolic link.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Link {
    /// Where it goes.
    pub path: AbsolutePath,
    /// What it points to.
    pub target: String,
}

/// A folder of symbolic links that all point to one program, as busybox's commands do.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Links {
    /// Where they go.
    pub folder: AbsolutePath,
    /// What they point to.
    pub target: String,
    /// Their names.
    pub names: Vec<String>,
}

/// Reads `RECIPES/NAME/recipe.toml`.
pub fn load(recipes: &Path, name: &str) -> Result<Recipe, Error> {
    let folder = recipes.join(name);
    let path = folder.join("recipe.toml");
    if name.is_empty() || name.contains(['/', '\\', '.']) || !path.is_file() {
        return Err(Error::NoRecipe { name: name.to_owned(), known: names(recipes) });
    }
    let text = fs::read_to_string(&path)?;
    let body = parse(&text, &path)?;
    Ok(Recipe { name: name.to_owned(), folder, body })
}

/// Parses a recipe; `path` is for messages and for the files it names.
pub fn parse(text: &str, path: &Path) -> Result<Body, Error> {
    let body: Body = toml::from_str(text).map_err(|error| diagnose::explain(text, path, &error))?;
    validate(&body)
        .map_err(|(needle, message, hint)| diagnose::at(text, path, &needle, message, hint))?;
    Ok(body)
}

/// The names of all recipes, sorted.
pub fn names(recipes: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(recipes)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("recipe.toml").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// What no single value shows: gives the text to point at, the message and the hint.
fn validate(body: &Body) -> Result<(), (String, String, Option<String>)> {
    if body.version.is_empty()
        || !body.version.chars().all(|c| c.is_ascii_alphanumeric() || c == '.')
    {
        return Err((
            "version".to_owned(),
            format!("the version `{}` cannot be part of a file name", body.version),
            Some("use letters, digits and dots, as in \"13\" or \"24.04\"".to_owned()),
        ));
    }
    for package in body.packages.iter().chain([&body.kernel.package]) {
        let plain = package.replace("{arch}", "x");
        let is_name = !plain.is_empty()
            && plain
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c));
        if !is_name {
            return Err((
                format!("\"{package}\""),
                format!("`{package}` is not the name of a package"),
                Some("names hold lower-case letters, digits, `+`, `-` and `.`".to_owned()),
            ));
        }
    }
    if body.distribution.method == Method::Unpack && !body.commands.is_empty() {
        return Err((
            "commands".to_owned(),
            "commands need a root file system that can run them".to_owned(),
            Some("set distribution.method = \"install\", or use files and links".to_owned()),
        ));
    }
    for file in &body.file {
        if file.text.is_some() == file.source.is_some() {
            return Err((
                format!("\"{}\"", file.path.as_str()),
                format!("the file `{}` needs either `text` or `source`", file.path.as_str()),
                None,
            ));
        }
        if let Some(source) = &file.source
            && (source.starts_with('/') || source.split('/').any(|part| part == ".."))
        {
            return Err((
                format!("\"{source}\""),
                format!("the source `{source}` leaves the recipe's `files` folder"),
                Some("give a path relative to it".to_owned()),
            ));
        }
    }
    Ok(())
}

impl Recipe {
    /// The kernel's meta package on this architecture.
    pub fn kernel_package(&self, arch: Arch) -> String {
        self.body.kernel.package.replace("{arch}", arch.image_name())
    }

    /// The bytes of one of its files.
    pub fn content(&self, file: &File) -> Result<Vec<u8>, Error> {
        match (&file.text, &file.source) {
            (Some(text), _) => Ok(text.clone().into_bytes()),
            (None, Some(source)) => Ok(fs::read(self.folder.join("files").join(source))?),
            (None, None) => Ok(Vec::new()),
        }
    }

    /// Where its lock lies.
    pub fn lock_path(&self) -> PathBuf {
        self.folder.join("recipe.lock")
    }
}

#[cfg(test)]
mod tests;
