//! What the guest knows by number: files and folders, with the names by which they are found again.
//!
//! Owns the numbers and their names; opens nothing. A number is never used twice. The guest's kernel
//! counts how often it was given a number and gives the count back; a guest that gives back what it
//! still needs gets `ESTALE`, and nobody else notices. What the memory for them does not hold any more
//! is forgotten here first ([`reclaim`]).

mod reclaim;

use crate::allowance::{Allowance, Meter};
use rustix::fs::Stat;
use rustix::io::Errno;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The number of the share's root.
pub(crate) const ROOT: u64 = 1;
/// Folders above a file, at most. Deeper ones, and circles that a host made by renaming, are lost.
const MAX_DEPTH: usize = 2048;
/// Names of one file that are remembered; the latest ones are.
const MAX_NAMES: usize = 4;
/// What a number costs beside the bytes of its names, about.
const NODE_COST: usize = 288;
/// Bytes of numbers that each share has whatever the guest's other shares and connections hold.
const OWN_MEMORY: usize = 256 << 10;

/// What tells one file of the host from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    device: u64,
    inode: u64,
    kind: u32,
}

impl Key {
    pub(crate) fn from_stat(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino, kind: stat.st_mode & libc::S_IFMT }
    }

    pub(crate) fn is_folder(self) -> bool {
        self.kind == libc::S_IFDIR
    }

    pub(crate) fn is_file(self) -> bool {
        self.kind == libc::S_IFREG
    }
}

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Alias {
    parent: u64,
    name: Box<[u8]>,
}

#[derive(Clone, Debug)]
struct Node {
    key: Key,
    /// How often the guest was given the number (`nlookup` of FUSE).
    lookups: u64,
    /// The latest first. Empty once the last known name is gone.
    names: Vec<Alias>,
    /// Of a file: when its data was changed last and how much there was, as the guest opened it.
    data: Option<Data>,
    /// When it was changed last in any way, as the guest knows it.
    known_change: Option<Change>,
    /// When the guest asked for it last, in requests.
    used: u64,
}

/// What changes with a file's data: the time of its last change, and its size.
type Data = (i64, u64, i64);
/// What changes with anything of a file (`st_ctime`).
type Change = (i64, u64);

#[allow(clippy::unnecessary_cast)] // sizes depend on the architecture
fn change(stat: &Stat) -> Change {
    (stat.st_ctime as i64, stat.st_ctime_nsec as u64)
}

impl Node {
    fn cost(&self) -> usize {
        NODE_COST + self.names.iter().map(|alias| alias.name.len()).sum::<usize>()
    }
}

/// All numbers that a guest knows.
pub(crate) struct Nodes {
    by_number: HashMap<u64, Node>,
    by_key: HashMap<Key, u64>,
    next: u64,
    /// Counts requests.
    clock: u64,
    meter: Meter,
    /// What the guest believes without asking, and since when.
    recent: HashMap<u64, Instant>,
}

/// The numbers as they were at one moment.
pub(crate) struct Kept {
    nodes: HashMap<u64, Node>,
    _meter: Meter,
}

impl Kept {
    /// Keeps what was known at an earlier moment as well.
    pub(crate) fn join(&mut self, earlier: Self) {
        for (number, node) in earlier.nodes {
            self.nodes.entry(number).or_insert(node);
        }
    }
}

impl Nodes {
    pub(crate) fn new(root: Key, allowance: Arc<dyn Allowance>) -> Self {
        let node = Node {
            key: root,
            lookups: 1,
            names: Vec::new(),
            data: None,
            known_change: None,
            used: 0,
        };
        Self {
            by_number: HashMap::from([(ROOT, node)]),
            by_key: HashMap::from([(root, ROOT)]),
            next: ROOT + 1,
            clock: 0,
            meter: Meter::with_own(OWN_MEMORY, allowance),
            recent: HashMap::new(),
        }
    }

