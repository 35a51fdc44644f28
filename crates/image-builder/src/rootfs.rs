//! Makes a root file system out of locked packages and nothing else: a repository of exactly these
//! files is laid out for mmdebstrap, which needs neither root (where user namespaces are allowed)
//! nor a network. Where a recipe only unpacks, the tree is read from the packages directly.

mod install_mode;
mod trial;

use crate::{
    Error,
    apt::checked_path,
    deb,
    foreign::{self, Runner},
    lock::{ArchLock, Package},
    ownership,
    package_sets::PackageSet,
    recipe::Recipe,
    tree::Tree,
};
use duct::{Expression, cmd};
use fs_err as fs;
use host_platform::Arch;
pub use install_mode::{InstallMode, Installer, Ownership, install_mode};
use spelling::quoted;
use std::path::Path;

/// The files of packages that are only unpacked.
pub fn unpack(lock: &ArchLock, store: &Path) -> Result<Tree, Error> {
    let mut tree = Tree::new(lock.source_date);
    // Debian's packages expect the merged layout that base-files lays out.
    for folder in ["bin", "sbin", "lib"] {
        tree.put(&format!("usr/{folder}"), crate::tree::Node::folder(0o755, lock.source_date))?;
        let target = format!("usr/{folder}");
        tree.put(folder, crate::tree::Node::symlink(target, lock.source_date))?;
    }
    for package in &lock.package {
        for (path, node) in deb::data(&checked_path(store, package)?)?.iter() {
            tree.put_bytes(path, node.clone())?;
        }
    }
    Ok(tree)
}

/// Lays out the repository in `folder`: the packages, their index and a release.
pub fn lay_out(
    packages: &[Package],
    recipe: &Recipe,
    arch: Arch,
    store: &Path,
    folder: &Path,
) -> Result<(), Error> {
    let mut index = String::new();
    for package in packages {
        let from = checked_path(store, package)?;
        let control = deb::control(&from)?;
        let file = format!("{}_{}.deb", package.name, package.arch);
        // The store may lie below a private home folder, which a user namespace cannot enter.
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

/// Lets every user read the repository, whatever umask it was written under: in a user namespace with
/// a range of ids the programs are not its writer.
pub fn share(repository: &Path) -> Result<(), Error> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        for entry in fs::read_dir(repository)? {
            fs::set_permissions(entry?.path(), std::fs::Permissions::from_mode(0o644))?;
        }
        fs::set_permissions(repository, std::fs::Permissions::from_mode(0o755))?;
    }
    #[cfg(not(unix))]
    let _ = repository;
    Ok(())
}

/// The command that makes `tar` from the repository in `repository`.
pub fn install(
    set: &PackageSet,
    recipe: &Recipe,
    arch: Arch,
    installer: &Installer,
    repository: &Path,
    tar: &Path,
) -> Expression {
    let names: Vec<&str> = set.packages.iter().map(|package| package.name.as_str()).collect();
    let mut args = options(recipe, arch, installer, "essential", repository);
    args.push(format!("--include={}", names.join(",")));
    args.extend(set.commands.iter().map(|command| inside(command)));
    args.extend(downloads_of_apt(installer));
    args.push(recipe.body.distribution.suite.clone());
    args.push(tar.to_string_lossy().into_owned());
    args.push(format!("deb [trusted=yes] copy:{} ./", repository.display()));
    run(&args, set.source_date, installer)
}

/// The hook that runs a script in the root file system. The script is an argument of its own, so that
/// nothing of it is read by the outer shell.
fn inside(script: &str) -> String {
    format!("--customize-hook=chroot \"$1\" /bin/sh -euc {}", quoted(script))
}

/// apt gives these to the user that it downloads as, except where it cannot become that one.
fn downloads_of_apt(installer: &Installer) -> Option<String> {
    const GIVE: &str = "chown _apt:root /var/cache/apt/archives/partial /var/lib/apt/lists/partial";
    (installer.mode == InstallMode::OneId).then(|| inside(GIVE))
}

/// The file of the tree below, in the folder of the repository.
pub const BASE_TAR: &str = "base.tar";

/// The command that makes `tar` out of the tree below (`BASE_TAR` in `repository`) and the packages
/// beside it, which are installed inside of that tree by its own apt.
pub fn install_over(
    set: &PackageSet,
    recipe: &Recipe,
    arch: Arch,
    installer: &Installer,
    repository: &Path,
    tar: &Path,
) -> Expression {
    // Where the packages are inside of the root file system.
    const INSIDE: &str = "quicksand-packages";
    let from = quoted(&repository.to_string_lossy());
    let mut args = options(recipe, arch, installer, "custom", repository);
    // There is no archive to ask.
    args.push("--skip=update".to_owned());
    args.push(format!("--setup-hook={}", unpack_base(repository)));
    if !set.packages.is_empty() {
        let install = format!(
            "export DEBIAN_FRONTEND=noninteractive; \
             apt-get install --yes --no-install-recommends \
             -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts=/dev/null \
             -o APT::Sandbox::User=root -o Dpkg::Options::=--force-confnew /{INSIDE}/*.deb"
        );
        args.push(format!(
            "--customize-hook=mkdir \"$1/{INSIDE}\" && cp {from}/*.deb \"$1/{INSIDE}\" && \
             chroot \"$1\" /bin/sh -euc {} && rm -r \"$1/{INSIDE}\"",
            quoted(&install)
        ));
    }
    args.extend(set.commands.iter().map(|command| inside(command)));
    if !set.packages.is_empty() {
        args.extend(downloads_of_apt(installer));
    }
    args.push(String::new());
    args.push(tar.to_string_lossy().into_owned());
    run(&args, set.source_date, installer)
}

