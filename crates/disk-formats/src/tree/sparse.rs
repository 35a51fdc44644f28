//! Files with holes in tars: GNU's type of its own and the forms in pax headers that GNU tar and
//! libarchive write. All become plain files.
//! <https://www.gnu.org/software/tar/manual/html_node/Sparse-Formats.html>

use crate::Error;
use std::io::Read;

/// The most that the files with holes of one tar may hold together, in bytes: a bound against a tar
/// that tells of more than there is memory for.
pub(super) const MAX_BYTES: u64 = 4 << 30;

/// What the headers of a member tell.
#[derive(Default)]
pub struct SparseMap {
    /// The file's name; the member itself has another one.
    pub(super) name: Option<Vec<u8>>,
    size: Option<u64>,
    /// Version 1: the map stands before the data.
    is_map_in_data: bool,
    /// Version 0.1: the map is a header; 0.0: several.
    map: Vec<u64>,
}

impl SparseMap {
    /// Takes a header `GNU.sparse.KEY`.
    pub(super) fn hear(&mut self, key: &str, value: &[u8]) {
        let text = std::str::from_utf8(value).unwrap_or_default();
        match key {
            "name" => self.name = Some(value.to_vec()),
            "realsize" | "size" => self.size = text.parse().ok(),
            "major" => self.is_map_in_data = text == "1",
            "map" => self.map = text.split(',').filter_map(|number| number.parse().ok()).collect(),
            "offset" | "numbytes" => self.map.extend(text.parse::<u64>()),
            _ => {}
        }
    }

    /// A file of GNU's own type, of this size.
    pub(super) fn from_gnu(size: i64) -> std::io::Result<Self> {
        let size = u64::try_from(size).map_err(|_| broken_map())?;
        Ok(Self { size: Some(size), ..Self::default() })
    }

    /// Adds a piece that has bytes.
    pub(super) fn add_piece(&mut self, offset: i64, length: i64) -> std::io::Result<()> {
        for number in [offset, length] {
            self.map.push(u64::try_from(number).map_err(|_| broken_map())?);
        }
        Ok(())
    }

    pub(super) fn is_sparse(&self) -> bool {
        self.size.is_some()
    }

    /// The file: its pieces at their places, and zeros between them.
    pub(super) fn fill(self, data: &mut impl Read, left: &mut u64) -> Result<Vec<u8>, Error> {
        let mut data = std::io::BufReader::new(data);
        let map = if self.is_map_in_data { map_in(&mut data)? } else { self.map };
        let size = take(self.size.unwrap_or_default(), left)?;
        let mut bytes = vec![0; size];
        for piece in map.chunks(2) {
            let [offset, length] = *piece else { return Err(broken()) };
            let range = usize::try_from(offset)
                .ok()
                .zip(offset.checked_add(length).and_then(|end| usize::try_from(end).ok()))
                .and_then(|(start, end)| bytes.get_mut(start..end));
            data.read_exact(range.ok_or_else(broken)?)?;
        }
        Ok(bytes)
    }
}

/// The map before the data: decimal numbers, a line each, how many pairs there are and then those;
/// filled up to a whole block of 512 bytes.
fn map_in(data: &mut impl Read) -> Result<Vec<u64>, Error> {
    let mut n_read = 0_u64;
    let mut number = || -> Result<u64, Error> {
        let mut value = 0_u64;
        loop {
            let mut byte = [0];
            data.read_exact(&mut byte)?;
            n_read += 1;
            match byte[0] {
                b'\n' => return Ok(value),
                digit @ b'0'..=b'9' => {
                    let next =
                        value.checked_mul(10).and_then(|v| v.checked_add(u64::from(digit - b'0')));
                    value = next.ok_or_else(broken)?;
                }
                _ => return Err(broken()),
            }
        }
    };
    let n_pairs = number()?;
    let mut map = Vec::new();
    for _ in 0..n_pairs.checked_mul(2).ok_or_else(broken)? {
        map.push(number()?);
    }
    let padding = n_read.next_multiple_of(512) - n_read;
    std::io::copy(&mut data.take(padding), &mut std::io::sink())?;
    Ok(map)
}

fn take(size: u64, left: &mut u64) -> Result<usize, Error> {
    *left = left
        .checked_sub(size)
        .ok_or_else(|| std::io::Error::other("its files with holes hold more than 4 GiB"))?;
    usize::try_from(size).map_err(|_| broken())
}

fn broken() -> Error {
    broken_map().into()
}

fn broken_map() -> std::io::Error {
    std::io::Error::other("the map of a file with holes is broken")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;
    use duct::cmd;
    use fs_err as fs;

    #[test]
    fn files_with_holes_are_whole_however_they_were_packed() {
        let folder = tempfile::tempdir().unwrap();
        let mut content = vec![0; 3 << 20];
        content[..3].copy_from_slice(b"one");
        content[2 << 20..(2 << 20) + 3].copy_from_slice(b"two");
        let file = fs::File::create(folder.path().join("holes")).unwrap();
        file.set_len(content.len() as u64).unwrap();
        use std::io::{Seek as _, Write as _};
        for (at, text) in [(0, "one"), (2 << 20, "two")] {
            (&file).seek(std::io::SeekFrom::Start(at)).unwrap();
            (&file).write_all(text.as_bytes()).unwrap();
        }
        let tar = folder.path().join("x.tar");
        let forms: [&[&str]; 4] = [
            &["--format=gnu"],
            &["--format=pax", "--sparse-version=1.0"],
            &["--format=pax", "--sparse-version=0.1"],
            &["--format=pax", "--sparse-version=0.0"],
        ];
        for form in forms {
            let args = ["-C", folder.path().to_str().unwrap(), "-S", "-cf", tar.to_str().unwrap()];
            let args: Vec<&str> = form.iter().copied().chain(args).chain(["holes"]).collect();
            // A host whose tar is another one has nothing to compare with.
            if !cmd("tar", args).stderr_null().unchecked().run().is_ok_and(|o| o.status.success()) {
                return;
            }
            assert!(fs::metadata(&tar).unwrap().len() < 100_000, "{form:?} has holes");
            let mut of_file = Tree::new(0);
            of_file.add_tar_file(&tar).unwrap();
            let mut of_stream = Tree::new(0);
            of_stream.add_tar_stream(fs::read(&tar).unwrap().as_slice()).unwrap();
            for tree in [of_file, of_stream] {
                assert!(*tree.read("holes").unwrap().unwrap() == *content, "{form:?}");
            }
        }
    }

    #[test]
    fn more_than_memory_holds_is_refused() {
        let mut found = SparseMap::default();
        for (key, value) in [("major", "1"), ("realsize", "999999999999")] {
            found.hear(key, value.as_bytes());
        }
        let error = found.fill(&mut b"0\n".as_slice(), &mut MAX_BYTES.clone()).unwrap_err();
        assert!(error.to_string().contains("4 GiB"), "{error}");
        for map in ["1\n5\n10\n", "x\n", "99999999999999999999\n", "9999999999999999999\n"] {
            let mut found = SparseMap::default();
            for (key, value) in [("major", "1"), ("realsize", "8")] {
                found.hear(key, value.as_bytes());
            }
            assert!(found.fill(&mut map.as_bytes(), &mut MAX_BYTES.clone()).is_err(), "{map}");
        }
    }
}
