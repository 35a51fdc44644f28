//! The attack suite: what a hostile guest, name, file or end of the process may try, and what holds.
//!
//! Each attempt prints a line, `attack: … held`, or ends its test. Attacks that need no machine lie
//! beside the code that withstands them; SECURITY.md names them all. `cargo xtask test attacks` runs
//! both.

mod injection;
mod kill_points;
mod ways_out;

use sandbox::{ExecuteRequest, ExecuteResult, Sandbox, Transport};
use std::fmt::Debug;

/// Both ways to reach the agent.
const TRANSPORTS: [Transport; 2] = [Transport::Socket, Transport::Tcp];

/// Notes what became of an attempt.
#[track_caller]
fn held(attempt: &str, holds: bool, seen: impl Debug) {
    println!("attack: {attempt}: {}", if holds { "held" } else { "BROKEN" });
    assert!(holds, "{attempt}: {seen:?}");
}

async fn execute(sandbox: &Sandbox, command: &str) -> ExecuteResult {
    sandbox.execute(ExecuteRequest::new(command)).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a command that must succeed and gives its output without the last line break.
async fn run(sandbox: &Sandbox, command: &str) -> String {
    let result = execute(sandbox, command).await;
    assert_eq!(result.exit_code, 0, "{command}: {result:?}");
    result.stdout_lossy().trim_end().to_owned()
}
