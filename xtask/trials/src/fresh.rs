//! `cargo xtask test fresh`: the README's commands as a newcomer meets them, in roots of distributions
//! that hold a compiler, git, python3 and sudo and nothing else, from nothing, again, and offline.
//!
//! `root` makes the roots, `inside` runs commands in them, `table` says what came out. Each root is a
//! plain folder of the build cache; what is mounted in it exists only for the processes that run there.

mod inside;
mod root;
mod table;

use anyhow::Result;
use fs_err as fs;
use std::{path::PathBuf, time::Instant};
use table::Row;
use xtask_base::{
    context::Context,
    ui::{self, hinted},
};
use xtask_host::{
    preflight::{Needs, Room},
    setup,
};

/// What to try, and as whom.
#[derive(clap::Args)]
pub struct Args {
    /// The distributions' releases; all without an argument.
    #[arg(value_enum)]
    suites: Vec<Suite>,

    /// Only as this user; a user with sudo and root unless given.
    #[arg(long, value_enum)]
    user: Vec<User>,

    /// Only this command; both unless given.
    #[arg(long, value_enum)]
    command: Vec<Command>,

    /// Fetch packages and crates again, too. Otherwise those that this host or an earlier run fetched
    /// are laid into the root; what is built is built from nothing in any case.
    #[arg(long)]
    fetch_all: bool,

    /// Leave the roots for a look, below `fresh/` of the build cache.
    #[arg(long)]
    keep: bool,

    /// Also write the table to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A release of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Suite {
    /// Debian 12.
    Bookworm,
    /// Debian 13.
    Trixie,
    /// Ubuntu 24.04.
    Noble,
    /// Ubuntu 26.04.
    Resolute,
}

/// Who runs the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum User {
    /// A user who may call sudo without a password.
    Sudo,
    /// Root itself.
    Root,
}

/// A command of the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Command {
    /// `cargo xtask demo`
    Demo,
    /// `cargo xtask test`
    Test,
}

impl Suite {
    const ALL: [Self; 4] = [Self::Bookworm, Self::Trixie, Self::Noble, Self::Resolute];

    fn title(self) -> &'static str {
        match self {
            Self::Bookworm => "Debian 12",
            Self::Trixie => "Debian 13",
            Self::Noble => "Ubuntu 24.04",
            Self::Resolute => "Ubuntu 26.04",
        }
    }

    /// The distribution's own word for it.
    fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Noble => "noble",
            Self::Resolute => "resolute",
        }
    }
}

impl User {
    fn title(self) -> &'static str {
        match self {
            Self::Sudo => "user with sudo",
            Self::Root => "root",
        }
    }
}

impl Command {
    fn name(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::Test => "test",
        }
    }
}

/// What makes the roots. Ubuntu's keys are not in every Debian: without them its releases are not tried,
/// and the table says so.
const PACKAGES: &[&str] = &["debian-archive-keyring", "iproute2", "mmdebstrap", "util-linux"];

/// The most that one root takes while both commands have run in it.
const ROOM: Room = Room { cache: 16_000, target: 0, temporary: 0 };

/// What it needs from this host.
pub fn needs(args: &Args) -> Needs {
    let minutes = if wanted(&args.command, &[Command::Demo, Command::Test]).contains(&Command::Test)
    {
        60.0
    } else {
        15.0
    };
    let n_roots = suites(args).len() * users(args).len();
    let cpu_seconds = 60.0 * minutes * 1.7 * n_roots as f64;
    Needs::default().packages(PACKAGES).build(format!("{n_roots} fresh roots"), cpu_seconds, ROOM)
}

fn wanted<T: Copy>(asked: &[T], all: &[T]) -> Vec<T> {
    if asked.is_empty() { all.to_vec() } else { asked.to_vec() }
}

fn suites(args: &Args) -> Vec<Suite> {
    wanted(&args.suites, &Suite::ALL)
}

fn users(args: &Args) -> Vec<User> {
    wanted(&args.user, &[User::Sudo, User::Root])
}

/// Tries each suite as each user.
///
/// # Errors
/// A command failed.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    setup::ensure_packages(context, PACKAGES)?;
    let mut rows: Vec<Row> = Vec::new();
    for suite in suites(args) {
        let base = match root::base(context, suite) {
            Ok(base) => base,
            Err(error) => {
                context.ui.line(&format!("    {}: not tried: {error:#}", suite.title()));
                rows.push(Row::not_tried(suite, &error));
                continue;
            }
        };
        for user in users(args) {
            let place = root::unpack(context, &base, suite, user, args.fetch_all)?;
            for command in wanted(&args.command, &[Command::Demo, Command::Test]) {
                rows.push(try_command(context, &place, suite, user, command)?);
            }
            if args.keep {
                context.ui.line(&format!("    kept: {}", place.root.display()));
            } else {
                place.remove()?;
            }
        }
    }
    print!("{}", table::markdown(&rows));
    if let Some(file) = &args.json {
        fs::write(file, format!("{:#}\n", table::json(&rows)))?;
    }
    let failed: Vec<String> = rows.iter().filter(|row| row.has_failed()).map(Row::title).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(hinted(
        format!("These failed in a fresh root: {}", failed.join("; ")),
        format!("logs: {}; --keep leaves the roots for a look", context.cache.logs().display()),
    ))
}

/// A command from nothing, again, and offline. What failed once is not tried again.
fn try_command(
    context: &Context,
    place: &root::Place,
    suite: Suite,
    user: User,
    command: Command,
) -> Result<Row> {
    let mut row = Row::new(suite, user, command);
    for &round in inside::rounds(command) {
        let title = format!("fresh {} {:?} {} {}", suite.name(), user, command.name(), round.name);
        let start = Instant::now();
        let line = inside::command(place, user, command, round)?;
        let outcome = context.ui.step(&title, |step| step.run(line));
        row.add(round.name, start.elapsed(), outcome.as_ref().err());
        if let Err(error) = outcome {
            ui::report(&error);
            break;
        }
    }
    Ok(row)
}
