//! The options of `quicksand dev`.

use clap::{Args, Subcommand, ValueEnum};

/// The options of `quicksand dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    #[command(subcommand)]
    pub action: DevAction,
}

/// What to do about images of one's own.
#[derive(Debug, Subcommand)]
pub enum DevAction {
    /// Make a folder with a recipe to edit, for an image on an installed one
    NewImage(NewImageArgs),
    /// The same by kind: an overlay on an installed image, or a base on a root file system of your own
    Scaffold(ScaffoldArgs),
    /// Bake the recipe in a folder, boot the image to prove it, and pack its wheel
    Bake(BakeArgs),
}

/// The options of `quicksand dev new-image`.
#[derive(Debug, Args)]
pub struct NewImageArgs {
    /// The image's name: lower-case words of letters and digits, joined by dashes
    pub name: String,

    /// The installed image that it lies on
    #[arg(long, value_name = "IMAGE")]
    pub base: String,

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

    /// The image's name: lower-case words of letters and digits, joined by dashes
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
        NewImageArgs { name: self.name.clone(), base: self.base.clone(), dir: self.dir.clone() }
    }
}

/// The options of `quicksand dev bake`.
#[derive(Debug, Args)]
pub struct BakeArgs {
    /// The folder with recipe.toml
    #[arg(default_value = ".")]
    pub dir: std::path::PathBuf,

    /// Where the image's files and its wheel are written [default: DIR/dist]
    #[arg(long, value_name = "DIR")]
    pub out: Option<std::path::PathBuf>,

    /// The guest's architecture: amd64 or arm64 [default: the host's]
    #[arg(long)]
    pub arch: Option<String>,

    /// Renew recipe.lock: take the base, the root file system and the packages as they are now
    #[arg(long)]
    pub update: bool,

    /// Do not boot the image to prove it
    #[arg(long)]
    pub no_boot: bool,

    /// Where the owners of files are kept while packages are installed: on disk (as root, or with a
    /// range of ids in /etc/subuid) or in a map (neither is needed) [default: whichever is possible,
    /// on disk rather than in a map]
    #[arg(long, value_name = "disk|map")]
    pub ownership: Option<image_builder::rootfs::Ownership>,
}
