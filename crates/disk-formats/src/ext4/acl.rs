//! Access control lists as ext4 keeps them, which is another form than the attribute of the same name
//! has everywhere else: version 1, whose entries for a file's own user, group, mask and others go
//! without an id (`ext4_acl_entry_short` in Linux). With the other form Linux refuses every user but
//! root the file.

/// The versions of the attribute (`POSIX_ACL_XATTR_VERSION`) and of the disk (`EXT4_ACL_VERSION`).
const VERSION: u32 = 2;
const DISK_VERSION: u32 = 1;
/// The tags whose entries have an id: of a named user, and of a named group.
const NAMED: [u16; 2] = [0x02, 0x08];
/// The id of the entries that have none.
const NO_ID: u32 = u32::MAX;

/// Whether an attribute is such a list.
pub fn is_list(name: &str) -> bool {
    matches!(name, "system.posix_acl_access" | "system.posix_acl_default")
}

/// The attribute's value as ext4 keeps it; `None` where it is no list.
pub fn to_disk(value: &[u8]) -> Option<Vec<u8>> {
    let entries = after_version(value, VERSION)?;
    let mut disk = DISK_VERSION.to_le_bytes().to_vec();
    if entries.len() % 8 != 0 {
        return None;
    }
    for entry in entries.chunks(8) {
        disk.extend(&entry[..if is_named(entry) { 8 } else { 4 }]);
    }
    Some(disk)
}

/// What ext4 keeps as the attribute's value; `None` where it is no list.
pub fn from_disk(disk: &[u8]) -> Option<Vec<u8>> {
    let mut rest = after_version(disk, DISK_VERSION)?;
    let mut value = VERSION.to_le_bytes().to_vec();
    while !rest.is_empty() {
        value.extend(rest.get(..4)?);
        match is_named(rest) {
            true => value.extend(rest.get(4..8)?),
            false => value.extend(NO_ID.to_le_bytes()),
        }
        rest = &rest[if is_named(rest) { 8 } else { 4 }..];
    }
    Some(value)
}

fn after_version(value: &[u8], version: u32) -> Option<&[u8]> {
    value.strip_prefix(&version.to_le_bytes())
}

fn is_named(entry: &[u8]) -> bool {
    let tag = entry.get(..2).map(|tag| u16::from_le_bytes([tag[0], tag[1]]));
    tag.is_some_and(|tag| NAMED.contains(&tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As setfacl(1) makes it: `user::rw-, user:1234:rwx, group::r--, mask::rwx, other::r--`.
    fn list() -> Vec<u8> {
        let entries = [
            (0x01, 6, NO_ID),
            (0x02, 7, 1234),
            (0x04, 4, NO_ID),
            (0x10, 7, NO_ID),
            (0x20, 4, NO_ID),
        ];
        let mut value = VERSION.to_le_bytes().to_vec();
        for (tag, rights, id) in entries {
            value.extend((tag as u16).to_le_bytes());
            value.extend((rights as u16).to_le_bytes());
            value.extend(u32::to_le_bytes(id));
        }
        value
    }

    #[test]
    fn a_list_comes_back_from_the_disk() {
        let disk = to_disk(&list()).unwrap();
        // ext4_acl_size() of Linux: 4 + 4 * 4 + 1 * 8.
        assert_eq!((disk.len(), disk[0]), (28, 1));
        assert_eq!(from_disk(&disk).unwrap(), list());
    }

    #[test]
    fn a_malformed_access_list_gives_nothing() {
        for value in [&b""[..], b"\x02\0", b"\x01\0\0\0", &list()[..11], b"\x02\0\0\0\x01"] {
            assert_eq!(to_disk(value), None, "{value:?}");
        }
        for disk in [&b"\x02\0\0\0"[..], b"\x01\0\0\0\x02\0\x07\0", b"\x01\0\0\0\x01\0"] {
            assert_eq!(from_disk(disk), None, "{disk:?}");
        }
    }
}