/// The command that makes `tar` out of a tree in which packages lie unpacked (`BASE_TAR` in
/// `repository`): their scripts are run inside of it, then the recipe's commands.
pub fn configure(
    set: &PackageSet,
    arch: Arch,
    installer: &Installer,
    repository: &Path,
    tar: &Path,
) -> Expression {
    let scripts = crate::apk::SCRIPTS;
    let mut args = start(arch, installer, "custom", repository);
    args.extend([
        "--skip=update,cleanup/apt,cleanup/mmdebstrap".to_owned(),
        format!("--setup-hook={}", unpack_base(repository)),
        format!(
            "--customize-hook=chroot \"$1\" /bin/sh -eu /{scripts}/run && rm -r \"$1/{scripts}\""
        ),
    ]);
    args.extend(set.commands.iter().map(|command| inside(command)));
    // mmdebstrap prepares each system for an apt inside, and here is none.
    let places: Vec<String> = APT_PATHS.iter().map(|place| format!("\"$1/{place}\"")).collect();
    args.push(format!("--customize-hook=rm -rf {}", places.join(" ")));
    args.push(String::new());
    args.push(tar.to_string_lossy().into_owned());
    run(&args, set.source_date, installer)
}

/// What mmdebstrap makes for apt and dpkg.
const APT_PATHS: [&str; 5] =
    ["etc/apt", "etc/dpkg", "var/cache/apt", "var/lib/apt", "var/lib/dpkg"];

/// The hook that unpacks `BASE_TAR`, without devices: only root makes those, and the tools mount their
/// own while they run. mmdebstrap writes a list of sources, which the tree has where it wants one.
fn unpack_base(repository: &Path) -> String {
    let from = quoted(&repository.to_string_lossy());
    format!(
        "rm -f \"$1/etc/apt/sources.list\" && tar -C \"$1\" --numeric-owner --xattrs '--xattrs-include=*' --exclude='./dev/*' \
         -xpf {from}/{BASE_TAR}"
    )
}

/// How every command line begins.
fn start(arch: Arch, installer: &Installer, variant: &str, repository: &Path) -> Vec<String> {
    let mut args = Vec::new();
    if installer.mode == InstallMode::Root && matches!(installer.runner, Runner::Emulator(_)) {
        args.extend(foreign::in_namespace());
    } else if installer.mode == InstallMode::Root && has_namespaces() {
        args.extend(OWN_NAMESPACES.map(str::to_owned));
    }
    if installer.mode == InstallMode::OneId {
        args.extend(ownership::in_namespace(repository));
    }
    args.extend(["mmdebstrap".to_owned(), format!("--mode={}", installer.mode.mmdebstrap_mode())]);
    args.push(format!("--variant={variant}"));
    args.push("--format=tar".to_owned());
    args.push(format!("--architectures={}", arch.image_name()));
    if installer.runner != Runner::Host {
        // It looks for emulators where only those of the whole host are.
        args.push("--skip=check/qemu".to_owned());
    }
    args.push(format!("--setup-hook={FIXED_RESOLVER}"));
    args.extend(installer.runner.hook(arch).map(|hook| format!("--setup-hook={hook}")));
    args
}

/// Processes and mounts that go when the bake is killed, so that none is left on the host.
const OWN_NAMESPACES: [&str; 5] = ["unshare", "--mount", "--pid", "--fork", "--kill-child"];

/// Whether root may make namespaces here, which a container may forbid.
fn has_namespaces() -> bool {
    let [program, options @ ..] = OWN_NAMESPACES;
    let probe = cmd(program, options.into_iter().chain(["true"]));
    probe.stdin_null().stdout_null().stderr_null().run().is_ok()
}

/// mmdebstrap copies the host's resolver and name. No script may see them and no image hold them:
/// these are the machine's, until a package, a command or the recipe says otherwise.
const FIXED_RESOLVER: &str = "echo nameserver 10.0.2.3 >\"$1/etc/resolv.conf\" && \
     echo quicksand >\"$1/etc/hostname\" && \
     chmod 644 \"$1/etc/resolv.conf\" \"$1/etc/hostname\"";

