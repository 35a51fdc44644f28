//! What to do about each failure of a bake.

use super::Error;

impl Error {
    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoInstallMode { hint, .. } | Self::NoLock { hint, .. } => Some(hint.clone()),
            Self::Offline { .. } => Some(
                "run once without --offline, or take what is missing with --import-cache from where it was exported"
                    .to_owned(),
            ),
            Self::Recipe { hint, .. } => hint.clone(),
            Self::NoRecipe { name, known } => {
                Some(match spelling::nearest(name, known.iter().map(String::as_str)) {
                    Some(nearest) => {
                        format!("did you mean `{nearest}`? There are: {}", known.join(", "))
                    }
                    None => format!("there are: {}", known.join(", ")),
                })
            }
            Self::BadLock { path, .. }
            | Self::LockVersion { path, .. }
            | Self::WrongLock { path, .. } => {
                Some(format!("bake with --update to write `{}` anew", path.display()))
            }
            Self::Gone { renewal, .. } => {
                Some(format!("mirrors drop old versions; renew the lock with: {renewal}"))
            }
            Self::Installation { mode, .. } => mode.hint().map(str::to_owned),
            Self::OtherOnMirror { .. } => Some(
                "either the lock was changed, or distrust the mirror; --update renews the lock from \
                 signed lists"
                    .to_owned(),
            ),
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
            Self::Wheel(error) => error.hint(),
            Self::OtherInput { .. } => {
                Some("if that is meant, renew the lock: quicksand dev bake --update".to_owned())
            }
            Self::NoPackageManager { .. } => {
                Some("take another base, such as debian, or bring files with [[file]]".to_owned())
            }
            Self::Tool { program, source }
                if program == "mmdebstrap" && source.kind() == std::io::ErrorKind::NotFound =>
            {
                Some("install the packages mmdebstrap and uidmap".to_owned())
            }
            Self::NoRunner { .. } => Some(
                "install the package qemu-user-static, which registers emulators for the whole host"
                    .to_owned(),
            ),
            Self::BadAdvisories { .. } => Some(
                "give advisories in OSV form: one JSON object, a list of them, or one on each line"
                    .to_owned(),
            ),
            Self::NoBill { .. } => Some(
                "wheels and installed images of quicksand have one; name the wheel, or bake the image"
                    .to_owned(),
            ),
            Self::NoMirror { archive } => {
                Some(format!("name one: {}=URI", crate::apt::mirror_variable(archive)))
            }
            Self::OldIndex { .. } => Some(
                "the mirror is behind, or somebody answers in its place; name another one: \
                 QUICKSAND_MIRROR_ALPINE=URI"
                    .to_owned(),
            ),
            Self::Secrets { .. } => Some(
                "packages' scripts or commands made them, others on each bake: remove them in the \
                 recipe's last command and make them at the first start, by a unit of systemd; what is \
                 meant to ship is a [[file]]"
                    .to_owned(),
            ),
            Self::NoSources { .. } => Some(
                "give it a [[file]] below /etc/apt/sources.list.d, or keep apt's example: \
                 keep = [\"/usr/share/doc/apt/examples/**\"]"
                    .to_owned(),
            ),
            Self::System { .. } => Some(
                "bake it on a machine with Linux, a virtual one too; image wheels hold no program of the host, and \
                 there `cargo xtask release merge` gives them the names of other systems"
                    .to_owned(),
            ),
            Self::NoKeyring { package, variable, .. } => Some(format!(
                "install the package {package}, or name another place: {variable}=PATH"
            )),
            Self::Unsigned { .. } => {
                Some("distrust the mirror, or renew the distribution's keys".to_owned())
            }
            Self::ManyProviders { .. } => Some("name one of them in the recipe".to_owned()),
            Self::CheckFailed { output, .. } if !output.is_empty() => {
                Some(format!("it printed: {output}"))
            }
            Self::NoComponent { known, .. } => Some(format!("there are: {}", known.join(", "))),
            Self::NoPackage { nearest: Some(nearest), .. }
            | Self::UnknownModule { nearest: Some(nearest), .. } => {
                Some(format!("did you mean `{nearest}`?"))
            }
            Self::Disk(error) => error.hint(),
            _ => None,
        }
    }
}
