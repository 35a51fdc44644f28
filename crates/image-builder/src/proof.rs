//! Runs a recipe's checks in a machine that somebody else has booted, and those of an image in use
//! ([`InUse`]). The machine is a function: this crate must not know what runs it.

mod in_use;
pub mod sample;

use crate::{
    CheckError, Error,
    recipe::{Check, Defaults},
};
use host_platform::Arch;
pub use in_use::InUse;
use package_layout::DEFAULT_MEMORY;
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// What a command gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub exit_code: i32,
    /// What it printed, errors behind the rest.
    pub output: String,
}

/// Runs a command as root in the machine, for so long at most.
pub type Run<'a> = dyn FnMut(&str, Duration) -> Result<Answer, std::io::Error> + 'a;

/// The options of the machine that an image is proved in; `n_cpus` is for a recipe that names none.
pub fn machine(image: &str, arch: Arch, defaults: &Defaults, n_cpus: u16, in_use: &InUse) -> Value {
    let mut options = json!({
        "image": image,
        "arch": arch.image_name(),
        "accel": "auto",
        "warm": "off",
        "memory": defaults.memory.as_ref().map_or(DEFAULT_MEMORY, |memory| memory.as_str()),
        "cpus": defaults.cpus.map_or(n_cpus, |cpus| cpus.0),
    });
    in_use.add_to(&mut options);
    options
}

/// How a machine came up.
pub struct Boot<'a> {
    /// What ran it.
    pub accelerator: Option<&'a str>,
    /// Until QEMU ran.
    pub launch: Duration,
    /// Until the agent answered.
    pub ready: Duration,
    /// What the guest says it had done after how many seconds.
    pub marks: &'a [(String, f64)],
}

/// What was proved, for the report of a bake: times in seconds, to the millisecond.
pub fn report(boot: &Boot<'_>, passed: &BTreeMap<String, Duration>) -> Value {
    let seconds = |time: &Duration| Value::from((time.as_secs_f64() * 1000.0).round() / 1000.0);
    let checks: Map<String, Value> =
        passed.iter().map(|(name, time)| (name.clone(), seconds(time))).collect();
    let marks: Map<String, Value> =
        boot.marks.iter().map(|(name, time)| (name.clone(), Value::from(*time))).collect();
    json!({
        "accelerator": boot.accelerator,
        "checks_seconds": checks,
        "boot_seconds": {
            "launch": seconds(&boot.launch),
            "ready": seconds(&boot.ready),
            "guest": marks,
        },
    })
}

/// How long a command may take at least: emulated machines are slow.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long to wait before a check that may fail at first is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// How much of a failed command's output is shown.
const SHOWN: usize = 2000;

/// Runs the checks in the order of their names, and gives how long each took. The first that fails
/// for good is the end.
pub fn prove(
    checks: &BTreeMap<String, Check>,
    run: &mut Run,
) -> Result<BTreeMap<String, Duration>, Error> {
    let mut passed = BTreeMap::new();
    for (name, check) in checks {
        let start = Instant::now();
        let within = Duration::from_secs(check.within.0.into());
        loop {
            let answer = run(&check.run, PATIENCE.max(within)).map_err(|source| {
                Error::Check(CheckError::NotRun { name: name.clone(), source })
            })?;
            let Some(reason) = complaint(check, &answer) else { break };
            if start.elapsed() >= within {
                return Err(Error::Check(CheckError::Failed {
                    name: name.clone(),
                    reason,
                    output: tail(&answer.output),
                }));
            }
            std::thread::sleep(PAUSE);
        }
        passed.insert(name.clone(), start.elapsed());
    }
    Ok(passed)
}

/// What is wrong with an answer.
fn complaint(check: &Check, answer: &Answer) -> Option<String> {
    if answer.exit_code != check.exit.0 {
        return Some(format!("it exited with {}, not {}", answer.exit_code, check.exit.0));
    }
    match &check.prints {
        Some(text) if !answer.output.contains(text) => Some(format!("it did not print `{text}`")),
        _ => None,
    }
}

fn tail(output: &str) -> String {
    let output = output.trim();
    let mut start = output.len().saturating_sub(SHOWN);
    while !output.is_char_boundary(start) {
        start += 1;
    }
    output[start..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{ExitCode, Within};

    fn check(prints: Option<&str>, exit: i32, within: u32) -> BTreeMap<String, Check> {
        let check = Check {
            run: "it".to_owned(),
            prints: prints.map(str::to_owned),
            exit: ExitCode(exit),
            within: Within(within),
        };
        BTreeMap::from([("one".to_owned(), check)])
    }

    fn answers(list: &[(i32, &str)]) -> impl FnMut(&str, Duration) -> std::io::Result<Answer> {
        let mut list: Vec<Answer> = list
            .iter()
            .rev()
            .map(|(exit_code, output)| Answer {
                exit_code: *exit_code,
                output: (*output).to_owned(),
            })
            .collect();
        move |command, _| {
            assert_eq!(command, "it");
            list.pop().ok_or_else(|| std::io::Error::other("the machine is gone"))
        }
    }

    #[test]
    fn a_check_passes_by_exit_code_and_output() {
        prove(&check(Some("fine"), 0, 0), &mut answers(&[(0, "all fine\n")])).unwrap();
        prove(&check(None, 3, 0), &mut answers(&[(3, "")])).unwrap();
    }

    #[test]
    fn a_check_that_fails_shows_its_output() {
        let error = prove(&check(None, 0, 0), &mut answers(&[(1, "no such thing")])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("`one`") && text.contains("exited with 1, not 0"), "{text}");
        assert!(error.hint().unwrap().contains("no such thing"));
        let error = prove(&check(Some("x"), 0, 0), &mut answers(&[(0, "y")])).unwrap_err();
        assert!(error.to_string().contains("did not print `x`"), "{error}");
    }

    #[test]
    fn a_check_is_tried_again_until_its_time_is_up() {
        let passed = prove(&check(None, 0, 9), &mut answers(&[(1, ""), (0, "")])).unwrap();
        assert!(passed["one"] >= PAUSE);
    }

    #[test]
    fn a_machine_that_does_not_answer_ends_the_checks() {
        let error = prove(&check(None, 0, 9), &mut answers(&[])).unwrap_err();
        assert!(matches!(error, Error::Check(CheckError::NotRun { .. })), "{error}");
    }
}
