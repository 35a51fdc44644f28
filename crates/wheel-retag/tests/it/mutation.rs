//! Seeded damages, hundreds of them, on wheels that we write: `verify` finds each. None of them
//! leaves the wheel with the meaning that it had.

mod raw;

use crate::sample::spec;
use raw::{Entry, pack, unpack};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use wheel_retag::{
    RecordRow, Source, WheelFile, WheelSpec, WheelTag, format_record, parse_record, record_hash,
    verify, write,
};

/// How often each kind of damage is done, each time elsewhere.
const N_SEEDS: u64 = 8;

/// Always the same numbers for a seed (Knuth's MMIX constants).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

/// A wheel that is being damaged: its file name and its entries.
struct Wheel {
    file_name: String,
    entries: Vec<Entry>,
}

impl Wheel {
    fn info(&self) -> String {
        let record = self.entries.iter().find(|entry| entry.name.ends_with(".dist-info/RECORD"));
        record.unwrap().name.trim_end_matches("RECORD").to_owned()
    }

    fn at(&self, file: &str) -> usize {
        let name = format!("{}{file}", self.info());
        self.entries.iter().position(|entry| entry.name == name).unwrap()
    }

    /// A file outside of dist-info that is not empty.
    fn payload(&self, random: &mut Random) -> usize {
        let info = self.info();
        let is_one = |entry: &Entry| !entry.name.starts_with(&info) && entry.data.len() > 1;
        let list: Vec<usize> =
            (0..self.entries.len()).filter(|at| is_one(&self.entries[*at])).collect();
        random.pick(&list)
    }

    /// Replaces text in a file of dist-info, which has it.
    fn edit(&mut self, file: &str, from: &str, to: &str) {
        let at = self.at(file);
        let text = String::from_utf8(self.entries[at].data.clone()).unwrap();
        assert!(text.contains(from), "{from} is not in {file}");
        self.entries[at].data = text.replacen(from, to, 1).into_bytes();
    }

    fn rows(&self) -> Vec<RecordRow> {
        parse_record(&self.entries[self.at("RECORD")].data).unwrap()
    }

    fn set_rows(&mut self, rows: &[RecordRow]) {
        let at = self.at("RECORD");
        self.entries[at].data = format_record(rows).into_bytes();
    }

    /// Changes one row that has a hash.
    fn row(&mut self, random: &mut Random, change: impl FnOnce(&mut RecordRow)) {
        let mut rows = self.rows();
        let n_hashed = rows.iter().filter(|row| !row.hash.is_empty()).count();
        change(&mut rows[random.below(n_hashed)]);
        self.set_rows(&rows);
    }

    /// Makes RECORD right again, so that only what was damaged is wrong.
    fn record_again(&mut self) {
        let own = format!("{}RECORD", self.info());
        let rows: Vec<RecordRow> = self
            .entries
            .iter()
            .map(|entry| {
                if entry.name == own {
                    return RecordRow::own(&own);
                }
                let size = entry.data.len().to_string();
                RecordRow { path: entry.name.clone(), hash: record_hash(&entry.data), size }
            })
            .collect();
        self.set_rows(&rows);
    }

    fn add(&mut self, name: &str, data: &[u8]) {
        self.entries.insert(0, Entry::file(name, data));
        self.record_again();
    }
}

type Damage = fn(&mut Wheel, &mut Random);

