//! Shares of the host by FUSE, beside the same by SMB and by 9p and beside the guest's own disk.
//!
//! The guest measures itself, in all four places one after another, so that what else the host does
//! falls on all of them. Reads begin with empty caches of the guest; the host keeps its own, for the
//! disk as for the shares.

use crate::figure::{Figure, GoalKind};
use anyhow::{Context as _, Result};
use sandbox::{ExecuteRequest, Mount, MountType, NetworkMode, Sandbox, SandboxConfig};
use std::time::{Duration, Instant};

/// One thing that is measured.
struct Row {
    title: &'static str,
    unit: &'static str,
    /// How much of it there is.
    amount: f64,
    /// What is to be reached, where something is: three times what the documents' SMB server gives on a
    /// machine of this kind.
    goal: Option<f64>,
    /// Whether half of the disk's rate is to be reached.
    is_small: bool,
}

const fn row(title: &'static str, unit: &'static str, amount: f64, goal: Option<f64>) -> Row {
    let is_small = goal.is_some() && amount > 100.0;
    Row { title, unit, amount, goal, is_small }
}

const ROWS: [Row; 8] = [
    row("50 MB written", "MB/s", 50.0, Some(66.0)),
    row("50 MB read", "MB/s", 50.0, Some(126.0)),
    row("500 small files made", "files/s", 500.0, Some(550.0)),
    row("500 small files read", "files/s", 500.0, Some(630.0)),
    row("500 small files looked at", "files/s", 500.0, None),
    row("500 small files removed", "files/s", 500.0, None),
    row("a tree of 2,000 files looked through", "files/s", 2000.0, None),
    row("git status of 2,000 files", "files/s", 2000.0, None),
];
/// The places in the guest; the first is ours.
const PLACES: [(&str, &str); 4] =
    [("FUSE", "/mnt/fuse"), ("SMB", "/mnt/smb"), ("9p", "/mnt/9p"), (DISK, "/root/bench")];
const DISK: &str = "virtio disk";

/// Seconds of the jobs, one a line, in the folder that takes the place of `@`. By SMB a file that nobody may
/// write to, as git's objects are, cannot be removed.
const JOBS: &str = r#"set -e; d=@; mkdir -p $d; cd $d; n=500
now() { read up rest < /proc/uptime; echo $up; }
spent() { awk "BEGIN { print $2 - $1 }"; }
forget() { sync; echo 3 > /proc/sys/vm/drop_caches; }
forget; a=$(now); dd if=/dev/zero of=large bs=1M count=50 conv=fsync 2>/dev/null; spent $a $(now)
forget; a=$(now); dd if=large of=/dev/null bs=1M 2>/dev/null; spent $a $(now)
mkdir small; cd small
forget; a=$(now); i=0; while [ $i -lt $n ]; do echo $i > f$i; i=$((i+1)); done; sync; spent $a $(now)
forget; a=$(now); cat f* | wc -l > ../lines; spent $a $(now)
forget; a=$(now); [ $(ls -l | wc -l) = 501 ]; spent $a $(now)
a=$(now); rm f*; sync; spent $a $(now)
[ "$(cat ../lines)" = $n ]; [ "$(wc -c < ../large)" = 52428800 ]
cd ..; mkdir tree; cd tree
for i in $(seq 40); do mkdir $i; (cd $i; touch $(seq 50)); done
forget; a=$(now); [ $(find . -type f -size 0 | wc -l) = 2000 ]; spent $a $(now)
git init -q; git add -A; git -c user.name=bench -c user.email=bench@localhost commit -qm all
forget; a=$(now); [ -z "$(git status --porcelain)" ]; spent $a $(now)
cd ..; chmod -R u+w tree; rm -r small large lines tree"#;

/// The rates by FUSE beside those of each other way.
pub async fn measure(n_samples: u32) -> Result<Vec<Figure>> {
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?, tempfile::tempdir()?];
    let kinds = [MountType::Fuse, MountType::Cifs, MountType::Plan9];
    let mut builder = SandboxConfig::builder("debian-agent")
        .memory("512M")
        .option("accel", crate::host::accelerator())
        .network_mode(NetworkMode::MountsOnly);
    for ((folder, kind), (_, place)) in folders.iter().zip(kinds).zip(PLACES) {
        builder = builder.mount(Mount::new(folder.path(), place).kind(kind));
    }
    let sandbox = Sandbox::new(builder.build()?);
    sandbox.start().await?;
    let mut rates = vec![[const { Vec::new() }; ROWS.len()]; PLACES.len()];
    for _ in 0..n_samples {
        for (place, rates) in PLACES.iter().zip(&mut rates) {
            let seconds = seconds(&sandbox, place.1).await?;
            for ((rates, seconds), row) in rates.iter_mut().zip(seconds).zip(ROWS) {
                // The clock of /proc/uptime has hundredths of a second.
                rates.push(row.amount / seconds.max(0.01));
            }
        }
    }
    let mut figures = Vec::new();
    for (index, row) in ROWS.iter().enumerate() {
        let ours =
            || Figure::new(format!("{} by FUSE", row.title), row.unit, rates[0][index].clone());
        if let Some(goal) = row.goal {
            figures.push(ours().goal(GoalKind::AtLeast, goal));
        }
        for (place, other) in PLACES.iter().zip(&rates).skip(1) {
            let figure = ours().beside(place.0, other[index].clone());
            let is_disk = place.0 == DISK && row.is_small;
            figures.push(if is_disk { figure.goal(GoalKind::RatioAtLeast, 0.5) } else { figure });
        }
    }
    figures.push(hot_mounts(&sandbox, n_samples).await?);
    sandbox.stop().await?;
    Ok(figures)
}

/// How long a mount takes while the machine runs.
async fn hot_mounts(sandbox: &Sandbox, n_samples: u32) -> Result<Figure> {
    let folder = tempfile::tempdir()?;
    let mut times = Vec::new();
    for _ in 0..n_samples {
        let begin = Instant::now();
        let mount = Mount::new(folder.path(), "/mnt/hot").kind(MountType::Fuse);
        let handle = sandbox.mount(mount).await?;
        times.push(begin.elapsed().as_secs_f64() * 1000.0);
        sandbox.unmount(&handle, false).await?;
    }
    let figure = Figure::new("a mount while the machine runs by FUSE", "ms", times);
    Ok(figure.goal(GoalKind::AtMost, 30.0))
}

async fn seconds(sandbox: &Sandbox, place: &str) -> Result<[f64; ROWS.len()]> {
    let request = ExecuteRequest::new(JOBS.replace('@', place)).timeout(Duration::from_secs(300));
    let result = sandbox.execute(request).await?;
    anyhow::ensure!(
        result.exit_code == 0,
        "The guest failed in {place}: {}",
        result.stderr_lossy()
    );
    let text = result.stdout_lossy();
    let seconds: Vec<f64> =
        text.split_whitespace().map(str::parse).collect::<Result<_, _>>().context(text.clone())?;
    seconds.try_into().map_err(|_| anyhow::anyhow!("Not a time for each row: {text}"))
}
