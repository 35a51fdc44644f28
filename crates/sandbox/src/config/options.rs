//! Reads and writes each option of the configuration: types, limits, defaults and messages.

use super::table::OPTIONS;
use super::{AccelChoice, Resources, SandboxConfig};
use crate::error::{Error, Result};
use crate::mount::{Mount, MountType};
use crate::network::{self, NetworkMode};
use crate::size::Size;
use crate::usernet::AllowList;
use host_platform::Arch;
use package_layout::DEFAULT_MEMORY;
use runtime_locator::Accelerator;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::time::Duration;

pub(super) const DEFAULT_CPUS: u16 = 1;

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
    let mut config = SandboxConfig::defaults();
    for (name, value) in options {
        // The one option that means something by being nothing.
        let is_default = value.is_null() && name != "accel";
        let is_known = match is_default {
            true => known().any(|known| known == name),
            false => config.read_option(&name, value)?,
        };
        if !is_known {
            return Err(unknown(&name));
        }
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
        crate::save_name::check_name(name)?;
    }
    network::check_forwards(config.network_mode, &config.port_forwards)?;
    check_network(&config)?;
    Ok(config)
}

/// The names that are taken. `progress_callback` is Python's alone, which knows it without asking here.
fn known() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().map(|option| option.name).chain(["progress_callback"])
}

/// What [`SandboxConfig::resources`] gives.
pub(super) fn resources(
    config: &SandboxConfig,
    defaults: &Map<String, Value>,
) -> Result<Resources> {
    let of_image = |name: &str| defaults.get(name).filter(|value| !value.is_null()).cloned();
    let memory = match (&config.memory, of_image("memory")) {
        (None, Some(value)) => read_memory("memory", value)?,
        (named, _) => named.clone(),
    };
    let memory = match memory {
        Some(memory) => memory,
        None => Size::parse("memory", DEFAULT_MEMORY)?,
    };
    let cpus = match (config.cpus, of_image("cpus")) {
        (None, Some(value)) => read_cpus("cpus", value)?,
        (named, _) => named,
    };
    let disk_size = match (&config.disk_size, of_image("disk_size")) {
        (None, Some(value)) => read_disk_size("disk_size", value)?,
        (named, _) => named.clone(),
    };
    Ok(Resources { memory, cpus: cpus.unwrap_or(DEFAULT_CPUS), disk_size })
}

/// The object that [`read`] reads back.
pub(super) fn write(config: &SandboxConfig) -> Value {
    let mut options = config.written();
    // Where a sandbox is kept is not what it is: these are there only when they are given.
    for place in OPTIONS.iter().filter(|option| !option.is_of_machine()) {
        if options.get(place.name).is_some_and(Value::is_null) {
            options.remove(place.name);
        }
    }
    Value::Object(options)
}

pub(super) fn accel_name(accel: AccelChoice) -> &'static str {
    match accel {
        AccelChoice::Auto => "auto",
        AccelChoice::Fixed(accelerator) => accelerator.name(),
    }
}

