//! Adds users to a tree by writing the account files, see passwd(5), group(5) and shadow(5):
//! useradd would stamp the day of the bake into them.

use crate::{
    Error, RecipeError,
    recipe::{User, UserName},
    tree::{Kind, Node, Tree},
};

/// Adds a user with a locked password, a group of the same name, a home folder filled from
/// `/etc/skel` and, if asked for, sudo without a password.
pub fn add(tree: &mut Tree, user: &User, time: i64) -> Result<(), Error> {
    let (name, id, home) = (user.name.as_str(), user.id, format!("home/{}", user.name.as_str()));
    let is_there = is_taken(tree, "etc/passwd", user)?;
    if !is_taken(tree, "etc/group", user)? {
        append(tree, "etc/group", &format!("{name}:x:{id}:\n"), 0o644, time)?;
    }
    if !is_there {
        let passwd = format!("{name}:x:{id}:{id}::/{home}:{}\n", user.shell.as_str());
        append(tree, "etc/passwd", &passwd, 0o644, time)?;
        append(tree, "etc/shadow", &format!("{name}:!:::::::\n"), 0o640, time)?;
    }
    for group in &user.groups {
        join(tree, name, group.as_str())?;
    }
    // Whoever is there already, from the image below or by a command, keeps the home.
    let has_home = is_there && tree.get(home.as_bytes()).is_some();
    let mut owned = vec![(home.clone(), Node::folder(0o755, time))];
    for (path, node) in tree.iter() {
        if let Ok(path) = std::str::from_utf8(path)
            && let Some(rest) = path.strip_prefix("etc/skel/")
        {
            owned.push((format!("{home}/{rest}"), node.clone()));
        }
    }
    for (path, mut node) in owned.into_iter().filter(|_| !has_home) {
        (node.uid, node.gid) = (id, id);
        tree.put(&path, node)?;
    }
    if user.sudo {
        let rule = format!("{name} ALL=(ALL:ALL) NOPASSWD: ALL\n");
        tree.put(&format!("etc/sudoers.d/{name}"), Node::file(rule.into_bytes(), 0o440, time))?;
    }
    Ok(())
}

/// Whether this very user, by name and number, is in passwd(5) or group(5) already. Another of the
/// name or the number is refused: two would answer to it.
fn is_taken(tree: &Tree, file: &str, user: &User) -> Result<bool, Error> {
    let text = tree.read(file)?.map(|text| text.to_vec()).unwrap_or_default();
    let mut is_there = false;
    for line in String::from_utf8_lossy(&text).lines() {
        let mut fields = line.split(':');
        let (its_name, its_id) = (fields.next().unwrap_or_default(), fields.nth(1));
        let its_id: Option<u32> = its_id.and_then(|id| id.parse().ok());
        match (its_name == user.name.as_str(), its_id == Some(user.id)) {
            (false, false) => {}
            (true, true) => is_there = true,
            _ => {
                return Err(Error::Recipe(RecipeError::UserTaken {
                    user: user.name.as_str().to_owned(),
                    id: user.id,
                    other: its_name.to_owned(),
                    other_id: its_id.unwrap_or_default(),
                    file: file.to_owned(),
                }));
            }
        }
    }
    Ok(is_there)
}

/// A user's entry in `/etc/passwd`.
pub struct Entry {
    /// The user's number.
    pub uid: u32,
    /// The number of the user's first group.
    pub gid: u32,
    /// The home folder, without its leading slash.
    pub home: String,
}

/// Looks a user up.
pub fn find(tree: &Tree, name: &UserName) -> Result<Option<Entry>, Error> {
    let text = tree.read("etc/passwd")?.map(|text| text.to_vec()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [its_name, _, uid, gid, _, home, _] = fields[..] else { return None };
        (its_name == name.as_str()).then_some(())?;
        let home = home.trim_start_matches('/').to_owned();
        Some(Entry { uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
    }))
}

/// Appends a line; ownership and mode of a file that is there stay.
fn append(tree: &mut Tree, path: &str, line: &str, mode: u16, time: i64) -> Result<(), Error> {
    let mut text = tree.read(path)?.map(|text| text.to_vec()).unwrap_or_default();
    if text.last().is_some_and(|byte| *byte != b'\n') {
        text.push(b'\n');
    }
    text.extend_from_slice(line.as_bytes());
    replace(tree, path, text, mode, time)
}

