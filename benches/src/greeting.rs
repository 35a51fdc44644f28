//! Size of the QEMU wheel, and time from exec to the QMP greeting beside an installed
//! distribution QEMU.

use crate::{
    Args,
    figure::{Figure, GoalKind},
};
use anyhow::{Context as _, Result};
use duct::cmd;
use std::{
    io::{BufRead as _, BufReader},
    time::Instant,
};

/// The same machine on both sides.
const MACHINE: &[&str] =
    &["-nodefaults", "-machine", "q35", "-accel", "tcg", "-display", "none", "-S", "-qmp", "stdio"];

/// Greetings by turns.
pub fn measure(args: &Args) -> Result<Vec<Figure>> {
    let size = fs_err::metadata(&args.qemu_wheel)?.len() as f64 / 1e6;
    let size = Figure::new("QEMU wheel", "MB", vec![size]).goal(GoalKind::AtMost, 8.0);
    let [program, firmware] = &args.qemu[..] else {
        anyhow::bail!("--qemu PROGRAM FIRMWARE is missing")
    };
    let mut our_line = vec![program.into(), "-L".into(), firmware.into()];
    our_line.extend(MACHINE.iter().map(std::ffi::OsString::from));
    let Some(root) = &args.reference_root else {
        eprintln!("warning: no distribution QEMU given: the greeting has no reference");
        return Ok(vec![size]);
    };
    let mut its_line: Vec<std::ffi::OsString> = vec!["chroot".into(), root.into()];
    its_line.push("/usr/bin/qemu-system-x86_64".into());
    its_line.extend(MACHINE.iter().map(std::ffi::OsString::from));
    let (mut ours, mut its) = (vec![], vec![]);
    for _ in 0..args.samples.max(20) {
        ours.push(greeting(&our_line)?);
        its.push(greeting(&its_line)?);
    }
    let greeting = Figure::new("exec to QMP greeting", "ms", ours)
        .beside("distribution QEMU", its)
        .goal(GoalKind::RatioAtMost, 0.35);
    Ok(vec![size, greeting])
}

/// Milliseconds until QEMU greets.
fn greeting(line: &[std::ffi::OsString]) -> Result<f64> {
    // QEMU reads QMP from its standard input: an open pipe keeps it waiting for a command.
    let (stdin, _open_until_killed) = std::io::pipe()?;
    let begin = Instant::now();
    let qemu = cmd(&line[0], &line[1..]).stdin_file(stdin).reader()?;
    let mut text = String::new();
    BufReader::new(&qemu).read_line(&mut text)?;
    let milliseconds = begin.elapsed().as_secs_f64() * 1e3;
    qemu.kill().context("QEMU was gone before it was asked to go")?;
    anyhow::ensure!(text.contains("QMP"), "QEMU greeted with `{text}`");
    Ok(milliseconds)
}