    /// Takes note of the attributes of a file that the guest is sent.
    pub(crate) fn tell(&mut self, number: u64, stat: &Stat) {
        if let Some(node) = self.by_number.get_mut(&number) {
            node.known_change = Some(change(stat));
            self.recent.insert(number, Instant::now());
        }
    }

    /// Takes note of a change that the guest itself has made: it knows of that one.
    pub(crate) fn note_own_change(&mut self, number: u64, before: &Stat, after: &Stat) {
        if let Some(node) = self.by_number.get_mut(&number)
            && node.known_change == Some(change(before))
        {
            node.known_change = Some(change(after));
        }
    }

    /// Whether the guest knows something as it is.
    pub(crate) fn is_known(&self, number: u64, stat: &Stat) -> bool {
        self.by_number.get(&number).is_some_and(|node| node.known_change == Some(change(stat)))
    }

    pub(crate) fn is_believed(&self) -> bool {
        !self.recent.is_empty()
    }

    /// What the guest believes now without asking.
    pub(crate) fn believed(&mut self, fresh: Duration) -> Vec<u64> {
        self.recent.retain(|_, since| since.elapsed() < fresh);
        self.recent.keys().copied().collect()
    }

    /// Takes note that the guest is made to ask again.
    pub(crate) fn doubt(&mut self, number: u64) {
        self.recent.remove(&number);
    }

