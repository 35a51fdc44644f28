//! A file that was fetched or kept and is not what it should be, or a wheel that did not come.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file of the store with another size than the lock names.
    #[error("`{}` holds {found} bytes, and the lock names {expected}", path.display())]
    WrongSize {
        path: PathBuf,
        /// How many bytes it holds.
        found: u64,
        /// How many the lock names.
        expected: u64,
    },
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
}

impl StoreError {
    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::WrongSize { path, .. } => Some(format!(
                "unless the lock was changed by hand: delete `{}` and bake again",
                path.display()
            )),
            Self::WrongHash { path, .. } => Some(format!(
                "delete `{}` and bake again; if it comes back, distrust the mirror",
                path.display()
            )),
            Self::NoWheelDigest { wheel, arch } => Some(format!(
                "write it into [[wheel]] of `{wheel}`, as in sha256.{arch} = \"0123...\""
            )),
            Self::WheelNotFetched { source, .. } => Some(match source.kind() {
                std::io::ErrorKind::NotFound => {
                    "install Python 3 with pip, which fetches wheels".to_owned()
                }
                _ if source.to_string().contains("No module named pip") => {
                    "give this Python pip (Debian's package python3-pip), or run in a virtual environment that has it"
                        .to_owned()
                }
                _ => "pip asks the indexes of its own configuration: see `pip config list`; a wheel that was fetched once is not asked for again"
                    .to_owned(),
            }),
            Self::OtherWheel { .. } => Some(
                "distrust the index, or write the new sha256 into the recipe if it is meant"
                    .to_owned(),
            ),
            Self::NoProgram { known, .. } if known.is_empty() => {
                Some("those that pip makes from entry points are not in the wheel".to_owned())
            }
            Self::NoProgram { program, known, .. } => {
                let has = known.join(", ");
                Some(match spelling::nearest(program, known.iter().map(String::as_str)) {
                    Some(nearest) => format!("did you mean `{nearest}`? It has: {has}"),
                    None => format!("it has: {has}"),
                })
            }
        }
    }
}
