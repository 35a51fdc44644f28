//! The configuration of a sandbox: every option with its default, checked when it is made.
//!
//! Owns the names and meanings of options; knows neither QEMU's flags nor where images are. There
//! is one way in: options arrive as a JSON object (the builder makes one too), so Rust, Python and
//! a file of JSON get the same checks and the same messages.

mod define;
mod options;
mod table;

pub use define::{Flag, OptionInfo};
pub use table::{OPTIONS, SandboxConfig};

use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::mount::Mount;
#[cfg(target_os = "linux")]
use crate::mount::MountType;
use crate::network::{Forward, NetworkMode};
use crate::size::Size;
use runtime_locator::Accelerator;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

/// Which accelerator a machine uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AccelChoice {
    /// The best one that the probe proves to work.
    #[default]
    Auto,
    /// This one, or an error.
    Fixed(Accelerator),
}

/// How host and guest talk (the two columns of the design's table).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// `Socket` where the host and the image can do it, otherwise `Tcp`.
    #[default]
    Auto,
    /// Inherited sockets and a virtio-serial port; no listening TCP port.
    Socket,
    /// HTTP through a loopback port forward; works with any image of the layout.
    Tcp,
}

/// What `start` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WaitFor {
    /// The first answer of the guest agent; the guest's services may still be starting.
    #[default]
    Agent,
    /// The end of the guest's own boot.
    Boot,
}

/// Whether a start may copy a machine that has booted before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Warm {
    /// Where that is possible. The second start of a configuration makes the template, so that a machine
    /// that is started once costs nothing more.
    #[default]
    Auto,
    /// The same, and the first start makes it already.
    Make,
    /// As [`Warm::Make`], and from this process' second start of the kind on a copy waits in memory, which
    /// later ones are forks of: for programs that start many. Only Linux has it, under software emulation.
    Fork,
    /// Every machine boots.
    Off,
}

/// Who may watch the display through VNC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VncAccess {
    /// As [`VncAccess::Port`]: whoever asks for a display wants it to be seen.
    #[default]
    Auto,
    /// Whoever knows the password, which is drawn at each start, on a loopback port of 5900 to 5999.
    Port,
    /// Nobody: pictures come through QMP alone.
    Off,
}

/// How much a machine gets.
#[derive(Debug)]
pub(crate) struct Resources {
    pub memory: Size,
    pub cpus: u16,
    /// The size of its disk; the image's own when it is `None`.
    pub disk_size: Option<Size>,
}

impl SandboxConfig {
    /// Starts a configuration for the image of this name or path.
    pub fn builder(image: impl Into<String>) -> SandboxConfigBuilder {
        let mut options = Map::new();
        options.insert("image".into(), Value::String(image.into()));
        SandboxConfigBuilder { options }
    }

    /// Reads and checks a JSON object of options.
    pub fn from_json(text: &str) -> Result<Self> {
        let value = serde_json::from_str(text)
            .map_err(|source| Error::NotAnObject { source: Some(source) })?;
        Self::from_value(value)
    }

    /// Checks an object of options. Options that are left out have their defaults; `null` means
    /// the default too, but for `accel`, where it means `tcg`.
    pub fn from_value(value: Value) -> Result<Self> {
        let Value::Object(options) = value else {
            return Err(Error::NotAnObject { source: None });
        };
        options::read(options)
    }

    /// All options as a JSON object that [`Self::from_value`] reads back.
    pub fn to_value(&self) -> Value {
        options::write(self)
    }

