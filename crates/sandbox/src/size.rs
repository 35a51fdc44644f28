//! Amounts of memory and disk as people write them.
//!
//! Owns the spelling of sizes; knows nothing of machines. All units are binary, as QEMU's and
//! most people's are when they speak of a machine's memory: `2G`, `2GB` and `2GiB` are the same.

use crate::error::{Error, Result};
use serde::Serialize;

/// An amount of memory or disk, kept as it was written.
#[derive(Clone, Debug, Eq, Serialize)]
#[serde(transparent)]
pub struct Size {
    text: String,
    #[serde(skip)]
    bytes: u64,
}

impl PartialEq for Size {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Size {
    /// Reads a size: a number with an optional fraction and one of `K`, `M`, `G`, `T`, each also
    /// followed by `B` or `iB`, in any case. A bare number counts MiB.
    ///
    /// `option` is the name of the configuration option, for the error message.
    pub fn parse(option: &'static str, text: &str) -> Result<Self> {
        let refuse = || Error::InvalidValue {
            option,
            value: text.to_owned(),
            allowed: "a number with K, M, G or T (also KiB, MB, …); a bare number is MiB".into(),
            hint: Some(format!("Write for example {option}=\"2G\"")),
        };
        let trimmed = text.trim();
        let end =
            trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(end);
        let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
            "k" | "kb" | "kib" => 10,
            "" | "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(refuse()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() || fraction.len() > 9 || fraction.contains('.') {
            return Err(refuse());
        }
        let unit_bytes = 1u128 << shift;
        let whole: u64 = whole.parse().map_err(|_| refuse())?;
        let fraction_bytes = match fraction {
            "" if number.contains('.') => return Err(refuse()),
            "" => 0,
            digits => {
                let parts: u128 = digits.parse().map_err(|_| refuse())?;
                parts * unit_bytes / 10u128.pow(digits.len() as u32)
            }
        };
        let bytes = u128::from(whole) * unit_bytes + fraction_bytes;
        let bytes = u64::try_from(bytes).map_err(|_| refuse())?;
        Ok(Self { text: trimmed.to_owned(), bytes })
    }

    /// A size of at least so many bytes, in whole KiB and the largest unit that fits.
    pub(crate) fn from_bytes(bytes: u64) -> Self {
        let kib = bytes.div_ceil(1024);
        let units = [(30, "T"), (20, "G"), (10, "M")];
        let unit = units.iter().find(|(shift, _)| kib > 0 && kib.is_multiple_of(1 << shift));
        let text = match unit {
            Some((shift, unit)) => format!("{}{unit}", kib >> shift),
            None => format!("{kib}K"),
        };
        Self { text, bytes: kib.saturating_mul(1024) }
    }

    /// The amount in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The text as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text in the form that QEMU's `-m` and `qemu-img` read: as given where that is already
    /// QEMU's own form, otherwise in the largest unit that divides the amount.
    pub fn qemu(&self) -> String {
        let digits = self.text.trim_end_matches(['K', 'M', 'G', 'T']);
        if digits.bytes().all(|b| b.is_ascii_digit()) && self.text.len() - digits.len() <= 1 {
            return self.text.clone();
        }
        for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
            if self.bytes > 0 && self.bytes.is_multiple_of(1 << shift) {
                return format!("{}{unit}", self.bytes >> shift);
            }
        }
        format!("{}B", self.bytes)
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_all_usual_forms() {
        const M: u64 = 1 << 20;
        for (text, bytes, qemu) in [
            ("512M", 512 * M, "512M"),
            ("512", 512 * M, "512"),
            ("2G", 2048 * M, "2G"),
            ("2GB", 2048 * M, "2G"),
            ("2gib", 2048 * M, "2G"),
            ("2 GiB", 2048 * M, "2G"),
            ("1024M", 1024 * M, "1024M"),
            ("1.5G", 1536 * M, "1536M"),
            ("0.5 T", 512 * 1024 * M, "512G"),
            ("65536k", 64 * M, "64M"),
            (" 64mb ", 64 * M, "64M"),
        ] {
            let size = Size::parse("memory", text).unwrap();
            assert_eq!((size.bytes(), size.qemu().as_str()), (bytes, qemu), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for text in [
            "lots",
            "",
            "-1G",
            "1X",
            "1..5G",
            "1.G",
            ".5G",
            "G",
            "1e3M",
            "99999999999999T",
            "2GiBs",
        ] {
            let error = Size::parse("memory", text).unwrap_err();
            let message = error.to_string();
            assert!(
                message.contains("`memory`") && message.contains(&format!("`{text}`")),
                "{message}"
            );
            assert!(error.hint().is_some());
        }
    }
}
