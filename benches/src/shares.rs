//! Shares of the host: 50 MB and 500 small files by SMB and by 9p, beside the guest's own disk.
//!
//! The guest measures itself. Reads begin with empty caches of the guest; the host keeps its own,
//! for the disk as for the shares.

use crate::figure::Figure;
use anyhow::{Context as _, Result};
use sandbox::{ExecuteRequest, Mount, MountType, NetworkMode, Sandbox, SandboxConfig};
use std::time::Duration;

const N_FILES: u32 = 500;
const N_MEGABYTES: u32 = 50;

/// Seconds of the four jobs, one a line, in the folder that takes the place of `@`.
const JOBS: &str = r#"set -e; d=@; mkdir -p $d; cd $d; n=500
now() { read up rest < /proc/uptime; echo $up; }
spent() { awk "BEGIN { print $2 - $1 }"; }
forget() { sync; echo 3 > /proc/sys/vm/drop_caches; }
forget; a=$(now); dd if=/dev/zero of=large bs=1M count=50 conv=fsync 2>/dev/null; spent $a $(now)
forget; a=$(now); dd if=large of=/dev/null bs=1M 2>/dev/null; spent $a $(now)
mkdir small; cd small
forget; a=$(now); i=0; while [ $i -lt $n ]; do echo $i > f$i; i=$((i+1)); done; sync; spent $a $(now)
forget; a=$(now); cat f* | wc -l > ../lines; spent $a $(now)
[ "$(cat ../lines)" = $n ]; [ "$(wc -c < ../large)" = 52428800 ]
cd ..; rm -r small large lines"#;

/// The rates of one kind of share beside the disk's.
pub async fn measure(kind: MountType, n_samples: u32) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let config = SandboxConfig::builder("debian")
        .memory("512M")
        .option("accel", "tcg")
        .network_mode(NetworkMode::MountsOnly)
        .mount(Mount::new(folder.path(), "/mnt/share").kind(kind))
        .build()?;
    let sandbox = Sandbox::new(config);
    sandbox.start().await?;
    let mut share: [Vec<f64>; 4] = Default::default();
    let mut disk: [Vec<f64>; 4] = Default::default();
    for _ in 0..n_samples {
        for (place, samples) in [("/mnt/share", &mut share), ("/root/bench", &mut disk)] {
            let seconds = seconds(&sandbox, place).await?;
            for (job, seconds) in seconds.into_iter().enumerate() {
                let amount = if job < 2 { N_MEGABYTES } else { N_FILES };
                // The clock of /proc/uptime has hundredths of a second.
                samples[job].push(f64::from(amount) / seconds.max(0.01));
            }
        }
    }
    sandbox.stop().await?;
    let name = if kind == MountType::Cifs { "SMB" } else { "9p" };
    let titles = [
        (format!("50 MB written by {name}"), "MB/s"),
        (format!("50 MB read by {name}"), "MB/s"),
        (format!("500 small files made by {name}"), "files/s"),
        (format!("500 small files read by {name}"), "files/s"),
    ];
    let rows = titles.into_iter().zip(share).zip(disk);
    Ok(rows
        .map(|(((title, unit), share), disk)| {
            Figure::new(title, unit, share).beside("virtio disk", disk)
        })
        .collect())
}

async fn seconds(sandbox: &Sandbox, place: &str) -> Result<[f64; 4]> {
    let request = ExecuteRequest::new(JOBS.replace('@', place)).timeout(Duration::from_secs(300));
    let result = sandbox.execute(request).await?;
    anyhow::ensure!(result.exit_code == 0, "The guest failed in {place}: {result:?}");
    let text = result.stdout_lossy();
    let seconds: Vec<f64> =
        text.split_whitespace().map(str::parse).collect::<Result<_, _>>().context(text.clone())?;
    seconds.try_into().map_err(|_| anyhow::anyhow!("Not four times: {text}"))
}
