//! The folder that a new image starts as: one recipe to edit, and what a reader needs beside it.

/// Where the root file system of a new image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootFs {
    /// The files of the installed image that it names.
    Base,
    /// A root file system that somebody brings; the installed image gives kernel and agent alone.
    Tar,
    /// An image of a registry, by this reference; the installed image gives kernel and agent alone.
    Registry(String),
}

/// The files of the folder by name. `name` is the image's, `base` that of the image that it lies on,
/// whose version is `base_version`.
pub fn files(
    name: &str,
    base: &str,
    base_version: &str,
    root: RootFs,
) -> Vec<(&'static str, String)> {
    let fill = |text: &str| {
        text.replace("IMAGE_NAME", name)
            .replace("BASE_NAME", base)
            .replace("BASE_VERSION", base_version)
            .replace("DEFAULT_MEMORY", package_layout::DEFAULT_MEMORY)
    };
    let recipe = match root {
        RootFs::Base => fill(RECIPE),
        RootFs::Tar => fill(RECIPE.replace(AWAY, HERE).replace(ON_IMAGE, ON_ROOT).as_str()),
        RootFs::Registry(reference) => {
            let here = format!("[root]\nimage = \"{reference}\"\n[disk]\nsize = \"4G\"\n# tar");
            let on =
                format!("the container image {reference}, with the kernel and agent of BASE_NAME.");
            fill(RECIPE.replace(AWAY_TAR, &here).replace(ON_IMAGE, &on).as_str())
        }
    };
    vec![
        ("recipe.toml", recipe),
        ("README.md", fill(README)),
        (".gitignore", "/dist/\n".to_owned()),
        ("files/motd", fill("Welcome to IMAGE_NAME.\n")),
    ]
}

const RECIPE: &str = r#"# The image IMAGE_NAME: BASE_NAME, and what stands here on top of it.
# Bake it with: quicksand dev bake
base = "BASE_NAME"
version = "BASE_VERSION"              # of the image and of its wheel
summary = "BASE_NAME with what I need"

# Packages of the base's distribution; what they depend on comes by itself.
packages = []
# Shell commands that run as root inside the new root file system, in this order.
commands = []
# What is left out again: `*` matches inside one name, `**` across folders.
exclude = ["/usr/share/doc/**", "/usr/share/info/**", "/usr/share/locale/**", "/usr/share/man/**"]
keep = ["/usr/share/doc/*/copyright", "/usr/share/doc/apt/examples/**"]

[defaults]                           # what a sandbox gets that does not say otherwise
memory = "DEFAULT_MEMORY"
cpus = 1

# Files: `text`, or `source`, a file below files/.
[[file]]
path = "/etc/motd"
source = "motd"
# mode = "0644"
# owner = "quicksand"

# [[link]]
# path = "/usr/local/bin/tool"
# target = "/opt/tool/bin/tool"

# [[user]]
# name = "worker"
# id = 1001
# shell = "/bin/sh"

# Programs out of a Python wheel, for what the distribution has no package of; they go to
# /usr/local/bin.
# [[wheel]]
# name = "tool"
# version = "1.2.3"
# licence = "MIT"                    # an SPDX expression
# programs = ["tool"]
# sha256.amd64 = "0123..."           # of the wheel

# What must hold in the booted image, or the bake fails.
[checks.motd]
run = "cat /etc/motd"
prints = "IMAGE_NAME"

# Instead of the base's files those of a root file system that you bring; kernel and agent stay the
# base's, packages are then the tar's own matter. Paths are relative to this folder.
# [root]
# tar = "rootfs.tar.gz"              # plain, gzip, zstd or xz: `docker export`, debootstrap
# oci = "layout"                     # or an OCI image layout, a folder or a tar of one
# [disk]
# size = "4G"
"#;

/// What the image is, for either root file system.
const ON_IMAGE: &str = "BASE_NAME, and what stands here on top of it.";
const ON_ROOT: &str = "a root file system that you bring, with the kernel and agent of BASE_NAME.";

/// The lines for a root file system, as they stand in `RECIPE`, and as they take effect.
const AWAY: &str = "\
# [root]
# tar = \"rootfs.tar.gz\"              # plain";
const HERE: &str = "\
[root]
tar = \"rootfs.tar\"                   # plain";

/// The same up to the name of the tar, for an image of a registry.
const AWAY_TAR: &str = "# [root]\n# tar";

const README: &str = "# IMAGE_NAME

A machine image for quicksand, on the image `BASE_NAME`.

```
quicksand dev bake          # bakes, boots it once to prove it, and packs the wheel into dist/
pip install dist/*.whl      # then: quicksand run IMAGE_NAME
```

`recipe.toml` is the file to edit. `recipe.lock` is written by the bake: it holds the exact base, packages and root
file system, so that the same lock gives the same bytes; commit it. `quicksand dev bake --update` renews it.

The base must be installed (`quicksand install BASE_NAME`), and QEMU too for the proof by boot. Packages and commands
need Linux with apt, mmdebstrap and uidmap, and programs of Python wheels a Python 3 with pip; files, links, users and a
root file system of your own are baked anywhere.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_of_a_registry_stands_in_the_recipe() {
        let root = RootFs::Registry("registry.test/tool:1@sha256:0123".to_owned());
        let recipe = files("tools", "debian", "13", root).remove(0).1;
        assert!(recipe.contains("\n[root]\nimage = \"registry.test/tool:1@sha256:0123\"\n"));
        assert!(recipe.contains("\n[disk]\nsize = \"4G\"\n"), "{recipe}");
        toml::from_str::<toml::Table>(&recipe).unwrap();
    }

    #[test]
    fn every_name_is_filled_in() {
        let of = |root| files("tools", "debian", "13", root);
        for (name, text) in of(RootFs::Base).into_iter().chain(of(RootFs::Tar)) {
            for word in ["IMAGE_NAME", "BASE_"] {
                assert!(!text.contains(word), "{name}: {text}");
            }
        }
    }

    #[test]
    fn a_root_file_system_takes_the_place_of_the_bases_files_where_it_is_asked_for() {
        let recipe = |root| files("tools", "debian", "13", root).remove(0).1;
        assert!(recipe(RootFs::Tar).contains("\n[root]\ntar = \"rootfs.tar\""));
        assert!(recipe(RootFs::Tar).contains("kernel and agent of debian.\n"));
        assert!(!recipe(RootFs::Base).contains("\n[root]"));
    }
}
