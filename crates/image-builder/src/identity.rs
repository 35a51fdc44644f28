//! What must differ between machines and be known to one alone: host keys, machine ids, seeds of random
//! numbers, private keys that packages' scripts made. An image holds none of them: those that are
//! known are made at the first start of each machine, and a bake that finds others names them and
//! stops. It must not know how images are made.

use crate::{
    Error,
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
    /// The program that makes them, below the root, and its arguments.
    program: &'static str,
    arguments: &'static str,
    /// The units that need them.
    before: &'static [&'static str],
    /// Whether it is made for these units alone: a client's package may have the program too, and a machine
    /// without the server should not spend its start on keys.
    for_them_alone: bool,
}

const MADE: [Made; 3] = [
    Made {
        unit: "quicksand-ssh-host-keys.service",
        what: "Host keys of this machine's SSH server",
        places: &[("etc/ssh", "ssh_host_")],
        glob: "/etc/ssh/ssh_host_*_key",
        program: "usr/bin/ssh-keygen",
        arguments: "-A",
        before: &["ssh.service", "ssh.socket", "sshd.service"],
        for_them_alone: true,
    },
    Made {
        unit: "quicksand-dropbear-host-key.service",
        what: "Host key of this machine's small SSH server",
        places: &[("etc/dropbear", "dropbear_")],
        glob: "/etc/dropbear/dropbear_*_host_key",
        // The server's own package has no program for it, and depends on the one that has.
        program: "usr/bin/dropbearkey",
        arguments: "-t ed25519 -f /etc/dropbear/dropbear_ed25519_host_key",
        before: &["dropbear.service", "dropbear.socket"],
        for_them_alone: true,
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
        arguments: "generate-default-snakeoil",
        before: &["apache2.service", "nginx.service", "postgresql.service", "postfix.service"],
        for_them_alone: false,
    },
];

/// Where scripts put what belongs to a machine; what is elsewhere came out of an archive.
const OF_MACHINES: [&[u8]; 6] = [b"etc/", b"home/", b"opt/", b"root/", b"srv/", b"var/"];

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
        let is_its = |path: &[u8]| {
            made.places.iter().any(|(folder, name)| {
                let rest = path.strip_prefix(folder.as_bytes());
                rest.and_then(|rest| rest.strip_prefix(b"/"))
                    .is_some_and(|rest| rest.starts_with(name.as_bytes()) && !rest.contains(&b'/'))
            })
        };
        tree.remove_where(is_its);
        // OpenRC's services make what they lack themselves.
        let is_wanted = !made.for_them_alone || made.before.iter().any(|unit| has_unit(tree, unit));
        if is_systemd && is_wanted && tree.read(made.program)?.is_some() {
            put_unit(tree, made, time)?;
        }
    }
    Ok(())
}

fn has_unit(tree: &Tree, unit: &str) -> bool {
    let folders = ["usr/lib/systemd/system", "lib/systemd/system", "etc/systemd/system"];
    folders.iter().any(|folder| tree.get(format!("{folder}/{unit}").as_bytes()).is_some())
}

