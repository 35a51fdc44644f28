//! The command line: its words, their meaning in configurations, and what `--help` says.
//!
//! Pure data; what the commands do is in the modules named after them.

use clap::{
    Args, CommandFactory as _, Parser, Subcommand, ValueEnum,
    error::{ContextKind, ContextValue, ErrorKind},
};
use serde_json::{Map, Value, json};

const EXIT_CODES: &str = "\
Exit codes: 0 all went well; 1 something failed; 2 the command line was wrong.
`run` gives the command's own exit code, and beside it: 124 the command's --timeout was over; \
125 the sandbox itself failed; 126 and 127 the guest's shell could not run or find the command; \
128+N the command was ended by signal N; 130 Ctrl-C.";

/// Virtual machines for untrusted work.
#[derive(Debug, Parser)]
#[command(name = "quicksand", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// How much to tell on stderr about what happens inside
    #[arg(long, global = true, value_enum, default_value = "warn", value_name = "LEVEL")]
    pub log_level: LogLevel,

    #[command(subcommand)]
    pub task: Task,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Start a sandbox and run a command in it, or an interactive shell
    Run(Box<RunArgs>),
    /// Show the screen of a running machine in a browser
    View(ViewArgs),
    /// Install QEMU and images, from an index or a folder of wheels
    Install(InstallArgs),
    /// Uninstall QEMU and images
    Uninstall(UninstallArgs),
    /// List the installed images
    List(ListArgs),
    /// Remove saves, and with --global caches
    Clean(CleanArgs),
    /// List, check, remove, export and import what sandboxes were saved as
    Save(SaveArgs),
    /// Say which QEMU is used, where it was found and why, and how fast it can be
    Qemu(QemuArgs),
    /// Measure how long a start and commands take on this host
    Benchmark(Box<BenchmarkArgs>),
    /// Print a script that completes this command's words in a shell
    Completion(CompletionArgs),
    /// Make images of your own
    Dev(DevArgs),
}

impl Cli {
    /// Reads the command line; ends the process with 2 when it is wrong.
    pub fn read() -> Self {
        Self::try_parse().unwrap_or_else(|error| with_nearest_task(error).exit())
    }
}

/// Names the nearest task for typing errors that clap's own measure misses, such as `rnu`.
fn with_nearest_task(mut error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::InvalidSubcommand
        || error.get(ContextKind::SuggestedSubcommand).is_some()
    {
        return error;
    }
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidSubcommand) else {
        return error;
    };
    let near: Vec<String> = Cli::command()
        .get_subcommands()
        .map(|task| task.get_name().to_owned())
        .filter(|name| strsim::damerau_levenshtein(given, name) <= 2)
        .collect();
    if !near.is_empty() {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(near));
    }
    error
}

/// The options of `quicksand run`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct RunArgs {
    /// The name of an installed image, or the path of one
    pub image: String,

    /// The command and its arguments, passed on as they are; an interactive shell without one
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,

    /// Seconds until the command and its children are killed [default: no limit]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    pub timeout: Option<f64>,

    /// The folder of the guest to run in
    #[arg(short = 'w', long, value_name = "FOLDER")]
    pub cwd: Option<String>,

    /// The user of the guest to run as [default: root]
    #[arg(short = 'u', long, value_name = "NAME")]
    pub user: Option<String>,

    /// A variable for the command; without a value, this process's own
    #[arg(short = 'e', long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,

    /// The shell that runs the command [default: /bin/sh; for an interactive one /bin/bash]
    #[arg(long, value_name = "PATH")]
    pub shell: Option<String>,

    /// Give the command a terminal, as an interactive shell has
    #[arg(short = 't', long)]
    pub tty: bool,

    /// Save the disk when the run ends: a name for .quicksand/sandboxes, or a path
    #[arg(short = 'o', long, value_name = "NAME_OR_PATH")]
    pub output: Option<String>,

    // Last, because its heading holds for every option after it.
    #[command(flatten)]
    pub machine: MachineArgs,
}

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

    /// Share a folder of the host; ro: to read only; 9p: without a network
    #[arg(short = 'v', long = "volume", value_name = "HOST:GUEST[:ro][:9p]", value_parser = volume)]
    pub volume: Vec<Value>,

    /// Lead a TCP port of the host into the guest
    #[arg(short = 'p', long = "publish", value_name = "[ADDR:]HOST:[ADDR:]GUEST", value_parser = forward)]
    pub publish: Vec<Value>,

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

    /// A word to append to QEMU's command line
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub extra_args: Vec<String>,
}

