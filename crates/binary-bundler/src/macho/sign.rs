//! The ad-hoc code signature: hashes of each page without a certificate, and entitlements.
//!
//! The format: Apple's `cs_blobs.h` (xnu, `osfmk/kern/cs_blobs.h`). All numbers are big-endian.
//! Entitlements stand there twice, as a property list and as DER, and both are hashed.

use super::{be_u32, le_u32, slice};
use sha2::{Digest as _, Sha256};

const EMBEDDED_SIGNATURE: u32 = 0xfade_0cc0;
const CODE_DIRECTORY: u32 = 0xfade_0c02;
const REQUIREMENTS: u32 = 0xfade_0c01;
const ENTITLEMENTS: u32 = 0xfade_7171;
const ENTITLEMENTS_DER: u32 = 0xfade_7172;
const CMS: u32 = 0xfade_0b01;

const SLOT_CODE_DIRECTORY: u32 = 0;
const SLOT_REQUIREMENTS: u32 = 2;
const SLOT_ENTITLEMENTS: u32 = 5;
const SLOT_ENTITLEMENTS_DER: u32 = 7;
const SLOT_CMS: u32 = 0x1_0000;

const CS_ADHOC: u32 = 2;
const EXECSEG_MAIN_BINARY: u64 = 1;
const PAGE_LOG2: u8 = 12;
const HASH_LEN: usize = 32;
/// The directory's fixed part in version 0x20400, the first with the limits of the code segment.
const DIRECTORY_LEN: usize = 88;

/// The length of the signature, which the load commands must name before it can be made.
pub(super) fn len(code_limit: usize, identifier: &str, entitlements: &[String]) -> usize {
    let blobs = other_blobs(entitlements);
    let n_special = n_special_slots(entitlements);
    let n_pages = code_limit.div_ceil(1 << PAGE_LOG2);
    let directory = DIRECTORY_LEN + identifier.len() + 1 + (n_special + n_pages) * HASH_LEN;
    let others: usize = blobs.iter().map(|(_, blob)| blob.len()).sum();
    (12 + 8 * (blobs.len() + 1) + directory + others).next_multiple_of(16)
}

/// The signature of `code`, which is the slice up to its signature.
pub(super) fn sign(
    code: &[u8],
    layout: &slice::Layout,
    identifier: &str,
    entitlements: &[String],
) -> Vec<u8> {
    let others = other_blobs(entitlements);
    let directory = directory(code, layout, identifier, &others, n_special_slots(entitlements));
    let mut blobs = vec![(SLOT_CODE_DIRECTORY, directory)];
    blobs.extend(others);
    let mut index: Vec<u8> = Vec::new();
    let mut content: Vec<u8> = Vec::new();
    let start = 12 + 8 * blobs.len();
    for (slot, blob) in &blobs {
        index.extend(slot.to_be_bytes());
        index.extend(((start + content.len()) as u32).to_be_bytes());
        content.extend(blob);
    }
    let mut signature = EMBEDDED_SIGNATURE.to_be_bytes().to_vec();
    signature.extend(((start + content.len()) as u32).to_be_bytes());
    signature.extend((blobs.len() as u32).to_be_bytes());
    signature.extend(index);
    signature.extend(content);
    signature.resize(len(code.len(), identifier, entitlements), 0);
    signature
}

fn n_special_slots(entitlements: &[String]) -> usize {
    if entitlements.is_empty() {
        SLOT_REQUIREMENTS as usize
    } else {
        SLOT_ENTITLEMENTS_DER as usize
    }
}

/// All blobs but the directory: no requirements, the entitlements, and no certificate.
fn other_blobs(entitlements: &[String]) -> Vec<(u32, Vec<u8>)> {
    let mut blobs = vec![(SLOT_REQUIREMENTS, blob(REQUIREMENTS, &0u32.to_be_bytes()))];
    if !entitlements.is_empty() {
        let list = property_list(entitlements);
        blobs.push((SLOT_ENTITLEMENTS, blob(ENTITLEMENTS, list.as_bytes())));
        blobs.push((SLOT_ENTITLEMENTS_DER, blob(ENTITLEMENTS_DER, &der(entitlements))));
    }
    blobs.push((SLOT_CMS, blob(CMS, &[])));
    blobs
}

fn blob(magic: u32, content: &[u8]) -> Vec<u8> {
    let mut blob = magic.to_be_bytes().to_vec();
    blob.extend((content.len() as u32 + 8).to_be_bytes());
    blob.extend(content);
    blob
}

fn directory(
    code: &[u8],
    layout: &slice::Layout,
    identifier: &str,
    others: &[(u32, Vec<u8>)],
    n_special: usize,
) -> Vec<u8> {
    let pages: Vec<&[u8]> = code.chunks(1 << PAGE_LOG2).collect();
    let identifier_at = DIRECTORY_LEN;
    let hashes_at = identifier_at + identifier.len() + 1 + n_special * HASH_LEN;
    const VERSION: u32 = 0x2_0400;
    let mut body = Vec::new();
    for word in [
        VERSION,
        CS_ADHOC,
        hashes_at as u32,
        identifier_at as u32,
        n_special as u32,
        pages.len() as u32,
        code.len() as u32,
    ] {
        body.extend(word.to_be_bytes());
    }
    const SHA256: u8 = 2;
    body.extend([HASH_LEN as u8, SHA256, 0, PAGE_LOG2]);
    // Spare, scatter, team and spare again, then the 64-bit limit: all unused.
    body.extend([0; 16]);
    body.extend([0; 8]);
    let flags = if layout.is_program { EXECSEG_MAIN_BINARY } else { 0 };
    for word in [layout.text_offset, layout.text_size, flags] {
        body.extend(word.to_be_bytes());
    }
    body.extend(identifier.as_bytes());
    body.push(0);
    // Special slots count downwards from the first page.
    for slot in (1..=n_special as u32).rev() {
        match others.iter().find(|(other, _)| *other == slot) {
            Some((_, blob)) => body.extend(Sha256::digest(blob)),
            None => body.extend([0; HASH_LEN]),
        }
    }
    for page in pages {
        body.extend(Sha256::digest(page));
    }
    blob(CODE_DIRECTORY, &body)
}

