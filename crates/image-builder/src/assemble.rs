//! Puts an image's tree together: the packages' files, the kernel's modules, then what the recipe
//! adds and leaves out; and settles what would differ from one bake to the next.

use crate::{
    Error, RecipeError, RootError, account, apt, identity,
    lock::ArchLock,
    packages,
    recipe::{DistributionName, Pattern, Recipe},
    tree::{Kind, Node, Tree, TreePath, normal},
};
use host_platform::Arch;
use std::collections::BTreeSet;

/// Files that a running system makes again, and that would tell one bake from another.
const TRACES: [&str; 19] = [
    "dev/**",
    "etc/.pwd.lock",
    "etc/group-",
    "etc/gshadow-",
    "etc/passwd-",
    "etc/shadow-",
    "etc/subuid-",
    "etc/subgid-",
    "proc/**",
    "run/**",
    "sys/**",
    "tmp/**",
    "var/cache/apt/**",
    "var/cache/debconf/*-old",
    "var/cache/debconf/tmp.ci",
    "var/cache/ldconfig/aux-cache",
    "var/lib/apt/lists/*",
    "var/lib/dpkg/*-old",
    "var/log/**",
];

/// Makes the whole tree of an image.
pub fn tree(
    mut tree: Tree,
    modules: &Tree,
    recipe: &Recipe,
    arch: Arch,
    lock: &ArchLock,
) -> Result<Tree, Error> {
    let time = lock.source_date;
    remove_traces(&mut tree);
    identity::settle(&mut tree, time)?;
    leave_out(&mut tree, recipe);
    for folder in ["dev", "proc", "run", "sys"] {
        tree.put(folder, Node::folder(0o755, time))?;
    }
    tree.put("tmp", Node::folder(0o1777, time))?;
    give_root_a_home(&mut tree, time)?;
    for (path, node) in modules.iter().filter(|(path, _)| !path.is_empty()) {
        if !node.is_folder() {
            tree.put_bytes(path, Node { mtime: time, ..node.clone() })?;
        }
    }
    settle_sources(&mut tree, recipe, arch, time)?;
    add(&mut tree, recipe, time)?;
    refuse_without_sources(&tree, recipe, arch)?;
    for user in &recipe.body.user {
        account::add(&mut tree, user, time)?;
    }
    own(&mut tree, recipe)?;
    identity::renewal::put(&mut tree, recipe, time)?;
    identity::refuse_secrets(&tree, None, recipe)?;
    tree.clamp_times(time);
    Ok(tree)
}

/// Commands run as root and begin in its home, which some trees of few packages lack.
fn give_root_a_home(tree: &mut Tree, time: i64) -> Result<(), Error> {
    match tree.get(b"root") {
        Some(_) => Ok(()),
        None => Ok(tree.put("root", Node::folder(0o700, time))?),
    }
}

/// Makes the whole tree of an overlay from what installing it onto `below` gave. What is as it was
/// below keeps its time, so that nothing differs that need not.
pub fn overlay(
    mut tree: Tree,
    below: &Tree,
    recipe: &Recipe,
    lock: &ArchLock,
) -> Result<Tree, Error> {
    let time = lock.source_date;
    remove_traces(&mut tree);
    identity::settle(&mut tree, time)?;
    leave_out(&mut tree, recipe);
    for folder in ["dev", "proc", "run", "sys", "tmp"] {
        if let Some(node) = below.get(folder.as_bytes()) {
            tree.put(folder, node.clone())?;
        }
    }
    remove_lists(&mut tree, |text| text.contains(" copy:"))?;
    restore(&mut tree, below, recipe, lock)?;
    add(&mut tree, recipe, time)?;
    for user in &recipe.body.user {
        account::add(&mut tree, user, time)?;
    }
    own(&mut tree, recipe)?;
    identity::renewal::put(&mut tree, recipe, time)?;
    identity::refuse_secrets(&tree, Some(below), recipe)?;
    tree.clamp_times(time);
    let difference = crate::difference::between(below, &tree)?;
    for path in &difference.times {
        if let Some(node) = below.get(path) {
            tree.put_bytes(path, Node { mtime: node.mtime, ..tree_node(&tree, path)? })?;
        }
    }
    Ok(tree)
}