/// What people, tools and attackers do to the entries of a wheel.
const DAMAGES: &[(&str, Damage)] = &[
    ("wrong hash in RECORD", |w, r| {
        let n = r.below(40);
        w.row(r, |row| {
            let at = "sha256=".len() + n;
            let letter = if row.hash.as_bytes()[at] == b'A' { "B" } else { "A" };
            row.hash.replace_range(at..=at, letter);
        });
    }),
    ("wrong size in RECORD", |w, r| {
        let by = 1 + r.below(9) as u64;
        w.row(r, |row| row.size = (row.size.parse::<u64>().unwrap() + by).to_string());
    }),
    ("weak hash in RECORD", |w, r| w.row(r, |row| row.hash = row.hash.replace("sha256", "md5"))),
    ("no hash in RECORD", |w, r| w.row(r, |row| row.hash.clear())),
    ("row gone", |w, r| {
        let mut rows = w.rows();
        rows.remove(r.below(rows.len()));
        w.set_rows(&rows);
    }),
    ("row twice", |w, r| {
        let mut rows = w.rows();
        rows.push(rows[r.below(rows.len())].clone());
        w.set_rows(&rows);
    }),
    ("row for nothing", |w, r| {
        let mut rows = w.rows();
        rows.insert(0, RecordRow::new(format!("ghost{}.py", r.below(99)), &[7; 32], 3));
        w.set_rows(&rows);
    }),
    ("row with two columns", |w, r| {
        let at = w.at("RECORD");
        let text = String::from_utf8(w.entries[at].data.clone()).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        let line = r.below(lines.len());
        lines[line] = lines[line].rsplit_once(',').unwrap().0;
        w.entries[at].data = lines.join("\n").into_bytes();
    }),
    ("own row with a hash", |w, r| {
        let mut rows = w.rows();
        let own = rows.iter_mut().find(|row| row.hash.is_empty()).unwrap();
        *own = RecordRow::new(own.path.clone(), &[r.below(256) as u8; 32], 9);
        w.set_rows(&rows);
    }),
    ("entry gone", |w, r| {
        let at = r.below(w.entries.len());
        w.entries.remove(at);
    }),
    ("entry too many", |w, r| {
        let name = r.pick(&["evil.pth", "sitecustomize.py", "quicksand_sample/x.so", "z"]);
        w.entries.insert(0, Entry::file(name, b"import os"));
    }),
    ("a byte of the contents changed", |w, r| {
        let at = w.payload(r);
        let byte = r.below(w.entries[at].data.len());
        w.entries[at].data[byte] ^= 1 << r.below(8);
    }),
    ("contents cut", |w, r| {
        let at = w.payload(r);
        let length = r.below(w.entries[at].data.len());
        w.entries[at].data.truncate(length);
    }),
    ("contents of two files swapped", |w, r| {
        let one = w.payload(r);
        let other = w.at(r.pick(&["METADATA", "WHEEL", "licenses/LICENSE-MIT"]));
        let data = w.entries[one].data.clone();
        w.entries[one].data = std::mem::replace(&mut w.entries[other].data, data);
    }),
    ("SBOM tampered with", |w, r| {
        let at = w.at("sboms/sample.cdx.json");
        let byte = r.below(w.entries[at].data.len());
        w.entries[at].data[byte] ^= 1;
    }),
    ("SBOM replaced by something else", |w, r| {
        let at = w.at("sboms/sample.cdx.json");
        w.entries[at].data = r.pick(&[&b"{}"[..], b"", b"[]", b"no JSON", b"{\"a\": 1}"]).to_vec();
        w.record_again();
    }),
    ("licence file gone", |w, r| {
        let at = w.at(r.pick(&["licenses/LICENSE-MIT", "licenses/qemu/COPYING"]));
        w.entries.remove(at);
        w.record_again();
    }),
    ("file name with another platform", |w, r| {
        let tag =
            r.pick(&["win_arm64", "linux_aarch64", "macosx_10_13_x86_64", "linux_x86_64.any"]);
        let start = w.file_name.rsplit_once('-').unwrap().0.to_owned();
        w.file_name = format!("{start}-{tag}.whl");
    }),
    ("file name with another version", |w, r| {
        let version = format!("1.{}", 1 + r.below(9));
        w.file_name = w.file_name.replacen("1.0rc1", &version, 1);
    }),
    ("file name of another distribution", |w, r| {
        let name = r.pick(&["quicksand_simple", "sample", "quicksand_sample2"]);
        w.file_name = w.file_name.replacen("quicksand_sample", name, 1);
    }),
    ("file name of no wheel", |w, r| {
        let end = r.pick(&[".zip", "", ".whl.whl", "-x.whl"]);
        w.file_name = w.file_name.replace(".whl", end);
    }),
    ("another tag in WHEEL", |w, r| {
        let tag = r.pick(&["Tag: py2-none-", "Tag: py3-abi3-", "Tag: cp310-none-"]);
        w.edit("WHEEL", "Tag: py3-none-", tag);
        w.record_again();
    }),
    ("tag too many in WHEEL", |w, r| {
        let tag = format!("Tag: py3-none-win{}\nTag: ", r.below(99));
        w.edit("WHEEL", "Tag: ", &tag);
        w.record_again();
    }),
    ("another name in METADATA", |w, r| {
        w.edit("METADATA", "Quicksand.Sample", &format!("other{}", r.below(99)));
        w.record_again();
    }),
    ("another version in METADATA", |w, r| {
        w.edit("METADATA", "Version: 1.0rc1", &format!("Version: 1.0rc{}", 2 + r.below(9)));
        w.record_again();
    }),
    ("another dist-info folder", |w, r| {
        let (info, new) = (w.info(), format!("other-{}.dist-info/", r.below(99)));
        for entry in &mut w.entries {
            entry.name = entry.name.replacen(&info, &new, 1);
        }
        w.record_again();
    }),
    ("second dist-info folder", |w, r| {
        w.add(&format!("x-{}.dist-info/METADATA", r.below(99)), b"x")
    }),
    ("WHEEL of another version", |w, r| {
        w.edit("WHEEL", "Wheel-Version: 1.0", &format!("Wheel-Version: {}.0", 2 + r.below(9)));
        w.record_again();
    }),
    ("no regular file", |w, r| {
        let at = w.payload(r);
        w.entries[at].mode = r.pick(&[0o120_777, 0o020_644, 0o060_644, 0o010_644, 0o140_755]);
    }),
    ("more than permissions", |w, r| {
        let at = w.payload(r);
        w.entries[at].mode = 0o100_755 | r.pick(&[0o4000, 0o2000, 0o1000, 0o6000]);
    }),
    ("program without its executable bits", |w, r| {
        let at = w.entries.iter().position(|entry| entry.name.ends_with("bin/elf")).unwrap();
        w.entries[at].mode = r.pick(&[0o100_644, 0o100_600, 0o100_444, 0o100_666]);
    }),
    ("duplicate entry", |w, r| {
        let mut again = w.entries[w.payload(r)].clone();
        if r.below(2) == 0 {
            again.data.push(b'#');
        }
        w.entries.insert(0, again);
    }),
    ("overlapping entries", |w, r| {
        let target = w.payload(r);
        let (name, data) = (w.entries[target].name.clone(), w.entries[target].data.clone());
        w.entries.push(Entry { is_at: Some(name), ..Entry::file("overlap.bin", &data) });
    }),
    ("hidden entry", |w, r| {
        let at = r.below(w.entries.len());
        let hidden = Entry { is_hidden: true, ..Entry::file("hidden.py", b"import os") };
        w.entries.insert(at, hidden);
    }),
    ("path that leaves the environment", |w, r| {
        let paths = [
            "../evil.py",
            "a/../../evil.py",
            "/etc/passwd",
            "C:/evil.py",
            "a\\..\\b",
            "./a",
            "a//b",
        ];
        w.add(r.pick(&paths), b"evil");
    }),
    ("path that Windows cannot hold", |w, r| {
        w.add(
            r.pick(&["quicksand_sample/aux.py", "nul", "a/b.", "a/com1.txt", "a/b ", "a/x?"]),
            b"x",
        );
    }),
    ("path with a control character", |w, r| {
        w.add(r.pick(&["a\nb.py", "a\0b", "a\tb", "quicksand_sample/\u{1b}[2J"]), b"x");
    }),
    ("case collision", |w, r| {
        let name = w.entries[w.payload(r)].name.to_ascii_uppercase();
        w.add(&name, b"x");
    }),
    ("file that is a folder too", |w, r| {
        let name = format!("{}/inside", w.entries[w.payload(r)].name);
        w.add(&name, b"x");
    }),
    ("bomb", |w, r| w.add("zeros", &vec![0; (20 << 20) + r.below(1 << 20)])),
    ("wrong checksum", |w, r| {
        let at = w.payload(r);
        w.entries[at].crc_damage = 1 << r.below(32);
    }),
    ("wrong size in the directory", |w, r| {
        let at = w.payload(r);
        w.entries[at].size_damage = 1 + r.below(200) as i64;
    }),
    ("far too large a size in the directory", |w, r| {
        let at = w.payload(r);
        w.entries[at].size_damage = (1 << 30) + r.below(1 << 30) as i64;
    }),
    ("another name in the local header", |w, r| {
        let at = w.payload(r);
        w.entries[at].local_name = Some(r.pick(&["evil.py", "../evil", "x"]).to_string());
    }),
    ("encrypted", |w, r| {
        let at = w.payload(r);
        w.entries[at].flags |= 1;
    }),
    ("unknown compression", |w, r| {
        let at = w.payload(r);
        w.entries[at].method = Some(r.pick(&[1, 9, 12, 14, 93, 97]));
    }),
];

