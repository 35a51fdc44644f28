//! Runs a command in a root, in namespaces of its own that end with it. The folder becomes the root of
//! its mount namespace (pivot_root) and no chroot: in a chroot the kernel refuses user namespaces.

use super::{
    Command, User,
    root::{NAME, Place},
};
use anyhow::{Context as _, Result};
use duct::{Expression, cmd};
use xtask_host::setup;

/// One run of a command.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    pub name: &'static str,
    has_network: bool,
    option: &'static str,
}

/// The rounds of a command, in their order. Tests take as long again, so that their second run is the one
/// without a network.
pub const fn rounds(command: Command) -> &'static [Round] {
    const FIRST: Round = Round { name: "first", has_network: true, option: "" };
    const SECOND: Round = Round { name: "second", has_network: true, option: "" };
    const OFFLINE: Round = Round { name: "offline", has_network: false, option: "--offline" };
    match command {
        Command::Demo => &[FIRST, SECOND, OFFLINE],
        Command::Test => &[FIRST, OFFLINE],
    }
}

/// Mounts what programs expect, makes the folder the root, and runs the rest of the line there. Its
/// arguments: the root, the toolchain, apt's archives or nothing.
const ENTER: &str = r#"
root=$1 toolchain=$2 archives=$3
shift 3
echo fresh > /proc/sys/kernel/hostname
ip link set lo up
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys" || mount --rbind /sys "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
# As udev makes it; not every host has udev.
if [ -e /dev/fuse ]; then mknod -m 666 "$root/dev/fuse" c 10 229; fi
for path in /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /dev/kvm /dev/loop*; do
  if [ -c $path ] || [ -b $path ]; then
    touch "$root$path"
    mount --bind $path "$root$path"
  fi
done
mkdir -p "$root/opt/rust" "$root/host"
mount --bind "$toolchain" "$root/opt/rust"
mount -o remount,bind,ro "$root/opt/rust"
if [ -n "$archives" ]; then mount --bind "$archives" "$root/var/cache/apt/archives"; fi
cd "$root"
pivot_root . host
umount -l /host
rmdir /host
# This shell stays, so that everything ends with it when the task is killed.
"$@" || exit $?
"#;

/// The command line of a round.
pub fn command(place: &Place, user: User, command: Command, round: Round) -> Result<Expression> {
    let toolchain = cmd!("rustc", "--print", "sysroot").read()?;
    let root = place.root.to_str().context("The cache's path is not UTF-8")?;
    let archives = place.archives.as_ref().map_or("", |path| path.to_str().unwrap_or_default());
    let mut line = vec!["--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"];
    if !round.has_network {
        line.push("--net");
    }
    line.extend(["--propagation", "private", "--", "/bin/sh", "-euc", ENTER, "enter"]);
    line.extend([root, toolchain.trim(), archives]);
    let (name, home) = match user {
        User::Root => ("root", "/root".to_owned()),
        User::Sudo => (NAME, format!("/home/{NAME}")),
    };
    let script = format!("cd ~/quicksand && cargo xtask {} {}", round.option, command.name());
    let home = format!("HOME={home}");
    let mut environment = vec![
        home,
        format!("USER={name}"),
        "LANG=C.UTF-8".to_owned(),
        "PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            .to_owned(),
    ];
    for variable in setup::PROXIES {
        if let Ok(value) = std::env::var(variable) {
            environment.push(format!("{variable}={value}"));
        }
    }
    line.extend(["/usr/bin/env", "-i"]);
    line.extend(environment.iter().map(String::as_str));
    line.extend(["setpriv", "--reuid", name, "--regid", name, "--init-groups"]);
    line.extend(["/bin/bash", "-euc", &script]);
    setup::as_root("unshare", &line)
}
