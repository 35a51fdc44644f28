//! The guest's users and groups: reading `/etc/passwd` and `/etc/group`, and adding and removing
//! users, by the distribution's tools where it has them.
//!
//! The C library's functions are not used: in a static binary they would load plug-ins of the
//! guest. So only local users are known.

use std::io;
use std::path::Path;

use agent_protocol::UserResponse;
use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::{Error, Result};

const PASSWD: &str = "etc/passwd";
const SHADOW: &str = "etc/shadow";
const GROUP: &str = "etc/group";
const GSHADOW: &str = "etc/gshadow";
/// Largest account file that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// Numbers of people's users; those below belong to the system, 65534 is `nobody`.
const PEOPLE: std::ops::Range<u32> = 1000..60_000;

/// A user as `/etc/passwd` and `/etc/group` have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    /// Number.
    pub uid: u32,
    /// Number of the first group.
    pub gid: u32,
    /// Numbers of all groups.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

impl Account {
    /// Root as every guest has it, for guests without `/etc/passwd`.
    pub fn root() -> Self {
        Self {
            name: "root".into(),
            uid: 0,
            gid: 0,
            groups: vec![0],
            home: "/root".into(),
            shell: "/bin/sh".into(),
        }
    }
}

impl From<Account> for UserResponse {
    fn from(account: Account) -> Self {
        let Account { name, uid, gid, home, .. } = account;
        Self { name, uid, gid, home }
    }
}

/// The user of a name or number below the root directory `root`.
///
/// # Errors
/// [`Error::UnknownUser`], or a file that cannot be read.
pub fn find(root: &Path, name: &str) -> Result<Account> {
    let passwd = read(root, PASSWD)?;
    let group = read(root, GROUP).unwrap_or_default();
    parse(&passwd, &group, name).ok_or_else(|| {
        let names = passwd.lines().filter_map(|line| line.split(':').next());
        let nearest = spelling::nearest(name, names).map(str::to_owned);
        Error::UnknownUser { name: name.to_owned(), nearest }
    })
}

fn parse(passwd: &str, group: &str, name: &str) -> Option<Account> {
    let mut account =
        passwd.lines().filter_map(parse_line).find(|a| a.name == name).or_else(|| {
            let uid: u32 = name.parse().ok()?;
            passwd.lines().filter_map(parse_line).find(|account| account.uid == uid)
        })?;
    for line in group.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, gid, members] = fields[..] else { continue };
        let Ok(gid) = gid.parse() else { continue };
        if gid != account.gid && members.split(',').any(|member| member == account.name) {
            account.groups.push(gid);
        }
    }
    Some(account)
}

fn parse_line(line: &str) -> Option<Account> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, uid, gid, _, home, shell] = fields[..] else { return None };
    let gid = gid.parse().ok()?;
    Some(Account {
        name: name.to_owned(),
        uid: uid.parse().ok()?,
        gid,
        groups: vec![gid],
        home: home.to_owned(),
        shell: if shell.is_empty() { "/bin/sh".into() } else { shell.to_owned() },
    })
}

/// Adds a user with a home and a group of its own by editing the files, as `useradd` would.
///
/// # Errors
/// The user exists, or a file cannot be written.
pub fn add(root: &Path, name: &str) -> Result<Account> {
    let _lock = lock(root)?;
    let passwd = read(root, PASSWD)?;
    let group = read(root, GROUP)?;
    let taken = |text: &str| text.lines().any(|line| line.split(':').next() == Some(name));
    if taken(&passwd) || taken(&group) {
        return Err(Error::UserExists { name: name.to_owned() });
    }
    let number = free_number(&passwd, &group).ok_or_else(|| Error::File {
        action: "find a free number in",
        path: root.join(PASSWD),
        source: io::ErrorKind::StorageFull.into(),
    })?;
    let shell = ["/bin/bash", "/bin/sh"]
        .into_iter()
        .find(|shell| root.join(&shell[1..]).exists())
        .unwrap_or("/bin/sh");
    let home = format!("/home/{name}");
    append(root, GROUP, &group, &format!("{name}:x:{number}:"))?;
    append_if_there(root, GSHADOW, &format!("{name}:!::"))?;
    append_if_there(root, SHADOW, &format!("{name}:!:19000:0:99999:7:::"))?;
    // The line that makes the user known comes last, so that a crash leaves no half of one.
    append(root, PASSWD, &passwd, &format!("{name}:x:{number}:{number}::{home}:{shell}"))?;
    make_home(root, &home, number)?;
    find(root, name)
}

