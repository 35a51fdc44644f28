//! Access control lists as text, the form that tars have them in (`SCHILY.acl.access` and
//! `SCHILY.acl.default`), and what they say of a file's mode. The other form is the attribute's own,
//! see `posix_acl_xattr.h` of Linux; acl(5) explains the entries.

use std::io::{Error, Result};

/// The version of the attribute (`POSIX_ACL_XATTR_VERSION`), and its id where an entry has none.
const VERSION: u32 = 2;
const NO_ID: u32 = u32::MAX;

/// Tags of entries, in the order in which Linux wants them.
const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OF_FILE: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// Which list of a file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Who may do what with the file.
    Access,
    /// What files that are made in the folder get.
    Default,
}

impl Purpose {
    /// The attribute that holds it.
    pub fn attribute(self) -> &'static str {
        match self {
            Self::Access => "system.posix_acl_access",
            Self::Default => "system.posix_acl_default",
        }
    }
}

/// A list as a tar has it.
#[derive(Clone, Debug)]
pub struct List {
    pub purpose: Purpose,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    tag: u16,
    rights: u16,
    /// The id, or the name of a user or group of the image.
    id: std::result::Result<u32, String>,
}

impl List {
    /// Reads entries with commas or newlines between them: `user:alice:r-x:1000`, where the number
    /// may be missing and the words may be first letters.
    pub fn parse(purpose: Purpose, text: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(text).map_err(|_| wrong("?"))?;
        let mut entries = Vec::new();
        for line in text.split([',', '\n']) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let short = line.strip_prefix("default:").or_else(|| line.strip_prefix("d:"));
            entries.push(entry(short.unwrap_or(line)).ok_or_else(|| wrong(line))?);
        }
        Ok(Self { purpose, entries })
    }

    /// The attribute's value; `id_of` finds users (`true`) and groups (`false`) by name. A list that
    /// says no more than a mode is none.
    pub fn value(&self, id_of: &dyn Fn(bool, &str) -> Option<u32>) -> Result<Option<Vec<u8>>> {
        if self.entries.len() <= 3 && self.purpose == Purpose::Access || self.entries.is_empty() {
            return Ok(None);
        }
        let mut entries = Vec::new();
        for entry in &self.entries {
            let id = match &entry.id {
                Ok(id) => *id,
                Err(name) => id_of(entry.tag == USER, name).ok_or_else(|| {
                    Error::other(format!(
                        "an access list names `{name}`, whom its etc/passwd and etc/group lack"
                    ))
                })?,
            };
            entries.push((entry.tag, id, entry.rights));
        }
        entries.sort_unstable();
        let mut value = VERSION.to_le_bytes().to_vec();
        for (tag, id, rights) in entries {
            value.extend(tag.to_le_bytes());
            value.extend(rights.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        Ok(Some(value))
    }

    /// Whether all of its users and groups are numbers.
    pub fn is_numeric(&self) -> bool {
        self.entries.iter().all(|entry| entry.id.is_ok())
    }

    /// The mode of a file with this list: Linux keeps both in step, the mask being the group's bits.
    pub fn mode(&self, mode: u16) -> u16 {
        let rights = |tag| self.entries.iter().find(|one| one.tag == tag).map(|one| one.rights);
        let group = rights(MASK).or_else(|| rights(GROUP_OF_FILE));
        match (self.purpose, rights(OWNER), group, rights(OTHER)) {
            (Purpose::Access, Some(owner), Some(group), Some(other)) => {
                mode & !0o777 | owner << 6 | group << 3 | other
            }
            _ => mode,
        }
    }
}

fn entry(text: &str) -> Option<Entry> {
    let mut fields = text.split(':').map(str::trim);
    let (what, who) = (fields.next()?, fields.next()?);
    // libarchive leaves the empty name of mask and others away on request: `mask:rwx`.
    let (who, rights) = match (what, fields.next()) {
        ("mask" | "m" | "other" | "o", None) => ("", who),
        (_, rights) => (who, rights?),
    };
    let number = fields.next().filter(|number| !number.is_empty());
    let tag = match (what, who.is_empty()) {
        ("user" | "u", true) => OWNER,
        ("user" | "u", false) => USER,
        ("group" | "g", true) => GROUP_OF_FILE,
        ("group" | "g", false) => GROUP,
        ("mask" | "m", true) => MASK,
        ("other" | "o", true) => OTHER,
        _ => return None,
    };
    let id = match number.unwrap_or(who) {
        "" => Ok(NO_ID),
        text => match text.parse() {
            Ok(number) => Ok(number),
            Err(_) => Err(text.to_owned()),
        },
    };
    let id = if matches!(tag, USER | GROUP) { id } else { Ok(NO_ID) };
    Some(Entry { tag, rights: rights_of(rights)?, id })
}

fn rights_of(text: &str) -> Option<u16> {
    let mut rights = 0;
    for letter in text.chars() {
        rights |= match letter {
            'r' => 4,
            'w' => 2,
            'x' => 1,
            '-' => 0,
            digit @ '0'..='7' if text.len() == 1 => digit.to_digit(8)? as u16,
            _ => return None,
        };
    }
    (!text.is_empty()).then_some(rights)
}

fn wrong(text: &str) -> Error {
    Error::other(format!("`{text}` is no entry of an access list"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What setfacl(1) gives a file of mode 0674 for `user:1234:rwx`.
    const KNOWN: &[u8] = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x07\0\xd2\x04\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x07\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";

    #[test]
    fn each_spelling_gives_the_same_attribute() {
        let nobody = |_: bool, _: &str| None;
        let of_image = |is_user: bool, name: &str| (is_user && name == "alice").then_some(1234_u32);
        for (text, id_of) in [
            ("user::rw-\nuser:1234:rwx\ngroup::r--\nmask::rwx\nother::r--\n", &nobody as _),
            ("user::rw-,group::r--,mask::rwx,user:alice:rwx:1234,other::r--", &nobody as _),
            ("u::rw,u:1234:rwx,g::r,m:rwx,o:r", &nobody as _),
            (
                "user::rw-,user:alice:rwx #effective:rwx\ngroup::r--,mask::rwx,other::r--",
                &of_image as &dyn Fn(bool, &str) -> Option<u32>,
            ),
        ] {
            let list = List::parse(Purpose::Access, text.as_bytes()).unwrap();
            assert_eq!(list.value(id_of).unwrap().unwrap(), KNOWN, "{text}");
            assert_eq!(list.mode(0o4600), 0o4674, "{text}");
        }
    }

    #[test]
    fn an_access_list_is_kept_where_the_mode_does_not_say_it_all() {
        let list = List::parse(Purpose::Access, b"user::rwx,group::r-x,other::---").unwrap();
        assert_eq!(list.value(&|_, _| None).unwrap(), None, "it says what the mode says");
        let list = List::parse(Purpose::Default, b"user::rwx,group::r-x,other::---").unwrap();
        assert!(list.value(&|_, _| None).unwrap().is_some());
        let text = b"user::rwx,user:bob:r--,group::r-x,mask::rwx,other::---";
        let list = List::parse(Purpose::Access, text).unwrap();
        assert!(!list.is_numeric());
        assert!(list.value(&|_, _| None).unwrap_err().to_string().contains("bob"));
        for wrong in ["user:rwx", "wheel::rwx", "user::abc", "mask:1:rwx"] {
            assert!(List::parse(Purpose::Access, wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
