//! The options of `install`, `uninstall`, `list` and `clean`.

use clap::Args;

/// What `install` and `uninstall` take.
const NAMES: &str = "\
Names: qemu, qemu-cross, minimal, debian, debian-agent, debian-desktop, and all; those of recipes that were never \
baked from their distribution's mirror, ubuntu and alpine, are known for wheels of one's own. A version follows as in `debian==0.1.0`. Wheels are chosen by the hardware and \
by Python's tag, compared with the index's sha256 and verified; all are put in place, or none.";

/// The options of `quicksand install`.
#[derive(Debug, Default, Args)]
#[command(after_help = NAMES)]
pub struct InstallArgs {
    /// What to install: names, or paths of wheels
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,

    /// The index to ask (PEP 503 or 691) [default: pip's configuration, such as PIP_INDEX_URL]
    #[arg(short = 'i', long, value_name = "URL")]
    pub index_url: Option<String>,

    /// A folder of wheels, or a page that links to wheels, to look at first
    #[arg(short = 'f', long, value_name = "FOLDER_OR_URL")]
    pub find_links: Vec<String>,

    /// Ask no index, whatever pip's configuration says
    #[arg(long, conflicts_with = "index_url")]
    pub no_index: bool,

    /// Take the newest version even if another one is installed
    #[arg(short = 'U', long)]
    pub upgrade: bool,

    /// The interpreter or environment to install into [default: the one of this command, else the
    /// active one, else the user's data folder]
    #[arg(long, value_name = "PATH")]
    pub python: Option<std::path::PathBuf>,
}

/// The options of `quicksand uninstall`.
#[derive(Debug, Args)]
#[command(after_help = NAMES)]
pub struct UninstallArgs {
    /// What to uninstall
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,

    /// The interpreter or environment to uninstall from [default: as for install]
    #[arg(long, value_name = "PATH")]
    pub python: Option<std::path::PathBuf>,
}

/// The options of `quicksand clean`.
#[derive(Debug, Args)]
pub struct CleanArgs {
    /// The saves of the home folder instead of the working folder's, and all caches
    #[arg(long)]
    pub global: bool,

    /// Do not ask
    #[arg(short = 'y', long)]
    pub yes: bool,
}

/// The options of `quicksand list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Also packages without an image, and the names that can be installed
    #[arg(long)]
    pub all: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
