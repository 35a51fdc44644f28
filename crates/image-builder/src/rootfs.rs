//! Makes a root file system out of locked packages and nothing else: a repository of exactly these
//! files is laid out for mmdebstrap, which needs neither root (where user namespaces are allowed)
//! nor a network. Where a recipe only unpacks, the tree is read from the packages directly.

use crate::{Error, apt::pool_path, deb, lock::ArchLock, recipe::Recipe, tree::Tree};
use duct::{Expression, cmd};
use fs_err as fs;
use host_platform::Arch;
use std::path::Path;

/// How the root file system is made, which is said to the person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The caller is root.
    Root,
    /// In a user namespace, with ids from the caller's range in /etc/subuid.
    UserNamespace,
}

impl Way {
    /// In words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Root => "as root, in a chroot",
            Self::UserNamespace => "without root, in a user namespace",
        }
    }

    /// mmdebstrap's word for it.
    fn mode(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::UserNamespace => "unshare",
        }
    }
}

/// Which way is open to this process.
pub fn way() -> Way {
    match cmd!("id", "-u").read() {
        Ok(id) if id.trim() == "0" => Way::Root,
        _ => Way::UserNamespace,
    }
}

/// The files of packages that are only unpacked.
pub fn unpack(lock: &ArchLock, pool: &Path) -> Result<Tree, Error> {
    let mut tree = Tree::new(lock.source_date);
    // Debian's packages expect the merged layout that base-files lays out.
    for folder in ["bin", "sbin", "lib"] {
        tree.put(&format!("usr/{folder}"), crate::tree::Node::folder(0o755, lock.source_date))?;
        let target = format!("usr/{folder}");
        tree.put(folder, crate::tree::Node::symlink(target, lock.source_date))?;
    }
    for package in &lock.package {
        for (path, node) in deb::data(&pool_path(pool, package))?.iter() {
            tree.put_bytes(path, node.clone())?;
        }
    }
    Ok(tree)
}

/// Lays out the repository in `folder`: the packages, their index and a release.
pub fn lay_out(
    lock: &ArchLock,
    recipe: &Recipe,
    arch: Arch,
    pool: &Path,
    folder: &Path,
) -> Result<(), Error> {
    let mut index = String::new();
    for package in &lock.package {
        let from = pool_path(pool, package);
        let control = deb::control(&from)?;
        let file = format!("{}_{}.deb", package.name, package.arch);
        // The pool may lie below a private home folder, which a user namespace cannot enter.
        fs::copy(&from, folder.join(&file))?;
        index += control.trim_end();
        index += &format!(
            "\nFilename: ./{file}\nSize: {}\nSHA256: {}\n\n",
            package.size, package.sha256
        );
    }
    let (suite, arch) = (&recipe.body.distribution.suite, arch.image_name());
    let release = format!(
        "Suite: {suite}\nCodename: {suite}\nArchitectures: {arch}\nSHA256:\n {} {} Packages\n",
        crate::sha256(index.as_bytes()),
        index.len()
    );
    fs::write(folder.join("Packages"), index)?;
    fs::write(folder.join("Release"), release)?;
    Ok(())
}

/// The command that makes `tar` from the repository in `repository`.
pub fn install(
    lock: &ArchLock,
    recipe: &Recipe,
    arch: Arch,
    way: Way,
    repository: &Path,
    tar: &Path,
) -> Expression {
    let names: Vec<&str> = lock.package.iter().map(|package| package.name.as_str()).collect();
    let mut args = vec![
        format!("--mode={}", way.mode()),
        "--variant=essential".to_owned(),
        "--format=tar".to_owned(),
        format!("--architectures={}", arch.image_name()),
        format!("--include={}", names.join(",")),
        "--dpkgopt=force-unsafe-io".to_owned(),
    ];
    for pattern in &recipe.body.exclude {
        args.push(format!("--dpkgopt=path-exclude={}", dpkg_pattern(&pattern.as_str())));
    }
    for pattern in &recipe.body.keep {
        args.push(format!("--dpkgopt=path-include={}", dpkg_pattern(&pattern.as_str())));
    }
    for command in &recipe.body.commands {
        // The command is an argument of its own, so that nothing of it is read by the outer shell.
        args.push(format!("--customize-hook=chroot \"$1\" /bin/sh -euc {}", quote(command)));
    }
    args.push(recipe.body.distribution.suite.clone());
    args.push(tar.to_string_lossy().into_owned());
    args.push(format!("deb [trusted=yes] copy:{} ./", repository.display()));
    cmd("mmdebstrap", args)
        .env("SOURCE_DATE_EPOCH", lock.source_date.to_string())
        .env("LC_ALL", "C.UTF-8")
        .env("TMPDIR", std::env::temp_dir())
        .env_remove("APT_CONFIG")
}

/// dpkg's `*` crosses slashes already.
fn dpkg_pattern(pattern: &str) -> String {
    pattern.replace("**", "*")
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_reach_the_inner_shell_whole() {
        assert_eq!(quote("echo 'a b' \"$HOME\""), r#"'echo '\''a b'\'' "$HOME"'"#);
    }
}