fn put_unit(tree: &mut Tree, made: &Made, time: i64) -> Result<(), Error> {
    let Made { unit, what, glob, program, arguments, before, .. } = made;
    let text = format!(
        "# Images hold none: each machine makes its own at its first start.\n\
         [Unit]\nDescription={what}\nConditionPathExistsGlob=!{glob}\nBefore={}\n\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/{program} {arguments}\n",
        before.join(" ")
    );
    let folder = "etc/systemd/system";
    tree.put(&format!("{folder}/{unit}"), Node::file(text.into_bytes(), 0o644, time))?;
    for wanting in before.iter().chain(&["multi-user.target"]) {
        let link = format!("{folder}/{wanting}.wants/{unit}");
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
        let may_be = OF_MACHINES.iter().any(|folder| path.starts_with(folder));
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
        false => Err(Error::Secrets {
            image: recipe.name.clone(),
            paths: found.iter().map(|path| format!("/{}", String::from_utf8_lossy(path))).collect(),
        }),
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
mod tests {
    use super::*;
    use std::path::Path;

    fn recipe(more: &str) -> Recipe {
        let text = format!(
            "version = \"1\"\nsummary = \"x\"\npackages = [\"a\"]\n[distribution]\nname = \"debian\"\n\
             suite = \"trixie\"\n[kernel]\nflavour = \"cloud\"\ninitrd = [\"ext4\"]\n\
             [disk]\nsize = \"1G\"\n{more}"
        );
        let body = crate::recipe::parse(&text, Path::new("recipe.toml")).unwrap();
        Recipe { name: "image".to_owned(), folder: "".into(), body, base: None }
    }

    fn tree(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::new(0);
        for (path, text) in files {
            tree.put(path, Node::file(text.as_bytes(), 0o600, 0)).unwrap();
        }
        tree
    }

    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4\n-----END PRIVATE KEY-----\n";

    #[test]
    fn identities_are_taken_away_and_made_by_each_machine() {
        let mut tree = tree(&[
            ("usr/lib/systemd/systemd", "x"),
            ("usr/lib/systemd/system/dropbear.service", "x"),
            ("usr/lib/systemd/system/ssh.service", "x"),
            ("usr/bin/ssh-keygen", "x"),
            ("usr/sbin/make-ssl-cert", "x"),
            ("etc/ssh/ssh_host_ed25519_key", KEY),
            ("etc/ssh/ssh_host_ed25519_key.pub", "ssh-ed25519 AAAA"),
            ("etc/ssh/sshd_config", "x"),
            ("usr/bin/dropbearkey", "x"),
            ("etc/dropbear/dropbear_rsa_host_key", "binary"),
            ("etc/dropbear/run", "x"),
            ("var/lib/dhcpcd/duid", "x"),
            ("etc/machine-id", "0123\n"),
            ("var/lib/dbus/machine-id", "0123\n"),
            ("var/lib/systemd/random-seed", "x"),
            ("etc/ssl/private/ssl-cert-snakeoil.key", KEY),
            ("etc/ssl/certs/ssl-cert-snakeoil.pem", "x"),
        ]);
        settle(&mut tree, 0).unwrap();
        let names: Vec<String> = tree
            .iter()
            .filter(|(_, node)| !node.is_folder())
            .map(|(path, _)| String::from_utf8_lossy(path).into_owned())
            .filter(|path| !path.contains(".wants/"))
            .collect();
        assert_eq!(
            names,
            [
                "etc/dropbear/run",
                "etc/machine-id",
                "etc/ssh/sshd_config",
                "etc/systemd/system/quicksand-dropbear-host-key.service",
                "etc/systemd/system/quicksand-snakeoil-certificate.service",
                "etc/systemd/system/quicksand-ssh-host-keys.service",
                "usr/bin/dropbearkey",
                "usr/bin/ssh-keygen",
                "usr/lib/systemd/system/dropbear.service",
                "usr/lib/systemd/system/ssh.service",
                "usr/lib/systemd/systemd",
                "usr/sbin/make-ssl-cert",
            ]
        );
        assert_eq!(tree.read("etc/machine-id").unwrap().unwrap().len(), 0);
        let wants = "etc/systemd/system/ssh.service.wants/quicksand-ssh-host-keys.service";
        let unit = tree.read(wants).unwrap().unwrap();
        let unit = String::from_utf8_lossy(&unit).into_owned();
        assert!(unit.contains("ExecStart=/usr/bin/ssh-keygen -A\n"), "{unit}");
        assert!(unit.contains("ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key\n"), "{unit}");
    }

    #[test]
    fn a_client_alone_makes_no_host_keys() {
        let mut tree = tree(&[
            ("usr/lib/systemd/systemd", "x"),
            ("usr/bin/ssh-keygen", "x"),
            ("usr/bin/dropbearkey", "x"),
        ]);
        settle(&mut tree, 0).unwrap();
        assert!(tree.get(b"etc/systemd/system").is_none());
    }

    #[test]
    fn secrets_that_scripts_made_stop_a_bake_and_those_that_are_meant_do_not() {
        let mut made = tree(&[
            ("etc/daemon/tls.pem", KEY),
            ("etc/bind/rndc.key", "key \"k\" { secret \"abc=\"; };"),
            ("etc/mine.pem", KEY),
            ("etc/of-package.pem", KEY),
            ("etc/munge/munge.key", "\u{1}binary\u{2}"),
            ("root/.gnupg/secret.asc", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n"),
            ("usr/share/doc/example.key", KEY),
            ("etc/apt/keyrings/x.key", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n"),
            (
                "var/lib/dpkg/status",
                "Package: a\nVersion: 1\nArchitecture: amd64\nStatus: install ok installed\n",
            ),
            ("var/lib/dpkg/info/a.list", "/.\n/etc\n/etc/of-package.pem\n"),
        ]);
        let recipe = recipe("[[file]]\npath = \"/etc/mine.pem\"\ntext = \"x\"\n");
        let error = refuse_secrets(&made, None, &recipe).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`image` would ship secrets: `/etc/bind/rndc.key`, `/etc/daemon/tls.pem`, \
             `/etc/munge/munge.key`, `/root/.gnupg/secret.asc`"
        );
        assert!(error.hint().unwrap().contains("first start"), "{error}");
        // What the image below has is its own matter.
        refuse_secrets(&made, Some(&made), &recipe).unwrap();
        made.remove(b"etc/daemon");
        made.remove(b"etc/bind");
        made.remove(b"root");
        // What everybody may read is no secret of this kind.
        made.put("etc/munge/munge.key", Node::file(*b"binary", 0o644, 0)).unwrap();
        refuse_secrets(&made, None, &recipe).unwrap();
    }
}