/// Puts files and links of the recipes below back where a package of the overlay brought others in
/// their place. What a command removed or changed stays so.
fn restore(tree: &mut Tree, below: &Tree, recipe: &Recipe, lock: &ArchLock) -> Result<(), Error> {
    let is_new = |name: &String| lock.package.iter().any(|package| package.name == *name);
    let brought: BTreeSet<TreePath> = packages::installed(tree)?
        .into_iter()
        .filter(|package| is_new(&package.name))
        .flat_map(|package| package.files)
        .collect();
    let layers = recipe.layers();
    for layer in &layers[..layers.len() - 1] {
        let files = layer.body.file.iter().map(|file| file.path.as_str());
        let links = layer.body.link.iter().map(|link| link.path.as_str());
        for path in files.chain(links) {
            let path = normal(path.as_bytes())?;
            if let Some(node) = below.get(&path).filter(|_| brought.contains(&path)) {
                tree.put_bytes(&path, node.clone())?;
            }
        }
    }
    Ok(())
}

/// Makes the whole tree of an image on a root file system that somebody brought, with the kernel's
/// modules from `modules`. Its packages, sources and keys are the bringer's matter, but for keys that the
/// recipe's commands made; what a machine needs and such a tree often lacks is added where it is missing.
/// `original` is what was brought, before anything was installed over it: its times are its own.
pub fn brought(
    mut tree: Tree,
    original: &Tree,
    modules: &Tree,
    recipe: &Recipe,
    time: i64,
) -> Result<Tree, Error> {
    for folder in ["dev", "proc", "run", "sys"] {
        tree.remove_where(|path| path.starts_with(format!("{folder}/").as_bytes()));
        tree.put(folder, Node::folder(0o755, time))?;
    }
    if tree.get(b"tmp").is_none() {
        tree.put("tmp", Node::folder(0o1777, time))?;
    }
    give_root_a_home(&mut tree, time)?;
    identity::settle(&mut tree, time)?;
    leave_out(&mut tree, recipe);
    for (path, node) in modules.iter().filter(|(_, node)| !node.is_folder()) {
        // Through the link `lib` where there is one, and beside the rest where there is none.
        let path = path.strip_prefix(b"usr/").unwrap_or(path);
        tree.put_bytes(path, node.clone())?;
    }
    // The resolver of the machine's network; containers get theirs from outside, as an empty file.
    for (path, text) in [
        ("etc/resolv.conf", "nameserver 10.0.2.3\n"),
        ("etc/hostname", "quicksand\n"),
        ("etc/hosts", "127.0.0.1 localhost quicksand\n::1 localhost\n"),
    ] {
        if tree.read(path)?.is_none_or(|there| there.is_empty()) {
            tree.replace(path, Node::file(text.as_bytes(), 0o644, time))?;
        }
    }
    add(&mut tree, recipe, time)?;
    for user in &recipe.body.user {
        account::add(&mut tree, user, time)?;
    }
    own(&mut tree, recipe)?;
    identity::renewal::put(&mut tree, recipe, time)?;
    identity::refuse_secrets(&tree, Some(original), recipe)?;
    tree.clamp_times_but(time, original);
    Ok(tree)
}

fn tree_node(tree: &Tree, path: &[u8]) -> Result<Node, Error> {
    tree.get(path).cloned().ok_or_else(|| {
        disk_formats::Error::NoParent { path: String::from_utf8_lossy(path).into_owned() }.into()
    })
}

