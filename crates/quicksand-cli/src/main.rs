//! The `quicksand` command.
//!
//! Owns the command line, the standard streams and the exit code; what a sandbox is, and where QEMU
//! and images are, is the business of the crates below.

mod args;
mod benchmark;
mod clean;
mod dev;
mod install;
mod list;
mod places;
mod qemu;
mod report;
mod run;
mod save;
mod signals;
mod streams;
mod template;
mod terminal;
mod threads;
mod view;

use args::{Cli, Task};

fn main() {
    let cli = Cli::read();
    start_log(cli.log_level);
    let outcome = match &cli.task {
        Task::Run(args) => run::run(args),
        Task::List(args) => list::run(args).map(|()| 0),
        Task::Install(args) => install::run(args).map(|()| 0),
        Task::Uninstall(args) => install::uninstall(args).map(|()| 0),
        Task::Clean(args) => clean::run(args).map(|()| 0),
        Task::Save(args) => save::run(&args.action).map(|()| 0),
        Task::View(args) => view::run(args),
        Task::Qemu(args) => qemu::run(args).map(|()| 0),
        Task::Template(args) => template::run(&args.action).map(|()| 0),
        Task::Benchmark(args) => benchmark::run(args).map(|()| 0),
        Task::Completion(args) => print(&args.script()).map(|()| 0),
        Task::Dev(args) => dev::run(&args.action).map(|()| 0),
    };
    let code = outcome.unwrap_or_else(|failure| failure.print());
    // The thread that reads stdin may wait for a key for ever; ending the process ends it too.
    std::process::exit(code);
}

/// Prints a whole text; a reader that has gone away is no failure.
fn print(text: &[u8]) -> Result<(), report::Failure> {
    use std::io::Write as _;
    match std::io::stdout().write_all(text) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            let message = format!("Failed to write output: {error}");
            Err(report::Failure::new(report::FAILURE, message, None))
        }
        _ => Ok(()),
    }
}

fn start_log(level: args::LogLevel) {
    let filter = tracing_subscriber::EnvFilter::new(level.directive());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}
