//! Numbers that are forgotten here because the memory for them is used up, before the guest's kernel
//! gives them back.
//!
//! Nobody in the guest sees that. Its kernel gets `ESTALE` for such a number, and its way of handling
//! that is to walk the path once more and to ask for each name of it (`LOOKUP_REVAL` of
//! `Documentation/filesystems/path-lookup.rst`): a name that is there gets another number. Asking the
//! kernel to forget would not do, because it waits for the locks of folders that the request at hand
//! holds. What cannot be found by its path again stays: what is open, and the folders above what stays.

use super::{Node, Nodes, ROOT};
use std::collections::HashSet;

/// The part of what can be forgotten that is forgotten at a time.
const PART: usize = 4;

impl Nodes {
    /// Forgets what the guest has not asked for the longest, files before folders; `is_held` says what
    /// has to stay. Gives whether anything was forgotten.
    pub(crate) fn reclaim(&mut self, is_held: impl Fn(u64) -> bool) -> bool {
        let parents: HashSet<u64> = self
            .by_number
            .values()
            .flat_map(|node| node.names.iter().map(|alias| alias.parent))
            .collect();
        let can_go = |number: u64| number != ROOT && !parents.contains(&number) && !is_held(number);
        let entry = |(number, node): (&u64, &Node)| (node.key.is_folder(), node.used, *number);
        let mut idle: Vec<_> = self.by_number.iter().map(entry).collect();
        idle.retain(|(_, _, number)| can_go(*number));
        let count = idle.len().div_ceil(PART);
        if count == 0 {
            return false;
        }
        idle.select_nth_unstable(count - 1);
        idle[..count].iter().for_each(|(_, _, number)| self.drop_number(*number));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Key, Nodes, OWN_MEMORY, ROOT};
    use crate::tests::Plenty;
    use rustix::io::Errno;
    use std::sync::Arc;

    fn key(inode: u64, kind: u32) -> Key {
        Key { device: 1, inode, kind }
    }

    #[test]
    fn what_was_asked_for_last_is_open_or_above_others_stays() {
        let mut nodes = Nodes::new(key(1, libc::S_IFDIR), Arc::new(Plenty::with_memory(0)));
        let folder = nodes.enter(key(2, libc::S_IFDIR), ROOT, b"folder").unwrap();
        let empty = nodes.enter(key(3, libc::S_IFDIR), ROOT, b"empty").unwrap();
        let mut files = Vec::new();
        let error = loop {
            let inode = 10 + files.len() as u64;
            match nodes.enter(key(inode, libc::S_IFREG), folder, b"file") {
                Ok(number) => files.push(number),
                Err(error) => break error,
            }
        };
        assert_eq!(error, Errno::NOMEM);
        assert!(files.len() > OWN_MEMORY / 400, "{}", files.len());
        let (held, used) = (files[0], files[1]);
        nodes.key(used).unwrap();
        assert!(nodes.reclaim(|number| number == held));
        for stays in [ROOT, folder, empty, held, used, *files.last().unwrap()] {
            nodes.key(stays).unwrap();
        }
        assert_eq!(nodes.key(files[2]), Err(Errno::STALE));
        let n_left = files.iter().filter(|number| nodes.key(**number).is_ok()).count();
        assert_eq!(n_left, files.len() - files.len().div_ceil(4));
        // What comes back gets another number, and what the kernel says of the old one does not count.
        let again = nodes.enter(key(12, libc::S_IFREG), folder, b"file").unwrap();
        assert_ne!(again, files[2]);
        nodes.forget(files[2], 1);
        nodes.key(again).unwrap();
    }

    #[test]
    fn folders_go_once_nothing_in_them_is_known() {
        let mut nodes = Nodes::new(key(1, libc::S_IFDIR), Arc::new(Plenty::with_memory(0)));
        let folder = nodes.enter(key(2, libc::S_IFDIR), ROOT, b"folder").unwrap();
        let file = nodes.enter(key(3, libc::S_IFREG), folder, b"file").unwrap();
        assert!(!nodes.reclaim(|number| number == file));
        for gone in [file, folder] {
            assert!(nodes.reclaim(|_| false));
            assert_eq!(nodes.key(gone), Err(Errno::STALE));
        }
        assert!(!nodes.reclaim(|_| false));
    }
}