/// Removes a user and its own group from the files.
///
/// # Errors
/// A file that cannot be written.
pub fn remove(root: &Path, name: &str) -> Result<()> {
    let _lock = lock(root)?;
    for file in [PASSWD, SHADOW, GROUP, GSHADOW] {
        let Ok(text) = read(root, file) else { continue };
        let kept = without(&text, name, file == GROUP || file == GSHADOW);
        if kept != text {
            replace(root, file, &kept)?;
        }
    }
    Ok(())
}

/// Whether a user is a person's and not the system's.
pub fn is_person(account: &Account) -> bool {
    PEOPLE.contains(&account.uid)
}

/// The text without the lines of `name`; in group files also without its memberships.
fn without(text: &str, name: &str, groups: bool) -> String {
    let mut kept = String::with_capacity(text.len());
    for line in text.lines().filter(|line| line.split(':').next() != Some(name)) {
        match line.rsplit_once(':') {
            Some((head, members)) if groups => {
                let members: Vec<&str> = members.split(',').filter(|m| *m != name).collect();
                kept += &format!("{head}:{}", members.join(","));
            }
            _ => kept += line,
        }
        kept.push('\n');
    }
    kept
}

fn free_number(passwd: &str, group: &str) -> Option<u32> {
    let third = |line: &str| line.split(':').nth(2)?.parse::<u32>().ok();
    let used: std::collections::HashSet<u32> =
        passwd.lines().chain(group.lines()).filter_map(third).collect();
    PEOPLE.into_iter().find(|number| !used.contains(number))
}

fn make_home(root: &Path, home: &str, number: u32) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, chown};
    let path = root.join(&home[1..]);
    let failed = |source| Error::File { action: "create", path: path.clone(), source };
    fs_err::create_dir_all(root.join("home")).map_err(failed)?;
    match std::fs::DirBuilder::new().mode(0o755).create(&path) {
        // A home that was kept from a former user of the name is taken over.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    for file in fs_err::read_dir(root.join("etc/skel")).into_iter().flatten().flatten() {
        let target = path.join(file.file_name());
        if file.file_type().is_ok_and(|kind| kind.is_file()) && !target.exists() {
            fs_err::copy(file.path(), &target).map_err(failed)?;
            chown(&target, Some(number), Some(number)).map_err(failed)?;
        }
    }
    chown(&path, Some(number), Some(number)).map_err(failed)
}

fn append(root: &Path, file: &str, text: &str, line: &str) -> Result<()> {
    let separator = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    replace(root, file, &format!("{text}{separator}{line}\n"))
}

fn append_if_there(root: &Path, file: &str, line: &str) -> Result<()> {
    match read(root, file) {
        Ok(text) => append(root, file, &text, line),
        Err(_) => Ok(()),
    }
}

fn read(root: &Path, file: &str) -> Result<String> {
    use std::io::Read as _;
    let path = root.join(file);
    let mut bytes = Vec::new();
    fs_err::File::open(&path)
        .and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes))
        .map_err(|source| Error::File { action: "read", path, source })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes beside the file, with its owner and mode, and renames.
