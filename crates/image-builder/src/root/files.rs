//! Files as a kernel would have them after the tars were unpacked one upon the other: names that lead
//! to inodes, so that a hard link keeps its file when a later layer replaces the other name. It owns
//! what a member, a layer and a whiteout do to names; it must not know how tars are packed.
//!
//! A layer means what it means to overlayfs, which is what containers run on: it is read by itself,
//! its links leading where its own names are, and then laid on what is below. A folder of a layer
//! takes the place of a link below it, and whiteouts take away names and never what a link leads to.
//! <https://docs.kernel.org/filesystems/overlayfs.html>, and for the names of whiteouts
//! <https://github.com/opencontainers/image-spec/blob/main/layer.md>

use super::layer::{Layer, Place, Step, Walk, resolve};
use crate::{
    Error,
    tree::{
        Content, Kind, Node, Tree, TreePath,
        access::List,
        archive::{Archive, Member, What},
        join, normal, split,
    },
};
use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Read},
};

/// What marks a file of a lower layer as removed: the start of its name.
const WHITEOUT: &[u8] = b".wh.";
/// What begins the names of marks: of this one, and of aufs' own, which are no files of the image.
const MARK: &[u8] = b".wh..wh.";
/// What marks everything of lower layers in its folder as removed.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What tells how members that begin with `.wh.` are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whiteouts {
    /// As files: it is a plain tar.
    AreFiles,
    /// As what takes files of lower layers away.
    Remove,
}

/// Names and inodes.
#[derive(Debug)]
pub(super) struct Files {
    names: BTreeMap<TreePath, usize>,
    /// No link is among them: a link is a name.
    inodes: Vec<Node>,
    /// Access lists of inodes that name users.
    lists: Vec<(usize, List)>,
}

/// A link whose file comes later in the tar.
struct Early {
    place: TreePath,
    target: TreePath,
}

impl Files {
    /// Nothing but a root folder.
    pub(super) fn new() -> Self {
        let names = BTreeMap::from([(TreePath::new(), 0)]);
        Self { names, inodes: vec![Node::folder(0o755, 0)], lists: Vec::new() }
    }

    /// Unpacks a tar, or a layer, over what is there.
    pub(super) fn add(&mut self, reader: impl Read, whiteouts: Whiteouts) -> Result<(), Error> {
        let mut layer = Layer::default();
        let mut early = Vec::new();
        let mut archive = Archive::new(reader);
        while let Some(member) = archive.next_member()? {
            let path = normal(&member.path)?;
            let (folder, name) = split(&path);
            if whiteouts == Whiteouts::Remove && name.starts_with(WHITEOUT) && name != b".wh." {
                if name == OPAQUE {
                    let folder = self.enter(&mut layer, folder, member.mtime)?;
                    layer.opaque.insert(folder);
                    continue;
                } else if !name.starts_with(MARK) {
                    let gone = &name[WHITEOUT.len()..];
                    if matches!(gone, b"." | b"..") {
                        let path = String::from_utf8_lossy(&path).into_owned();
                        return Err(disk_formats::Error::PathLeavesTree { path }.into());
                    }
                    let mut place = self.enter(&mut layer, folder, member.mtime)?;
                    join(&mut place, gone);
                    layer.removed.insert(place);
                    continue;
                }
            }
            let place = match name {
                [] => TreePath::new(),
                name => {
                    let mut place = self.enter(&mut layer, folder, member.mtime)?;
                    join(&mut place, name);
                    place
                }
            };
            self.member(&mut layer, &mut archive, member, place, &mut early)?;
        }
        for Early { place, target } in early {
            // A later member of the same name took its place.
            if layer.names.contains_key(&place) {
                continue;
            }
            let inode = self.target(&layer, &target).filter(|inode| !self.is_folder(*inode));
            let inode = inode.ok_or_else(|| disk_formats::Error::LostLink {
                path: String::from_utf8_lossy(&place).into_owned(),
                target: String::from_utf8_lossy(&target).into_owned(),
            })?;
            layer.names.insert(place, Place { inode, is_implied: false });
        }
        self.lay(layer);
        Ok(())
    }

