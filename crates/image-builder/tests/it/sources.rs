//! What apt inside of the images of this repository asks, on trees as each release's packages lay them out:
//! the recipes' own lists of what is left out included, which once took apt's example away.

use disk_formats::tree::{Node, Tree};
use host_platform::Arch;
use image_builder::{
    apt, assemble,
    lock::{ArchLock, Package, Release},
    recipe,
};
use std::path::Path;

/// One line for each entry, as apt's package has it up to 2.9.
const ONE_LINE: &str = "# See sources.list(5)\n\
    deb http://archive.test/ubuntu noble main restricted\n\
    deb-src http://archive.test/ubuntu noble main restricted\n\
    deb http://archive.test/ubuntu noble-updates main restricted\n\
    deb http://security.test/ubuntu noble-security main restricted\n";
/// Fields, on all architectures with the archive of the first.
const FIELDS: &str = "Types: deb\nURIs: http://archive.test/ubuntu/\n\
    Suites: resolute resolute-updates resolute-backports\nComponents: main universe\n\n\
    Types: deb\nURIs: http://security.test/ubuntu/\nSuites: resolute-security\n\
    Components: main universe\n";
const DEBIAN: &str = "Types: deb\nURIs: http://archive.test/debian/\n\
    Suites: trixie trixie-updates\nComponents: main\n\n\
    Types: deb\nURIs: http://security.test/debian-security/\nSuites: trixie-security\n\
    Components: main\n";

/// What installing leaves behind: apt, its example, the distribution's keys, and files of accounts.
fn installed(distribution: &str, example: &str, text: &str) -> Tree {
    let mut tree = Tree::new(0);
    for (path, text) in [
        ("usr/bin/apt-get".to_owned(), "x"),
        ("usr/lib/systemd/systemd".to_owned(), "x"),
        (format!("usr/share/doc/apt/examples/{example}"), text),
        ("usr/share/doc/apt/examples/configure-index".to_owned(), "x"),
        ("usr/share/doc/apt/changelog.gz".to_owned(), "x"),
        (format!("usr/share/keyrings/{distribution}-archive-keyring.gpg"), "x"),
        ("etc/apt/sources.list".to_owned(), "deb [trusted=yes] copy:/tmp/quicksand-x1 ./\n"),
        ("etc/passwd".to_owned(), "root:x:0:0:root:/root:/bin/bash\n"),
        ("etc/group".to_owned(), "root:x:0:\n"),
        ("etc/shadow".to_owned(), "root:*:1::::::\n"),
        ("etc/gshadow".to_owned(), "root:*::\n"),
        ("etc/sudoers.d/README".to_owned(), "x"),
    ] {
        tree.put(&path, Node::file(text.as_bytes(), 0o644, 0)).unwrap();
    }
    tree
}

fn lock() -> ArchLock {
    ArchLock {
        request: String::new(),
        source_date: 1_700_000_000,
        release: Vec::<Release>::new(),
        package: Vec::<Package>::new(),
        kernel: None,
        kernel_modules: Vec::new(),
    }
}

#[test]
fn apt_inside_has_sources_whichever_example_its_release_ships() {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    let knows_ports = apt::tool_text().contains("/ubuntu-ports'");
    for (name, distribution, example, text, suite) in [
        ("debian", "debian", "debian.sources", DEBIAN, "trixie"),
        ("ubuntu", "ubuntu", "sources.list", ONE_LINE, "noble"),
        ("ubuntu-resolute", "ubuntu", "ubuntu.sources", FIELDS, "resolute"),
    ] {
        let recipe = recipe::load(&recipes, name).unwrap();
        assert_eq!(recipe.body.distribution.suite, suite);
        for arch in [Arch::Amd64, Arch::Arm64] {
            let is_ports = distribution == "ubuntu" && arch == Arch::Arm64;
            if is_ports && !knows_ports {
                eprintln!(
                    "skipped: mmdebstrap, which knows the archive for arm64, is not installed"
                );
                continue;
            }
            let tree = installed(distribution, example, text);
            let tree = assemble::tree(tree, &Tree::new(0), &recipe, arch, &lock()).unwrap();
            let place = format!("etc/apt/sources.list.d/{distribution}.sources");
            let sources = tree.read(&place).unwrap().unwrap();
            let sources = String::from_utf8_lossy(&sources).into_owned();
            assert!(sources.contains(&format!("Suites: {suite} {suite}-updates\n")), "{sources}");
            assert!(sources.contains(&format!("Suites: {suite}-security\n")), "{sources}");
            assert_eq!(sources.contains("/ubuntu-ports/"), is_ports, "{name}: {sources}");
            let keys =
                format!("Signed-By: /usr/share/keyrings/{distribution}-archive-keyring.gpg\n");
            assert!(sources.contains(&keys), "{sources}");
            assert!(tree.get(b"etc/apt/sources.list").is_none(), "the bake's own repository");
        }
    }
}
