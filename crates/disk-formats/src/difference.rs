//! What differs between two trees, by path: what an overlay must remove, add and change. Pure; it
//! must not know about file systems on disk.

use crate::{
    Error,
    tree::{Kind, Node, Tree, TreePath},
};
use std::collections::BTreeSet;

/// The difference between a tree and a later one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// What goes away, children before the folders that hold them. A path that becomes something of
    /// another kind is here and in `added`.
    pub removed: Vec<TreePath>,
    /// What comes new, folders before what they hold.
    pub added: Vec<TreePath>,
    /// Files and links with other contents.
    pub contents: Vec<TreePath>,
    /// What has another mode, owner or attribute.
    pub attributes: Vec<TreePath>,
    /// What has another time and nothing else of the above.
    pub times: Vec<TreePath>,
}

impl Difference {
    /// Whether the trees are the same.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Compares two trees.
pub fn between(before: &Tree, after: &Tree) -> Result<Difference, Error> {
    let mut removed: BTreeSet<&TreePath> = before
        .iter()
        .filter(|(path, node)| after.get(path).is_none_or(|later| is_other_kind(node, later)))
        .map(|(path, _)| path)
        .collect();
    // Another name of a file that is made again must be made again with it.
    let lost: Vec<&TreePath> = before
        .iter()
        .filter(
            |(_, node)| matches!(&node.kind, Kind::Hardlink(target) if removed.contains(target)),
        )
        .map(|(path, _)| path)
        .collect();
    removed.extend(lost);
    let mut difference = Difference::default();
    for (path, node) in after.iter() {
        let earlier = match before.get(path) {
            Some(earlier) if !removed.contains(path) => earlier,
            _ => {
                difference.added.push(path.clone());
                continue;
            }
        };
        let has_other_content = match (&earlier.kind, &node.kind) {
            (Kind::File(a), Kind::File(b)) => a.len() != b.len() || a.read()? != b.read()?,
            _ => false,
        };
        let is_link = matches!(node.kind, Kind::Hardlink(_));
        let has_other_attributes = !is_link
            && ((earlier.mode, earlier.uid, earlier.gid, &earlier.xattrs)
                != (node.mode, node.uid, node.gid, &node.xattrs));
        if has_other_content {
            difference.contents.push(path.clone());
        }
        if has_other_attributes {
            difference.attributes.push(path.clone());
        }
        if earlier.mtime != node.mtime && !has_other_content && !has_other_attributes && !is_link {
            difference.times.push(path.clone());
        }
    }
    difference.removed = removed.into_iter().rev().cloned().collect();
    Ok(difference)
}

/// Whether one cannot be turned into the other in place.
fn is_other_kind(a: &Node, b: &Node) -> bool {
    match (&a.kind, &b.kind) {
        (Kind::Folder, Kind::Folder)
        | (Kind::File(_), Kind::File(_))
        | (Kind::Fifo, Kind::Fifo) => false,
        (Kind::Symlink(a), Kind::Symlink(b)) | (Kind::Hardlink(a), Kind::Hardlink(b)) => a != b,
        (Kind::CharDevice(a, b), Kind::CharDevice(c, d))
        | (Kind::BlockDevice(a, b), Kind::BlockDevice(c, d)) => (a, b) != (c, d),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let mut tree = Tree::new(1);
        tree.put("a/file", Node::file(*b"one", 0o644, 1)).unwrap();
        let mut link = Node::file(*b"", 0o644, 1);
        link.kind = Kind::Hardlink(b"a/file".to_vec());
        tree.put("a/same", link).unwrap();
        tree.put("b", Node::symlink("a", 1)).unwrap();
        tree
    }

    fn text(paths: &[TreePath]) -> Vec<String> {
        paths.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
    }

    #[test]
    fn a_tree_does_not_differ_from_itself() {
        assert!(between(&tree(), &tree()).unwrap().is_empty());
    }

    #[test]
    fn each_way_of_being_different_is_distinguished() {
        let mut after = tree();
        after.put("a/file", Node::file(*b"two", 0o644, 1)).unwrap();
        after.put("b", Node::symlink("elsewhere", 1)).unwrap();
        after.put("c/new", Node::file(*b"", 0o600, 1)).unwrap();
        after.put("a", Node::folder(0o700, 1)).unwrap();
        let difference = between(&tree(), &after).unwrap();
        assert_eq!(text(&difference.removed), ["b"]);
        assert_eq!(text(&difference.added), ["b", "c", "c/new"]);
        assert_eq!(text(&difference.contents), ["a/file"]);
        assert_eq!(text(&difference.attributes), ["a"]);
    }

    #[test]
    fn other_names_follow_the_file_they_belong_to() {
        let mut after = tree();
        after.put("a/file", Node::symlink("x", 1)).unwrap();
        after.put("a/same", Node::file(*b"one", 0o644, 1)).unwrap();
        let difference = between(&tree(), &after).unwrap();
        assert_eq!(text(&difference.removed), ["a/same", "a/file"]);
        assert_eq!(text(&difference.added), ["a/file", "a/same"]);
    }

    #[test]
    fn folders_go_after_what_they_hold() {
        let mut after = Tree::new(1);
        after.put("b", Node::symlink("a", 1)).unwrap();
        let difference = between(&tree(), &after).unwrap();
        assert_eq!(text(&difference.removed), ["a/same", "a/file", "a"]);
    }
}