/// Removes what the recipe, or one below it, leaves out.
fn leave_out(tree: &mut Tree, recipe: &Recipe) {
    let layers = recipe.layers();
    let is_named = |pick: fn(&Recipe) -> &Vec<Pattern>, path: &[u8]| {
        layers.iter().any(|layer| pick(layer).iter().any(|pattern| pattern.matches(path)))
    };
    tree.remove_where(|path| {
        is_named(|layer| &layer.body.exclude, path) && !is_named(|layer| &layer.body.keep, path)
    });
}

/// Puts the recipe's files and links into the tree.
fn add(tree: &mut Tree, recipe: &Recipe, time: i64) -> Result<(), Error> {
    let body = &recipe.body;
    for file in &body.file {
        let node = Node::file(recipe.content(file)?, file.mode.0, time);
        refuse_folder(tree, file.path.as_str())?;
        tree.replace(file.path.as_str(), node)?;
    }
    for link in &body.link {
        refuse_folder(tree, link.path.as_str())?;
        tree.replace(link.path.as_str(), Node::symlink(link.target.0.as_bytes(), time))?;
    }
    for links in &body.links {
        for name in &links.names {
            let path = format!("{}/{}", links.folder.as_str(), name.0);
            // What a package or the recipe put there itself is the better one.
            if tree.read(&path)?.is_none() {
                refuse_folder(tree, &path)?;
                tree.put(&path, Node::symlink(links.target.0.as_bytes(), time))?;
            }
        }
    }
    Ok(())
}

/// A file takes the place of what is there, and must not take a whole folder away with it.
fn refuse_folder(tree: &Tree, path: &str) -> Result<(), Error> {
    let place = normal(path.as_bytes())?;
    let below = [place.as_slice(), b"/"].concat();
    let is_full = tree.get(&place).is_some_and(Node::is_folder)
        && tree.iter().any(|(path, _)| path.starts_with(&below));
    match is_full {
        true => Err(Error::Recipe(RecipeError::IsFolder { path: path.to_owned() })),
        false => Ok(()),
    }
}

/// Gives files with an owner to that user, and the folders above them that lie in their home.
fn own(tree: &mut Tree, recipe: &Recipe) -> Result<(), Error> {
    for file in &recipe.body.file {
        let Some(owner) = &file.owner else { continue };
        let entry = account::find(tree, owner)?.ok_or_else(|| {
            Error::Recipe(RecipeError::NoUser {
                user: owner.as_str().to_owned(),
                path: file.path.as_str().to_owned(),
            })
        })?;
        let path = file.path.as_str().trim_start_matches('/');
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        let owned: Vec<&str> = ends
            .map(|end| &path[..end])
            .filter(|part| *part == path || part.starts_with(&format!("{}/", entry.home)))
            .collect();
        for part in owned {
            let mut node = tree_node(tree, part.as_bytes())?;
            (node.uid, node.gid) = (entry.uid, entry.gid);
            tree.put(part, node)?;
        }
    }
    Ok(())
}

/// The UUID of the file system: settled by what the image is called, so that it is the same on
/// each bake. Version 8 of RFC 9562 is the one for such values.
pub fn volume_id(recipe: &Recipe, arch: Arch) -> [u8; 16] {
    let name = format!("{}-{}-{}", recipe.name, recipe.body.version, arch.image_name());
    checksum::uuid::from_content(&name)
}

fn remove_traces(tree: &mut Tree) {
    let patterns: Vec<Pattern> =
        TRACES.iter().filter_map(|pattern| Pattern::try_from(format!("/{pattern}")).ok()).collect();
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
}

/// Removes those of apt's lists of repositories whose text should go.
fn remove_lists(tree: &mut Tree, should_go: impl Fn(&str) -> bool) -> Result<(), Error> {
    let mut gone = Vec::new();
    for (path, node) in tree.iter().filter(|(path, _)| path.starts_with(b"etc/apt/sources.list")) {
        match &node.kind {
            Kind::Folder => {}
            Kind::File(content) if !should_go(&String::from_utf8_lossy(&content.read()?)) => {}
            _ => gone.push(path.clone()),
        }
    }
    for path in gone {
        tree.remove(&path);
    }
    Ok(())
}