    /// Puts one member into a layer.
    fn member<R: Read>(
        &mut self,
        layer: &mut Layer,
        archive: &mut Archive<R>,
        member: Member,
        place: TreePath,
        early: &mut Vec<Early>,
    ) -> Result<(), Error> {
        let Member { mode, uid, gid, mtime, xattrs, lists, .. } = member;
        let kind = match member.what {
            What::Link(target) => {
                let target = normal(&target)?;
                match self.target(layer, &target) {
                    Some(inode) if self.is_folder(inode) => {
                        let path = String::from_utf8_lossy(&place);
                        let detail = format!("`{path}` is a hard link to a folder");
                        return Err(io::Error::other(detail).into());
                    }
                    Some(inode) => {
                        layer.remove(&place);
                        layer.names.insert(place, Place { inode, is_implied: false });
                    }
                    None => {
                        layer.remove(&place);
                        early.push(Early { place, target });
                    }
                }
                return Ok(());
            }
            What::Holes(map) => Kind::File(Content::Bytes(archive.fill(map)?.into())),
            What::File => {
                let mut bytes = Vec::new();
                archive.read_to_end(&mut bytes)?;
                Kind::File(Content::Bytes(bytes.into()))
            }
            What::Other(kind) => kind,
        };
        let node = Node { kind, mode, uid, gid, mtime, xattrs };
        // A folder keeps what is in it, and takes the place of anything else.
        let is_entered = node.is_folder()
            && layer.names.get(&place).is_some_and(|there| self.is_folder(there.inode));
        if !is_entered {
            if place.is_empty() && !node.is_folder() {
                return Err(io::Error::other("its root is no folder").into());
            }
            layer.remove(&place);
        }
        let inode = self.new_inode(node);
        self.lists.extend(lists.into_iter().map(|list| (inode, list)));
        layer.names.insert(place, Place { inode, is_implied: false });
        Ok(())
    }

    /// The folder of a layer at this path, made with those above it where the layer lacks them; the
    /// layer's own links are followed.
    fn enter(&mut self, layer: &mut Layer, folder: &[u8], mtime: i64) -> Result<TreePath, Error> {
        if layer.names.get(folder).is_some_and(|there| self.is_folder(there.inode)) {
            return Ok(folder.to_vec());
        }
        let mut walk = Walk::new(folder);
        let mut place = TreePath::new();
        while let Some(step) = walk.step() {
            let Step::Into(name) = step else {
                place = split(&place).0.to_vec();
                continue;
            };
            let mut next = place.clone();
            join(&mut next, &name);
            let there = layer.names.get(&next).map(|there| there.inode);
            if let Some(target) = there.and_then(|inode| self.link(inode)) {
                place = walk.detour(place, target)?;
                continue;
            }
            place = next;
            if !there.is_some_and(|inode| self.is_folder(inode)) {
                layer.remove(&place);
                let inode = self.new_inode(Node::folder(0o755, mtime));
                layer.names.insert(place.clone(), Place { inode, is_implied: true });
            }
        }
        Ok(place)
    }

    /// What a hard link means: a file of the layer so far, else of what is below it.
    fn target(&self, layer: &Layer, target: &[u8]) -> Option<usize> {
        let of_layer = |path: &[u8]| {
            let place = layer.resolve(path, |inode| self.link(inode))?;
            layer.names.get(&place).map(|there| there.inode)
        };
        let below = self.resolve(target);
        of_layer(target)
            .or_else(|| below.as_deref().and_then(|path| self.names.get(path)).copied())
            .or_else(|| below.as_deref().and_then(of_layer))
    }

