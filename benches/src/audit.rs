//! `cargo xtask audit` beside `auditwheel show`, over the pinned corpus: a process for each wheel, as a
//! release would have it.

use crate::{
    Args,
    figure::{Figure, GoalKind},
};
use anyhow::{Context as _, Result};
use duct::cmd;
use std::path::{Path, PathBuf};

/// Runs a program and prints its processor time (user and system, in seconds) and its peak memory in
/// KiB, both as getrusage(2) has them.
const MEASURE: &str = "
import resource, subprocess, sys
# A script that stands for the interpreter leaves its own children's time to this process.
before = resource.getrusage(resource.RUSAGE_CHILDREN)
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime, used.ru_maxrss)
";

/// Measures both by turns.
pub fn measure(args: &Args) -> Result<Vec<Figure>> {
    let [ours, theirs, corpus] = args.audit.as_slice() else {
        anyhow::bail!("audit needs --audit XTASK AUDITWHEEL CORPUS");
    };
    let mut wheels: Vec<PathBuf> =
        fs_err::read_dir(corpus)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    // auditwheel judges nothing else.
    wheels.retain(|path| path.to_string_lossy().contains("linux"));
    wheels.sort();
    let (mut seconds, mut memory) = (vec![], vec![]);
    let (mut their_seconds, mut their_memory) = (vec![], vec![]);
    for wheel in &wheels {
        let (s, m) = cost(ours, "audit", wheel)?;
        seconds.push(s);
        memory.push(m);
        let (s, m) = cost(theirs, "show", wheel)?;
        their_seconds.push(s);
        their_memory.push(m);
    }
    let sum = |seconds: &[f64]| vec![seconds.iter().sum::<f64>()];
    let name = format!("audit of {} wheels, CPU in all", wheels.len());
    Ok(vec![
        Figure::new(name, "s", sum(&seconds))
            .beside("auditwheel", sum(&their_seconds))
            .goal(GoalKind::RatioAtMost, 0.1),
        Figure::new("audit of a wheel, peak memory", "MB", memory)
            .beside("auditwheel", their_memory),
    ])
}

/// Seconds and MB of one process.
fn cost(program: &Path, word: &str, wheel: &Path) -> Result<(f64, f64)> {
    let text = cmd!("python3", "-c", MEASURE, program, word, wheel).read()?;
    let mut numbers = text.split_whitespace().map(str::parse::<f64>);
    let mut next = || numbers.next().context("Python printed too little")?.context("no number");
    let (seconds, kib) = (next()?, next()?);
    Ok((seconds, kib * 1024.0 / 1e6))
}