fn replace(root: &Path, file: &str, text: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
    let path = root.join(file);
    let beside = root.join(format!("{file}+"));
    let write = || {
        let old = fs_err::metadata(&path)?;
        let mut new = fs_err::File::create(&beside)?;
        new.set_permissions(PermissionsExt::from_mode(old.mode() & 0o7777))?;
        rustix::fs::fchown(
            &new,
            Some(rustix::fs::Uid::from_raw(old.uid())),
            Some(rustix::fs::Gid::from_raw(old.gid())),
        )?;
        new.write_all(text.as_bytes())?;
        new.sync_all()?;
        fs_err::rename(&beside, &path)
    };
    write().map_err(|source| Error::File { action: "write", path: path.clone(), source })
}

/// The lock that `lckpwdf` takes, as far as a lock of another kind can: for a short time, and
/// between the agent's own requests.
fn lock(root: &Path) -> Result<impl Sized> {
    let path = root.join("etc/.pwd.lock");
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).map_err(|error| {
        Error::File { action: "lock", path: path.clone(), source: error.into() }
    })?;
    rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|error| Error::File { action: "lock", path, source: error.into() })?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD_TEXT: &str = "root:x:0:0:root:/root:/bin/bash\nbad line\n\
        dev:x:1000:1000:Dev,,,:/home/dev:/bin/zsh\nnobody:x:65534:65534::/nonexistent:\n";
    const GROUP_TEXT: &str = "root:x:0:\nsudo:x:27:dev,other\ndev:x:1000:\nx:x:5:otherdev\n";

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(root.path().join("etc/skel")).unwrap();
        fs_err::create_dir_all(root.path().join("bin")).unwrap();
        for (file, text) in [
            (PASSWD, PASSWD_TEXT),
            (GROUP, GROUP_TEXT),
            (SHADOW, "root:*:1::::::\n"),
            ("etc/skel/.profile", "x"),
            ("bin/bash", ""),
        ] {
            fs_err::write(root.path().join(file), text).unwrap();
        }
        root
    }

    #[test]
    fn a_user_is_found_by_name_and_by_number_with_its_groups() {
        for name in ["dev", "1000"] {
            let account = parse(PASSWD_TEXT, GROUP_TEXT, name).unwrap();
            assert_eq!((account.uid, account.gid), (1000, 1000));
            assert_eq!(account.groups, [1000, 27]);
            assert_eq!((account.home.as_str(), account.shell.as_str()), ("/home/dev", "/bin/zsh"));
        }
        assert_eq!(parse(PASSWD_TEXT, "", "nobody").unwrap().shell, "/bin/sh");
        assert_eq!(parse(PASSWD_TEXT, "", "absent"), None);
    }

    #[test]
    fn an_unknown_user_is_an_error_that_offers_the_nearest() {
        let error = find(tree().path(), "dve").unwrap_err();
        assert_eq!(error.to_string(), "No such user `dve`");
        assert_eq!(error.hint().as_deref(), Some("Did you mean `dev`?"));
    }

    #[test]
    fn a_user_comes_and_goes() {
        let root = tree();
        // Giving files away needs root, which tests may not have.
        if rustix::process::geteuid().is_root() {
            let account = add(root.path(), "new").unwrap();
            assert_eq!((account.uid, account.gid), (1001, 1001));
            assert_eq!(account.shell, "/bin/bash");
            assert!(root.path().join("home/new/.profile").exists());
            assert!(matches!(add(root.path(), "new"), Err(Error::UserExists { .. })));
            assert!(read(root.path(), SHADOW).unwrap().contains("new:!:"));
            remove(root.path(), "new").unwrap();
            assert_eq!(read(root.path(), PASSWD).unwrap(), PASSWD_TEXT);
            assert_eq!(read(root.path(), GROUP).unwrap(), GROUP_TEXT);
            assert_eq!(read(root.path(), SHADOW).unwrap(), "root:*:1::::::\n");
        }
    }

    #[test]
    fn memberships_go_with_the_user() {
        assert_eq!(
            without(GROUP_TEXT, "dev", true),
            "root:x:0:\nsudo:x:27:other\nx:x:5:otherdev\n"
        );
    }
}
