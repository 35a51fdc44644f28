//! Changes the names in Mach-O files and signs them ad hoc, on any host.
//!
//! Owns the file: universal files, load commands (`slice`), the signature (`sign`). Must not know
//! which names a bundle wants: `relocate` says that.
//!
//! Why not the crates `arwen` 0.0.5 and `arwen-codesign` 0.0.1-alpha.1: the latter writes entitlements
//! as a property list alone, while current systems read their DER form.

mod sign;
mod slice;

pub use sign::check_signature;

use crate::error::Error;
use std::path::Path;

/// Without this entitlement macOS refuses hardware virtualisation to a program
/// (<https://developer.apple.com/documentation/hypervisor>).
pub const HYPERVISOR: &str = "com.apple.security.hypervisor";

/// What becomes of a file's names. Its search paths (`LC_RPATH`) are removed and it is signed again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The signature's identifier: the file's name.
    pub identifier: String,
    /// The new install name of a library.
    pub install_name: Option<String>,
    /// Install names of needed libraries, old and new.
    pub libraries: Vec<(String, String)>,
    /// Entitlements that are true, such as [`HYPERVISOR`].
    pub entitlements: Vec<String>,
}

const FAT_MAGIC: u32 = 0xcafe_babe;
const FAT_MAGIC_64: u32 = 0xcafe_babf;

/// The changed file, each slice of a universal file for itself.
///
/// # Errors
/// When the file is damaged, is not 64-bit little-endian, or has no room for longer names.
pub fn change(path: &Path, bytes: &[u8], change: &Change) -> Result<Vec<u8>, Error> {
    let fault = |what: &'static str| Error::Edit { path: path.to_path_buf(), what };
    change_file(bytes, change).map_err(fault)
}

fn change_file(bytes: &[u8], change: &Change) -> Result<Vec<u8>, &'static str> {
    let word = |at: usize| be_u32(bytes, at).ok_or("its universal header is cut off");
    let row_len = match word(0)? {
        FAT_MAGIC => 20,
        FAT_MAGIC_64 => {
            return Err("it is a 64-bit universal file, which no linker writes by default");
        }
        _ => return slice::change(bytes, change),
    };
    let n_slices = word(4)? as usize;
    let mut edited =
        bytes.get(..8 + n_slices * row_len).ok_or("its universal header is cut off")?.to_vec();
    for index in 0..n_slices {
        let row = 8 + index * row_len;
        let (offset, size, alignment) = (word(row + 8)?, word(row + 12)?, word(row + 16)?);
        let start = offset as usize;
        let part =
            bytes.get(start..start.saturating_add(size as usize)).ok_or("a slice is cut off")?;
        let part = slice::change(part, change)?;
        // 2^15 is the largest alignment that Apple's own tools write.
        let alignment = 1usize << alignment.min(15);
        edited.resize(edited.len().next_multiple_of(alignment), 0);
        let position = u32::try_from(edited.len()).map_err(|_| "it is larger than 4 GB")?;
        let size = u32::try_from(part.len()).map_err(|_| "it is larger than 4 GB")?;
        edited[row + 8..row + 12].copy_from_slice(&position.to_be_bytes());
        edited[row + 12..row + 16].copy_from_slice(&size.to_be_bytes());
        edited.extend(part);
    }
    Ok(edited)
}

fn be_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn le_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn le_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}
