//! What the host tells the guest at boot: the kernel command line, and fw_cfg.

use std::path::Path;

use agent_protocol::{CMDLINE_PORT, CMDLINE_TOKEN, FW_CFG_TOKEN};

use crate::{Error, Result};

/// Longest token, in bytes.
const MAX_TOKEN: usize = 4096;

/// The kernel command line, as far as the guest's user space reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// Token of the tcp transport.
    pub token: Option<String>,
    /// Port of the tcp transport.
    pub port: Option<u16>,
    /// Device of the root file system.
    pub root: Option<String>,
    /// Type of the root file system.
    pub root_type: Option<String>,
    /// Mount options of the root file system, without `rw` and `ro`.
    pub root_options: String,
    /// Whether the root file system is to be read-only.
    pub read_only: bool,
    /// Program to hand over to.
    pub init: Option<String>,
}

impl CommandLine {
    /// Reads the text of `/proc/cmdline`. The last of several equal keys counts, as in the kernel.
    ///
    /// # Errors
    /// Not a port's number.
    pub fn parse(text: &str) -> Result<Self> {
        let mut line = Self::default();
        for word in text.split_ascii_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let given = || (!value.is_empty()).then(|| value.to_owned());
            match key {
                CMDLINE_TOKEN => line.token = given(),
                CMDLINE_PORT => line.port = Some(port(value)?),
                "root" => line.root = given(),
                "rootfstype" => line.root_type = given(),
                "rootflags" => {
                    let options = value.split(',').filter(|o| !matches!(*o, "rw" | "ro" | ""));
                    line.root_options = options.collect::<Vec<_>>().join(",");
                }
                "ro" => line.read_only = true,
                "rw" => line.read_only = false,
                "init" => line.init = given(),
                _ => {}
            }
        }
        Ok(line)
    }
}

fn port(value: &str) -> Result<u16> {
    value.parse().ok().filter(|port| *port != 0).ok_or_else(|| Error::Parameter {
        key: CMDLINE_PORT,
        value: value.to_owned(),
        expected: "a port from 1 to 65535",
    })
}

/// The token of the socket transport, if the host gave one. The file is readable by root alone.
///
/// See <https://docs.kernel.org/firmware-guide/acpi/../../driver-api/firmware/index.html> and
/// `Documentation/ABI/testing/sysfs-firmware-qemu_fw_cfg` in the kernel.
pub fn firmware_token(sys: &Path) -> Option<Vec<u8>> {
    let path = sys.join("firmware/qemu_fw_cfg/by_name").join(FW_CFG_TOKEN).join("raw");
    let token = fs_err::read(path).ok()?;
    let token = token.trim_ascii_end();
    (!token.is_empty() && token.len() <= MAX_TOKEN).then(|| token.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_command_line_is_parsed() {
        let line = CommandLine::parse(
            "root=/dev/vda rw rootflags=rw console=ttyAMA0 rootfstype=ext4 quiet loglevel=0 \
             raid=noautodetect quicksand_token=abc123 quicksand_port=8080\n",
        )
        .unwrap();
        let expect = CommandLine {
            token: Some("abc123".into()),
            port: Some(8080),
            root: Some("/dev/vda".into()),
            root_type: Some("ext4".into()),
            ..CommandLine::default()
        };
        assert_eq!(line, expect);
    }

    #[test]
    fn odd_lines_are_no_harm() {
        assert_eq!(CommandLine::parse("").unwrap(), CommandLine::default());
        assert_eq!(CommandLine::parse("quicksand_token= a=b=c").unwrap(), CommandLine::default());
        let line = CommandLine::parse("ro rootflags=ro,noatime,data=ordered init=/x").unwrap();
        assert!(line.read_only);
        assert_eq!(line.root_options, "noatime,data=ordered");
        assert_eq!(line.init.as_deref(), Some("/x"));
        for port in ["0", "65536", "x", ""] {
            let error = CommandLine::parse(&format!("quicksand_port={port}")).unwrap_err();
            assert!(error.to_string().contains(&format!("`quicksand_port={port}`")), "{error}");
        }
    }

    #[test]
    fn the_firmware_s_token_is_read_and_bounded() {
        let sys = tempfile::tempdir().unwrap();
        let folder = sys.path().join("firmware/qemu_fw_cfg/by_name/opt/quicksand/token");
        assert_eq!(firmware_token(sys.path()), None);
        fs_err::create_dir_all(&folder).unwrap();
        for (content, expect) in
            [(&b"abc\n"[..], Some(b"abc".to_vec())), (b"", None), (&[b'a'; 5000], None)]
        {
            fs_err::write(folder.join("raw"), content).unwrap();
            assert_eq!(firmware_token(sys.path()), expect);
        }
    }
}
