//! Reads the members of a tar: ustar, GNU and pax, with every way in which those keep long names,
//! large numbers, files with holes and attributes. It owns the format; where members go is the
//! matter of its callers.
//!
//! Differences from the `tar` crate, which only writes here: values of pax headers may hold newlines
//! (file capabilities and names do), times may be before 1970, ids are not cut to 32 bits,
//! attributes are read in libarchive's spelling and access lists as text, and headers for all
//! members that follow count.
//! <https://www.gnu.org/software/tar/manual/html_node/Standard.html>

use super::{
    Kind,
    access::{List, Purpose},
    pax::{Records, keyword},
    sparse,
};
use crate::Error;
use base64::Engine as _;
use std::{
    collections::BTreeMap,
    io::{self, Read},
};

const BLOCK: usize = 512;
/// The most that a name or a pax header may hold, in bytes.
const MAX_HEADER: u64 = 64 << 20;
/// The largest id; the one above it means "none" to Linux.
const MAX_ID: i64 = u32::MAX as i64 - 1;

/// A tar that is being read.
pub struct Archive<R> {
    reader: R,
    /// How many bytes were read.
    position: u64,
    /// How many of the present member's bytes are left, and how many fill up its last block.
    left: u64,
    padding: u64,
    /// What a header said of all members that follow.
    of_all: Records,
    /// How much the files with holes may still hold.
    sparse_left: u64,
}

/// A member, whose bytes its archive gives next.
pub struct Member {
    /// As the tar has it.
    pub path: Vec<u8>,
    pub what: What,
    /// Permissions, 12 bits.
    pub mode: u16,
    /// Owner and group.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// In seconds since the epoch.
    pub mtime: i64,
    /// Its extended attributes by full name.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// Access lists that name users, whom only the image knows.
    pub lists: Vec<List>,
    /// Where its bytes begin in the tar, and how many there are.
    pub start: u64,
    /// How many bytes of the archive that are.
    pub length: u64,
}

pub enum What {
    /// A regular file.
    File,
    /// One with holes, whose pieces the archive puts together.
    Holes(sparse::SparseMap),
    /// Another name of what is at this path.
    Link(Vec<u8>),
    /// Anything else.
    Other(Kind),
}

impl<R: Read> Archive<R> {
    /// Reads from the beginning.
    pub fn new(reader: R) -> Self {
        let of_all = Records::default();
        let sparse_left = sparse::MAX_BYTES;
        Self { reader, position: 0, left: 0, padding: 0, of_all, sparse_left }
    }

