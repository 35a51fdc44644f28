//! What apt's and apk's archives hold.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
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
    Conflict { package: String, other: String },
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
}

impl PackageError {
    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoPackage { nearest: Some(nearest), .. } => {
                Some(format!("did you mean `{nearest}`?"))
            }
            Self::NoMirror { archive } => {
                Some(format!("name one: {}=URI", crate::apt::mirror_variable(archive)))
            }
            Self::OldIndex { .. } => Some(
                "the mirror is behind, or somebody answers in its place; name another one: \
                 QUICKSAND_MIRROR_ALPINE=URI"
                    .to_owned(),
            ),
            Self::NoKeyring { package, variable, .. } => Some(format!(
                "install the package {package}, or name another place: {variable}=PATH"
            )),
            Self::Unsigned { .. } => {
                Some("distrust the mirror, or renew the distribution's keys".to_owned())
            }
            Self::ManyProviders { .. } => Some("name one of them in the recipe".to_owned()),
            Self::NoComponent { known, .. } => Some(format!("there are: {}", known.join(", "))),
            _ => None,
        }
    }
}
