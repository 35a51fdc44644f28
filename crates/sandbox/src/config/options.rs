//! Reads and writes each option of the configuration: types, limits, defaults and messages.

use super::{AccelChoice, Resources, SandboxConfig, Transport, VncAccess, WaitFor, Warm};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::mount::{Mount, MountType};
use crate::network::{self, Forward, NetworkMode};
use crate::size::Size;
use crate::usernet::AllowList;
use host_platform::Arch;
use runtime_locator::Accelerator;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Every option that the interface knows, those of later versions included.
const NAMES: [&str; 21] = [
    "image",
    "arch",
    "memory",
    "cpus",
    "mounts",
    "port_forwards",
    "network_mode",
    "allow",
    "extra_qemu_args",
    "boot_timeout",
    "accel",
    "disk_size",
    "enable_display",
    "vnc",
    "warm",
    "transport",
    "wait_for",
    "limits",
    "save",
    "workspace",
    "progress_callback",
];

/// The most CPUs that the q35 machine takes. More than the host has is allowed, as scripts that
/// were written on larger machines must go on to work on smaller ones.
const MAX_CPUS: u64 = 255;

/// Linux does not get far with less.
const MIN_MEMORY: u64 = 32 << 20;

/// The largest ext4 file system without 64-bit block numbers.
const MAX_DISK_SIZE: u64 = 16 << 40;

/// A day: a larger boot timeout is a mistake in the unit.
const MAX_BOOT_TIMEOUT_S: f64 = 86_400.0;

/// Builds a configuration from an object of options.
pub(super) fn read(options: Map<String, Value>) -> Result<SandboxConfig> {
    let mut config = SandboxConfig {
        image: String::new(),
        arch: None,
        memory: Size::parse("memory", package_layout::DEFAULT_MEMORY)?,
        cpus: 1,
        named: super::Named::default(),
        mounts: Vec::new(),
        port_forwards: Vec::new(),
        network_mode: NetworkMode::default(),
        allow: None,
        extra_qemu_args: Vec::new(),
        boot_timeout: None,
        accel: AccelChoice::Auto,
        disk_size: None,
        save: None,
        workspace: None,
        transport: Transport::Auto,
        wait_for: WaitFor::Agent,
        enable_display: false,
        vnc: VncAccess::Auto,
        warm: Warm::default(),
        limits: Limits::default(),
    };
    for (name, value) in options {
        read_option(&mut config, &name, value)?;
    }
    if config.image.trim().is_empty() {
        return Err(invalid(
            "image",
            &config.image,
            "the name of an installed image, or a path",
            "Name an image, for example image=\"debian\"",
        ));
    }
    if let Some(name) = &config.save {
        crate::save::check_name(name)?;
    }
    network::check_forwards(config.network_mode, &config.port_forwards)?;
    check_network(&config)?;
    Ok(config)
}

fn read_option(config: &mut SandboxConfig, name: &str, value: Value) -> Result<()> {
    match (name, value) {
        ("accel", value) => config.accel = read_accel(value)?,
        (name, Value::Null) if NAMES.contains(&name) => {}
        ("image", value) => config.image = text("image", value, "a name or a path")?,
        ("arch", value) => {
            let spelling = text("arch", value, "amd64 or arm64")?;
            config.arch = Some(spelling.parse::<Arch>().map_err(|_| {
                invalid("arch", &spelling, "amd64 or arm64", "Leave it out for the host's own")
            })?);
        }
        ("memory", value) => {
            config.memory = read_memory(value)?;
            config.named.memory = true;
        }
        ("cpus", value) => {
            config.cpus = read_cpus(&value)?;
            config.named.cpus = true;
        }
        ("port_forwards", value) => config.port_forwards = Forward::list_from_value(value)?,
        ("network_mode", value) => {
            config.network_mode = choice("network_mode", value, &["none", "mounts_only", "full"])?;
        }
        ("extra_qemu_args", value) => config.extra_qemu_args = read_args(value)?,
        ("boot_timeout", value) => config.boot_timeout = Some(read_timeout(&value)?),
        ("transport", value) => {
            config.transport = choice("transport", value, &["auto", "socket", "tcp"])?;
        }
        ("wait_for", value) => config.wait_for = choice("wait_for", value, &["agent", "boot"])?,
        ("limits", value) => config.limits = Limits::from_value(value)?,
        ("mounts", value) => config.mounts = Mount::list_from_value(value)?,
        ("allow", value) => config.allow = Some(read_allow(value)?),
        ("enable_display", Value::Bool(enable)) => config.enable_display = enable,
        ("enable_display", value) => {
            return Err(invalid("enable_display", &shown(&value), "true or false", "Leave it out"));
        }
        ("vnc", value) => config.vnc = choice("vnc", value, &["auto", "port", "off"])?,
        ("warm", value) => config.warm = choice("warm", value, &["auto", "make", "fork", "off"])?,
        ("disk_size", value) => config.disk_size = Some(read_disk_size(value)?),
        ("save", value) => config.save = Some(text("save", value, "the name of a save")?),
        ("workspace", value) => {
            let folder = text("workspace", value, "the path of a folder")?;
            if folder.is_empty() {
                return Err(invalid(
                    "workspace",
                    &folder,
                    "the path of a folder",
                    "Leave it out for .quicksand/sandboxes in the working folder",
                ));
            }
            config.workspace = Some(folder.into());
        }
        (name, _) => return Err(unknown(name)),
    }
    Ok(())
}

