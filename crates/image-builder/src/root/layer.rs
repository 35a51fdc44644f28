//! One layer by itself, and the ways that lead through links. It owns names of a layer; what inodes
//! are, its caller knows.

use super::files::remove;
use crate::{
    Error,
    tree::{TreePath, join, split},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
};

/// The longest chain of symbolic links that is followed, as in Linux (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// What a layer brings, and what it takes away from those below it.
#[derive(Debug, Default)]
pub(super) struct Layer {
    pub(super) names: BTreeMap<TreePath, Place>,
    /// Names that are gone, with all that is below them.
    pub(super) removed: BTreeSet<TreePath>,
    /// Folders of which nothing stays.
    pub(super) opaque: BTreeSet<TreePath>,
}

/// Where a name leads.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) inode: usize,
    /// A folder that the layer does not list and that its members need: one below it stays as it is.
    pub(super) is_implied: bool,
}

impl Layer {
    /// Takes away what the layer brought at this name so far.
    pub(super) fn remove(&mut self, path: &[u8]) {
        remove(&mut self.names, path);
    }

    /// The place of a name in this layer alone, links of the folders above it followed.
    pub(super) fn resolve<'a>(
        &self,
        path: &[u8],
        link: impl Fn(usize) -> Option<&'a [u8]>,
    ) -> Option<TreePath> {
        resolve(path, |place| self.names.get(place).map(|there| link(there.inode)))
    }
}

/// The place of a name, links of the folders above it followed; `None` where the walk leads over what
/// is not there or in circles. `known` says of a place whether something is there and, of a link,
/// where it leads.
pub(super) fn resolve<'a>(
    path: &[u8],
    known: impl Fn(&[u8]) -> Option<Option<&'a [u8]>>,
) -> Option<TreePath> {
    let (folder, name) = split(path);
    let mut walk = Walk::new(folder);
    let mut place = TreePath::new();
    while let Some(step) = walk.step() {
        match step {
            Step::Up => place = split(&place).0.to_vec(),
            Step::Into(name) => {
                let mut next = place.clone();
                join(&mut next, &name);
                match known(&next)? {
                    Some(target) => place = walk.detour(place, target).ok()?,
                    None => place = next,
                }
            }
        }
    }
    join(&mut place, name);
    Some(place)
}

/// A walk along a path, name by name.
pub(super) struct Walk {
    waiting: VecDeque<Vec<u8>>,
    n_links: usize,
}

/// Where a walk leads next.
pub(super) enum Step {
    /// To the folder above.
    Up,
    /// To this name.
    Into(Vec<u8>),
}

impl Walk {
    pub(super) fn new(path: &[u8]) -> Self {
        Self { waiting: names(path), n_links: 0 }
    }

    pub(super) fn step(&mut self) -> Option<Step> {
        let name = self.waiting.pop_front()?;
        Some(if name == b".." { Step::Up } else { Step::Into(name) })
    }

    /// Goes on where a link leads that is in the folder `from`; gives the folder to go on in.
    pub(super) fn detour(&mut self, from: TreePath, target: &[u8]) -> Result<TreePath, Error> {
        self.n_links += 1;
        if self.n_links > MAX_LINKS {
            return Err(io::Error::other("links of it lead in circles").into());
        }
        let mut names = names(target);
        names.append(&mut self.waiting);
        self.waiting = names;
        Ok(if target.starts_with(b"/") { TreePath::new() } else { from })
    }
}

fn names(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !matches!(*name, b"" | b"."))
        .map(<[u8]>::to_vec)
        .collect()
}
