//! Puts an image's tree together: the packages' files, the kernel's modules, then what the recipe
//! adds and leaves out; and settles what would differ from one bake to the next.

use crate::{
    Error, account, apt,
    lock::ArchLock,
    recipe::Recipe,
    tree::{Kind, Node, Tree},
};
use host_platform::Arch;

/// Files that a running system makes anew, and that would tell one bake from another.
const TRACES: [&str; 12] = [
    "dev/**",
    "proc/**",
    "run/**",
    "sys/**",
    "tmp/**",
    "var/cache/apt/**",
    "var/cache/debconf/*-old",
    "var/cache/ldconfig/aux-cache",
    "var/lib/apt/lists/*",
    "var/lib/dpkg/*-old",
    "var/log/**",
    "etc/ssh/ssh_host_*",
];

/// Makes the whole tree of an image.
pub fn tree(
    mut tree: Tree,
    modules: &Tree,
    recipe: &Recipe,
    lock: &ArchLock,
) -> Result<Tree, Error> {
    let time = lock.source_date;
    remove_traces(&mut tree)?;
    let body = &recipe.body;
    tree.remove_where(|path| {
        let is_named =
            |patterns: &[crate::recipe::Pattern]| patterns.iter().any(|p| p.matches(path));
        is_named(&body.exclude) && !is_named(&body.keep)
    });
    for folder in ["dev", "proc", "run", "sys"] {
        tree.put(folder, Node::folder(0o755, time))?;
    }
    tree.put("tmp", Node::folder(0o1777, time))?;
    for (path, node) in modules.iter().filter(|(path, _)| !path.is_empty()) {
        if !node.is_folder() {
            tree.put_bytes(path, Node { mtime: time, ..node.clone() })?;
        }
    }
    settle_sources(&mut tree, recipe, time)?;
    for file in &body.file {
        let node = Node::file(recipe.content(file)?, file.mode.0, time);
        tree.put(file.path.as_str(), node)?;
    }
    for link in &body.link {
        tree.put(link.path.as_str(), Node::symlink(link.target.as_bytes(), time))?;
    }
    for links in &body.links {
        for name in &links.names {
            let path = format!("{}/{name}", links.folder.as_str());
            // What a package or the recipe put there itself is the better one.
            if tree.read(&path)?.is_none() {
                tree.put(&path, Node::symlink(links.target.as_bytes(), time))?;
            }
        }
    }
    for user in &body.user {
        account::add(&mut tree, user, time)?;
    }
    tree.clamp_times(time);
    Ok(tree)
}

/// The UUID of the file system: settled by what the image is called, so that it is the same on
/// each bake. Version 8 of RFC 9562 is the one for such values.
pub fn volume_id(recipe: &Recipe, arch: Arch) -> [u8; 16] {
    let name = format!("{}-{}-{}", recipe.name, recipe.body.version, arch.image_name());
    let digest = crate::sha256(name.as_bytes());
    let mut id = [0; 16];
    for (byte, pair) in id.iter_mut().zip(digest.as_bytes().chunks(2)) {
        let digit = |at: usize| (pair[at] as char).to_digit(16).unwrap_or(0) as u8;
        *byte = digit(0) << 4 | digit(1);
    }
    id[6] = id[6] & 0x0f | 0x80;
    id[8] = id[8] & 0x3f | 0x80;
    id
}

fn remove_traces(tree: &mut Tree) -> Result<(), Error> {
    let patterns: Vec<crate::recipe::Pattern> = TRACES
        .iter()
        .filter_map(|pattern| crate::recipe::Pattern::try_from(format!("/{pattern}")).ok())
        .collect();
    // Folders of logs stay: services expect theirs, with the owners that packages gave them.
    let keeps: Vec<Vec<u8>> = tree
        .iter()
        .filter(|(path, node)| node.is_folder() && path.starts_with(b"var/log/"))
        .map(|(path, _)| path.clone())
        .collect();
    tree.remove_where(|path| {
        patterns.iter().any(|pattern| pattern.matches(path))
            && !keeps.iter().any(|keep| keep == path)
    });
    // Present and empty: the guest gets an identity of its own at each start, and systemd does not
    // take the start for the machine's first one, see machine-id(5).
    if tree.get(b"usr/lib/systemd").is_some() {
        tree.put("etc/machine-id", Node::file(*b"", 0o444, 0))?;
        tree.remove(b"var/lib/dbus/machine-id");
    }
    Ok(())
}

/// Gives apt inside of the image the distribution's own mirror, which apt's package names in its
/// examples, in place of the repository that the image was made from.
fn settle_sources(tree: &mut Tree, recipe: &Recipe, time: i64) -> Result<(), Error> {
    let distribution = &recipe.body.distribution;
    let example = format!("usr/share/doc/apt/examples/{}.sources", distribution.name.as_str());
    let Some(example) = tree.read(&example)? else { return Ok(()) };
    let sources = apt::canonical(&String::from_utf8_lossy(&example), distribution);
    let lists: Vec<Vec<u8>> = tree
        .iter()
        .filter(|(path, node)| {
            path.starts_with(b"etc/apt/sources.list") && !matches!(node.kind, Kind::Folder)
        })
        .map(|(path, _)| path.clone())
        .collect();
    for path in lists {
        tree.remove(&path);
    }
    let place = format!("etc/apt/sources.list.d/{}.sources", distribution.name.as_str());
    tree.put(&place, Node::file(sources.into_bytes(), 0o644, time))
}