    /// All options as JSON text.
    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }

    /// What a machine gets whose image has these defaults: what was named, else the image's, else the
    /// documents'.
    pub(crate) fn resources(&self, defaults: &Map<String, Value>) -> Result<Resources> {
        options::resources(self, defaults)
    }

    /// The same machine, with nothing that only this host process knows of: no shares, no ports, no
    /// list of what may be reached, and a boot that is waited for.
    #[cfg(target_os = "linux")]
    pub(crate) fn without_host(&self) -> Self {
        let mut config = self.clone();
        config.mounts.clear();
        config.port_forwards.clear();
        config.allow = None;
        if config.network_mode == NetworkMode::Full {
            config.network_mode = NetworkMode::MountsOnly;
        }
        config.save = None;
        config.wait_for = WaitFor::Boot;
        config.boot_timeout = None;
        config.warm = Warm::Off;
        config
    }

    /// The same machine for one that goes on from this one: with the shares of now, and without what
    /// only one can have.
    #[cfg(target_os = "linux")]
    pub(crate) fn for_child(&self, mounts: Vec<Mount>) -> Self {
        let mut config = self.clone();
        config.mounts = mounts;
        config.port_forwards.clear();
        config.save = None;
        config
    }

    /// The same for one of many machines of the kind.
    pub(crate) fn for_many(mut self) -> Self {
        if self.warm == Warm::Auto {
            self.warm = Warm::Fork;
        }
        self
    }

    /// Whether a share is a device of the machine.
    #[cfg(target_os = "linux")]
    pub(crate) fn has_plan9(&self) -> bool {
        self.mounts.iter().any(|mount| mount.kind == MountType::Plan9)
    }
}

impl Serialize for SandboxConfig {
    fn serialize<S: serde::Serializer>(
        &self,
        serializer: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SandboxConfig {
    fn deserialize<D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> std::result::Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::from_value(value).map_err(|error| {
            let hint = error.hint().map(|hint| format!(" (hint: {hint})")).unwrap_or_default();
            serde::de::Error::custom(format!("{error}{hint}"))
        })
    }
}

/// Collects options; [`Self::build`] checks them.
#[derive(Clone, Debug)]
pub struct SandboxConfigBuilder {
    options: Map<String, Value>,
}

impl SandboxConfigBuilder {
    /// Sets any option by its name, as in the JSON form.
    pub fn option(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.options.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a port that leads from one side to the other.
    pub fn port_forward(self, forward: Forward) -> Self {
        self.push("port_forwards", forward.to_value())
    }

    /// Adds a folder of the host that is shared with the guest.
    pub fn mount(self, mount: Mount) -> Self {
        self.push("mounts", options::to_json(mount))
    }

    /// Sets what the guest may reach with [`NetworkMode::Full`]: domains (`example.com`,
    /// `*.example.com`), IPv4 addresses and networks, or `*`, each with `:port` or without.
    pub fn allow<I: IntoIterator<Item = S>, S: Into<String>>(self, entries: I) -> Self {
        let entries = entries.into_iter().map(|entry| Value::String(entry.into())).collect();
        self.option("allow", Value::Array(entries))
    }

    fn push(mut self, option: &str, value: Value) -> Self {
        match self.options.get_mut(option) {
            Some(Value::Array(list)) => list.push(value),
            _ => {
                self.options.insert(option.into(), Value::Array(vec![value]));
            }
        }
        self
    }

    /// Sets arguments that are appended to QEMU's command line.
    pub fn extra_qemu_args<I: IntoIterator<Item = S>, S: Into<String>>(self, args: I) -> Self {
        let args = args.into_iter().map(|arg| Value::String(arg.into())).collect();
        self.option("extra_qemu_args", Value::Array(args))
    }

    /// Sets the folder of saves.
    pub fn workspace(self, folder: impl AsRef<Path>) -> Self {
        self.option("workspace", folder.as_ref().to_string_lossy().into_owned())
    }

    /// Sets what the guest can make the host hold.
    pub fn limits(self, limits: &Limits) -> Self {
        self.option("limits", limits.to_value())
    }

    /// Checks everything.
    pub fn build(self) -> Result<SandboxConfig> {
        SandboxConfig::from_value(Value::Object(self.options))
    }
}

#[cfg(test)]
mod tests;
