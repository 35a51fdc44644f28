//! Reads, writes, verifies, retags and merges Python wheels.
//!
//! Owns the wheel format: PEP 427 (archive, WHEEL, RECORD), PEP 425 (tags), PEP 440 (versions),
//! core metadata 2.4 with PEP 639 (licences), PEP 770 (SBOMs). Must not know what is inside the
//! files that a wheel carries: binaries are `binary-bundler`'s, images `image-builder`'s.
//!
//! ```no_run
//! use wheel_retag::{Metadata, Source, WheelFile, WheelSpec, WheelTag};
//! let spec = WheelSpec {
//!     name: "quicksand-debian".into(),
//!     version: "13.1".into(),
//!     tag: WheelTag::new("py3", "none", ["linux_x86_64"]),
//!     metadata: Metadata { summary: "The debian image".into(), ..Metadata::default() },
//!     files: vec![WheelFile::deflated(
//!         "quicksand_debian/__init__.py",
//!         Source::Bytes(b"name = 'debian'\n".to_vec()),
//!     )],
//!     ..WheelSpec::default()
//! };
//! let wheel = wheel_retag::write(&spec, std::path::Path::new("dist"))?;
//! # Ok::<(), wheel_retag::Error>(())
//! ```

mod archive;
mod entry_path;
mod error;
#[cfg(test)]
mod fuzz;
mod matrix;
mod merge;
mod metadata;
mod name;
mod read;
mod record;
mod retag;
mod spec;
mod tag;
mod unpack;
mod verify;
mod write;

pub use entry_path::{PathProblem, check_entry_path, collision_key};
pub use error::Error;
pub use matrix::{NEVER_RETAGGED, RETAGS, Runner, retag_each, retag_folder, retags, wheels_in};
pub use merge::{FatPair, FatPlan, Half, fat_pairs, merge_fat, plan_merge};
pub use metadata::check_license_expression;
pub use name::{WheelFileName, escape_distribution, normalize_distribution, normalize_version};
pub use read::{read_entries, read_files};
pub use record::{RecordRow, format_record, parse_record, record_hash};
pub use retag::retag;
pub use spec::{Compression, Metadata, Source, WheelFile, WheelSpec};
pub use tag::WheelTag;
pub use unpack::{Unpacked, read_dist_info, unpack};
pub use verify::{Check, Finding, verify, verify_with_warnings};
pub use write::{pack, write};
