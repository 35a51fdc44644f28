//! What can go wrong while an image is made; what to do about it is `hint`'s.

mod hint;

use crate::rootfs::InstallMode;
use std::path::PathBuf;

/// A failure of a bake.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "fields without a sentence are what their names say")]
pub enum Error {
    /// A file could not be read or written; the message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A tree, an archive, a file system or a disk.
    #[error(transparent)]
    Disk(disk_formats::Error),
    /// No install mode works on this host.
    #[error("No root file system can be made on this host: {}", tried.join("; "))]
    NoInstallMode {
        /// What was tried, and what was said.
        tried: Vec<String>,
        /// What to do about it.
        hint: String,
    },
    /// Something is not there that nothing may be fetched for.
    #[error("{what}")]
    Offline {
        /// What is not there.
        what: String,
    },
    /// A recipe that is not valid.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Recipe {
        /// The recipe's file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
        /// What is wrong.
        message: String,
        /// What to write instead.
        hint: Option<String>,
    },
    /// No recipe of this name.
    #[error("No recipe is called `{name}`")]
    NoRecipe {
        /// The name that was asked for.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// Recipes whose bases lead back to themselves, or too far.
    #[error("Overlays lie on each other without end: `{name}`")]
    TooManyLayers {
        /// The last one that was read.
        name: String,
    },
    /// A lock that cannot be read.
    #[error("Failed to read the lock `{}`", path.display())]
    BadLock {
        /// The lock's file.
        path: PathBuf,
        /// What the parser said.
        source: Box<toml::de::Error>,
    },
    /// A lock whose parts do not agree.
    #[error("The lock `{}` is no work of a bake: {detail}", path.display())]
    WrongLock {
        /// The lock's file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A file of the store with another size than the lock names.
    #[error("`{}` holds {found} bytes, and the lock names {expected}", path.display())]
    WrongSize {
        path: PathBuf,
        /// How many bytes it holds.
        found: u64,
        /// How many the lock names.
        expected: u64,
    },
    /// What the mirror holds under a package's name is another file than the locked one.
    #[error("The mirror has other files in place of these locked packages of `{recipe}`: {}", packages.join(", "))]
    OtherOnMirror {
        /// The recipe's name.
        recipe: String,
        /// `name version` of each.
        packages: Vec<String>,
    },
    /// The lock was made by a later version of this crate.
    #[error("The lock `{}` has version {found}, and this quicksand knows {known}", path.display())]
    LockVersion {
        /// The lock's file.
        path: PathBuf,
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Packages that the lock names are no longer on the mirror.
    #[error("The mirror no longer holds these locked packages of `{recipe}`: {}", packages.join(", "))]
    Gone {
        /// The recipe's name.
        recipe: String,
        /// The command that renews its lock.
        renewal: String,
        /// `name version` of each.
        packages: Vec<String>,
    },
    /// An image without a lock, and none could be made.
    #[error("`{image}` has no lock for {arch} yet, and none could be made: {detail}")]
    NoLock {
        /// The image's name.
        image: String,
        /// The architecture, as image files call it.
        arch: &'static str,
        /// Why none could be made.
        detail: String,
        /// What to do about it.
        hint: String,
    },
    /// The proof of an image failed, with the error of what boots it.
    #[error(transparent)]
    Proof(Box<dyn std::error::Error + Send + Sync>),
    /// Something that was fetched or kept is not what the lock says.
    #[error("`{}` is not what the lock names: its sha256 is {found}, and {expected} was expected", path.display())]
    WrongHash {
        path: PathBuf,
        /// Its sha256 in hexadecimal.
        found: String,
        /// The one in the lock.
        expected: String,
    },
    /// A wheel whose programs the recipe takes, and that it does not pin for this architecture.
    #[error("The recipe has no sha256 of the wheel `{wheel}` for {arch}")]
    NoWheelDigest {
        /// The wheel's name.
        wheel: String,
        arch: &'static str,
    },
    /// pip did not get a wheel.
    #[error("Failed to fetch the wheel `{name}` {version} with pip")]
    WheelNotFetched {
        name: String,
        version: String,
        /// What pip said, or why it did not start.
        source: std::io::Error,
    },
    /// A wheel that is another file than the recipe pins.
    #[error("The wheel `{name}` {version} has the sha256 {found}, the recipe {expected}")]
    OtherWheel {
        name: String,
        version: String,
        /// The sha256 of what came.
        found: String,
        /// The one in the recipe.
        expected: String,
    },
    /// A program that a wheel does not have.
    #[error("The wheel `{wheel}` has no program `{program}`")]
    NoProgram {
        /// The wheel's name.
        wheel: String,
        /// The program that was asked for.
        program: String,
        /// Those that it has.
        known: Vec<String>,
    },
    /// A tool of the distribution failed.
    #[error("Failed to run `{program}`")]
    Tool {
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// Packages could not be installed, or a command of the recipe failed.
    #[error("Failed to install the packages or run the commands, {}", mode.describe())]
    Installation {
        /// How it was tried.
        mode: InstallMode,
        /// What the tool said at the end.
        source: std::io::Error,
    },
    /// An image whose programs this host cannot run.
    #[error(
        "This host cannot run the programs of an {arch} image, which its packages need while they are installed"
    )]
    NoRunner { arch: &'static str },
    /// apt's answer could not be understood.
    #[error("Failed to understand apt's answer `{line}`")]
    AptAnswer { line: String },
    /// A package of the recipe that the distribution does not have.
    #[error("There is no package `{package}` in the recipe's distribution and its components")]
    NoPackage {
        package: String,
        /// The nearest name that there is.
        nearest: Option<String>,
    },
    /// A component of the recipe that no release has.
    #[error("The distribution has no component `{component}`")]
    NoComponent {
        component: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// No mirror of the distribution is known.
    #[error("No mirror of `{archive}` is known on this host")]
    NoMirror {
        /// The archive, such as `debian` or `debian-security`.
        archive: String,
    },
    /// An image of a registry that cannot be had.
    #[error("Failed to pull the image `{reference}`: {detail}")]
    Pull {
        /// As the recipe names it.
        reference: String,
        /// Why.
        detail: String,
    },
    /// Files of an image that one machine alone should know.
    #[error("`{image}` would ship secrets: `{}`", paths.join("`, `"))]
    Secrets {
        /// The image's name.
        image: String,
        /// Where they are.
        paths: Vec<String>,
    },
    /// An image with apt and without anything that apt could ask.
    #[error(
        "`{image}` would have no apt sources: nothing in it says where the archive `{archive}` is"
    )]
    NoSources {
        /// The image's name.
        image: String,
        archive: String,
    },
    /// What a bake is made of is Linux's: chroots, packages, file systems.
    #[error("Images are baked on Linux, and this host is {os}")]
    System {
        /// This host's system.
        os: host_platform::Os,
    },
    /// The keyring that the distribution's signatures are checked with is missing.
    #[error("The keyring `{}` is missing", path.display())]
    NoKeyring {
        /// Where it is looked for.
        path: PathBuf,
        /// The package that holds it.
        package: &'static str,
        /// The variable that names another place.
        variable: String,
    },
    /// An index that a mirror had replaced already.
    #[error(
        "The index `{}` is older than one that was used before: its newest package was built at \
         {newest}, and one of {seen} was seen", path.display()
    )]
    OldIndex {
        path: PathBuf,
        /// When its newest package was built, in seconds since the epoch.
        newest: i64,
        /// The same of the newest index that was used.
        seen: i64,
    },
    /// An index of Alpine's that cannot be read.
    #[error("Failed to understand the record `{record}` of the index `{}`", path.display())]
    BadIndex {
        path: PathBuf,
        /// How the record begins.
        record: String,
    },
    /// Not a valid public key.
    #[error("Failed to read the public key `{}`", path.display())]
    BadKey { path: PathBuf },
    /// An index that nobody trusted vouches for.
    #[error("The index `{}` is not to be trusted: {detail}", path.display())]
    Unsigned {
        path: PathBuf,
        /// What is wrong with its signature.
        detail: String,
    },
    /// Packages that cannot be installed together, or a dependency that nothing meets.
    #[error("No package meets `{dependency}`, which `{by}` asks for")]
    Unsolvable {
        /// What is asked for.
        dependency: String,
        /// Who asks.
        by: String,
    },
    /// Packages that cannot be beside each other.
    #[error("`{package}` and `{other}` cannot be installed together")]
    Conflict {
        /// One.
        package: String,
        other: String,
    },
    /// Nothing says which of several packages is meant.
    #[error("Several packages are a `{dependency}`: {}", packages.join(", "))]
    ManyProviders {
        /// What is asked for.
        dependency: String,
        packages: Vec<String>,
    },
    /// A package file that is broken.
    #[error("Failed to read the package `{}`: {detail}", path.display())]
    BadPackage {
        path: PathBuf,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// A name that no image can have.
    #[error(transparent)]
    ImageName(#[from] package_layout::Error),
    /// The wheel could not be written.
    #[error(transparent)]
    Wheel(#[from] wheel_retag::Error),
    /// An input that is another one than the lock names.
    #[error("The sha256 of {what} is {found}, and the lock names {expected}")]
    OtherInput {
        /// Which.
        what: String,
        /// The sha256 that it has.
        found: String,
        /// The one in the lock.
        expected: String,
    },
    /// An image that packages cannot be installed on from outside.
    #[error("The image `{base}` has no package manager that packages can be installed with")]
    NoPackageManager { base: String },
    /// A root file system that somebody brought and that cannot be used.
    #[error("Failed to use the root file system `{}`: {detail}", path.display())]
    BadRoot {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A file of advisories that cannot be read as such.
    #[error("Failed to read advisories from `{}`: {detail}", path.display())]
    BadAdvisories {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// An image without a bill of materials that can be read.
    #[error("`{of}` has no bill of materials that can be read")]
    NoBill {
        /// The disk, wheel or file.
        of: String,
    },
    /// A file of the recipe belongs to a user that nothing brings.
    #[error("`{path}` cannot be given to the user `{user}`: there is no such user")]
    NoUser { user: String, path: String },
    /// A user of the recipe is to join a group that no package brings.
    #[error("The user `{user}` cannot join the group `{group}`: there is no such group")]
    NoGroup { user: String, group: String },
    /// A user of the recipe whose name or number somebody else has.
    #[error(
        "The user `{user}` cannot have the id {id}: `/{file}` has `{other}` with the id {other_id}"
    )]
    UserTaken {
        user: String,
        id: u32,
        /// Who has the name or the number.
        other: String,
        other_id: u32,
        /// Where: passwd(5) or group(5).
        file: String,
    },
    /// A file of the recipe in the place of a folder that holds something.
    #[error("`{path}` cannot be a file or a link: it is a folder that holds something")]
    IsFolder { path: String },
    /// A check of the recipe does not hold in the booted machine.
    #[error("The check `{name}` failed: {reason}")]
    CheckFailed {
        name: String,
        /// What was not as it should be.
        reason: String,
        /// The end of what the command printed.
        output: String,
    },
    /// A check could not be run.
    #[error("Failed to run the check `{name}` in the machine")]
    CheckNotRun {
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// An initrd that is no archive that can be read.
    #[error("Failed to read the initrd `{}`", path.display())]
    BadInitrd { path: PathBuf },
    /// A kernel that cannot be used.
    #[error("Failed to use the kernel `{}`: {detail}", path.display())]
    BadKernel {
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The kernel's package holds no kernel where one is expected.
    #[error("The package `{package}` holds no kernel")]
    NoKernel { package: String },
    /// A module that the kernel does not have.
    #[error("The kernel {release} has no module `{name}`")]
    UnknownModule {
        /// The module that was asked for.
        name: String,
        /// The kernel's release.
        release: String,
        /// The nearest name that it has.
        nearest: Option<String>,
    },
    /// A module file that is broken.
    #[error("Failed to read the module `{path}`: {detail}")]
    BadModule {
        path: String,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// No modules where some are expected.
    #[error("The kernel's package holds no modules")]
    NoModules,
    /// Modules of two kernels.
    #[error("There are modules of two kernels: `{first}` and `{second}`")]
    TwoKernels {
        /// One folder.
        first: String,
        second: String,
    },
}

impl From<disk_formats::Error> for Error {
    fn from(error: disk_formats::Error) -> Self {
        match error {
            disk_formats::Error::Io(source) => Self::Io(source),
            error => Self::Disk(error),
        }
    }
}
