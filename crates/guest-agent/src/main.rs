//! The agent's entry point: `/init` when the kernel starts it, a plain server for tests, and a probe
//! that measures what a process costs in this guest. Knows the arguments and nothing else.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use guest_agent::listen::Listener;
use guest_agent::server::{self, Setup};
use guest_agent::token::Tokens;
use guest_agent::{Error, Result, init};

const USAGE: &str = "\
usage: quicksand-agent serve --token TOKEN [--tcp PORT] [--unix PATH] [--cgroup PATH]
       quicksand-agent measure-spawn [COUNT]
As PID 1 it boots the machine instead.";

fn main() -> ExitCode {
    if init::is_init() {
        init::main();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        Some("serve") => serve(&arguments[1..]),
        Some("measure-spawn") => measure_spawn(&arguments[1..]),
        Some("--help" | "-h") => {
            println!("{USAGE}");
            Ok(())
        }
        other => Err(Error::Argument { argument: other.unwrap_or_default().to_owned() }),
    };
    let Err(error) = result else { return ExitCode::SUCCESS };
    let response = error.response();
    eprintln!("error: {}", response.error);
    if let Some(hint) = response.hint {
        eprintln!("hint: {hint}");
    }
    ExitCode::FAILURE
}

fn serve(arguments: &[String]) -> Result<()> {
    let mut tokens = Vec::new();
    let mut listeners = Vec::new();
    let mut control_groups = None;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let unknown = || Error::Argument { argument: argument.clone() };
        let value = arguments.next().ok_or_else(unknown)?;
        match argument.as_str() {
            "--token" => tokens.push(value.clone().into_bytes()),
            "--tcp" => listeners.push(Listener::Tcp(value.parse().map_err(|_| unknown())?)),
            "--unix" => listeners.push(Listener::Unix(PathBuf::from(value))),
            "--cgroup" => control_groups = Some(PathBuf::from(value)),
            _ => return Err(unknown()),
        }
    }
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    init::prepare();
    server::run(Setup { tokens: Tokens::new(tokens), listeners, control_groups }, || {
        println!("{}", agent_protocol::READY_LINE);
    })
}

/// Starts `/bin/sh -c true` again and again the usual way, and prints the microseconds of each: the
/// figure that the agent's own answers are compared with.
fn measure_spawn(arguments: &[String]) -> Result<()> {
    let n_runs: u32 = match arguments.first() {
        Some(text) => text.parse().map_err(|_| Error::Argument { argument: text.clone() })?,
        None => 200,
    };
    for _ in 0..n_runs {
        let start = Instant::now();
        // The ordinary way of every program is what is to be measured.
        #[allow(clippy::disallowed_methods)]
        let status = std::process::Command::new("/bin/sh").args(["-c", "true"]).status();
        status.map_err(|source| Error::Shell { path: "/bin/sh".into(), source })?;
        println!("{}", start.elapsed().as_micros());
    }
    Ok(())
}
