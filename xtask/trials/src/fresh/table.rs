//! What came out of the fresh roots, as a table for people and as JSON. Pure.

use super::{Command, Suite, User};
use serde_json::{Value, json};
use std::{fmt::Write as _, time::Duration};

/// One command of one user in one suite.
pub struct Row {
    suite: Suite,
    user: Option<User>,
    command: Option<Command>,
    /// The rounds that were run, with their seconds.
    rounds: Vec<(&'static str, f64)>,
    /// What failed, and where.
    failure: Option<String>,
    /// Why the suite was not tried.
    not_tried: Option<String>,
}

impl Row {
    /// A command that is about to be tried.
    pub fn new(suite: Suite, user: User, command: Command) -> Self {
        let (user, command) = (Some(user), Some(command));
        Self { suite, user, command, rounds: vec![], failure: None, not_tried: None }
    }

    /// A suite whose root could not be made.
    pub fn not_tried(suite: Suite, error: &anyhow::Error) -> Self {
        let why = first_line(&error.root_cause().to_string());
        let not_tried = Some(why);
        Self { suite, user: None, command: None, rounds: vec![], failure: None, not_tried }
    }

    /// Adds a round that has ended.
    pub fn add(&mut self, round: &'static str, took: Duration, error: Option<&anyhow::Error>) {
        self.rounds.push((round, took.as_secs_f64()));
        self.failure = error.map(|error| format!("{round}: {}", cause(&error.to_string())));
    }

    /// Whether a command failed. A suite that could not be had is no failure of ours.
    pub fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Suite, user and command.
    pub fn title(&self) -> String {
        let user = self.user.map_or("", User::title);
        let command = self.command.map_or("", Command::name);
        format!("{} {user} {command}", self.suite.title()).trim_end().to_owned()
    }

    fn seconds(&self, round: &str) -> Option<f64> {
        self.rounds.iter().find(|(name, _)| *name == round).map(|(_, seconds)| *seconds)
    }

    fn result(&self) -> String {
        match (&self.not_tried, &self.failure) {
            (Some(why), _) => format!("not tried: {why}"),
            (None, Some(failure)) => format!("failed, {failure}"),
            (None, None) => "ok".to_owned(),
        }
    }
}

/// The line of a failed step that says why: that of the error itself where one was printed.
fn cause(text: &str) -> String {
    let lines = || text.lines().map(|line| line.trim_start().trim_start_matches("| "));
    let error = lines().find(|line| line.starts_with("error: "));
    first_line(error.or_else(|| lines().next_back()).unwrap_or_default())
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().replace('|', "/")
}

/// A table as CONTRIBUTING.md has it.
pub fn markdown(rows: &[Row]) -> String {
    let mut text = "| suite | user | command | minutes | second run | offline | result |\n\
                    | --- | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for row in rows {
        let minutes = row.seconds("first").map_or("-".to_owned(), |it| format!("{:.1}", it / 60.0));
        let seconds = |round| match row.seconds(round) {
            None => "-".to_owned(),
            Some(seconds) if seconds < 90.0 => format!("{seconds:.0} s"),
            Some(seconds) => format!("{:.1} min", seconds / 60.0),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {minutes} | {} | {} | {} |",
            row.suite.title(),
            row.user.map_or("-", User::title),
            row.command.map_or("-", Command::name),
            seconds("second"),
            seconds("offline"),
            row.result()
        );
    }
    text
}

/// The same as JSON, with seconds.
pub fn json(rows: &[Row]) -> Value {
    rows.iter()
        .map(|row| {
            json!({
                "suite": row.suite.name(),
                "user": row.user.map(User::title),
                "command": row.command.map(Command::name),
                "first_seconds": row.seconds("first"),
                "second_seconds": row.seconds("second"),
                "offline_seconds": row.seconds("offline"),
                "result": row.result(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_the_times_and_the_first_error() {
        let mut good = Row::new(Suite::Trixie, User::Sudo, Command::Demo);
        for (round, seconds) in [("first", 606), ("second", 11), ("offline", 120)] {
            good.add(round, Duration::from_secs(seconds), None);
        }
        let mut bad = Row::new(Suite::Bookworm, User::Root, Command::Test);
        let error =
            anyhow::anyhow!("Failed at the step `x`\n    | ok\n    | error: a | b\n    | more");
        bad.add("first", Duration::from_secs(30), Some(&error));
        let absent = Row::not_tried(Suite::Noble, &anyhow::anyhow!("no mirror\nat all"));
        assert!(bad.has_failed() && !good.has_failed() && !absent.has_failed());
        let text = markdown(&[good, bad, absent]);
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| Debian 13 | user with sudo | demo | 10.1 | 11 s | 2.0 min | ok |",
                "| Debian 12 | root | test | 0.5 | - | - | failed, first: error: a / b |",
                "| Ubuntu 24.04 | - | - | - | - | - | not tried: no mirror |",
            ]
        );
    }
}
