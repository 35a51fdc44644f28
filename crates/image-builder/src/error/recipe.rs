//! A recipe that cannot be baked as it stands.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// A recipe that is not valid.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Invalid {
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
}

impl RecipeError {
    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Invalid { hint, .. } => hint.clone(),
            Self::NoRecipe { name, known } => {
                Some(match spelling::nearest(name, known.iter().map(String::as_str)) {
                    Some(nearest) => {
                        format!("did you mean `{nearest}`? There are: {}", known.join(", "))
                    }
                    None => format!("there are: {}", known.join(", ")),
                })
            }
            _ => None,
        }
    }
}
