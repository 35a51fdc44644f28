//! What can be wrong with a component.

/// A component that cannot be written down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody would know its terms.
    #[error("The component `{component}` has the licence `{license}`, which is no SPDX expression")]
    License {
        /// Its name.
        component: String,
        /// What stands in the place of its licence.
        license: String,
        /// What the parser says.
        source: spdx::ParseError,
    },
}

impl Error {
    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::License { .. } => {
                "write identifiers of spdx.org/licenses joined by AND, OR and WITH".to_owned()
            }
        }
    }
}
