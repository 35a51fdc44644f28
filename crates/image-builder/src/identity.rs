//! What must differ between machines and be known to one alone: host keys, machine ids, seeds of random
//! numbers, private keys that packages' scripts made. An image holds none of them: those that are
//! known are made at the first start of each machine, and again in each copy of it (`renewal`), and a bake
//! that finds others names them and stops. It must not know how images are made.

pub mod renewal;

use crate::{
    Error, RootError,
    packages::installed,
    recipe::Recipe,
    tree::{Kind, Node, Tree, TreePath, normal},
};
use std::collections::BTreeSet;

/// Files that the system itself makes again when they are missing, or does without.
const SEEDS: [&str; 16] = [
    "etc/dhcpcd.duid",
    "etc/dhcpcd.secret",
    "etc/hostid",
    "etc/nvme/hostid",
    "etc/nvme/hostnqn",
    "var/lib/NetworkManager/secret_key",
    "var/lib/dbus/machine-id",
    "var/lib/dhcpcd/duid",
    "var/lib/dhcpcd/secret",
    "var/lib/misc/random-seed",
    "var/lib/random-seed",
    "var/lib/seedrng/seed.credit",
    "var/lib/seedrng/seed.no-credit",
    "var/lib/systemd/credential.secret",
    "var/lib/systemd/random-seed",
    "var/lib/urandom/random-seed",
];

/// A secret that a program of the image makes, by a unit of systemd before the services that use it.
struct Made {
    /// The unit's name.
    unit: &'static str,
    /// What it is, for people.
    what: &'static str,
    /// Where the files are: a folder and the beginnings of names in it.
    places: &'static [(&'static str, &'static str)],
    /// A pattern that some file answers to where they are there.
    glob: &'static str,
    /// The program that makes them, below the root, and the arguments of each of its calls, in a form that a
    /// shell and systemd understand.
    program: &'static str,
    calls: &'static [&'static str],
    /// The units that need them.
    before: &'static [&'static str],
    /// Whether it is made for these units alone: a client's package may have the program too, and a machine
    /// without the server should not spend its start on keys.
    for_them_alone: bool,
    /// How a service that runs takes another.
    again: Again,
}

/// How a service takes another secret than the one that it began with.
#[derive(Clone, Copy)]
enum Again {
    /// It begins again at a signal, with the connections that it has, and writes its number into a file then.
    Signal {
        /// The file, by its path.
        pid_file: &'static str,
        /// What the kernel calls the process.
        name: &'static str,
    },
    /// It is started again.
    Restart,
    /// It reads its files again.
    Reload,
}

const MADE: [Made; 3] = [
    Made {
        unit: "quicksand-ssh-host-keys.service",
        what: "Host keys of this machine's SSH server",
        places: &[("etc/ssh", "ssh_host_")],
        glob: "/etc/ssh/ssh_host_*_key",
        program: "usr/bin/ssh-keygen",
        // Not all kinds that `-A` makes: a key of RSA takes an emulated machine 10 to 18 seconds, the others a
        // tenth of one each.
        calls: &[
            "-q -t ecdsa -N '' -f /etc/ssh/ssh_host_ecdsa_key",
            "-q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key",
        ],
        before: &["ssh.service", "ssh.socket", "sshd.service"],
        for_them_alone: true,
        again: Again::Signal { pid_file: "/run/sshd.pid", name: "sshd" },
    },
    Made {
        unit: "quicksand-dropbear-host-key.service",
        what: "Host key of this machine's small SSH server",
        places: &[("etc/dropbear", "dropbear_")],
        glob: "/etc/dropbear/dropbear_*_host_key",
        // The server's own package has no program for it, and depends on the one that has.
        program: "usr/bin/dropbearkey",
        calls: &["-t ed25519 -f /etc/dropbear/dropbear_ed25519_host_key"],
        before: &["dropbear.service", "dropbear.socket"],
        for_them_alone: true,
        again: Again::Restart,
    },
    Made {
        unit: "quicksand-snakeoil-certificate.service",
        what: "Self-signed certificate of this machine",
        places: &[
            ("etc/ssl/private", "ssl-cert-snakeoil."),
            ("etc/ssl/certs", "ssl-cert-snakeoil."),
        ],
        glob: "/etc/ssl/private/ssl-cert-snakeoil.key",
        program: "usr/sbin/make-ssl-cert",
        calls: &["generate-default-snakeoil"],
        before: &["apache2.service", "nginx.service", "postgresql.service", "postfix.service"],
        for_them_alone: false,
        again: Again::Reload,
    },
];

impl Made {
    /// Whether a file of a tree is of this secret.
    fn is_its(&self, path: &[u8]) -> bool {
        self.places.iter().any(|(folder, name)| {
            let rest = path.strip_prefix(folder.as_bytes());
            rest.and_then(|rest| rest.strip_prefix(b"/"))
                .is_some_and(|rest| rest.starts_with(name.as_bytes()) && !rest.contains(&b'/'))
        })
    }

    /// Whether machines with this tree need it.
    fn is_wanted(&self, tree: &Tree) -> bool {
        let has = |unit| places_of(unit).any(|path| tree.get(path.as_bytes()).is_some());
        !self.for_them_alone || self.before.iter().any(|unit| has(unit))
    }

    /// The commands that make it.
    fn lines(&self) -> impl Iterator<Item = String> {
        self.calls.iter().map(|arguments| format!("/{} {arguments}", self.program))
    }
}