/// What [`SandboxConfig::resources`] gives.
pub(super) fn resources(
    config: &SandboxConfig,
    defaults: &Map<String, Value>,
) -> Result<Resources> {
    let of_image = |name: &str, is_named: bool| {
        defaults.get(name).filter(|value| !is_named && !value.is_null())
    };
    let memory = match of_image("memory", config.named.memory) {
        Some(value) => read_memory(value.clone())?,
        None => config.memory.clone(),
    };
    let cpus = match of_image("cpus", config.named.cpus) {
        Some(value) => read_cpus(value)?,
        None => config.cpus,
    };
    let disk_size = match of_image("disk_size", config.disk_size.is_some()) {
        Some(value) => Some(read_disk_size(value.clone())?),
        None => config.disk_size.clone(),
    };
    Ok(Resources { memory, cpus, disk_size })
}

/// The object that [`read`] reads back; options of later versions appear with their defaults.
pub(super) fn write(config: &SandboxConfig) -> Value {
    let mut value = json!({
        "image": config.image,
        "arch": config.arch.map(|arch| arch.image_name()),
        "memory": config.memory,
        "cpus": config.cpus,
        "mounts": config.mounts,
        "port_forwards": config.port_forwards.iter().map(Forward::to_value).collect::<Vec<_>>(),
        "network_mode": config.network_mode,
        "allow": config.allow,
        "extra_qemu_args": config.extra_qemu_args,
        "boot_timeout": config.boot_timeout.map(|timeout| timeout.as_secs_f64()),
        "accel": accel_name(config.accel),
        "disk_size": config.disk_size,
        "enable_display": config.enable_display,
        "vnc": config.vnc,
        "warm": config.warm,
        "transport": config.transport,
        "wait_for": config.wait_for,
        "limits": config.limits.to_value(),
    });
    // Where a sandbox is kept is not what it is: these are there only when they are given.
    if let Some(save) = &config.save {
        value["save"] = json!(save);
    }
    if let Some(workspace) = &config.workspace {
        value["workspace"] = json!(workspace);
    }
    value
}

pub(super) fn accel_name(accel: AccelChoice) -> &'static str {
    match accel {
        AccelChoice::Auto => "auto",
        AccelChoice::Fixed(accelerator) => accelerator.name(),
    }
}

pub(super) fn enum_value<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

fn read_accel(value: Value) -> Result<AccelChoice> {
    if value.is_null() {
        return Ok(AccelChoice::Fixed(Accelerator::Tcg));
    }
    let allowed = "auto, kvm, hvf, whpx, tcg, or null for tcg";
    let name = text("accel", value, allowed)?;
    if name == "auto" {
        return Ok(AccelChoice::Auto);
    }
    [Accelerator::Kvm, Accelerator::Hvf, Accelerator::Whpx, Accelerator::Tcg]
        .into_iter()
        .find(|accelerator| accelerator.name() == name)
        .map(AccelChoice::Fixed)
        .ok_or_else(|| {
            invalid("accel", &name, allowed, "Use accel=\"auto\", which takes the best that works")
        })
}

fn read_memory(value: Value) -> Result<Size> {
    let spelling = match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let size = Size::parse("memory", &spelling)?;
    if size.bytes() < MIN_MEMORY {
        return Err(invalid(
            "memory",
            &spelling,
            "at least 32M",
            "Images boot well with the default of 512M; `minimal` with 128M",
        ));
    }
    Ok(size)
}

