//! The written form of recipes and fragments, as serde reads it: everything may be left out here,
//! and what must be there, or must not, is decided when the parts are put together (`merge`).

use super::{
    path::{AbsolutePath, FileName, LinkTarget, Pattern, Shell},
    value::{
        Cpus, DiskSize, ExitCode, Memory, Mode, ModuleName, PackageName, Plain, UserName, Version,
        Within,
    },
};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use toml::Spanned;

/// A recipe or a fragment.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Written {
    pub include: Vec<Spanned<String>>,
    pub base: Option<Spanned<String>>,
    pub version: Option<Spanned<Version>>,
    pub summary: Option<Spanned<String>>,
    pub packages: Option<Vec<PackageName>>,
    pub exclude: Vec<Pattern>,
    pub keep: Vec<Pattern>,
    pub commands: Vec<Spanned<String>>,
    pub distribution: Option<Spanned<Distribution>>,
    pub kernel: Option<Spanned<WrittenKernel>>,
    pub disk: Option<Spanned<Disk>>,
    pub root: Option<Spanned<WrittenRoot>>,
    pub defaults: Defaults,
    pub user: Vec<Spanned<User>>,
    pub file: Vec<Spanned<File>>,
    pub link: Vec<Spanned<Link>>,
    pub links: Vec<Links>,
    pub wheel: Vec<Spanned<Wheel>>,
    pub checks: BTreeMap<Spanned<String>, Check>,
}

/// Where packages come from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Distribution {
    pub name: DistributionName,
    /// The suite, such as `trixie`; its updates and security suites are used too. Alpine's release,
    /// such as `v3.22`.
    #[serde(alias = "release", deserialize_with = "plain")]
    pub suite: String,
    /// The parts of the archive.
    #[serde(default = "main_component", deserialize_with = "plain_list")]
    pub components: Vec<String>,
    /// How packages become files.
    #[serde(default)]
    pub method: Method,
}

fn main_component() -> Vec<String> {
    vec!["main".to_owned()]
}

fn plain<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Plain::deserialize(deserializer).map(|word| word.0)
}

fn plain_list<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Vec::<Plain>::deserialize(deserializer)?.into_iter().map(|word| word.0).collect())
}

/// A distribution that there is a back end for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum DistributionName {
    Debian,
    Ubuntu,
    Alpine,
}

impl DistributionName {
    /// The name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::Ubuntu => "ubuntu",
            Self::Alpine => "alpine",
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

/// The kernel as it is written: by its flavour or by its package.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct WrittenKernel {
    pub flavour: Option<Flavour>,
    pub package: Option<PackageName>,
    #[serde(default)]
    pub initrd: Option<Vec<Plain>>,
    #[serde(default)]
    pub modules: Vec<ModuleName>,
}

/// Which of a distribution's kernels.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Flavour {
    /// The one for any machine.
    Generic,
    /// The smaller one for virtual machines in data centres: it starts sooner and has fewer
    /// modules.
    Cloud,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Disk {
    /// The size that the guest sees; the image holds only what is used of it.
    pub size: DiskSize,
}

/// The root file system that somebody brings, as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct WrittenRoot {
    pub tar: Option<String>,
    pub oci: Option<String>,
    pub image: Option<String>,
}

/// A root file system that somebody brings: a path, relative to the recipe's folder, or an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// A tar, plain or compressed.
    Tar(String),
    /// An OCI image layout, a folder or a tar of one.
    Oci(String),
    /// An image of a registry, as container tools name it.
    Image(String),
}

impl Root {
    /// Where it is: a path, or an image's name.
    pub fn path(&self) -> &str {
        match self {
            Self::Tar(path) | Self::Oci(path) | Self::Image(path) => path,
        }
    }
}

/// What a sandbox gets when it does not say otherwise.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Defaults {
    /// The machine's memory.
    pub memory: Option<Memory>,
    /// The number of its processors.
    pub cpus: Option<Cpus>,
}

impl Defaults {
    /// The same as options of a sandbox, as a manifest holds them.
    pub fn config(&self) -> Map<String, Value> {
        let memory = self.memory.as_ref().map(|memory| ("memory", Value::from(memory.as_str())));
        let cpus = self.cpus.map(|cpus| ("cpus", Value::from(cpus.0)));
        memory.into_iter().chain(cpus).map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// A command that shows, in a booted machine, that the image is what it should be.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Check {
    /// A shell command, run as root.
    pub run: String,
    /// What its output must hold.
    pub prints: Option<String>,
    /// Its exit code.
    #[serde(default)]
    pub exit: ExitCode,
    /// How long it may take and be tried again, in seconds: services need a while to come up.
    #[serde(default)]
    pub within: Within,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct User {
    /// The login name.
    pub name: UserName,
    /// The user's and the group's number.
    pub id: u32,
    /// The login shell.
    pub shell: Shell,
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
    pub text: Option<String>,
    /// A file below the recipe's `files` folder.
    pub source: Option<String>,
    /// Its permissions in octal, 0644 unless said otherwise.
    #[serde(default)]
    pub mode: Mode,
    /// The user whose file it is, root unless said otherwise; folders made for it are theirs too.
    pub owner: Option<UserName>,
}

/// A symbolic link.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Link {
    /// Where it goes.
    pub path: AbsolutePath,
    /// What it points to.
    pub target: LinkTarget,
}

/// A folder of symbolic links that all point to one program, as busybox's commands do.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Links {
    /// Where they go.
    pub folder: AbsolutePath,
    /// What they point to.
    pub target: LinkTarget,
    /// Their names.
    pub names: Vec<FileName>,
}

/// Programs out of a Python wheel, for what the distribution has no package of.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Wheel {
    /// Its name on the index.
    #[serde(deserialize_with = "plain")]
    pub name: String,
    #[serde(deserialize_with = "plain")]
    pub version: String,
    /// Its licence, an SPDX expression.
    pub licence: String,
    /// Those of its scripts that go into `/usr/local/bin`.
    #[serde(deserialize_with = "plain_list")]
    pub programs: Vec<String>,
    /// The sha256 of the wheel in lower case, for each architecture by its image's name.
    pub sha256: BTreeMap<String, String>,
}