    /// The next member, if there is one.
    pub fn next_member(&mut self) -> Result<Option<Member>, Error> {
        let mut records = self.of_all.clone();
        let (mut long_name, mut long_target) = (None, None);
        let mut is_after_zeros = false;
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            if header.iter().all(|byte| *byte == 0) {
                // Two blocks of zeros are the end; one alone is in tars that were put together.
                if is_after_zeros {
                    return Ok(None);
                }
                is_after_zeros = true;
                continue;
            }
            is_after_zeros = false;
            check(&header)?;
            let size = u64::try_from(number(&header[124..136])?).map_err(|_| broken())?;
            match header[156] {
                b'x' | b'X' => records.extend(Records::parse(&self.whole(size)?)?),
                b'g' => {
                    let later = Records::parse(&self.whole(size)?)?;
                    self.of_all.extend(later.clone());
                    records.extend(later);
                }
                b'L' => long_name = Some(text(&self.whole(size)?)),
                b'K' => long_target = Some(text(&self.whole(size)?)),
                // A volume's label is no file.
                b'V' => self.begin(size),
                kind => {
                    return self.member(kind, &header, &records, long_name, long_target).map(Some);
                }
            }
        }
    }

    fn member(
        &mut self,
        kind: u8,
        header: &[u8; BLOCK],
        records: &Records,
        long_name: Option<Vec<u8>>,
        long_target: Option<Vec<u8>>,
    ) -> Result<Member, Error> {
        let mut holes = sparse::SparseMap::default();
        for (key, value) in records.below("GNU.sparse.") {
            holes.hear(std::str::from_utf8(key).unwrap_or_default(), value);
        }
        let given = |key| records.get(key).map(<[u8]>::to_vec);
        let path = holes.name.clone().or_else(|| given("path")).or(long_name);
        let path = path.unwrap_or_else(|| name(header));
        let target = given("linkpath").or(long_target).unwrap_or_else(|| text(&header[157..257]));
        let fail = |error: io::Error| {
            let path = String::from_utf8_lossy(&path);
            io::Error::other(format!("`{path}`: {error}"))
        };
        let device = || -> io::Result<(u32, u32)> {
            let word = |field| u32::try_from(number(field)?).map_err(|_| broken());
            Ok((word(&header[329..337])?, word(&header[337..345])?))
        };
        let size = match records.number("size").map_err(fail)? {
            Some(size) => size,
            None => number(&header[124..136])?,
        };
        let mut size = u64::try_from(size).map_err(|_| broken())?;
        let what = match kind {
            b'1' => What::Link(target),
            b'2' => What::Other(Kind::Symlink(target)),
            b'3' => device().map(|(a, b)| What::Other(Kind::CharDevice(a, b))).map_err(fail)?,
            b'4' => device().map(|(a, b)| What::Other(Kind::BlockDevice(a, b))).map_err(fail)?,
            // GNU's `D` lists a folder's names in its bytes.
            b'5' | b'D' => What::Other(Kind::Folder),
            b'6' => What::Other(Kind::Fifo),
            b'S' => {
                let map = self.gnu_holes(header).map_err(fail)?;
                What::Holes(map)
            }
            _ if holes.is_sparse() => What::Holes(holes),
            // Before POSIX, a slash at the end was the only mark of a folder.
            0 | b'0' if path.ends_with(b"/") => What::Other(Kind::Folder),
            _ => What::File,
        };
        if !matches!(what, What::File | What::Holes(_)) && kind != b'D' {
            // Nothing follows, whatever the field says: some writers put a folder's or target's
            // size there.
            size = 0;
        }
        let id = |key, field| -> io::Result<u32> {
            let id = match records.number(key)? {
                Some(id) => id,
                None => number(field)?,
            };
            u32::try_from(id).ok().filter(|_| id <= MAX_ID).ok_or_else(|| {
                io::Error::other(format!(
                    "its {key} {id} is out of range; allowed are 0 to {MAX_ID}"
                ))
            })
        };
        let mode = (number(&header[100..108])? & 0o7777) as u16;
        let mut member = Member {
            what,
            mode,
            uid: id("uid", &header[108..116]).map_err(fail)?,
            gid: id("gid", &header[116..124]).map_err(fail)?,
            mtime: match records.time("mtime").map_err(fail)? {
                Some(time) => time,
                None => number(&header[136..148])?,
            },
            xattrs: xattrs(records).map_err(fail)?,
            lists: Vec::new(),
            start: self.position,
            length: size,
            path: path.clone(),
        };
        member.take_lists(records).map_err(fail)?;
        self.begin(size);
        Ok(member)
    }

    /// The bytes of a file with holes.
    pub fn fill(&mut self, map: sparse::SparseMap) -> Result<Vec<u8>, Error> {
        let mut left = self.sparse_left;
        let bytes = map.fill(self, &mut left)?;
        self.sparse_left = left;
        Ok(bytes)
    }

    /// The map of GNU's own type: four pieces in the header, and 21 in each block that continues it.
    fn gnu_holes(&mut self, header: &[u8; BLOCK]) -> io::Result<sparse::SparseMap> {
        let mut map = sparse::SparseMap::from_gnu(number(&header[483..495])?)?;
        let mut pieces = header[386..482].to_vec();
        let mut is_continued = header[482] != 0;
        loop {
            for piece in pieces.chunks_exact(24).take_while(|piece| piece[0] != 0) {
                map.add_piece(number(&piece[..12])?, number(&piece[12..])?)?;
            }
            if !is_continued {
                return Ok(map);
            }
            let block = self.header()?.ok_or_else(cut)?;
            pieces = block[..504].to_vec();
            is_continued = block[504] != 0;
        }
    }

    /// The next block; `None` at the end of the file.
    fn header(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut n_read = 0;
        while n_read < BLOCK {
            match self.reader.read(&mut block[n_read..]) {
                Ok(0) if n_read == 0 => return Ok(None),
                Ok(0) => return Err(cut()),
                Ok(n) => n_read += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.position += BLOCK as u64;
        Ok(Some(block))
    }

    fn begin(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    /// The bytes of a header of this size.
    fn whole(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > MAX_HEADER {
            return Err(io::Error::other("a header of it is larger than 64 MiB"));
        }
        self.begin(size);
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Goes behind the present member.
    fn skip(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink())?;
        let padding = std::mem::take(&mut self.padding);
        let n = io::copy(&mut (&mut self.reader).take(padding), &mut io::sink())?;
        self.position += n;
        // Some writers leave the last block short.
        Ok(())
    }
}

/// The present member's bytes.
impl<R: Read> Read for Archive<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        if most == 0 {
            return Ok(0);
        }
        let n_read = self.reader.read(&mut out[..most])?;
        if n_read == 0 {
            return Err(cut());
        }
        self.left -= n_read as u64;
        self.position += n_read as u64;
        Ok(n_read)
    }
}