/// What happens to a file as a whole, however it was made.
type ByteDamage = fn(&mut Vec<u8>, &mut Random);
const BYTE_DAMAGES: &[(&str, ByteDamage)] = &[
    ("truncated", |bytes, r| {
        let length = r.below(bytes.len());
        bytes.truncate(length);
    }),
    ("bytes before", |bytes, r| {
        let n = 1 + r.below(100);
        bytes.splice(0..0, vec![b'#'; n]);
    }),
    ("bytes behind", |bytes, r| {
        let n = 1 + r.below(100);
        bytes.extend(vec![0; n]);
    }),
    ("a piece gone", |bytes, r| {
        let start = r.below(bytes.len() - 10);
        bytes.drain(start..start + 1 + r.below(9));
    }),
    ("a piece of zeros", |bytes, r| {
        // Where the first of them is malformed already.
        let start = (0..).map(|_| r.below(bytes.len() - 16)).find(|at| bytes[*at] != 0).unwrap();
        bytes[start..start + 16].fill(0);
    }),
];

/// The sample with a program and a platform.
fn sample(platform: &str) -> WheelSpec {
    let mut spec = spec();
    spec.tag = WheelTag::new("py3", "none", [platform]);
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(4096, 3);
    (elf[16], elf[17]) = (2, 0);
    spec.files
        .push(WheelFile::deflated("quicksand_sample/bin/elf", Source::Bytes(elf)).executable());
    spec.files.retain(|file| !file.path.ends_with("noise.bin"));
    spec
}

