//! The options that describe a machine, and their meaning in a sandbox's configuration.

use super::seconds;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

/// The options that describe a machine; they are those of `Sandbox(...)` in Python.
#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
pub struct MachineArgs {
    /// The guest's architecture: amd64 or arm64 [default: the host's]
    #[arg(long)]
    pub arch: Option<String>,

    /// Memory, such as 512M or 2G; a bare number is in MiB [default: the image's, or 512M]
    #[arg(short = 'm', long, value_name = "SIZE")]
    pub memory: Option<String>,

    /// Number of virtual processors [default: the image's, or 1]
    #[arg(long, value_name = "N")]
    pub cpus: Option<u64>,

    /// Grow the disk and its file system to this size [default: the image's]
    #[arg(long, value_name = "SIZE")]
    pub disk_size: Option<String>,

    /// What the guest may reach [default: mounts-only]
    #[arg(long, value_enum, value_name = "MODE")]
    pub network: Option<Network>,

    /// With --network full, the only thing to reach: a domain, address or network[:PORT]
    #[arg(long, value_name = "WHAT")]
    pub allow: Vec<String>,

    /// Share a folder or file of the host; ro: to read only; TYPE: fuse, cifs or 9p
    #[arg(short = 'v', long = "volume", visible_alias = "mount", value_name = "HOST:GUEST[:ro][:TYPE]", value_parser = volume)]
    pub volume: Vec<Value>,

    /// Lead a TCP port of the host into the guest
    #[arg(short = 'p', long = "publish", value_name = "[ADDR:]HOST:[ADDR:]GUEST", value_parser = forward)]
    pub publish: Vec<Value>,

    /// Lead a TCP port that the guest sees, on 10.0.2.101 or ADDR, to one of the host
    #[arg(short = 'g', long = "guest-port", value_name = "[ADDR:]GUEST:[ADDR:]HOST", value_parser = guest_port)]
    pub guest_port: Vec<Value>,

    /// Seconds until a start is given up [default: 60; software emulation 600]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    pub boot_timeout: Option<f64>,

    /// What executes the guest: auto, kvm, hvf, whpx or tcg [default: auto]
    #[arg(long)]
    pub accel: Option<String>,

    /// How the agent is reached: auto, socket or tcp [default: auto]
    #[arg(long)]
    pub transport: Option<String>,

    /// Give the machine a screen, and serve it by VNC on a loopback port, with a password
    #[arg(long)]
    pub enable_display: bool,

    /// What a start waits for: the agent's first answer, or the end of the guest's boot
    /// [default: agent]
    #[arg(long, value_name = "EVENT")]
    pub wait_for: Option<String>,

    /// Copy a machine of the same kind that has booted before, where that is possible: auto (the second
    /// start makes what is copied), make (the first one does), fork (later ones of this process are
    /// forks) or off [default: auto]
    #[arg(long)]
    pub warm: Option<String>,

    /// Change what the guest can make the host hold: descriptors, memory, disk, checkpoints or picture
    #[arg(long, value_name = "NAME=VALUE", value_parser = limit)]
    pub limit: Vec<(String, Value)>,

    /// A word to append to QEMU's command line
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub extra_args: Vec<String>,
}

/// What the guest may reach.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Network {
    /// No network at all
    None,
    /// Shares and published ports alone
    MountsOnly,
    /// The internet
    Full,
}

impl MachineArgs {
    /// The options as the object that `SandboxConfig::from_value` reads; what was not given is
    /// left out.
    pub fn to_options(&self, image: &str) -> Value {
        let mut options = Map::new();
        options.insert("image".into(), json!(image));
        let mut put = |name: &str, value: Value| {
            if !value.is_null() {
                options.insert(name.into(), value);
            }
        };
        put("arch", json!(self.arch));
        put("memory", json!(self.memory));
        put("cpus", json!(self.cpus));
        put("disk_size", json!(self.disk_size));
        put("network_mode", json!(self.network.map(Network::option)));
        let forwards: Vec<&Value> = self.publish.iter().chain(&self.guest_port).collect();
        put("port_forwards", json!(forwards));
        put("mounts", json!(self.volume));
        if !self.allow.is_empty() {
            put("allow", json!(self.allow));
        }
        put("boot_timeout", json!(self.boot_timeout));
        put("accel", json!(self.accel));
        put("transport", json!(self.transport));
        if self.enable_display {
            put("enable_display", json!(true));
        }
        put("wait_for", json!(self.wait_for));
        put("warm", json!(self.warm));
        if !self.limit.is_empty() {
            put("limits", Value::Object(self.limit.iter().cloned().collect()));
        }
        put("extra_qemu_args", json!(self.extra_args));
        Value::Object(options)
    }
}

impl Network {
    fn option(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::MountsOnly => "mounts_only",
            Self::Full => "full",
        }
    }
}

/// Reads `HOST:GUEST[:ro][:TYPE]` into the JSON form of a mount. A colon of a Windows drive belongs to
/// the host's path, and so does every colon before the guest's, which begins with `/`.
fn volume(text: &str) -> Result<Value, String> {
    let mut rest = text;
    let (mut readonly, mut kind) = (false, "auto");
    loop {
        rest = match rest.rsplit_once(':') {
            Some((before, "ro")) => {
                readonly = true;
                before
            }
            Some((before, "rw")) => before,
            Some((before, word @ ("fuse" | "cifs" | "9p"))) => {
                kind = word;
                before
            }
            _ => break,
        };
    }
    match rest.rsplit_once(":/") {
        Some((host, guest)) if !host.is_empty() && !guest.contains(':') => {
            let guest = format!("/{guest}");
            Ok(json!({"host": host, "guest": guest, "readonly": readonly, "type": kind}))
        }
        _ => {
            Err("allowed is HOST:GUEST[:ro][:fuse|:cifs|:9p], for example ./code:/mnt/code:ro"
                .into())
        }
    }
}