/// What `install` and `uninstall` take.
const NAMES: &str = "\
Names: qemu, qemu-cross, minimal, debian, ubuntu, alpine, debian-desktop, ubuntu-desktop, alpine-desktop, \
debian-agent, and all; a version follows as in `debian==0.1.0`. Wheels are chosen by the hardware and \
by Python's tag, compared with the index's sha256 and verified; all are put in place, or none.";

/// The options of `quicksand install`.
#[derive(Debug, Args)]
#[command(after_help = NAMES)]
pub struct InstallArgs {
    /// What to install: names, or paths of wheels
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,

    /// The index to ask (PEP 503 or 691) [default: pip's configuration, such as PIP_INDEX_URL]
    #[arg(short = 'i', long, value_name = "URL")]
    pub index_url: Option<String>,

    /// A folder of wheels, or a page that links to wheels, to look at first
    #[arg(short = 'f', long, value_name = "FOLDER_OR_URL")]
    pub find_links: Vec<String>,

    /// Ask no index, whatever pip's configuration says
    #[arg(long, conflicts_with = "index_url")]
    pub no_index: bool,

    /// Take the newest version even if another one is installed
    #[arg(short = 'U', long)]
    pub upgrade: bool,

    /// The interpreter or environment to install into [default: the one of this command, else the
    /// active one, else the user's data folder]
    #[arg(long, value_name = "PATH")]
    pub python: Option<std::path::PathBuf>,
}

/// The options of `quicksand uninstall`.
#[derive(Debug, Args)]
#[command(after_help = NAMES)]
pub struct UninstallArgs {
    /// What to uninstall
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,

    /// The interpreter or environment to uninstall from [default: as for install]
    #[arg(long, value_name = "PATH")]
    pub python: Option<std::path::PathBuf>,
}

/// The options of `quicksand clean`.
#[derive(Debug, Args)]
pub struct CleanArgs {
    /// The saves of the home folder instead of the working folder's, and all caches
    #[arg(long)]
    pub global: bool,

    /// Do not ask
    #[arg(short = 'y', long)]
    pub yes: bool,
}

