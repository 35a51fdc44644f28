//! Which tarball of QEMU is built: those that would do, in the order in which they are tried, and the
//! first that is to be had.

use super::{
    download::Answer,
    fetch::PrivateApt,
    pins::{Pin, Pins},
    source::{self, Source},
};
use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use xtask_base::{
    context::Context,
    ui::{Step, hinted},
};

/// One tarball that would do.
#[derive(Clone)]
pub struct Choice {
    /// Its hash.
    pub sha256: String,
    /// The pin, when it is one.
    pub pin: Option<Pin>,
    from: From,
}

#[derive(Clone)]
enum From {
    Mirror,
    Url(String),
    File(PathBuf),
}

/// The tarballs that would do, in the order in which they are tried.
pub fn choices(source: &Source, pins: &Pins) -> Result<Vec<Choice>> {
    let pin_of = |sha256: &str| pins.qemu.iter().find(|pin| pin.sha256.as_str() == sha256).cloned();
    Ok(match source {
        Source::Apt => pins
            .qemu
            .iter()
            .map(|pin| Choice {
                sha256: pin.sha256.as_str().to_owned(),
                pin: Some(pin.clone()),
                from: From::Mirror,
            })
            .collect(),
        Source::Url { url, sha256 } => {
            let sha256 = sha256.as_str().to_owned();
            vec![Choice { pin: pin_of(&sha256), sha256, from: From::Url(url.clone()) }]
        }
        Source::File { path, sha256 } => {
            let (sha256, pin) = source::verify_local(path, sha256.as_ref(), &pins.qemu)?;
            vec![Choice { sha256, pin: pin.cloned(), from: From::File(path.clone()) }]
        }
    })
}

/// The first tarball of the list that is to be had.
pub fn fetch(
    context: &Context,
    step: &Step,
    apt: &PrivateApt,
    choices: &[Choice],
) -> Result<(PathBuf, Choice)> {
    let Some(first) = choices.first() else { bail!("No source of QEMU is pinned") };
    let tarball = match &first.from {
        From::File(path) => path.clone(),
        From::Url(url) => {
            let sha256 = first.sha256.parse().map_err(anyhow::Error::msg)?;
            let reason = match apt.download(context, step, url, &sha256)? {
                Answer::Here(place) => return Ok((place, first.clone())),
                Answer::Absent if context.offline => "it is not in the cache".to_owned(),
                Answer::Absent => "there is no such file".to_owned(),
                Answer::Failed(reason) => reason,
            };
            return Err(hinted(
                format!("Failed to download `{url}`: {reason}"),
                format!("is it reachable from here? log: {}", step.log().display()),
            ));
        }
        From::Mirror => {
            let pins: Vec<Pin> = choices.iter().filter_map(|choice| choice.pin.clone()).collect();
            let fetched = apt.fetch(context, step, "qemu", &pins)?;
            let fits = |choice: &&Choice| choice.pin.as_ref() == Some(&fetched.pin);
            let choice = choices.iter().find(fits).context("The pin is gone")?;
            return Ok((fetched.file, choice.clone()));
        }
    };
    Ok((tarball, first.clone()))
}

impl Choice {
    /// The tarball's name.
    pub fn name(&self) -> String {
        let path = match (&self.from, &self.pin) {
            (From::Mirror, Some(pin)) => pin.path.clone(),
            (From::Mirror, None) => String::new(),
            (From::Url(url), _) => url.clone(),
            (From::File(path), _) => path.display().to_string(),
        };
        path.rsplit('/').next().unwrap_or(&path).to_owned()
    }

    /// How it was chosen, for the record. A local path stays out of it: it says nothing elsewhere.
    pub fn words(&self) -> String {
        let origin = match (&self.from, &self.pin) {
            (From::Mirror, Some(pin)) => format!("apt, source package qemu {}", pin.version),
            (From::Mirror, None) => "apt".to_owned(),
            (From::Url(url), _) => format!("URL {url}"),
            (From::File(_), _) => format!("local tarball {}", self.name()),
        };
        format!("{origin}, sha256:{}", self.sha256)
    }

    /// Our changes. A tarball that is not pinned gets those of the first pin: they are refused, not
    /// guessed, when they do not fit.
    pub fn patches(&self, pins: &Pins, folder: &Path) -> Vec<PathBuf> {
        let pin = self.pin.as_ref().or(pins.qemu.first());
        let names = pin.into_iter().flat_map(|pin| &pin.patches);
        names.map(|name| folder.join("patches").join(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::qemu_folder;

    #[test]
    fn a_local_tarball_with_the_wrong_hash_is_refused_before_anything_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qemu_10.2.2+ds.orig.tar.xz");
        fs_err::write(&path, "not the source").unwrap();
        let pins = Pins::read(&qemu_folder()).unwrap();
        let source = Source::parse(path.to_str().unwrap(), None).unwrap();
        let error = choices(&source, &pins).map(drop).unwrap_err().to_string();
        let actual = source::sha256_of(&path).unwrap();
        assert!(error.contains(&actual), "{error}");
        assert!(error.contains(pins.qemu[0].sha256.as_str()), "{error}");
    }

    #[test]
    fn the_choice_is_recorded_in_words() {
        let pins = Pins::read(&qemu_folder()).unwrap();
        let choice = &choices(&Source::Apt, &pins).unwrap()[0];
        let expect = format!("apt, source package qemu {}, sha256:", pins.qemu[0].version);
        assert!(choice.words().starts_with(&expect), "{}", choice.words());
        assert!(choice.name().starts_with("qemu_"), "{}", choice.name());
        assert!(choice.patches(&pins, &qemu_folder()).iter().all(|patch| patch.is_file()));
    }
}