fn property_list(entitlements: &[String]) -> String {
    let keys: String =
        sorted(entitlements).iter().map(|key| format!("\t<key>{key}</key>\n\t<true/>\n")).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
         \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\">\n<dict>\n{keys}</dict>\n</plist>\n"
    )
}

/// `[APPLICATION 16] { INTEGER 1, [16] { SEQUENCE { UTF8String key, BOOLEAN TRUE } … } }`, keys sorted.
fn der(entitlements: &[String]) -> Vec<u8> {
    let rows: Vec<u8> = sorted(entitlements)
        .iter()
        .flat_map(|key| element(0x30, &[element(0x0c, key.as_bytes()), vec![1, 1, 0xff]].concat()))
        .collect();
    element(0x70, &[vec![2, 1, 1], element(0xb0, &rows)].concat())
}

fn sorted(entitlements: &[String]) -> Vec<&String> {
    let mut keys: Vec<&String> = entitlements.iter().collect();
    keys.sort();
    keys.dedup();
    keys
}

/// A DER element; a length over 127 takes a byte that counts its bytes.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut element = vec![tag];
    match content.len() {
        len @ 0..=127 => element.push(len as u8),
        len => {
            let bytes: Vec<u8> =
                len.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
            element.push(0x80 | bytes.len() as u8);
            element.extend(bytes);
        }
    }
    element.extend(content);
    element
}

/// Whether the hashes of a slice's signature are those of its pages and blobs: what the kernel checks
/// before it runs a page. Also right for signatures of other tools.
///
/// # Errors
/// With what is wrong.
pub fn check_signature(slice: &[u8]) -> Result<(), &'static str> {
    const LC_CODE_SIGNATURE: u32 = 0x1d;
    let commands = slice::commands_of(slice)?;
    let command = commands.iter().find(|command| le_u32(command, 0) == Some(LC_CODE_SIGNATURE));
    let command = command.ok_or("it is not signed")?;
    let at =
        |index| le_u32(command, index).map(|word| word as usize).ok_or("its signature is cut off");
    let (start, len) = (at(8)?, at(12)?);
    let end = start.checked_add(len).ok_or("its signature is cut off")?;
    let signature = slice.get(start..end).ok_or("its signature is cut off")?;
    let word =
        |bytes: &[u8], at| be_u32(bytes, at).map(|w| w as usize).ok_or("its signature is cut off");
    if be_u32(signature, 0) != Some(EMBEDDED_SIGNATURE) {
        return Err("its signature cannot be read");
    }
    let mut blobs = Vec::new();
    for index in 0..word(signature, 8)?.min(64) {
        let slot = word(signature, 12 + index * 8)?;
        let from = word(signature, 16 + index * 8)?;
        let len = word(signature, from.saturating_add(4))?;
        let blob = signature.get(from..from.saturating_add(len)).ok_or("a blob is cut off")?;
        blobs.push((slot, blob));
    }
    let directory = blobs.iter().find(|(slot, _)| *slot == SLOT_CODE_DIRECTORY as usize);
    let (_, directory) = directory.ok_or("its signature has no directory")?;
    let (hashes, n_special) = (word(directory, 16)?, word(directory, 24)?);
    let (n_pages, limit) = (word(directory, 28)?, word(directory, 32)?);
    let page = 1usize << directory.get(39).copied().unwrap_or(PAGE_LOG2).min(20);
    let hash_at = |position: usize| directory.get(position..position + HASH_LEN);
    let code = slice.get(..limit).ok_or("its signature covers more than the file")?;
    if code.chunks(page).count() != n_pages {
        return Err("its signature has another number of pages");
    }
    for (index, page) in code.chunks(page).enumerate() {
        if hash_at(hashes + index * HASH_LEN) != Some(Sha256::digest(page).as_slice()) {
            return Err("a page differs from its hash");
        }
    }
    for (slot, blob) in blobs.iter().filter(|(slot, _)| (1..=n_special).contains(slot)) {
        let position =
            hashes.checked_sub(slot * HASH_LEN).ok_or("its special slots are misplaced")?;
        if hash_at(position) != Some(Sha256::digest(blob).as_slice()) {
            return Err("a blob differs from its hash");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entitlements_have_their_der_form() {
        let keys = ["com.apple.security.hypervisor".to_owned()];
        let bytes = der(&keys);
        let mut expect = vec![0x70, 0x29, 2, 1, 1, 0xb0, 0x24, 0x30, 0x22, 0x0c, 29];
        expect.extend(keys[0].as_bytes());
        expect.extend([1, 1, 0xff]);
        assert_eq!(bytes, expect);
        assert_eq!(element(4, &[0; 300])[..4], [4, 0x82, 1, 0x2c]);
    }

    #[test]
    fn the_length_is_known_before() {
        let layout_code = vec![7; 10_000];
        let layout = slice::Layout::from_text_segment(0, 8192, true);
        for keys in [vec![], vec!["a.b".to_owned()]] {
            let signature = sign(&layout_code, &layout, "tool", &keys);
            assert_eq!(signature.len(), len(layout_code.len(), "tool", &keys));
        }
    }
}