/// The options of `quicksand list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Also packages without an image, and the names that can be installed
    #[arg(long)]
    pub all: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The options of `quicksand dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    #[command(subcommand)]
    pub action: DevAction,
}

/// What to do about images of one's own.
#[derive(Debug, Subcommand)]
pub enum DevAction {
    /// Make a folder with a recipe to edit, for an image on an installed one
    NewImage(NewImageArgs),
    /// Bake the recipe in a folder, boot the image to prove it, and pack its wheel
    Bake(BakeArgs),
}

/// The options of `quicksand dev new-image`.
#[derive(Debug, Args)]
pub struct NewImageArgs {
    /// The image's name: lower-case words of letters and digits, joined by dashes
    pub name: String,

    /// The installed image that it lies on
    #[arg(long, value_name = "IMAGE")]
    pub base: String,

    /// The folder to make NAME in [default: the working folder]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<std::path::PathBuf>,
}

/// The options of `quicksand dev bake`.
#[derive(Debug, Args)]
pub struct BakeArgs {
    /// The folder with recipe.toml
    #[arg(default_value = ".")]
    pub dir: std::path::PathBuf,

    /// Where the image's files and its wheel are written [default: DIR/dist]
    #[arg(long, value_name = "DIR")]
    pub out: Option<std::path::PathBuf>,

    /// The guest's architecture: amd64 or arm64 [default: the host's]
    #[arg(long)]
    pub arch: Option<String>,

    /// Renew recipe.lock: take the base, the root file system and the packages as they are now
    #[arg(long)]
    pub update: bool,

    /// Do not boot the image to prove it
    #[arg(long)]
    pub no_boot: bool,
}

/// The options of `quicksand save`.
#[derive(Debug, Args)]
pub struct SaveArgs {
    #[command(subcommand)]
    pub action: SaveAction,
}

/// What to do with saves. A save is given by its name, or by the path of its folder.
#[derive(Debug, Subcommand)]
pub enum SaveAction {
    /// List the saves, damaged ones too
    List {
        #[command(flatten)]
        place: SavePlace,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what a save holds
    Show {
        /// Its name or path
        name: String,
        #[command(flatten)]
        place: SavePlace,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check saves completely; fails when one is damaged
    Validate {
        /// Their names or paths
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        place: SavePlace,
    },
    /// Remove saves
    Remove {
        /// Their names or paths
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        place: SavePlace,
    },
    /// Write a save to one file, for another machine
    Export {
        /// Its name or path
        name: String,
        /// The file [default: NAME.tar]
        file: Option<std::path::PathBuf>,
        #[command(flatten)]
        place: SavePlace,
    },
    /// Make a save from an exported file, whoever it came from
    Import {
        /// The file
        file: std::path::PathBuf,
        /// Its name or path [default: the file's name]
        name: Option<String>,
        #[command(flatten)]
        place: SavePlace,
        /// Replace a save of that name
        #[arg(long)]
        replace: bool,
    },
}

/// Where saves are.
#[derive(Debug, Args)]
pub struct SavePlace {
    /// The folder of saves [default: .quicksand/sandboxes]
    #[arg(long, value_name = "FOLDER")]
    pub workspace: Option<std::path::PathBuf>,
}

/// The options of `quicksand view`.
#[derive(Debug, Args)]
pub struct ViewArgs {
    /// Where the machine's VNC server is, as `quicksand run --enable-display` says: a port of this
    /// computer, 127.0.0.1:PORT or vnc://127.0.0.1:PORT. Its password is asked for, read from standard
    /// input, or taken from the variable QUICKSAND_VNC_PASSWORD
    pub address: String,

    /// The port to serve the page on [default: any free one]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub port: u16,
}

/// The options of `quicksand qemu`.
#[derive(Debug, Args)]
pub struct QemuArgs {
    /// Whose emulator: amd64 or arm64 [default: the host's]
    #[arg(long)]
    pub arch: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The options of `quicksand benchmark`.
#[derive(Debug, Args)]
pub struct BenchmarkArgs {
    /// The name of an installed image, or the path of one
    pub image: String,

    /// How many machines to start, one after another
    #[arg(short = 'n', long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    // Last, because its heading holds for every option after it.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// The options of `quicksand completion`.
#[derive(Debug, Args)]
#[command(after_help = COMPLETION)]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Where the script belongs.
const COMPLETION: &str = "\
bash: eval \"$(quicksand completion bash)\" in ~/.bashrc; zsh: the same in ~/.zshrc, after compinit; \
fish: quicksand completion fish > ~/.config/fish/completions/quicksand.fish; \
powershell: quicksand completion powershell | Out-String | Invoke-Expression in $PROFILE.";

impl CompletionArgs {
    /// The script.
    pub fn script(&self) -> Vec<u8> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "quicksand", &mut script);
        script
    }
}

/// Levels of the log.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
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
        put("port_forwards", json!(self.publish));
        put("mounts", json!(self.volume));
        if !self.allow.is_empty() {
            put("allow", json!(self.allow));
        }
        put("boot_timeout", json!(self.boot_timeout));
        put("accel", json!(self.accel));
        put("transport", json!(self.transport));
        if self.enable_display {
            put("enable_display", json!(true));
            // Whoever asks for a screen at the command line wants to look at it.
            put("vnc", json!("port"));
        }
        put("wait_for", json!(self.wait_for));
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

impl LogLevel {
    /// The name that tracing's filters know.
    pub fn directive(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|seconds: &f64| seconds.is_finite() && *seconds > 0.0)
        .ok_or_else(|| "allowed is a number of seconds above 0".into())
}

/// Reads `HOST:GUEST[:ro][:9p]` into the JSON form of a mount. A colon of a Windows drive belongs to
/// the host's path, and so does every colon before the guest's, which begins with `/`.
fn volume(text: &str) -> Result<Value, String> {
    let mut rest = text;
    let (mut readonly, mut kind) = (false, "cifs");
    loop {
        rest = match rest.rsplit_once(':') {
            Some((before, "ro")) => {
                readonly = true;
                before
            }
            Some((before, "rw")) => before,
            Some((before, "9p")) => {
                kind = "9p";
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
        _ => Err("allowed is HOST:GUEST[:ro][:9p], for example ./code:/mnt/code:ro".into()),
    }
}

/// Reads `[ADDR:]HOST:[ADDR:]GUEST` into the JSON form of a forward.
fn forward(text: &str) -> Result<Value, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let is_port = |part: &str| part.parse::<u16>().is_ok_and(|port| port > 0);
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
    if !is_port(host.1) || !is_port(guest.1) {
        return Err("ports are numbers from 1 to 65535, for example 8080:80".into());
    }
    Ok(json!({"host": side(host.0, host.1), "guest": side(guest.0, guest.1)}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn published_ports_in_all_forms() {
        for (text, expect) in [
            ("8080:80", json!({"host": 8080, "guest": 80})),
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
        for text in ["", "80", "0:80", "80:0", "80:65536", "a:b", "1:2:3:4:5", "x:y:z"] {
            forward(text).unwrap_err();
        }
    }

    #[test]
    fn volumes_in_all_forms() {
        let mount = |host: &str, guest: &str, readonly: bool, kind: &str| json!({"host": host, "guest": guest, "readonly": readonly, "type": kind});
        for (text, expect) in [
            ("/a:/b", mount("/a", "/b", false, "cifs")),
            ("./a:/b:ro", mount("./a", "/b", true, "cifs")),
            ("/a:/b:9p:ro", mount("/a", "/b", true, "9p")),
            ("/a:b:/c:rw", mount("/a:b", "/c", false, "cifs")),
            ("C:\\a:/b", mount("C:\\a", "/b", false, "cifs")),
        ] {
            assert_eq!(volume(text).unwrap(), expect, "{text}");
        }
        for text in ["", "/a", ":/b", "/a:b", "/a:ro", "/a:/b:rx"] {
            volume(text).unwrap_err();
        }
    }

    #[test]
    fn options_that_were_not_given_are_left_out() {
        let cli = Cli::try_parse_from(["quicksand", "run", "minimal", "--memory", "1G"]).unwrap();
        let Task::Run(args) = cli.task else { panic!("run was parsed as something else") };
        assert_eq!(
            args.machine.to_options("minimal"),
            json!({"image": "minimal", "memory": "1G", "port_forwards": [], "mounts": [],
                "extra_qemu_args": []})
        );
    }

    #[test]
    fn everything_after_the_dashes_belongs_to_the_command() {
        let line = ["quicksand", "run", "minimal", "--", "ls", "--json", "-p", "x y"];
        let Task::Run(args) = Cli::try_parse_from(line).unwrap().task else { panic!() };
        assert_eq!(args.command, ["ls", "--json", "-p", "x y"]);
    }

    #[test]
    fn completions_know_every_task_in_every_shell() {
        for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
            let line = ["quicksand", "completion", shell];
            let Task::Completion(args) = Cli::try_parse_from(line).unwrap().task else { panic!() };
            let script = String::from_utf8(args.script()).unwrap();
            for task in Cli::command().get_subcommands() {
                assert!(script.contains(task.get_name()), "{shell}: {}", task.get_name());
            }
            assert!(script.contains("disk-size"), "{shell}");
        }
    }

    #[test]
    fn the_command_lines_of_the_documentation_can_be_read() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut pages = vec![root.join("README.md")];
        for folder in ["guide", "hood", "reference"] {
            let folder = fs_err::read_dir(root.join("docs/src").join(folder)).unwrap();
            pages.extend(folder.map(|page| page.unwrap().path()));
        }
        let mut n_lines = 0;
        for page in pages {
            let text = fs_err::read_to_string(&page).unwrap();
            // Every second piece is what stands between two fences.
            for block in text.split("\n```").skip(1).step_by(2) {
                let Some(block) = block.strip_prefix("sh\n") else { continue };
                for line in block.split('\n').flat_map(|line| line.split(" && ")) {
                    let line = line.split(" #").next().unwrap_or_default();
                    if !line.starts_with("quicksand ") {
                        continue;
                    }
                    let words = shlex::split(line).unwrap();
                    if let Err(error) = Cli::try_parse_from(words) {
                        panic!("{}: {line}: {error}", page.display());
                    }
                    n_lines += 1;
                }
            }
        }
        assert!(n_lines > 20, "{n_lines}");
    }

    #[test]
    fn a_misspelt_option_names_the_nearest() {
        let error = Cli::try_parse_from(["quicksand", "run", "minimal", "--memroy", "1G"]);
        assert!(error.unwrap_err().to_string().contains("--memory"));
        for (given, expect) in [("rnu", "'run'"), ("lst", "'list'"), ("qeum", "'qemu'")] {
            let error = Cli::try_parse_from(["quicksand", given]).unwrap_err();
            let text = with_nearest_task(error).to_string();
            assert!(text.contains(expect), "{text}");
        }
    }

    #[test]
    fn help_is_as_recorded() {
        let mut cli = Cli::command().term_width(100);
        cli.build();
        let mut help = String::new();
        for name in [
            "run",
            "view",
            "install",
            "uninstall",
            "list",
            "save",
            "clean",
            "qemu",
            "benchmark",
            "completion",
            "dev",
        ] {
            if let Some(command) = cli.find_subcommand_mut(name) {
                help.push_str(&format!("{}\n----\n", command.render_help()));
            }
        }
        insta::assert_snapshot!(format!("{}\n----\n{help}", cli.render_help()));
    }
}
