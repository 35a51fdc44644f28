//! The options of `quicksand dev`.

use clap::{Args, Subcommand, ValueEnum};

/// The options of `quicksand dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    #[command(subcommand)]
    pub action: DevAction,
}

/// What the help of `dev bake` says at the end.
const BAKE_NOTES: &str = "\
Prints the wheel's path, and tells on stderr what it does. Exits with 1 when something failed, such as a check of the recipe, \
and with 2 when the command line is wrong. Packages and commands need Linux with apt, mmdebstrap and uidmap; [[wheel]] needs a \
Python 3 with pip. What was fetched is kept in the user's cache, and not asked for again.";

/// What to do about images of one's own.
#[derive(Debug, Subcommand)]
pub enum DevAction {
    /// Make a folder with a recipe to edit, for an image on an installed one
    NewImage(NewImageArgs),
    /// The same by kind: an overlay on an installed image, or a base from a root file system of your own
    Scaffold(ScaffoldArgs),
    /// Bake the recipe in a folder, boot the image to prove it, and pack its wheel
    #[command(after_help = BAKE_NOTES)]
    Bake(BakeArgs),
    /// List the components of an installed image that have known flaws; exits with 1 when there is one
    Audit(AuditArgs),
}

/// The options of `quicksand dev audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// The image: its name, a wheel, or a bill of materials (NAME.cdx.json); with a name what it lies on is looked
    /// at too
    pub image: String,

    /// Advisories in OSV form: a file with one, with a list of them or with one on each line, or a folder of .json
    /// files; nothing is fetched
    #[arg(long, value_name = "FILE", required = true)]
    pub advisories: Vec<std::path::PathBuf>,

    /// Print JSON: `findings`, what is `undecided` or `unknown`, and how much was compared
    #[arg(long)]
    pub json: bool,
}

/// The options of `quicksand dev new-image`.
#[derive(Debug, Args)]
pub struct NewImageArgs {
    /// The image's name: lower-case words of letters and digits, joined by dashes, as in my-tools
    pub name: String,

    /// The installed image that it lies on, or whose kernel and agent a container image gets [default
    /// with --from: debian]
    #[arg(
        long,
        value_name = "IMAGE",
        required_unless_present = "from",
        default_value_if("from", clap::builder::ArgPredicate::IsPresent, "debian")
    )]
    pub base: Option<String>,

    /// A container image of a registry whose files it gets, as in registry.example.org/tool:1; what it
    /// means now is written down by its digest
    #[arg(long, value_name = "REFERENCE")]
    pub from: Option<String>,

    /// The folder to make NAME in [default: the working folder]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<std::path::PathBuf>,
}

/// The options of `quicksand dev scaffold`.
#[derive(Debug, Args)]
pub struct ScaffoldArgs {
    /// What the image's files lie on
    #[arg(value_enum)]
    pub kind: ScaffoldKind,

    /// The image's name: lower-case words of letters and digits, joined by dashes, as in my-tools
    pub name: String,

    /// The installed image that it lies on, or whose kernel and agent a base gets
    #[arg(long, value_name = "IMAGE", default_value = "debian")]
    pub base: String,

    /// The folder to make NAME in [default: the working folder]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<std::path::PathBuf>,
}

/// What the files of an image lie on.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ScaffoldKind {
    /// A root file system of your own, as a tar
    Base,
    /// The files of an installed image
    Overlay,
}

impl ScaffoldArgs {
    /// The new image without its kind.
    pub fn image(&self) -> NewImageArgs {
        let base = Some(self.base.clone());
        NewImageArgs { name: self.name.clone(), base, from: None, dir: self.dir.clone() }
    }
}

/// The options of `quicksand dev bake`.
#[derive(Debug, Args)]
pub struct BakeArgs {
    /// The folder with recipe.toml, whose name is the image's
    #[arg(default_value = ".")]
    pub dir: std::path::PathBuf,

    /// Where the image's files, its wheel and the report of the boot are written [default: DIR/dist]
    #[arg(long, value_name = "DIR")]
    pub out: Option<std::path::PathBuf>,

    /// The guest's architecture: amd64 or arm64 [default: the host's]
    #[arg(long)]
    pub arch: Option<String>,

    /// Renew recipe.lock: take the base, the root file system and the packages as they are now
    #[arg(long)]
    pub update: bool,

    /// Do not boot the image to prove it; then the recipe's checks are not run
    #[arg(long)]
    pub no_boot: bool,

    /// Where the owners of files are kept while packages are installed: on disk (as root, or with a
    /// range of ids in /etc/subuid) or in a map (neither is needed, and it is slower) [default: the
    /// disk where that is possible]
    #[arg(long, value_name = "disk|map")]
    pub ownership: Option<image_builder::rootfs::Ownership>,
}