    /// The latest name of something, and its folder.
    pub(crate) fn latest_name(&self, number: u64) -> Option<(u64, Box<[u8]>)> {
        let alias = self.by_number.get(&number)?.names.first()?;
        Some((alias.parent, alias.name.clone()))
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// What a number stands for, for a request that is about it.
    pub(crate) fn key(&mut self, number: u64) -> Result<Key, Errno> {
        let now = self.tick();
        let node = self.by_number.get_mut(&number).ok_or(Errno::STALE)?;
        node.used = now;
        Ok(node.key)
    }

    /// The number of something that was found under a name. It counts as given.
    ///
    /// # Errors
    /// `ENOMEM`, if there is no memory for it without [`Self::reclaim`].
    pub(crate) fn enter(&mut self, key: Key, parent: u64, name: &[u8]) -> Result<u64, Errno> {
        let used = self.tick();
        if let Some(&number) = self.by_key.get(&key) {
            if number != ROOT {
                self.name(number, parent, name)?;
            }
            let node = self.by_number.get_mut(&number).ok_or(Errno::STALE)?;
            node.lookups = node.lookups.saturating_add(1);
            node.used = used;
            return Ok(number);
        }
        let names = vec![Alias { parent, name: name.into() }];
        let node = Node { key, lookups: 1, names, data: None, known_change: None, used };
        if !self.meter.take(node.cost()) {
            return Err(Errno::NOMEM);
        }
        let number = self.next;
        self.next += 1;
        self.by_key.insert(key, number);
        self.by_number.insert(number, node);
        Ok(number)
    }

    /// Remembers a name as the latest one. A folder has one name alone.
    fn name(&mut self, number: u64, parent: u64, name: &[u8]) -> Result<(), Errno> {
        let node = self.by_number.get_mut(&number).ok_or(Errno::STALE)?;
        let is_known = |alias: &Alias| alias.parent == parent && alias.name.as_ref() == name;
        if node.names.first().is_some_and(is_known) {
            return Ok(());
        }
        let length = |names: &[Alias]| names.iter().map(|alias| alias.name.len()).sum::<usize>();
        let mut names = vec![Alias { parent, name: name.into() }];
        if !node.key.is_folder() {
            let others = node.names.iter().filter(|alias| !is_known(alias));
            names.extend(others.take(MAX_NAMES - 1).cloned());
        }
        let (before, after) = (length(&node.names), length(&names));
        if after > before && !self.meter.take(after - before) {
            return Err(Errno::NOMEM);
        }
        self.meter.give(before.saturating_sub(after));
        node.names = names;
        Ok(())
    }

    /// Forgets a name that is gone.
    pub(crate) fn unname(&mut self, key: Key, parent: u64, name: &[u8]) {
        let Some(number) = self.by_key.get(&key) else { return };
        let Some(node) = self.by_number.get_mut(number) else { return };
        let before = node.cost();
        node.names.retain(|alias| alias.parent != parent || alias.name.as_ref() != name);
        self.meter.give(before - node.cost());
    }

    /// Takes note of a new name in the place of an old one.
    pub(crate) fn rename(&mut self, key: Key, from: (u64, &[u8]), to: (u64, &[u8])) {
        self.unname(key, from.0, from.1);
        if let Some(&number) = self.by_key.get(&key)
            && number != ROOT
        {
            // Without memory for it the file is looked up again.
            let _ = self.name(number, to.0, to.1);
        }
    }

    /// Takes note of a file's data as the guest opens it, and says whether it is as it was when the
    /// guest opened it the last time.
    pub(crate) fn note_data(&mut self, number: u64, stat: &Stat) -> bool {
        let Some(node) = self.by_number.get_mut(&number) else { return false };
        #[allow(clippy::unnecessary_cast)] // its size depends on the architecture
        let data = Some((stat.st_mtime, stat.st_mtime_nsec as u64, stat.st_size));
        std::mem::replace(&mut node.data, data) == data
    }

    /// Counts down how often the guest was given a number.
    pub(crate) fn forget(&mut self, number: u64, count: u64) {
        if number == ROOT {
            return;
        }
        let Some(node) = self.by_number.get_mut(&number) else { return };
        node.lookups = node.lookups.saturating_sub(count);
        if node.lookups == 0 {
            self.drop_number(number);
        }
    }

    fn drop_number(&mut self, number: u64) {
        self.recent.remove(&number);
        if let Some(node) = self.by_number.remove(&number) {
            self.meter.give(node.cost());
            if self.by_key.get(&node.key) == Some(&number) {
                self.by_key.remove(&node.key);
            }
        }
    }

    /// Forgets everything but the root.
    pub(crate) fn clear(&mut self) {
        self.by_number.retain(|number, _| *number == ROOT);
        self.by_key.retain(|_, number| *number == ROOT);
        self.recent.clear();
        self.meter.reset();
    }

    /// The root's own key: of a share of one file it changes when the host replaces the file.
    pub(crate) fn set_root(&mut self, key: Key) {
        if let Some(root) = self.by_number.get_mut(&ROOT)
            && root.key != key
        {
            self.by_key.remove(&root.key);
            root.key = key;
            self.by_key.insert(key, ROOT);
        }
    }

    /// The paths under which something may be found, from the root; the likeliest first.
    pub(crate) fn paths(&self, number: u64) -> Result<Vec<Vec<u8>>, Errno> {
        if number == ROOT {
            return Ok(vec![b".".to_vec()]);
        }
        let node = self.by_number.get(&number).ok_or(Errno::STALE)?;
        Ok(node.names.iter().filter_map(|alias| self.path(alias)).collect())
    }

    fn path(&self, leaf: &Alias) -> Option<Vec<u8>> {
        let mut names = vec![leaf.name.as_ref()];
        let mut parent = leaf.parent;
        while parent != ROOT {
            if names.len() > MAX_DEPTH {
                return None;
            }
            let alias = self.by_number.get(&parent)?.names.first()?;
            names.push(&alias.name);
            parent = alias.parent;
        }
        names.reverse();
        Some(names.join(&b'/'))
    }

    /// Keeps the numbers for a guest that may go back to this moment. Without memory for them none is
    /// kept, and the guest has to look its files up again.
    pub(crate) fn keep(&self, allowance: Arc<dyn Allowance>) -> Kept {
        let mut meter = Meter::new(allowance);
        let cost = self.by_number.values().map(Node::cost).sum();
        let nodes = if meter.take(cost) { self.by_number.clone() } else { HashMap::new() };
        Kept { nodes, _meter: meter }
    }

    /// Goes back to the numbers of a moment. What is not known any more is looked up again.
    pub(crate) fn restore(&mut self, kept: &Kept) {
        let root = self.by_number.get(&ROOT).map(|root| root.key);
        self.clear();
        for (number, node) in &kept.nodes {
            if *number != ROOT && self.meter.take(node.cost()) {
                self.by_key.insert(node.key, *number);
                self.by_number.insert(*number, node.clone());
            }
        }
        if let Some(root) = root {
            self.by_key.insert(root, ROOT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Plenty;

    fn key(inode: u64, kind: u32) -> Key {
        Key { device: 1, inode, kind }
    }

    fn nodes() -> Nodes {
        Nodes::new(key(1, libc::S_IFDIR), Arc::new(Plenty::default()))
    }

    #[test]
    fn a_file_is_found_under_each_of_its_names() {
        let mut nodes = nodes();
        let folder = nodes.enter(key(2, libc::S_IFDIR), ROOT, b"d").unwrap();
        let file = nodes.enter(key(3, libc::S_IFREG), folder, b"a").unwrap();
        assert_eq!(nodes.enter(key(3, libc::S_IFREG), ROOT, b"b").unwrap(), file);
        assert_eq!(nodes.paths(file).unwrap(), [&b"b"[..], b"d/a"]);
        nodes.rename(key(2, libc::S_IFDIR), (ROOT, b"d"), (ROOT, b"e"));
        nodes.unname(key(3, libc::S_IFREG), ROOT, b"b");
        assert_eq!(nodes.paths(file).unwrap(), [b"e/a"]);
        nodes.forget(file, 1);
        assert!(nodes.paths(file).is_ok(), "it was given twice");
        nodes.forget(file, 1);
        assert_eq!(nodes.paths(file), Err(Errno::STALE));
        assert_ne!(nodes.enter(key(3, libc::S_IFREG), folder, b"a").unwrap(), file);
    }

    #[test]
    fn circles_that_a_host_made_end() {
        let mut nodes = nodes();
        let one = nodes.enter(key(2, libc::S_IFDIR), ROOT, b"1").unwrap();
        let two = nodes.enter(key(3, libc::S_IFDIR), one, b"2").unwrap();
        // The host moved `2` up and `1` below it, and the guest looked in another order.
        assert_eq!(nodes.enter(key(2, libc::S_IFDIR), two, b"1").unwrap(), one);
        assert!(nodes.paths(one).unwrap().is_empty());
    }

    #[test]
    fn memory_comes_back_and_has_an_end() {
        let few = Arc::new(Plenty::with_memory(1 << 16));
        let mut nodes = Nodes::new(key(1, libc::S_IFDIR), few.clone());
        let mut numbers = Vec::new();
        let error = loop {
            let inode = 2 + numbers.len() as u64;
            match nodes.enter(key(inode, libc::S_IFREG), ROOT, b"name") {
                Ok(number) => numbers.push(number),
                Err(error) => break error,
            }
        };
        assert_eq!(error, Errno::NOMEM);
        let expect = (OWN_MEMORY + (1 << 16)) / (NODE_COST + 4);
        assert_eq!(numbers.len(), expect);
        nodes.forget(numbers[0], 1);
        nodes.enter(key(9999, libc::S_IFREG), ROOT, b"name").unwrap();
        nodes.clear();
        assert_eq!(nodes.paths(numbers[1]), Err(Errno::STALE));
    }

    #[test]
    fn nodes_of_an_earlier_session_are_restored() {
        let mut nodes = nodes();
        let file = nodes.enter(key(3, libc::S_IFREG), ROOT, b"a").unwrap();
        let kept = nodes.keep(Arc::new(Plenty::default()));
        nodes.forget(file, 1);
        let later = nodes.enter(key(4, libc::S_IFREG), ROOT, b"b").unwrap();
        nodes.restore(&kept);
        assert_eq!(nodes.paths(file).unwrap(), [b"a"]);
        assert_eq!(nodes.paths(later), Err(Errno::STALE));
        assert_eq!(nodes.paths(ROOT).unwrap(), [b"."]);
    }
}