/// The JSON form of what is plainly serialized.
pub(super) fn to_json<T: Serialize>(value: T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

pub(super) fn read_arch(option: &'static str, value: Value) -> Result<Option<Arch>> {
    let spelling = read_text(option, value, "amd64 or arm64")?;
    spelling.parse::<Arch>().map(Some).map_err(|_| {
        invalid(option, &spelling, "amd64 or arm64", "Leave it out for the host's own")
    })
}

pub(super) fn read_accel(option: &'static str, value: Value) -> Result<AccelChoice> {
    if value.is_null() {
        return Ok(AccelChoice::Fixed(Accelerator::Tcg));
    }
    let allowed = "auto, kvm, hvf, whpx, tcg, or null for tcg";
    let name = read_text(option, value, allowed)?;
    if name == "auto" {
        return Ok(AccelChoice::Auto);
    }
    [Accelerator::Kvm, Accelerator::Hvf, Accelerator::Whpx, Accelerator::Tcg]
        .into_iter()
        .find(|accelerator| accelerator.name() == name)
        .map(AccelChoice::Fixed)
        .ok_or_else(|| {
            invalid(option, &name, allowed, "Use accel=\"auto\", which takes the best that works")
        })
}

pub(super) fn read_memory(option: &'static str, value: Value) -> Result<Option<Size>> {
    let spelling = match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let size = Size::parse(option, &spelling)?;
    if size.bytes() < MIN_MEMORY {
        return Err(invalid(
            option,
            &spelling,
            "at least 32M",
            &format!("Images boot well with the default of {DEFAULT_MEMORY}; `minimal` with 128M"),
        ));
    }
    Ok(Some(size))
}

pub(super) fn read_disk_size(option: &'static str, value: Value) -> Result<Option<Size>> {
    let spelling = match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let size = Size::parse(option, &spelling)?;
    if !(1..=MAX_DISK_SIZE).contains(&size.bytes()) {
        return Err(invalid(
            option,
            &spelling,
            "more than 0 and at most 16T",
            "Write for example disk_size=\"10G\"; space is taken as it is used",
        ));
    }
    Ok(Some(size))
}

pub(super) fn read_cpus(option: &'static str, value: Value) -> Result<Option<u16>> {
    match value.as_u64() {
        Some(cpus) if (1..=MAX_CPUS).contains(&cpus) => Ok(Some(cpus as u16)),
        _ => Err(invalid(
            option,
            &shown(&value),
            "a whole number from 1 to 255",
            "More CPUs than the host has make a machine slower",
        )),
    }
}

pub(super) fn read_args(option: &'static str, value: Value) -> Result<Vec<String>> {
    let given = shown(&value);
    serde_json::from_value::<Vec<String>>(value)
        .ok()
        .filter(|args| args.iter().all(|arg| !arg.contains('\0')))
        .ok_or_else(|| {
            invalid(
                option,
                &given,
                "a list of strings",
                "Write each word apart: [\"-device\", \"virtio-balloon-pci\"]",
            )
        })
}

pub(super) fn read_allow(option: &'static str, value: Value) -> Result<Option<Vec<String>>> {
    let given = shown(&value);
    let entries: Vec<String> = serde_json::from_value(value).map_err(|_| {
        let hint = "Write for example allow=[\"example.com\", \"192.0.2.0/24\"]";
        invalid(option, &given, "a list of domains and addresses", hint)
    })?;
    AllowList::parse(&entries)?;
    Ok(Some(entries))
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

pub(super) fn read_boot_timeout(option: &'static str, value: Value) -> Result<Option<Duration>> {
    match value.as_f64() {
        Some(seconds) if seconds > 0.0 && seconds <= MAX_BOOT_TIMEOUT_S => {
            Ok(Some(Duration::from_secs_f64(seconds)))
        }
        _ => Err(invalid(
            option,
            &shown(&value),
            "seconds, more than 0 and at most 86400",
            "Leave it out for a limit that fits the accelerator",
        )),
    }
}

pub(super) fn read_toggle(option: &'static str, value: Value) -> Result<bool> {
    let refuse = || invalid(option, &shown(&value), "true or false", "Leave it out");
    value.as_bool().ok_or_else(refuse)
}

pub(super) fn read_workspace(option: &'static str, value: Value) -> Result<Option<PathBuf>> {
    let folder = read_text(option, value, "the path of a folder")?;
    if folder.is_empty() {
        return Err(invalid(
            option,
            &folder,
            "the path of a folder",
            "Leave it out for .quicksand/sandboxes in the working folder",
        ));
    }
    Ok(Some(folder.into()))
}

/// Reads one of the words of the option's row.
pub(super) fn choice<T: DeserializeOwned>(option: &'static str, value: Value) -> Result<T> {
    let given = shown(&value);
    serde_json::from_value(value).map_err(|_| {
        let row = OPTIONS.iter().find(|row| row.name == option);
        let words = row.map(|row| row.words).unwrap_or_default();
        let hint = match spelling::nearest(&given, words.iter().copied()) {
            Some(name) => format!("Did you mean `{name}`?"),
            None => format!("Leave `{option}` out for the default"),
        };
        Error::InvalidValue { option, value: given, allowed: words.join(", "), hint: Some(hint) }
    })
}

pub(super) fn read_text(option: &'static str, value: Value, allowed: &str) -> Result<String> {
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
        nearest: spelling::nearest(name, known()).map(str::to_owned),
    }
}

/// A value as a person wrote it: strings without their quotes.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
