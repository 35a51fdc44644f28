//! The same images booted the usual way, which the benchmarks put beside ours: the distribution's
//! compressed kernel and its own initramfs, the network set up by the system, the agent started by
//! it as a service.

use super::{Args, Baking};
use crate::{cache::Key, context::Context};
use anyhow::{Context as _, Result};
use disk_formats::tree::Tree;
use fs_err as fs;
use host_platform::Arch;
use image_builder::{
    bake::{Baker, CODE, TAR, Wanted, publish, read_or_renewed},
    recipe::{self, File, Link, LinkTarget, Method, Recipe},
    rootfs,
};
use package_layout::image::{Part, file_name};
use runtime_builder::agent;
use std::path::{Path, PathBuf};

/// Starts the agent with what the kernel's command line says, as images made elsewhere do.
const SERVICE: &str = r#"#!/bin/sh
for word in $(cat /proc/cmdline); do
  case $word in
    quicksand_token=*) token=${word#*=} ;;
    quicksand_port=*) port=${word#*=} ;;
  esac
done
exec /usr/local/bin/quicksand-agent serve --token "$token" --tcp "$port"
"#;

const UNIT: &str = "\
[Unit]
Description=Agent of quicksand
After=systemd-networkd.service

[Service]
ExecStart=/usr/local/sbin/quicksand-agent-service
StandardOutput=tty
TTYPath=/dev/console
";

const NETWORK: &str = "\
[Match]
Type=ether

[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
";

const BUSYBOX_START: &str = "\
#!/bin/sh
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
hostname -F /etc/hostname
ip link set lo up
device=$(basename /sys/class/net/e*)
ip addr add 10.0.2.15/24 dev $device
ip link set $device up
ip route add default via 10.0.2.2
";

const BUSYBOX_INITTAB: &str = "\
::sysinit:/etc/start
::respawn:/usr/local/sbin/quicksand-agent-service
::shutdown:/bin/umount -a -r
";

/// A folder with `NAME-usual-VERSION-ARCH.{kernel,initrd,qcow2}`.
pub fn usual(context: &Context, name: &str) -> Result<PathBuf> {
    let arch = host_platform::native_arch();
    let recipes = context.root.join("recipes");
    let agent = agent::binary(context, arch)?;
    let store = context.cache.folder("packages")?;
    let options = Args::for_image(name).options();

    let installed = installed(context, arch)?;
    let locked = |recipe: &Recipe, path: &Path| {
        let wanted =
            Wanted { host: &Baking(context), recipe, arch, store: &store, base: &[], status: None };
        read_or_renewed(&options, &wanted, path)
    };
    let lock = locked(&installed, &lock_path(context)?)?;
    let system = Baker {
        host: &Baking(context),
        options: &options,
        recipe: &installed,
        arch,
        lock: &lock,
        base: &[],
        store: &store,
    };
    let rootfs = system.rootfs()?;

    let mut own = recipe::load(&recipes, name)?;
    own.name = format!("{name}-usual");
    let is_installed = own.body.distribution.method == Method::Install;
    let disk = if is_installed {
        system.disk(&rootfs, None)?
    } else {
        busybox_service(&mut own, &agent)?;
        let lock = locked(&own, &recipes.join(name).join("recipe.lock"))?;
        let baker = Baker {
            host: &Baking(context),
            options: &options,
            recipe: &own,
            arch,
            lock: &lock,
            base: &[],
            store: &store,
        };
        baker.disk(&baker.rootfs()?, None)?
    };

    let out = context.cache.folder("usual")?;
    let mut tree = Tree::new(0);
    tree.add_tar_file(&rootfs.join(TAR))?;
    let place = |part| out.join(file_name(&own.name, &own.body.version, arch.image_name(), part));
    for (part, stem) in [(Part::Kernel, "boot/vmlinuz-"), (Part::Initrd, "boot/initrd.img-")] {
        let path = tree
            .iter()
            .find_map(|(path, _)| {
                path.starts_with(stem.as_bytes()).then(|| String::from_utf8_lossy(path))
            })
            .with_context(|| format!("The installed system has no {stem}*"))?
            .into_owned();
        fs::write(place(part), tree.read(&path)?.context("The kernel's files are files")?)?;
    }
    publish(&disk.join("qcow2"), &place(Part::Disk))?;
    Ok(out)
}

/// The system that the distribution's own tools make an initramfs in.
fn installed(context: &Context, arch: Arch) -> Result<Recipe> {
    let mut installed = recipe::load(&context.root.join("recipes"), "debian")?;
    installed.name = "debian-usual".to_owned();
    let kernel_package = installed.kernel_package(arch);
    let tools = ["initramfs-tools", "zstd"].map(str::to_owned);
    installed.body.packages.extend(tools.into_iter().chain([kernel_package]));
    systemd_service(&mut installed, &agent::binary(context, arch)?)?;
    Ok(installed)
}

fn lock_path(context: &Context) -> Result<PathBuf> {
    Ok(context.cache.folder("locks")?.join("debian-usual.lock"))
}

/// A repository of the packages of that system and no others, with their names in the file `names`:
/// what the pipeline by hand works on.
pub fn repository(context: &Context) -> Result<PathBuf> {
    let arch = host_platform::native_arch();
    let recipe = installed(context, arch)?;
    let store = context.cache.folder("packages")?;
    let path = lock_path(context)?;
    let wanted = Wanted {
        host: &Baking(context),
        recipe: &recipe,
        arch,
        store: &store,
        base: &[],
        status: None,
    };
    let lock = read_or_renewed(&Args::for_image("debian").options(), &wanted, &path)?;
    let mut key = Key::new("usual-repository");
    key.add("code", CODE.as_bytes());
    key.add("lock", format!("{lock:?}").as_bytes());
    context.cache.entry("usual-repository", &key, |folder| {
        rootfs::lay_out(&lock.package, &recipe, arch, &store, folder)?;
        let names: Vec<&str> = lock.package.iter().map(|package| package.name.as_str()).collect();
        fs::write(folder.join("names"), names.join(","))?;
        Ok(())
    })
}

fn systemd_service(recipe: &mut Recipe, agent: &Path) -> Result<()> {
    add_agent(recipe, agent)?;
    add_text(recipe, "/etc/systemd/system/quicksand-agent.service", UNIT, "0644")?;
    add_text(recipe, "/etc/systemd/network/10-ether.network", NETWORK, "0644")?;
    let wants = "/etc/systemd/system/multi-user.target.wants";
    for (name, folder) in [
        ("quicksand-agent.service", "/etc/systemd/system"),
        ("systemd-networkd.service", "/usr/lib/systemd/system"),
    ] {
        recipe.body.link.push(Link {
            path: format!("{wants}/{name}").try_into().map_err(anyhow::Error::msg)?,
            target: LinkTarget(format!("{folder}/{name}")),
        });
    }
    Ok(())
}

fn busybox_service(recipe: &mut Recipe, agent: &Path) -> Result<()> {
    add_agent(recipe, agent)?;
    add_text(recipe, "/etc/start", BUSYBOX_START, "0755")?;
    add_text(recipe, "/etc/inittab", BUSYBOX_INITTAB, "0644")
}

fn add_agent(recipe: &mut Recipe, agent: &Path) -> Result<()> {
    recipe.body.file.push(File {
        path: "/usr/local/bin/quicksand-agent".to_owned().try_into().map_err(anyhow::Error::msg)?,
        text: None,
        source: Some(agent.to_str().context("The cache's path is not UTF-8")?.to_owned()),
        mode: "0755".to_owned().try_into().map_err(anyhow::Error::msg)?,
        owner: None,
    });
    add_text(recipe, "/usr/local/sbin/quicksand-agent-service", SERVICE, "0755")
}

fn add_text(recipe: &mut Recipe, path: &str, text: &str, mode: &str) -> Result<()> {
    recipe.body.file.push(File {
        path: path.to_owned().try_into().map_err(anyhow::Error::msg)?,
        text: Some(text.to_owned()),
        source: None,
        mode: mode.to_owned().try_into().map_err(anyhow::Error::msg)?,
        owner: None,
    });
    Ok(())
}