/// Gives apt inside of the image the distribution's own archives in place of the repository that the
/// image was made from.
fn settle_sources(tree: &mut Tree, recipe: &Recipe, arch: Arch, time: i64) -> Result<(), Error> {
    let distribution = &recipe.body.distribution;
    if distribution.name == DistributionName::Alpine {
        return Ok(());
    }
    let mut example = String::new();
    for path in apt::examples(distribution) {
        if example.is_empty()
            && let Some(text) = tree.read(&path)?
        {
            example = String::from_utf8_lossy(&text).into_owned();
        }
    }
    // It lay in a folder that is gone, called otherwise on each bake.
    remove_lists(tree, |text| text.contains(" copy:"))?;
    if !has_apt(tree) {
        return Ok(());
    }
    let name = distribution.name.as_str();
    let keyring = format!("usr/share/keyrings/{name}-archive-keyring.gpg");
    let keyring = Some(keyring.as_str()).filter(|path| tree.get(path.as_bytes()).is_some());
    let sources = apt::sources_for_image(&example, &apt::tool_text(), distribution, arch, keyring);
    let Some(sources) = sources else { return Ok(()) };
    let place = format!("etc/apt/sources.list.d/{name}.sources");
    Ok(tree.put(&place, Node::file(sources.into_bytes(), 0o644, time))?)
}

fn has_apt(tree: &Tree) -> bool {
    tree.get(b"usr/bin/apt-get").is_some()
}

