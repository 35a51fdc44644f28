//! Whose source wheels ask for: their bills read together.

use crate::{Error, Need, Needed, Part, SourcePackage, folder, needed, read};
use std::{collections::BTreeSet, path::PathBuf};

/// What a set of wheels owes the source of.
pub struct Owed {
    /// The wheels' file names.
    pub(crate) wheels: Vec<String>,
    /// The archives and suites that their packages come from.
    pub(crate) suites: BTreeSet<(String, String)>,
    /// The pieces of source.
    pub(crate) needed: Needed,
}

impl Owed {
    /// Reads the bills of these wheels.
    ///
    /// # Errors
    /// A wheel has none, or the source of a part cannot be had.
    pub fn by(wheels: &[PathBuf]) -> Result<Self, Error> {
        let (mut parts, mut suites, mut names): (Vec<Part>, _, _) =
            (Vec::new(), BTreeSet::new(), Vec::new());
        for wheel in wheels {
            let bill = read(wheel)?;
            parts.extend(bill.parts);
            suites.extend(bill.suites);
            names.push(wheel.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
        Ok(Self { wheels: names, suites, needed: needed(&parts)? })
    }

    /// The folders of the archive that the source lies in.
    pub fn folders(&self) -> BTreeSet<String> {
        self.needed.pieces.keys().map(folder).collect()
    }

    /// In a line.
    pub fn words(&self) -> String {
        let (owed, left_out) = (self.needed.n_owed, self.needed.n_left_out);
        format!(
            "source: {} sources of {owed} parts of {} wheels; {left_out} parts need none",
            self.folders().len(),
            self.wheels.len()
        )
    }

    /// The source packages of distributions among it.
    pub(crate) fn packages(&self) -> BTreeSet<SourcePackage> {
        let of_package = |need: &Need| match need {
            Need::Package(package) => Some(package.clone()),
            Need::File { .. } | Need::Ours => None,
        };
        self.needed.pieces.keys().filter_map(of_package).collect()
    }
}