impl Member {
    /// Takes its access lists, as attributes where that can be said without the image's users.
    fn take_lists(&mut self, records: &Records) -> io::Result<()> {
        for (key, purpose) in
            [("SCHILY.acl.access", Purpose::Access), ("SCHILY.acl.default", Purpose::Default)]
        {
            let Some(text) = records.get(key) else { continue };
            if self.xattrs.contains_key(purpose.attribute()) {
                continue;
            }
            let list = List::parse(purpose, text)?;
            self.mode = list.mode(self.mode);
            if !list.is_numeric() {
                self.lists.push(list);
            } else if let Some(value) = list.value(&|_, _| None)? {
                self.xattrs.insert(purpose.attribute().to_owned(), value);
            }
        }
        Ok(())
    }
}

/// Extended attributes, in star's spelling (GNU tar's as well) and libarchive's, whose names have
/// bytes as `%XX` and whose values are Base64.
fn xattrs(records: &Records) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let name = |bytes: Vec<u8>| {
        String::from_utf8(bytes).map_err(|_| io::Error::other("an attribute's name is no text"))
    };
    let mut xattrs = BTreeMap::new();
    for (key, value) in records.below("LIBARCHIVE.xattr.") {
        let engine = base64::engine::GeneralPurpose::new(
            &base64::alphabet::STANDARD,
            base64::engine::GeneralPurposeConfig::new()
                .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
        );
        let key = name(percent_decoded(key))?;
        let value = engine
            .decode(value.trim_ascii())
            .map_err(|error| io::Error::other(format!("the attribute `{key}`: {error}")))?;
        xattrs.insert(key, value);
    }
    for (key, value) in records.below("SCHILY.xattr.") {
        // libarchive writes both, with numbers for most bytes here too.
        let whole = name(percent_decoded(key))?;
        if !xattrs.contains_key(&whole) {
            xattrs.insert(name(keyword::decoded(key))?, value.to_vec());
        }
    }
    Ok(xattrs)
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let digit = |at: usize| tail.get(at).and_then(|byte| (*byte as char).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                rest = &tail[2..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

/// The name in a header: POSIX's has a part in front, where GNU's keeps other things.
fn name(header: &[u8; BLOCK]) -> Vec<u8> {
    let short = text(&header[..100]);
    let prefix = text(&header[345..500]);
    match &header[257..263] == b"ustar\0" && !prefix.is_empty() {
        true => [prefix.as_slice(), b"/", &short].concat(),
        false => short,
    }
}

/// Bytes up to the first zero.
fn text(field: &[u8]) -> Vec<u8> {
    field.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// A number: octal digits, or with the first bit set a binary one in two's complement.
fn number(field: &[u8]) -> io::Result<i64> {
    let Some((first, rest)) = field.split_first() else { return Ok(0) };
    if first & 0x80 != 0 {
        let start = if first & 0x40 != 0 { -1_i128 } else { 0 };
        let start = start << 6 | i128::from(first & 0x3f);
        let value = rest.iter().fold(start, |value, byte| value << 8 | i128::from(*byte));
        return i64::try_from(value).map_err(|_| broken());
    }
    let digits = field.split(|byte| *byte == 0).next().unwrap_or_default().trim_ascii();
    if digits.is_empty() {
        return Ok(0);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| broken())?;
    i64::from_str_radix(digits, 8).map_err(|_| broken())
}

/// Compares a header's checksum, which some old writers took of signed bytes.
fn check(header: &[u8; BLOCK]) -> io::Result<()> {
    let said = number(&header[148..156])?;
    let bytes = || {
        header.iter().enumerate().map(|(at, byte)| match at {
            148..156 => b' ',
            _ => *byte,
        })
    };
    let unsigned: i64 = bytes().map(i64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte as i8)).sum();
    match said == unsigned || said == signed {
        true => Ok(()),
        false => Err(io::Error::other("a header's checksum is wrong; it is no tar or damaged")),
    }
}

fn broken() -> io::Error {
    io::Error::other("a number of a header cannot be read")
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it ends within a member")
}
