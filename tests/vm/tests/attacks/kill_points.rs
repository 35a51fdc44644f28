//! SIGKILL of the host process at many points of a sandbox's life: what is there two seconds later.
//!
//! `QUICKSAND_KILL_POINTS` says how many (12). They are spread evenly over a whole life: the first
//! half over time, so that long steps get many, the other half over the steps, so that none is left
//! out. The installer has kill points of its own (`crates/quicksand-cli/tests/it/kill.rs`).

use super::held;
use package_layout::save::PART_PREFIX;
use sandbox::save;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

const LIFE: &str = env!("CARGO_BIN_EXE_vm-life");
const STEPS: [&str; 9] =
    ["start", "execute", "download", "checkpoint", "save", "revert", "export", "import", "stop"];
/// What is gone by then.
const SOON: Duration = Duration::from_secs(2);

/// What a killed life left behind, of each kind.
#[derive(Debug, Default)]
struct Leftovers {
    processes: usize,
    mounts: usize,
    files: usize,
    sockets: usize,
    /// Unfinished trees and saves.
    unfinished: usize,
}

impl Leftovers {
    fn is_nothing(&self) -> bool {
        self.processes + self.mounts + self.files + self.sockets + self.unfinished == 0
    }
}

#[test]
fn a_killed_host_leaves_nothing_and_every_save_is_whole() {
    vm_tests::search();
    let points = std::env::var("QUICKSAND_KILL_POINTS").ok().and_then(|text| text.parse().ok());
    let points: u32 = points.unwrap_or(12);
    let home = tempfile::tempdir().unwrap();
    let (workspace, temporary) = (home.path().join("work"), home.path().join("tmp"));
    fs_err::create_dir(&workspace).unwrap();
    fs_err::create_dir(&temporary).unwrap();
    let life = measure(&workspace, &temporary);
    println!("kill points: a life takes {:.1} s: {life:?}", total(&life).as_secs_f64());
    let mut killed_in: BTreeMap<String, u32> = BTreeMap::new();
    for point in 0..points {
        // Two of three steps have begun when the clock says so; the rest are asked for by name.
        let (wanted, delay) = match point % 2 {
            0 => ("start", total(&life) * point / points),
            _ => {
                let step = STEPS[(point / 2) as usize % STEPS.len()];
                (step, life[step] * (point % 7) / 7)
            }
        };
        let (step, family) = kill_in(&workspace, &temporary, wanted, delay);
        let left = look(&workspace, &temporary, home.path(), &family);
        held(&format!("kill {point} in {step}: nothing is left"), left.is_nothing(), &left);
        for name in ["life", "again"] {
            let path = workspace.join(name);
            let whole = !path.exists() || save::validate(&path).is_ok();
            held(
                &format!("kill {point} in {step}: the save `{name}`"),
                whole,
                save::validate(&path),
            );
        }
        *killed_in.entry(step).or_default() += 1;
    }
    println!("kill points: {points} kills, {killed_in:?}");
    // The next life starts from what the kills left, and ends well.
    measure(&workspace, &temporary);
    let left = look(&workspace, &temporary, home.path(), &[]);
    held("a life after all kills leaves nothing", left.is_nothing(), left);
}

fn total(life: &BTreeMap<String, Duration>) -> Duration {
    life.values().sum()
}

#[expect(clippy::disallowed_methods, reason = "the process must be killed at a moment, by its id")]
fn start(workspace: &Path, temporary: &Path) -> std::process::Child {
    std::process::Command::new(LIFE)
        .arg(workspace)
        .env("TMPDIR", temporary)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap()
}

/// Lives once, and gives the time of each step.
fn measure(workspace: &Path, temporary: &Path) -> BTreeMap<String, Duration> {
    let mut child = start(workspace, temporary);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut life = BTreeMap::new();
    let mut last: Option<(String, Instant)> = None;
    for line in lines.map_while(Result::ok) {
        if let Some((step, since)) = last.replace((line.clone(), Instant::now())) {
            life.insert(step, since.elapsed());
        }
        if line == "lap" {
            break;
        }
    }
    let is_whole = STEPS.iter().all(|step| life.contains_key(*step));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_whole, "a life ended early: {life:?}");
    std::thread::sleep(SOON);
    life
}