/// Reads `NAME=VALUE` into a field of the option `limits`.
fn limit(text: &str) -> Result<(String, Value), String> {
    let (name, value) =
        text.split_once('=').ok_or("allowed is NAME=VALUE, for example descriptors=512")?;
    let value = match (name, value.parse::<u64>()) {
        ("descriptors" | "checkpoints", Ok(number)) => json!(number),
        _ => json!(value),
    };
    Ok((name.to_owned(), value))
}

/// Reads `[ADDR:]GUEST:[ADDR:]HOST` into the JSON form of a forward that leads out of the guest.
fn guest_port(text: &str) -> Result<Value, String> {
    let wrong = || "allowed is [ADDR:]GUEST:[ADDR:]HOST, for example 5432:5432".to_owned();
    let Ok(Value::Object(ends)) = forward(text) else { return Err(wrong()) };
    let is_no_port = |end: &Value| end == &json!(0) || end["port"] == json!(0);
    match (&ends["host"], &ends["guest"]) {
        (guest, _) if is_no_port(guest) => Err(wrong()),
        // What comes first is where the connection begins.
        (guest, host) => Ok(json!({"guest": guest, "host": host, "direction": "guest_to_host"})),
    }
}

/// Reads `[ADDR:]HOST:[ADDR:]GUEST` into the JSON form of a forward.
fn forward(text: &str) -> Result<Value, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let is_port = |part: &str| part.parse::<u16>().is_ok();
    let side = |address: Option<&str>, port: &str| match (address, port.parse::<u16>()) {
        (None, Ok(port)) => json!(port),
        (Some(address), Ok(port)) => json!({"address": address, "port": port}),
        (_, Err(_)) => Value::Null,
    };
    let (host, guest) = match *parts.as_slice() {
        [host, guest] => ((None, host), (None, guest)),
        [address, host, guest] if is_port(host) => ((Some(address), host), (None, guest)),
        [host, address, guest] => ((None, host), (Some(address), guest)),
        [address, host, inner, guest] => ((Some(address), host), (Some(inner), guest)),
        _ => return Err("allowed is [ADDR:]HOST:[ADDR:]GUEST, for example 8080:80".into()),
    };
    if !is_port(host.1) || !is_port(guest.1) || guest.1.parse() == Ok(0) {
        let allowed = "ports are numbers from 1 to 65535, for example 8080:80; 0:80 takes any free \
            port of the host";
        return Err(allowed.into());
    }
    Ok(json!({"host": side(host.0, host.1), "guest": side(guest.0, guest.1)}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_names_and_values() {
        assert_eq!(limit("descriptors=512").unwrap(), ("descriptors".into(), json!(512)));
        assert_eq!(limit("memory=128M").unwrap(), ("memory".into(), json!("128M")));
        assert_eq!(limit("memory=128").unwrap(), ("memory".into(), json!("128")));
        limit("descriptors").unwrap_err();
    }

    #[test]
    fn published_ports_in_all_forms() {
        for (text, expect) in [
            ("8080:80", json!({"host": 8080, "guest": 80})),
            ("0:80", json!({"host": 0, "guest": 80})),
            ("0.0.0.0:8080:80", json!({"host": {"address": "0.0.0.0", "port": 8080}, "guest": 80})),
            (
                "8080:10.0.2.15:80",
                json!({"host": 8080, "guest": {"address": "10.0.2.15", "port": 80}}),
            ),
            (
                "127.0.0.2:8080:10.0.2.15:80",
                json!({"host": {"address": "127.0.0.2", "port": 8080},
                       "guest": {"address": "10.0.2.15", "port": 80}}),
            ),
        ] {
            assert_eq!(forward(text).unwrap(), expect, "{text}");
        }
        for text in ["", "80", "80:0", "80:65536", "a:b", "1:2:3:4:5", "x:y:z"] {
            forward(text).unwrap_err();
        }
    }

    #[test]
    fn ports_that_lead_out_of_the_guest() {
        let out = "guest_to_host";
        for (text, expect) in [
            ("80:8080", json!({"guest": 80, "host": 8080, "direction": out})),
            (
                "10.0.2.102:80:localhost:8080",
                json!({"guest": {"address": "10.0.2.102", "port": 80},
                       "host": {"address": "localhost", "port": 8080}, "direction": out}),
            ),
        ] {
            assert_eq!(guest_port(text).unwrap(), expect, "{text}");
        }
        for text in ["", "80", "0:80", "80:0", "80:65536", "a:b"] {
            guest_port(text).unwrap_err();
        }
    }

    #[test]
    fn volumes_in_all_forms() {
        let mount = |host: &str, guest: &str, readonly: bool, kind: &str| json!({"host": host, "guest": guest, "readonly": readonly, "type": kind});
        for (text, expect) in [
            ("/a:/b", mount("/a", "/b", false, "auto")),
            ("./a:/b:ro", mount("./a", "/b", true, "auto")),
            ("/a:/b:9p:ro", mount("/a", "/b", true, "9p")),
            ("/a:b:/c:rw", mount("/a:b", "/c", false, "auto")),
            ("C:\\a:/b", mount("C:\\a", "/b", false, "auto")),
        ] {
            assert_eq!(volume(text).unwrap(), expect, "{text}");
        }
        for text in ["", "/a", ":/b", "/a:b", "/a:ro", "/a:/b:rx"] {
            volume(text).unwrap_err();
        }
    }
}
