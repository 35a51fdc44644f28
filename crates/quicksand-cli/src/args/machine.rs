//! The options that describe a machine, and their meaning in a sandbox's configuration.

use super::seconds;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use sandbox::{Flag, OPTIONS, OptionInfo};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// The options that describe a machine; they are those of `Sandbox(...)` in Python. Those that are one
/// value come from the table of options.
#[derive(Debug)]
pub struct MachineArgs {
    options: Map<String, Value>,
    own: OwnArgs,
}

/// The options that have words of their own here.
#[derive(Debug, Args)]
struct OwnArgs {
    /// What the guest may reach [default: mounts-only]
    #[arg(long, value_enum, value_name = "MODE")]
    network: Option<Network>,

    /// With --network full, the only thing to reach: a domain, address or network[:PORT]
    #[arg(long, value_name = "WHAT")]
    allow: Vec<String>,

    /// Share a folder or file of the host; ro: to read only; TYPE: fuse, cifs or 9p
    #[arg(short = 'v', long = "volume", visible_alias = "mount", value_name = "HOST:GUEST[:ro][:TYPE]", value_parser = volume)]
    volume: Vec<Value>,

    /// Lead a TCP port of the host into the guest
    #[arg(short = 'p', long = "publish", value_name = "[ADDR:]HOST:[ADDR:]GUEST", value_parser = forward)]
    publish: Vec<Value>,

    /// Lead a TCP port that the guest sees, on 10.0.2.101 or ADDR, to one of the host
    #[arg(short = 'g', long = "guest-port", value_name = "[ADDR:]GUEST:[ADDR:]HOST", value_parser = guest_port)]
    guest_port: Vec<Value>,

    /// Change what the guest can make the host hold: descriptors, memory, disk, checkpoints or picture
    #[arg(long, value_name = "NAME=VALUE", value_parser = limit)]
    limit: Vec<(String, Value)>,

    /// A word to append to QEMU's command line
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    extra_args: Vec<String>,
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

impl Args for MachineArgs {
    fn augment_args(command: Command) -> Command {
        let flags = OPTIONS.iter().zip(NAMES.iter()).filter_map(flag);
        OwnArgs::augment_args(command.next_help_heading("Machine").args(flags))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for MachineArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = OPTIONS.iter().filter_map(|option| {
            let value = match option.flag {
                Flag::Text => json!(matches.get_one::<String>(option.name)?),
                Flag::Number => json!(matches.get_one::<u64>(option.name)?),
                Flag::Seconds => json!(matches.get_one::<f64>(option.name)?),
                Flag::Switch => matches.get_flag(option.name).then_some(Value::Bool(true))?,
                Flag::Own | Flag::None => return None,
            };
            Some((option.name.to_owned(), value))
        });
        let options = given.collect();
        Ok(Self { options, own: OwnArgs::from_arg_matches(matches)? })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The names of the options' flags and of their values, in the order of the table.
static NAMES: LazyLock<Vec<[String; 2]>> = LazyLock::new(|| {
    let names = OPTIONS.iter().map(|option| {
        let value = match option.value_name {
            "" => option.name.to_ascii_uppercase(),
            name => name.to_owned(),
        };
        [option.name.replace('_', "-"), value]
    });
    names.collect()
});

/// The flag of an option, if it is one value.
fn flag((option, [name, value]): (&'static OptionInfo, &'static [String; 2])) -> Option<Arg> {
    let flag = Arg::new(option.name).long(name.as_str()).help(option.filled(option.help));
    let flag = match option.flag {
        Flag::Text => flag,
        Flag::Number => flag.value_parser(clap::value_parser!(u64)),
        Flag::Seconds => flag.value_parser(seconds).allow_negative_numbers(true),
        Flag::Switch => return Some(flag.action(ArgAction::SetTrue)),
        Flag::Own | Flag::None => return None,
    };
    Some(flag.value_name(value.as_str()).short(option.short))
}

impl MachineArgs {
    /// The options as the object that `SandboxConfig::from_value` reads; what was not given is
    /// left out.
    pub fn to_options(&self, image: &str) -> Value {
        let Self { options, own } = self;
        let mut options = options.clone();
        let mut put = |name: &str, value: Value| options.insert(name.into(), value);
        put("image", json!(image));
        if let Some(network) = own.network {
            put("network_mode", json!(network.option()));
        }
        let forwards: Vec<&Value> = own.publish.iter().chain(&own.guest_port).collect();
        put("port_forwards", json!(forwards));
        put("mounts", json!(own.volume));
        if !own.allow.is_empty() {
            put("allow", json!(own.allow));
        }
        if !own.limit.is_empty() {
            put("limits", Value::Object(own.limit.iter().cloned().collect()));
        }
        put("extra_qemu_args", json!(own.extra_args));
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
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        machine: MachineArgs,
    }

    #[test]
    fn every_option_of_the_table_can_be_given() {
        let line = [
            "run",
            "--network",
            "full",
            "--allow",
            "a.test",
            "-v",
            "/a:/b",
            "-p",
            "1:2",
            "--limit",
            "disk=1G",
            "--extra-args",
            "-s",
        ];
        let mut line: Vec<String> = line.map(str::to_owned).into();
        for option in OPTIONS {
            let flag = format!("--{}", option.name.replace('_', "-"));
            match option.flag {
                Flag::Switch => line.push(flag),
                Flag::Text => line.extend([flag, "word".into()]),
                Flag::Number | Flag::Seconds => line.extend([flag, "2".into()]),
                Flag::Own | Flag::None => {}
            }
        }
        let options = Line::try_parse_from(line).unwrap().machine.to_options("x");
        for option in OPTIONS.iter().filter(|option| option.flag != Flag::None) {
            assert!(options.get(option.name).is_some(), "{}", option.name);
        }
    }

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
