//! The option `limits`: what one guest can make the host hold and write, beyond the memory and
//! processors that it was given.
//!
//! Owns names, defaults and checks; `budget` counts, and those who spend ask there.

use crate::error::{Error, Result};
use crate::size::Size;
use serde_json::{Map, Value, json};

const MIB: u64 = 1 << 20;
/// The most bytes of all answers of an agent that wait for somebody to take them.
const MAX_WIRE: u32 = 32 << 20;
/// The names of the fields, for messages.
const ALLOWED: &str = "an object of descriptors, memory, disk, checkpoints and picture";

/// What one guest can make its host hold. A guest that is over a limit is refused, or stands still;
/// the process and other machines go on.
///
/// ```
/// let limits = sandbox::Limits::default();
/// assert_eq!((limits.descriptors(), limits.memory(), limits.checkpoints()), (256, 64 << 20, 16));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    descriptors: u16,
    memory: Size,
    disk: Option<Size>,
    checkpoints: u16,
    picture: Size,
}

impl Default for Limits {
    fn default() -> Self {
        let (memory, picture) = (Size::from_bytes(64 * MIB), Size::from_bytes(64 * MIB));
        Self { descriptors: 256, memory, disk: None, checkpoints: 16, picture }
    }
}

impl Limits {
    /// File descriptors of this process that the guest can occupy: files open on shares,
    /// connections and partners of datagrams. 16 to 65535, 256 by default.
    pub fn descriptors(&self) -> u16 {
        self.descriptors
    }

    /// Bytes of this process's memory that the guest can occupy: buffers of its connections and
    /// listings of shared folders, and in at most half of it ([`Limits::wire`]) what its agent has
    /// sent and nobody has taken yet. 8 MiB to 64 GiB, 64 MiB by default. What the caller asks for
    /// comes beside it: output that is kept, files that are read, pictures of the screen.
    pub fn memory(&self) -> u64 {
        self.memory.bytes()
    }

    /// The part of [`Limits::memory`] that is for the agent's connection: half of it, at most 32 MiB.
    pub fn wire(&self) -> u32 {
        u32::try_from(self.memory() / 2).unwrap_or(u32::MAX).min(MAX_WIRE)
    }

    /// Bytes of the machine's overlay, checkpoints included; `None`, the default, for twice the
    /// disk's size plus eight times the memory.
    pub fn disk(&self) -> Option<u64> {
        self.disk.as_ref().map(Size::bytes)
    }

    /// Checkpoints at a time. 0 to 1000, 16 by default.
    pub fn checkpoints(&self) -> u16 {
        self.checkpoints
    }

    /// Bytes of a picture of the screen, three for each pixel. A screen that is larger is an error.
    /// 1 MiB to 768 MiB, 64 MiB by default, which is enough for 5120 x 2880.
    pub fn picture(&self) -> u64 {
        self.picture.bytes()
    }

    /// Sets the descriptors.
    pub fn with_descriptors(mut self, descriptors: u16) -> Self {
        self.descriptors = descriptors;
        self
    }

    /// Sets the bytes of memory.
    pub fn with_memory(mut self, bytes: u64) -> Self {
        self.memory = Size::from_bytes(bytes);
        self
    }

    /// Sets the bytes of the overlay.
    pub fn with_disk(mut self, bytes: u64) -> Self {
        self.disk = Some(Size::from_bytes(bytes));
        self
    }

    /// Sets the number of checkpoints.
    pub fn with_checkpoints(mut self, checkpoints: u16) -> Self {
        self.checkpoints = checkpoints;
        self
    }

    /// Sets the bytes of a picture.
    pub fn with_picture(mut self, bytes: u64) -> Self {
        self.picture = Size::from_bytes(bytes);
        self
    }

    /// The JSON form.
    pub(crate) fn to_value(&self) -> Value {
        json!({
            "descriptors": self.descriptors,
            "memory": self.memory,
            "disk": self.disk,
            "checkpoints": self.checkpoints,
            "picture": self.picture,
        })
    }

    /// Reads the JSON form; what is left out has its default.
    pub(crate) fn from_value(value: Value) -> Result<Self> {
        let Value::Object(fields) = value else { return Err(refuse("", &value, ALLOWED)) };
        let mut limits = Self::default();
        for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_null()) {
            match name.as_str() {
                "descriptors" => limits.descriptors = number(&name, &value, 16, u16::MAX)?,
                "checkpoints" => limits.checkpoints = number(&name, &value, 0, 1000)?,
                "memory" => limits.memory = size(&name, &value, 8 * MIB, 65_536 * MIB)?,
                "picture" => limits.picture = size(&name, &value, MIB, 768 * MIB)?,
                "disk" => limits.disk = Some(size(&name, &value, MIB, 1 << 50)?),
                _ => {
                    return Err(refuse(
                        "",
                        &Value::Object(Map::from_iter([(name, value)])),
                        ALLOWED,
                    ));
                }
            }
        }
        Ok(limits)
    }
}

fn number(name: &str, value: &Value, least: u16, most: u16) -> Result<u16> {
    let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
    let is_fine = |number: &u16| (least..=most).contains(number);
    let allowed = format!("a whole number from {least} to {most}");
    number.filter(is_fine).ok_or_else(|| refuse(name, value, &allowed))
}

fn size(name: &str, value: &Value, least: u64, most: u64) -> Result<Size> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let size = Size::parse("limits", &text)?;
    if (least..=most).contains(&size.bytes()) {
        return Ok(size);
    }
    let [least, most] = [least, most].map(|bytes| Size::from_bytes(bytes).as_str().to_owned());
    Err(refuse(name, value, &format!("from {least} to {most}")))
}

fn refuse(name: &str, value: &Value, allowed: &str) -> Error {
    let value = if name.is_empty() { value.to_string() } else { format!("{name}: {value}") };
    Error::InvalidValue {
        option: "limits",
        value,
        allowed: allowed.to_owned(),
        hint: Some("Write for example limits=Limits(descriptors=512, memory=\"128M\")".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_its_default() {
        let read = |value| Limits::from_value(value).unwrap();
        assert_eq!(read(json!({})), Limits::default());
        let limits = read(json!({"descriptors": 1024, "memory": "1G", "disk": "10G"}));
        assert_eq!((limits.descriptors(), limits.memory()), (1024, 1 << 30));
        assert_eq!((limits.disk(), limits.checkpoints()), (Some(10 << 30), 16));
        assert_eq!(read(limits.to_value()), limits);
        assert_eq!(read(Limits::default().to_value()), Limits::default());
        for (memory, wire) in [("8M", 4 << 20), ("64M", 32 << 20), ("64G", 32 << 20)] {
            assert_eq!(read(json!({"memory": memory})).wire(), wire, "{memory}");
        }
    }

    #[test]
    fn limits_that_mean_nothing_are_refused() {
        for value in [
            json!([]),
            json!("64M"),
            json!({"descriptor": 256}),
            json!({"descriptors": 15}),
            json!({"descriptors": 65536}),
            json!({"descriptors": -1}),
            json!({"descriptors": "256"}),
            json!({"memory": "7M"}),
            json!({"memory": "65T"}),
            json!({"memory": "much"}),
            json!({"disk": "1K"}),
            json!({"checkpoints": 1001}),
        ] {
            let error = Limits::from_value(value.clone()).unwrap_err();
            assert!(error.to_string().contains("`limits`"), "{value}: {error}");
            assert!(error.hint().is_some(), "{value}");
        }
    }
}
