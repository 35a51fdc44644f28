//! What is taken away from an image, what its machines make, and what stops a bake.

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
    assert!(unit.contains("ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N '' -f "), "{unit}");
    // As often as the machine is forked, and its forks.
    assert!(unit.contains("StartLimitIntervalSec=0\n\n[Service]"), "{unit}");
    assert!(unit.contains("ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key\n"), "{unit}");
}

fn program(tree: &Tree) -> Option<String> {
    let text = tree.read("usr/lib/quicksand/new-identity").unwrap()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// The program without what all of them begin with.
fn parts(tree: &Tree) -> String {
    let text = program(tree).unwrap();
    text.split_once("\n# Host key").unwrap().1.to_owned()
}

#[test]
fn what_each_machine_makes_its_copies_make_anew() {
    let mut tree = tree(&[
        ("usr/lib/systemd/system/ssh.service", "x"),
        ("usr/lib/systemd/system/dropbear.service", "x"),
        ("etc/init.d/ssh", "x"),
        ("usr/bin/ssh-keygen", "x"),
        ("usr/bin/dropbearkey", "x"),
    ]);
    tree.put(
        "etc/systemd/system/sshd.service",
        Node::symlink(*b"/usr/lib/systemd/system/ssh.service", 0),
    )
    .unwrap();
    settle(&mut tree, 0).unwrap();
    renewal::put(&mut tree, &recipe(""), 0).unwrap();
    assert_eq!(
        parts(&tree),
        "s of this machine's SSH server\n\
         hold /run/sshd.pid sshd\n\
         had=\n\
         if is_any /etc/ssh/ssh_host_*_key; then\n    had=1\nfi\n\
         rm -f /etc/ssh/ssh_host_*\n\
         if is_managed; then\n    \
             systemctl restart quicksand-ssh-host-keys.service\n\
         elif [ \"$had\" ]; then\n    \
             /usr/bin/ssh-keygen -q -t ecdsa -N '' -f /etc/ssh/ssh_host_ecdsa_key\n    \
             /usr/bin/ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key\n\
         fi\n\
         begin_anew /run/sshd.pid ssh.service\n\
         \n# Host key of this machine's small SSH server\n\
         had=\n\
         if is_any /etc/dropbear/dropbear_*_host_key; then\n    had=1\nfi\n\
         rm -f /etc/dropbear/dropbear_*\n\
         if is_managed; then\n    \
             systemctl restart quicksand-dropbear-host-key.service\n\
         elif [ \"$had\" ]; then\n    \
             /usr/bin/dropbearkey -t ed25519 -f /etc/dropbear/dropbear_ed25519_host_key\n\
         fi\n\
         restart dropbear.service\n"
    );
    let place = agent_protocol::NEW_IDENTITY.trim_start_matches('/');
    assert_eq!(tree.get(place.as_bytes()).unwrap().mode, 0o755);
    // What a recipe brings is meant: its own program, and its own keys.
    let mut own = tree.clone();
    own.put("usr/lib/quicksand/new-identity", Node::file(*b"own", 0o755, 0)).unwrap();
    let file = "[[file]]\npath = \"/usr/lib/quicksand/new-identity\"\ntext = \"own\"\n";
    renewal::put(&mut own, &recipe(file), 0).unwrap();
    assert_eq!(program(&own).unwrap(), "own");
    let key = Node::file(KEY.as_bytes(), 0o600, 0);
    tree.put("etc/ssh/ssh_host_ed25519_key", key.clone()).unwrap();
    renewal::put(&mut tree, &recipe(""), 0).unwrap();
    assert!(!program(&tree).unwrap().contains("ssh-keygen"));
    tree.put("etc/dropbear/dropbear_rsa_host_key", key).unwrap();
    renewal::put(&mut tree, &recipe(""), 0).unwrap();
    assert_eq!(program(&tree), None);
}

#[test]
fn an_image_of_another_init_renews_what_is_there() {
    let mut tree = tree(&[
        ("etc/init.d/sshd", "x"),
        ("etc/init.d/dropbear", "x"),
        ("usr/bin/ssh-keygen", "x"),
        ("usr/bin/dropbearkey", "x"),
    ]);
    settle(&mut tree, 0).unwrap();
    renewal::put(&mut tree, &recipe(""), 0).unwrap();
    let parts = parts(&tree);
    assert!(!parts.contains("systemctl"), "{parts}");
    assert!(parts.contains("begin_anew /run/sshd.pid sshd.service\n"), "{parts}");
    assert!(parts.ends_with("fi\nrestart dropbear.service\n"), "{parts}");
}

#[test]
fn the_program_is_one_that_a_shell_takes() {
    let mut tree = tree(&[
        ("usr/lib/systemd/system/ssh.service", "x"),
        ("usr/lib/systemd/system/apache2.service", "x"),
        ("usr/bin/ssh-keygen", "x"),
        ("usr/sbin/make-ssl-cert", "x"),
    ]);
    settle(&mut tree, 0).unwrap();
    renewal::put(&mut tree, &recipe(""), 0).unwrap();
    let text = program(&tree).unwrap();
    assert!(text.contains("\nreload apache2.service\n"), "{text}");
    let checked = duct::cmd!("sh", "-n").stdin_bytes(text).unchecked().run().unwrap();
    assert!(checked.status.success());
}

#[test]
fn a_client_alone_makes_no_host_keys() {
    let mut tree = tree(&[
        ("usr/lib/systemd/systemd", "x"),
        ("usr/bin/ssh-keygen", "x"),
        ("usr/bin/dropbearkey", "x"),
    ]);
    settle(&mut tree, 0).unwrap();
    renewal::put(&mut tree, &recipe(""), 0).unwrap();
    assert!(tree.get(b"etc/systemd/system").is_none());
    // Nor has its image anything more: a copy of a machine without servers loses no time.
    assert!(tree.get(b"usr/lib/quicksand").is_none());
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