/// Kills a life some time after a step began, and gives the step that it was in and its processes.
fn kill_in(
    workspace: &Path,
    temporary: &Path,
    wanted: &str,
    delay: Duration,
) -> (String, Vec<Process>) {
    let mut child = start(workspace, temporary);
    let stdout = child.stdout.take().unwrap();
    let (sender, steps) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let mut step = String::new();
    while step != wanted {
        step = steps.recv_timeout(Duration::from_secs(120)).expect("the life goes on");
    }
    let end = Instant::now() + delay;
    while let Some(rest) = end.checked_duration_since(Instant::now()) {
        match steps.recv_timeout(rest) {
            Ok(next) => step = next,
            Err(_) => break,
        }
    }
    let family = descendants(child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    drop(steps);
    reader.join().unwrap();
    (step, family)
}

/// What is left, once it had two seconds to go.
fn look(workspace: &Path, temporary: &Path, home: &Path, family: &[Process]) -> Leftovers {
    let end = Instant::now() + SOON;
    loop {
        let left = count(workspace, temporary, home, family);
        if left.is_nothing() || Instant::now() > end {
            return left;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn count(workspace: &Path, temporary: &Path, home: &Path, family: &[Process]) -> Leftovers {
    let home = home.to_str().unwrap();
    let read = |path: &str| fs_err::read_to_string(path).unwrap_or_default();
    let names = |folder: &Path| -> Vec<String> {
        let entries = fs_err::read_dir(folder).unwrap().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let prefixes = [PART_PREFIX, ".quicksand-download-"];
    let is_part = |name: &String| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let known = ["shared", "life", "again", "life.tar", "noise", "tree"];
    let in_workspace = names(workspace);
    Leftovers {
        processes: processes().filter(|it| is_one_of(it, family)).count() + speaking_of(home),
        mounts: read("/proc/self/mountinfo").lines().filter(|line| line.contains(home)).count(),
        files: names(temporary).len()
            + in_workspace
                .iter()
                .filter(|it| !is_part(it) && !known.contains(&it.as_str()))
                .count(),
        sockets: read("/proc/net/unix").lines().filter(|line| line.contains(home)).count(),
        unfinished: in_workspace.iter().filter(|it| is_part(it)).count(),
    }
}

/// A process, distinguished from later ones of the same number by the time of its start.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    id: u32,
    parent: u32,
    started: u64,
}

/// Processes that are not only waiting to be noticed as ended.
fn processes() -> impl Iterator<Item = Process> {
    let entries = fs_err::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| {
        let id = entry.file_name().to_string_lossy().parse().ok()?;
        // The name may hold anything; what follows its last bracket is in fixed places.
        let stat = fs_err::read(format!("/proc/{id}/stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let (parent, started) = (fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?);
        (fields[0] != "Z").then_some(Process { id, parent, started })
    })
}

fn descendants(id: u32) -> Vec<Process> {
    let all: Vec<Process> = processes().collect();
    let mut family: Vec<Process> = Vec::new();
    let mut parents = vec![id];
    while let Some(parent) = parents.pop() {
        for child in all.iter().filter(|process| process.parent == parent) {
            parents.push(child.id);
            family.push(child.clone());
        }
    }
    family
}

/// Parents change when theirs end.
fn is_one_of(process: &Process, family: &[Process]) -> bool {
    family.iter().any(|it| it.id == process.id && it.started == process.started)
}

/// Processes whose command line or environment speaks of this test's folder.
fn speaking_of(home: &str) -> usize {
    let others = processes().filter(|process| process.id != std::process::id());
    let speaks = |process: &Process| {
        ["cmdline", "environ"].iter().any(|file| {
            let bytes = fs_err::read(format!("/proc/{}/{file}", process.id)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).contains(home)
        })
    };
    others.filter(speaks).count()
}