/// mmdebstrap's options for both. What the layers below leave out is left out of this one too.
fn options(
    recipe: &Recipe,
    arch: Arch,
    installer: &Installer,
    variant: &str,
    repository: &Path,
) -> Vec<String> {
    let mut args = start(arch, installer, variant, repository);
    args.push("--dpkgopt=force-unsafe-io".to_owned());
    // dpkg takes the last rule that matches, so what is kept comes after what is left out.
    let layers = recipe.layers();
    for pattern in layers.iter().flat_map(|layer| &layer.body.exclude) {
        args.push(format!("--dpkgopt=path-exclude={}", dpkg_pattern(&pattern.as_str())));
    }
    for pattern in layers.iter().flat_map(|layer| &layer.body.keep) {
        args.push(format!("--dpkgopt=path-include={}", dpkg_pattern(&pattern.as_str())));
    }
    args
}

/// Where a distribution's tools are.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The command, with an environment that is the same everywhere: packages' scripts see it, and some
/// variables change what programs write (`PYTHONDONTWRITEBYTECODE`, `TZ`, `PERL5OPT`).
fn run(args: &[String], source_date: i64, installer: &Installer) -> Expression {
    let mut command = cmd(&args[0], &args[1..]);
    if installer.mode == InstallMode::OneId {
        command = ownership::kept(&command);
    }
    #[cfg(target_os = "linux")]
    let command = command.before_spawn(tied);
    command.full_env([
        ("DEBIAN_FRONTEND", "noninteractive".into()),
        ("HOME", "/root".into()),
        ("LC_ALL", "C.UTF-8".into()),
        ("PATH", PATH.into()),
        ("SOURCE_DATE_EPOCH", source_date.to_string().into()),
        ("TMPDIR", std::env::temp_dir().into_os_string()),
        ("TZ", "UTC".into()),
    ])
}

/// Ties a program to this one: it ends when this one does, however that ends. And it gets a process
/// group of its own, because mmdebstrap ends what it could not pack by a signal to its whole group,
/// which would be that of whoever called us.
#[cfg(target_os = "linux")]
fn tied(command: &mut std::process::Command) -> std::io::Result<()> {
    use rustix::process::{Signal, set_parent_process_death_signal};
    use std::os::unix::process::CommandExt as _;
    command.process_group(0);
    // SAFETY: it makes one system call: it neither allocates nor locks.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
    Ok(())
}

/// dpkg's `*` crosses slashes already.
fn dpkg_pattern(pattern: &str) -> String {
    pattern.replace("**", "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_reach_the_inner_shell_whole() {
        assert_eq!(quoted("echo 'a b' \"$HOME\""), r#"'echo '\''a b'\'' "$HOME"'"#);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_installation_is_tied_to_this_program_and_has_a_process_group_of_its_own() {
        let asked = "cut -d' ' -f5 /proc/$$/stat";
        let ours = cmd!("sh", "-c", asked).read().unwrap();
        let installer = Installer { mode: InstallMode::Root, runner: Runner::Host };
        let line = ["sh", "-c", asked].map(str::to_owned);
        assert_ne!(run(&line, 0, &installer).read().unwrap(), ours);

        // The thread that starts a program is its parent; when it goes, so does the program.
        let line = ["sleep", "600"].map(str::to_owned);
        let started = std::thread::spawn(move || {
            let installer = Installer { mode: InstallMode::Root, runner: Runner::Host };
            run(&line, 0, &installer).unchecked().start().unwrap()
        });
        let ended = started.join().unwrap();
        assert!(!ended.wait().unwrap().status.success());
    }

    #[test]
    fn nothing_of_the_host_is_in_a_tree_however_it_is_made() {
        let installer = Installer { mode: InstallMode::Root, runner: Runner::Host };
        let folder = tempfile::tempdir().unwrap();
        for file in ["etc/resolv.conf", "etc/hostname", "etc/apt/sources.list"] {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "of the host").unwrap();
        }
        let args = start(Arch::Amd64, &installer, "custom", folder.path());
        let hooks: Vec<&str> =
            args.iter().filter_map(|arg| arg.strip_prefix("--setup-hook=")).collect();
        assert_eq!(hooks.len(), 1);
        cmd!("sh", "-c", hooks[0], "exec", folder.path()).run().unwrap();
        let text = |file: &str| fs::read_to_string(folder.path().join(file)).unwrap();
        assert_eq!(text("etc/resolv.conf"), "nameserver 10.0.2.3\n");
        assert_eq!(text("etc/hostname"), "quicksand\n");

        let mut below = Tree::new(0);
        below.put("etc/hostname", crate::tree::Node::file(*b"mine\n", 0o644, 0)).unwrap();
        below.write_tar(&folder.path().join(BASE_TAR)).unwrap();
        cmd!("sh", "-c", unpack_base(folder.path()), "exec", folder.path()).run().unwrap();
        assert!(!folder.path().join("etc/apt/sources.list").exists());
        assert_eq!(text("etc/hostname"), "mine\n", "the tree's own word counts");
    }
}