fn replace(tree: &mut Tree, path: &str, text: Vec<u8>, mode: u16, time: i64) -> Result<(), Error> {
    let mut node =
        tree.get(path.as_bytes()).cloned().unwrap_or_else(|| Node::file(*b"", mode, time));
    node.kind = Kind::File(crate::tree::Content::Bytes(text.into()));
    Ok(tree.put(path, node)?)
}

/// Makes a user a member of a group that exists.
fn join(tree: &mut Tree, user: &str, group: &str) -> Result<(), Error> {
    let text = tree.read("etc/group")?.map(|text| text.to_vec()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut is_found = false;
    let lines: String = text
        .lines()
        .map(|line| match line.strip_prefix(&format!("{group}:")) {
            Some(rest) => {
                is_found = true;
                if rest.rsplit(':').next().is_some_and(|list| list.split(',').any(|it| it == user))
                {
                    return format!("{line}\n");
                }
                let comma = if rest.ends_with(':') { "" } else { "," };
                format!("{line}{comma}{user}\n")
            }
            None => format!("{line}\n"),
        })
        .collect();
    if !is_found {
        return Err(Error::Recipe(RecipeError::NoGroup {
            user: user.to_owned(),
            group: group.to_owned(),
        }));
    }
    replace(tree, "etc/group", lines.into_bytes(), 0o644, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(extra: &str) -> User {
        toml::from_str(&format!("name = \"quicksand\"\nid = 1000\nshell = \"/bin/bash\"\n{extra}"))
            .unwrap()
    }

    fn text(tree: &Tree, path: &str) -> String {
        String::from_utf8_lossy(&tree.read(path).unwrap().unwrap()).into_owned()
    }

    #[test]
    fn a_user_gets_a_home_groups_and_sudo() {
        let mut tree = Tree::new(0);
        let mut shadow = Node::file(*b"root:*::0:::::\n", 0o640, 0);
        shadow.gid = 42;
        tree.put("etc/shadow", shadow).unwrap();
        tree.put("etc/group", Node::file(*b"sudo:x:27:\nvideo:x:44:a\n", 0o644, 0)).unwrap();
        tree.put("etc/skel/.bashrc", Node::file(*b"rc", 0o644, 0)).unwrap();
        add(&mut tree, &user("groups = [\"sudo\", \"video\"]\nsudo = true"), 9).unwrap();
        assert_eq!(text(&tree, "etc/passwd"), "quicksand:x:1000:1000::/home/quicksand:/bin/bash\n");
        assert_eq!(
            text(&tree, "etc/group"),
            "sudo:x:27:quicksand\nvideo:x:44:a,quicksand\nquicksand:x:1000:\n"
        );
        assert_eq!(tree.get(b"etc/shadow").unwrap().gid, 42, "the shadow group keeps its file");
        assert_eq!(tree.get(b"home/quicksand/.bashrc").unwrap().uid, 1000);
        assert_eq!(tree.get(b"etc/sudoers.d/quicksand").unwrap().mode, 0o440);

        // The same once more, as an overlay's fragment may ask: what the user has is kept.
        tree.put("home/quicksand/.bashrc", Node::file(*b"own", 0o644, 0)).unwrap();
        let before: Vec<String> =
            ["etc/passwd", "etc/group", "etc/shadow"].map(|path| text(&tree, path)).into();
        add(&mut tree, &user("groups = [\"video\", \"video\"]"), 9).unwrap();
        let after: Vec<String> =
            ["etc/passwd", "etc/group", "etc/shadow"].map(|path| text(&tree, path)).into();
        assert_eq!(before, after);
        assert_eq!(text(&tree, "home/quicksand/.bashrc"), "own");
    }

    #[test]
    fn a_name_or_number_that_is_taken_is_refused() {
        for (file, line) in [
            ("etc/passwd", "quicksand:x:7:7::/:/bin/sh\n"),
            ("etc/passwd", "node:x:1000:1000::/home/node:/bin/sh\n"),
            ("etc/group", "quicksand:x:44:\n"),
            ("etc/group", "docker:x:1000:\n"),
        ] {
            let mut tree = Tree::new(0);
            tree.put(file, Node::file(line.as_bytes(), 0o644, 0)).unwrap();
            let error = add(&mut tree, &user(""), 0).unwrap_err().to_string();
            assert!(error.contains("quicksand") && error.contains(file), "{error}");
        }
    }

    #[test]
    fn a_group_that_is_not_there_is_named() {
        let error = add(&mut Tree::new(0), &user("groups = [\"wheel\"]"), 0).unwrap_err();
        assert!(error.to_string().contains("`wheel`"), "{error}");
    }
}