fn is_found(path: &Path, bytes: &[u8]) -> bool {
    fs_err::write(path, bytes).unwrap();
    // A file that cannot be read as a wheel at all may be an error as well as a finding.
    let is_found = verify(path).map_or(true, |findings| !findings.is_empty());
    fs_err::remove_file(path).unwrap();
    is_found
}

#[test]
fn hundreds_of_seeded_damages_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut missed: Vec<(&str, u64)> = Vec::new();
    for seed in 0..N_SEEDS {
        let platform = ["linux_x86_64", "manylinux_2_17_x86_64", "any"][seed as usize % 3];
        let own = write(&sample(platform), folder.path()).unwrap();
        let file_name = own.file_name().unwrap().to_str().unwrap().to_owned();
        let sound = fs_err::read(&own).unwrap();
        assert_eq!(verify(&own).unwrap(), []);
        // As another maker would have written it, so that the damage itself is found and not only
        // that the bytes are not our writer's.
        let foreign = || {
            let mut wheel = Wheel { file_name: file_name.clone(), entries: unpack(&sound) };
            wheel.edit("WHEEL", "Generator: quicksand wheel-retag", "Generator: another (1.0)");
            wheel.record_again();
            wheel
        };
        let path = folder.path().join(&file_name);
        assert!(!is_found(&path, &pack(&foreign().entries)), "a false alarm before any damage");
        for (at, (what, damage)) in DAMAGES.iter().enumerate() {
            let mut random = Random(seed * 1000 + at as u64);
            random.below(2);
            let mut wheel = foreign();
            damage(&mut wheel, &mut random);
            *counts.entry(what).or_default() += 1;
            let path: PathBuf = folder.path().join(&wheel.file_name);
            if !is_found(&path, &pack(&wheel.entries)) {
                missed.push((what, seed));
            }
        }
        for (at, (what, damage)) in BYTE_DAMAGES.iter().enumerate() {
            let mut random = Random(seed * 1000 + 500 + at as u64);
            let mut bytes = sound.clone();
            damage(&mut bytes, &mut random);
            *counts.entry(what).or_default() += 1;
            if !is_found(&path, &bytes) {
                missed.push((what, seed));
            }
        }
    }
    let total: u64 = counts.values().sum();
    assert!(total >= 200, "only {total} damages");
    assert_eq!(missed, [], "of {total} damages");
}
