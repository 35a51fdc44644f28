//! Parts of a task of which neither needs the other. The first that fails ends the others, and its
//! error is the one that is shown.

use crate::ui::{Ended, Ui};
use anyhow::Result;

/// Runs both and gives what both made.
pub fn both<A: Send, B>(
    ui: &Ui,
    first: impl FnOnce() -> Result<A> + Send,
    second: impl FnOnce() -> Result<B>,
) -> Result<(A, B)> {
    let outermost = ui.enter();
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| first().inspect_err(|error| end_others(ui, error)));
        let second = second().inspect_err(|error| end_others(ui, error));
        (first.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), second)
    });
    drop(outermost);
    match (first, second) {
        (Ok(first), Ok(second)) => Ok((first, second)),
        (Err(ended), Err(error)) if ended.is::<Ended>() => Err(error),
        (Err(error), _) => Err(error),
        (_, Err(error)) => Err(error),
    }
}

/// Runs three; see [`both`].
pub fn three<A: Send, B: Send, C>(
    ui: &Ui,
    first: impl FnOnce() -> Result<A> + Send,
    second: impl FnOnce() -> Result<B> + Send,
    third: impl FnOnce() -> Result<C>,
) -> Result<(A, B, C)> {
    let (first, (second, third)) = both(ui, first, || both(ui, second, third))?;
    Ok((first, second, third))
}

/// Leaves the processors to the others: what this thread runs from now on gets what they do not need. It is
/// for a part that the others do not wait for, and the thread stays so.
#[cfg(target_os = "linux")]
pub fn step_back(by: i32) {
    // Linux has a value for each thread, which its children begin with: setpriority(2). One that is
    // refused changes nothing but the order.
    let _ = rustix::process::nice(by);
}

/// Elsewhere the value is the whole process's.
#[cfg(not(target_os = "linux"))]
pub fn step_back(_by: i32) {}

fn end_others(ui: &Ui, error: &anyhow::Error) {
    if !error.is::<Ended>() {
        ui.end_others();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use duct::cmd;
    use std::time::{Duration, Instant};

    fn ui() -> (tempfile::TempDir, Ui) {
        let folder = tempfile::tempdir().unwrap();
        let ui = Ui::new(folder.path().to_owned());
        (folder, ui)
    }

    #[test]
    fn the_first_failure_is_shown_and_ends_the_rest_wherever_it_happens() {
        let (_folder, ui) = ui();
        let step =
            |title: &str, script: &str| ui.step(title, |step| step.run(cmd!("sh", "-c", script)));
        for bad in 0..3 {
            let start = Instant::now();
            let scripts: Vec<&str> =
                (0..3).map(|n| if n == bad { "echo woe; exit 3" } else { "sleep 600" }).collect();
            let part = |n: usize| step(&format!("Part {n} of {bad}"), scripts[n]);
            let error = three(&ui, || part(0), || part(1), || part(2)).unwrap_err().to_string();
            assert!(error.contains(&format!("Part {bad} of {bad}")), "{error}");
            assert!(error.contains("woe"), "{error}");
            assert!(start.elapsed() < Duration::from_secs(60));
            // What comes after may start again.
            step("After", "true").unwrap();
        }
    }

    #[test]
    fn a_part_that_runs_no_command_ends_at_its_next_step() {
        let (_folder, ui) = ui();
        let mut n_steps = 0;
        let outcome = both(
            &ui,
            || ui.step("Fail", |_| -> Result<()> { anyhow::bail!("At once") }),
            || loop {
                ui.step("Go on", |_| {
                    n_steps += 1;
                    Ok(())
                })?;
                std::thread::sleep(Duration::from_millis(1));
            },
        );
        let error = outcome.map(|(_, never): ((), ())| never).unwrap_err();
        assert!(format!("{error:#}").contains("At once"), "{error:#}");
    }
}
