//! The options of `quicksand template`.

use super::MachineArgs;
use clap::{Args, Subcommand};

/// The options of `quicksand template`.
#[derive(Debug, Args)]
pub struct TemplateArgs {
    #[command(subcommand)]
    pub action: TemplateAction,
}

/// What to do with templates.
#[derive(Debug, Subcommand)]
pub enum TemplateAction {
    /// List the templates, the one that was used last first
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove all templates; machines that were copied from them go on
    Clean,
    /// Make the template of a machine, and try it
    Create(Box<CreateArgs>),
}

/// The machine whose template is made.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The name of an installed image, or the path of one
    pub image: String,

    // Last, because its heading holds for every option after it.
    #[command(flatten)]
    pub machine: MachineArgs,
}
