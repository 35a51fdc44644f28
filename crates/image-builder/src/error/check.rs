//! A check of a recipe in the booted machine.

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// A check of the recipe does not hold in the booted machine.
    #[error("The check `{name}` failed: {reason}")]
    Failed {
        name: String,
        /// What was not as it should be.
        reason: String,
        /// The end of what the command printed.
        output: String,
    },
    /// A check could not be run.
    #[error("Failed to run the check `{name}` in the machine")]
    NotRun {
        name: String,
        /// Why.
        source: std::io::Error,
    },
}

impl CheckError {
    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Failed { output, .. } if !output.is_empty() => {
                Some(format!("it printed: {output}"))
            }
            _ => None,
        }
    }
}