/// Refuses an image whose apt would find nothing to ask: it would be noticed by its users alone.
fn refuse_without_sources(tree: &Tree, recipe: &Recipe, arch: Arch) -> Result<(), Error> {
    let distribution = recipe.body.distribution.name;
    if distribution == DistributionName::Alpine || !has_apt(tree) {
        return Ok(());
    }
    for (path, node) in tree.iter().filter(|(path, _)| path.starts_with(b"etc/apt/sources.list")) {
        let Kind::File(content) = &node.kind else { continue };
        let text = content.read()?;
        let text = String::from_utf8_lossy(&text);
        let entries = match path.ends_with(b".sources") {
            true => apt::repositories::parse_deb822(&text),
            false => apt::repositories::parse_one_line(&text),
        };
        if entries.iter().any(|entry| entry.types.iter().any(|kind| kind == "deb")) {
            return Ok(());
        }
    }
    let archive = apt::archive_name(distribution, arch).to_owned();
    Err(Error::Root(RootError::NoSources { image: recipe.name.clone(), archive }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe;

    #[test]
    fn an_overlays_commands_have_the_last_word_and_its_packages_do_not() {
        let text = "version = \"1\"\nsummary = \"x\"\npackages = [\"a\"]\n\
            [distribution]\nname = \"debian\"\nsuite = \"trixie\"\n\
            [kernel]\nflavour = \"cloud\"\ninitrd = [\"ext4\"]\n[disk]\nsize = \"1G\"\n\
            [[file]]\npath = \"/etc/gone\"\ntext = \"x\"\n\
            [[file]]\npath = \"/etc/changed\"\ntext = \"x\"\n\
            [[file]]\npath = \"/etc/b.conf\"\ntext = \"of the recipe\"\n";
        let path = std::path::Path::new("recipe.toml");
        let parent = recipe::parse(text, path).unwrap();
        let parent =
            Recipe { name: "lower".to_owned(), folder: "".into(), body: parent, base: None };
        let body = "base = \"lower\"\nsummary = \"x\"\n";
        let body = recipe::parse_on(body, path, &parent).unwrap();
        let upper = Recipe {
            name: "upper".to_owned(),
            folder: "".into(),
            body,
            base: Some(Box::new(parent)),
        };
        let mut below = Tree::new(0);
        for (path, text) in [
            ("etc/gone", "x"),
            ("etc/changed", "x"),
            ("etc/b.conf", "of the recipe"),
            ("etc/apt/sources.list.d/mine.list", "deb http://mirror.test/ x main\n"),
        ] {
            below.put(path, Node::file(text.as_bytes(), 0o644, 0)).unwrap();
        }
        let mut installed = below.clone();
        installed.remove(b"etc/gone");
        for (path, text) in [
            ("etc/changed", "by a command"),
            ("etc/b.conf", "of the package"),
            (
                "var/lib/dpkg/status",
                "Package: b\nVersion: 1\nArchitecture: amd64\nStatus: install ok installed\n",
            ),
            ("var/lib/dpkg/info/b.list", "/.\n/etc\n/etc/b.conf\n"),
        ] {
            installed.put(path, Node::file(text.as_bytes(), 0o644, 0)).unwrap();
        }
        let mut lock = crate::lock::tests::arch_lock(&[("b", "1")]);
        lock.source_date = 5;
        let tree = overlay(installed, &below, &upper, &lock).unwrap();
        let text = |path: &str| {
            tree.read(path).unwrap().map(|text| String::from_utf8_lossy(&text).into_owned())
        };
        assert_eq!(text("etc/gone"), None);
        assert_eq!(text("etc/changed").as_deref(), Some("by a command"));
        assert_eq!(text("etc/b.conf").as_deref(), Some("of the recipe"));
        assert!(text("etc/apt/sources.list.d/mine.list").is_some());
    }

    #[test]
    fn an_image_whose_apt_has_nothing_to_ask_is_refused() {
        let text = "version = \"1\"\nsummary = \"x\"\npackages = [\"a\"]\n\
            [distribution]\nname = \"ubuntu\"\nsuite = \"noble\"\n\
            [kernel]\nflavour = \"cloud\"\ninitrd = [\"ext4\"]\n[disk]\nsize = \"1G\"\n";
        let body = recipe::parse(text, std::path::Path::new("recipe.toml")).unwrap();
        let recipe = Recipe { name: "image".to_owned(), folder: "".into(), body, base: None };
        let mut tree = Tree::new(0);
        let put = |tree: &mut Tree, path: &str, text: &str| {
            tree.put(path, Node::file(text.as_bytes(), 0o644, 0)).unwrap();
        };
        let ask = |tree: &Tree| refuse_without_sources(tree, &recipe, Arch::Arm64);
        ask(&tree).unwrap();
        put(&mut tree, "usr/bin/apt-get", "x");
        // A list of nothing but sources of packages is none.
        put(&mut tree, "etc/apt/sources.list", "deb-src http://m.test/ubuntu-ports noble main\n");
        let error = ask(&tree).unwrap_err();
        assert!(error.to_string().contains("`ubuntu-ports`"), "{error}");
        assert!(error.hint().unwrap().contains("sources.list.d"), "{error}");
        put(
            &mut tree,
            "etc/apt/sources.list.d/own.sources",
            "Types: deb\nURIs: http://m.test/x/\nSuites: noble\nComponents: main\n",
        );
        ask(&tree).unwrap();
    }

    #[test]
    fn the_bakes_own_repository_stays_in_no_image() {
        let mut tree = Tree::new(0);
        for (path, text) in [
            ("etc/apt/sources.list", "deb [trusted=yes] copy:/tmp/quicksand-x1 ./\n"),
            ("etc/apt/sources.list.d/mine.list", "deb http://mirror.test/debian trixie main\n"),
        ] {
            tree.put(path, Node::file(text.as_bytes(), 0o644, 0)).unwrap();
        }
        remove_lists(&mut tree, |text| text.contains(" copy:")).unwrap();
        assert!(tree.get(b"etc/apt/sources.list").is_none());
        assert!(tree.get(b"etc/apt/sources.list.d/mine.list").is_some());
    }
}