    /// Lays a layer on what is there: first what it takes away, then what it brings.
    fn lay(&mut self, layer: Layer) {
        for path in &layer.removed {
            remove(&mut self.names, path);
        }
        for path in &layer.opaque {
            remove_below(&mut self.names, path);
        }
        for (path, Place { inode, is_implied }) in layer.names {
            if path.split(|byte| *byte == b'/').any(|name| name.starts_with(MARK)) {
                continue;
            }
            let is_onto_folder = self.is_folder(inode)
                && self.names.get(&path).is_some_and(|there| self.is_folder(*there));
            if !is_onto_folder {
                remove(&mut self.names, &path);
            } else if is_implied {
                continue;
            }
            self.names.insert(path, inode);
        }
    }

    /// The files as a tree. Of a file's names the first is the file, as in a tar of it.
    pub(super) fn into_tree(mut self) -> Result<Tree, Error> {
        self.settle_lists()?;
        let mut tree = Tree::default();
        let mut first_names: HashMap<usize, TreePath> = HashMap::new();
        for (path, inode) in self.names {
            let mut node = self.inodes[inode].clone();
            if matches!(node.kind, Kind::File(_)) {
                match first_names.get(&inode) {
                    Some(first) => node.kind = Kind::Hardlink(first.clone()),
                    None => {
                        first_names.insert(inode, path.clone());
                    }
                }
            }
            tree.insert(path, node);
        }
        Ok(tree)
    }

    /// Gives access lists the numbers of the users and groups whom they name.
    fn settle_lists(&mut self) -> Result<(), Error> {
        if self.lists.is_empty() {
            return Ok(());
        }
        let (users, groups) = (self.ids("etc/passwd")?, self.ids("etc/group")?);
        for (inode, list) in std::mem::take(&mut self.lists) {
            let id_of = |is_user: bool, name: &str| match is_user {
                true => users.get(name).copied(),
                false => groups.get(name).copied(),
            };
            if let Some(value) = list.value(&id_of)? {
                let attribute = list.purpose.attribute().to_owned();
                self.inodes[inode].xattrs.insert(attribute, value);
            }
        }
        Ok(())
    }

    /// Names and numbers of a file whose lines are `name:x:number:…`.
    fn ids(&self, path: &str) -> Result<HashMap<String, u32>, Error> {
        let inode = self.resolve(path.as_bytes()).and_then(|path| self.names.get(&path));
        let Some(Kind::File(content)) = inode.map(|inode| &self.inodes[*inode].kind) else {
            return Ok(HashMap::new());
        };
        let text = content.read()?;
        let entry = |line: &str| {
            let mut fields = line.split(':');
            Some((fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?))
        };
        Ok(String::from_utf8_lossy(&text).lines().filter_map(entry).collect())
    }

    fn new_inode(&mut self, node: Node) -> usize {
        self.inodes.push(node);
        self.inodes.len() - 1
    }

    fn is_folder(&self, inode: usize) -> bool {
        self.inodes[inode].is_folder()
    }

    fn link(&self, inode: usize) -> Option<&[u8]> {
        match &self.inodes[inode].kind {
            Kind::Symlink(target) => Some(target),
            _ => None,
        }
    }

    /// The place of a name below, links of the folders above it followed.
    fn resolve(&self, path: &[u8]) -> Option<TreePath> {
        resolve(path, |place| self.names.get(place).map(|inode| self.link(*inode)))
    }
}

/// Takes a name away, and everything below it.
pub(super) fn remove<T>(names: &mut BTreeMap<TreePath, T>, path: &[u8]) {
    if !path.is_empty() {
        names.remove(path);
    }
    remove_below(names, path);
}

/// Takes away everything below a name.
pub(super) fn remove_below<T>(names: &mut BTreeMap<TreePath, T>, path: &[u8]) {
    if path.is_empty() {
        names.retain(|path, _| path.is_empty());
        return;
    }
    // A slash is followed by a zero among bytes: all that begins with the path and a slash.
    let range = [path, b"/"].concat()..[path, b"0"].concat();
    let below: Vec<TreePath> = names.range(range).map(|(path, _)| path.clone()).collect();
    for path in below {
        names.remove(&path);
    }
}
