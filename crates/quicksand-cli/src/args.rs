//! The command line: its words, their meaning in configurations, and what `--help` says.
//!
//! Pure data; what the commands do is in the modules named after them.

mod dev;
mod machine;
mod packages;
mod save;
mod template;

pub use dev::{AuditArgs, BakeArgs, DevAction, DevArgs, NewImageArgs, ScaffoldKind};
pub use machine::MachineArgs;
pub use packages::{CleanArgs, InstallArgs, ListArgs, UninstallArgs};
pub use save::{SaveAction, SaveArgs, SavePlace};
pub use template::{TemplateAction, TemplateArgs};

use crate::report::{Failure, USAGE};
use clap::{
    Args, CommandFactory as _, Parser, Subcommand, ValueEnum,
    error::{ContextKind, ContextValue, ErrorKind},
};
use host_platform::Arch;
use std::ffi::OsString;

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
    /// Make, list and remove the templates that quick starts copy
    Template(TemplateArgs),
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
    let command = Cli::command();
    let near = spelling::all_near(given, command.get_subcommands().map(|task| task.get_name()));
    if !near.is_empty() {
        let near = near.into_iter().map(str::to_owned).collect();
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
    pub command: Vec<OsString>,

    /// Seconds until the command and its children are killed [default: no limit]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    pub timeout: Option<f64>,

    /// The folder of the guest to run in
    #[arg(short = 'w', long, value_name = "FOLDER")]
    pub cwd: Option<OsString>,

    /// The user of the guest to run as [default: root]
    #[arg(short = 'u', long, value_name = "NAME")]
    pub user: Option<String>,

    /// A variable for the command; without a value, this process's own, if it is set
    #[arg(short = 'e', long, value_name = "NAME[=VALUE]")]
    pub env: Vec<OsString>,

    /// The shell that runs the command [default: /bin/sh; for an interactive one /bin/bash]
    #[arg(long, value_name = "PATH")]
    pub shell: Option<String>,

    /// Give the command a terminal, as an interactive shell has
    #[arg(short = 't', long)]
    pub tty: bool,

    /// Write the password of the screen to this file, for this user alone, while the machine runs
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<std::path::PathBuf>,

    /// Save the disk when the run ends: a name for .quicksand/sandboxes, or a path
    #[arg(short = 'o', long, value_name = "NAME_OR_PATH")]
    pub output: Option<String>,

    // Last, because its heading holds for every option after it.
    #[command(flatten)]
    pub machine: MachineArgs,
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
    pub fn script(&self) -> Vec<u8> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "quicksand", &mut script);
        script
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
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

/// Reads a number of seconds.
fn seconds(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|seconds: &f64| seconds.is_finite() && *seconds > 0.0)
        .ok_or_else(|| "allowed is a number of seconds above 0".into())
}

/// The architecture of this name; this host's where none was given.
pub fn arch_of(name: Option<&str>) -> Result<Arch, Failure> {
    let Some(name) = name else { return Ok(host_platform::native_arch()) };
    name.parse().map_err(|_| {
        let message = format!("Invalid value `{name}` for `--arch`: allowed is amd64 or arm64");
        Failure::new(USAGE, message, None)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
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
        for command in cli.find_subcommand_mut("dev").unwrap().get_subcommands_mut() {
            help.push_str(&format!("{}\n----\n", command.render_help()));
        }
        insta::assert_snapshot!(format!("{}\n----\n{help}", cli.render_help()));
    }
}