/// Where we put units of systemd.
const UNITS: &str = "etc/systemd/system";

/// Where a unit may be, the one that counts first, and the script of an older init for the same service.
fn places_of(unit: &str) -> impl Iterator<Item = String> {
    let script = unit.split('.').next().unwrap_or_default();
    [UNITS, "usr/lib/systemd/system", "lib/systemd/system"]
        .into_iter()
        .map(move |folder| format!("{folder}/{unit}"))
        .chain([format!("etc/init.d/{script}")])
}

/// Where scripts put what belongs to a machine; what is elsewhere came out of an archive.
const MACHINE_FOLDERS: [&[u8]; 6] = [b"etc/", b"home/", b"opt/", b"root/", b"srv/", b"var/"];

/// How files end that hold nothing but a secret, whatever their form, where others may not read them.
const ENDS: [&[u8]; 8] =
    [b".jks", b".key", b".keytab", b".p12", b".pfx", b"/debian.cnf", b"/secrets.tdb", b"_key"];

/// No key is longer, in bytes.
const MAX_KEY: u64 = 64 << 10;

/// Takes identities away, and puts in what makes them at the first start.
pub fn settle(tree: &mut Tree, time: i64) -> Result<(), Error> {
    let is_systemd = tree.get(b"usr/lib/systemd").is_some() || tree.get(b"lib/systemd").is_some();
    // Present and empty: the guest gets an identity of its own at each start, and systemd does not
    // take the start for the machine's first one, see machine-id(5).
    if is_systemd {
        tree.put("etc/machine-id", Node::file(*b"", 0o444, 0))?;
    } else {
        tree.remove(b"etc/machine-id");
    }
    for path in SEEDS {
        // A link to the id that is made is no id.
        if tree.get(path.as_bytes()).is_some_and(|node| matches!(node.kind, Kind::File(_))) {
            tree.remove(path.as_bytes());
        }
    }
    for made in &MADE {
        tree.remove_where(|path| made.is_its(path));
        // OpenRC's services make what they lack themselves.
        if is_systemd && made.is_wanted(tree) && tree.read(made.program)?.is_some() {
            put_unit(tree, made, time)?;
        }
    }
    Ok(())
}

fn put_unit(tree: &mut Tree, made: &Made, time: i64) -> Result<(), Error> {
    let Made { unit, what, glob, before, .. } = made;
    let starts = made.lines().map(|line| format!("ExecStart={line}\n")).collect::<String>();
    // A copy of a machine makes it again, and a copy of that one: however many starts that is.
    let text = format!(
        "# Images hold none: each machine makes its own at its first start.\n\
         [Unit]\nDescription={what}\nConditionPathExistsGlob=!{glob}\nBefore={}\n\
         StartLimitIntervalSec=0\n\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\n{starts}",
        before.join(" ")
    );
    tree.put(&format!("{UNITS}/{unit}"), Node::file(text.into_bytes(), 0o644, time))?;
    for wanting in before.iter().chain(&["multi-user.target"]) {
        let link = format!("{UNITS}/{wanting}.wants/{unit}");
        tree.put(&link, Node::symlink(format!("../{unit}").into_bytes(), time))?;
    }
    Ok(())
}

/// Refuses an image with secrets that nobody meant to ship: files of no package and of no recipe, that
/// were not below either. `below` is the image that an overlay lies on.
pub fn refuse_secrets(tree: &Tree, below: Option<&Tree>, recipe: &Recipe) -> Result<(), Error> {
    let mut found = Vec::new();
    for (path, node) in tree.iter() {
        let Kind::File(content) = &node.kind else { continue };
        let may_be = MACHINE_FOLDERS.iter().any(|folder| path.starts_with(folder));
        let is_old = below.is_some_and(|below| below.get(path).is_some());
        if may_be
            && !is_old
            && (1..MAX_KEY).contains(&content.len())
            && is_secret(path, node.mode, &content.read()?)
        {
            found.push(path.clone());
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let mut known: BTreeSet<TreePath> = BTreeSet::new();
    for layer in recipe.layers() {
        for file in &layer.body.file {
            known.insert(normal(file.path.as_str().as_bytes())?);
        }
    }
    for package in installed(tree)? {
        // Databases name files as archives do, links of folders not followed.
        known.extend(package.files.iter().filter_map(|path| tree.follow(path)));
    }
    let places = known.iter().filter_map(|path| tree.follow(path)).collect::<BTreeSet<_>>();
    found.retain(|path| !known.contains(path) && !places.contains(path));
    match found.is_empty() {
        true => Ok(()),
        false => Err(Error::Root(RootError::Secrets {
            image: recipe.name.clone(),
            paths: found.iter().map(|path| format!("/{}", String::from_utf8_lossy(path))).collect(),
        })),
    }
}

/// Whether a file is a private key, a shared one as programs write them (`rndc.key`), or called as one and
/// hidden from others: keys have no form in common.
fn is_secret(path: &[u8], mode: u16, content: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content);
    let is_private = text.contains("-----BEGIN ") && text.contains("PRIVATE KEY");
    let is_shared = path.ends_with(b".key") && text.contains("secret ");
    // A public one is hidden by whoever takes care of all files alike.
    let is_hidden = mode & 0o004 == 0 && !text.contains("PUBLIC KEY");
    is_private || is_shared || is_hidden && ENDS.iter().any(|end| path.ends_with(end))
}

#[cfg(test)]
mod tests;