fn read_disk_size(value: Value) -> Result<Size> {
    let spelling = match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let size = Size::parse("disk_size", &spelling)?;
    if !(1..=MAX_DISK_SIZE).contains(&size.bytes()) {
        return Err(invalid(
            "disk_size",
            &spelling,
            "more than 0 and at most 16T",
            "Write for example disk_size=\"10G\"; space is taken as it is used",
        ));
    }
    Ok(size)
}

fn read_cpus(value: &Value) -> Result<u16> {
    match value.as_u64() {
        Some(cpus) if (1..=MAX_CPUS).contains(&cpus) => Ok(cpus as u16),
        _ => Err(invalid(
            "cpus",
            &shown(value),
            "a whole number from 1 to 255",
            "More CPUs than the host has make a machine slower",
        )),
    }
}

fn read_args(value: Value) -> Result<Vec<String>> {
    let given = shown(&value);
    serde_json::from_value::<Vec<String>>(value)
        .ok()
        .filter(|args| args.iter().all(|arg| !arg.contains('\0')))
        .ok_or_else(|| {
            invalid(
                "extra_qemu_args",
                &given,
                "a list of strings",
                "Write each word apart: [\"-device\", \"virtio-balloon-pci\"]",
            )
        })
}

fn read_allow(value: Value) -> Result<Vec<String>> {
    let given = shown(&value);
    let entries: Vec<String> = serde_json::from_value(value).map_err(|_| {
        let hint = "Write for example allow=[\"example.com\", \"192.0.2.0/24\"]";
        invalid("allow", &given, "a list of domains and addresses", hint)
    })?;
    AllowList::parse(&entries)?;
    Ok(entries)
}

/// Refuses options that this network mode cannot honour.
fn check_network(config: &SandboxConfig) -> Result<()> {
    if let Some(allow) = &config.allow
        && config.network_mode != NetworkMode::Full
    {
        return Err(invalid(
            "allow",
            &format!("{allow:?}"),
            "nothing but with network_mode=\"full\"",
            "Set network_mode=\"full\": without it nothing is reached at all",
        ));
    }
    let needs_network = |mount: &&Mount| mount.kind == MountType::Cifs;
    if config.network_mode == NetworkMode::None
        && let Some(mount) = config.mounts.iter().find(needs_network)
    {
        return Err(invalid(
            "mounts",
            &mount.guest,
            "any other type with network_mode=\"none\", as SMB needs the network",
            "Leave the type out, or use network_mode=\"mounts_only\"",
        ));
    }
    Ok(())
}

fn read_timeout(value: &Value) -> Result<Duration> {
    match value.as_f64() {
        Some(seconds) if seconds > 0.0 && seconds <= MAX_BOOT_TIMEOUT_S => {
            Ok(Duration::from_secs_f64(seconds))
        }
        _ => Err(invalid(
            "boot_timeout",
            &shown(value),
            "seconds, more than 0 and at most 86400",
            "Leave it out for a limit that fits the accelerator",
        )),
    }
}

fn choice<T: DeserializeOwned>(option: &'static str, value: Value, allowed: &[&str]) -> Result<T> {
    let given = shown(&value);
    serde_json::from_value(value).map_err(|_| {
        let hint = match nearest(&given, allowed) {
            Some(name) => format!("Did you mean `{name}`?"),
            None => format!("Leave `{option}` out for the default"),
        };
        let allowed = allowed.join(", ");
        Error::InvalidValue { option, value: given, allowed, hint: Some(hint) }
    })
}

fn text(option: &'static str, value: Value, allowed: &str) -> Result<String> {
    match value {
        Value::String(text) if !text.contains('\0') => Ok(text),
        other => Err(invalid(option, &shown(&other), allowed, "Give it as a string")),
    }
}

fn invalid(option: &'static str, value: &str, allowed: &str, hint: &str) -> Error {
    Error::InvalidValue {
        option,
        value: value.to_owned(),
        allowed: allowed.to_owned(),
        hint: Some(hint.to_owned()),
    }
}

fn unknown(name: &str) -> Error {
    Error::UnknownOption {
        option: name.to_owned(),
        nearest: nearest(name, &NAMES).map(str::to_owned),
    }
}

/// A value as a person wrote it: strings without their quotes.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The known name that is most like the given one, when any is alike at all.
fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|name| (strsim::jaro_winkler(given, name), *name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
