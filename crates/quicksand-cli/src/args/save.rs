//! The options of `quicksand save`.

use clap::{Args, Subcommand};

/// The options of `quicksand save`.
#[derive(Debug, Args)]
pub struct SaveArgs {
    #[command(subcommand)]
    pub action: SaveAction,
}

/// What to do with saves. A save is given by its name, or by the path of its folder.
#[derive(Debug, Subcommand)]
pub enum SaveAction {
    /// List the saves, damaged ones too
    List {
        #[command(flatten)]
        place: SavePlace,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what a save holds
    Show {
        /// Its name or path
        name: String,
        #[command(flatten)]
        place: SavePlace,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check saves completely; fails when one is damaged
    Validate {
        /// Their names or paths
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        place: SavePlace,
    },
    /// Remove saves
    Remove {
        /// Their names or paths
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        place: SavePlace,
    },
    /// Write a save to one file, for another machine
    Export {
        /// Its name or path
        name: String,
        /// The file [default: NAME.tar]
        file: Option<std::path::PathBuf>,
        #[command(flatten)]
        place: SavePlace,
    },
    /// Make a save from an exported file, whoever it came from
    Import {
        /// The file
        file: std::path::PathBuf,
        /// Its name or path [default: the file's name]
        name: Option<String>,
        #[command(flatten)]
        place: SavePlace,
        /// Replace a save of that name
        #[arg(long)]
        replace: bool,
    },
}

/// Where saves are.
#[derive(Debug, Args)]
pub struct SavePlace {
    /// The folder of saves [default: .quicksand/sandboxes]
    #[arg(long, value_name = "FOLDER")]
    pub workspace: Option<std::path::PathBuf>,
}
