//! Hours of mixed work in eight sandboxes at once, with every result checked and every resource
//! watched: `soak MINUTES [--json FILE]`. Called by `cargo xtask soak`.
//!
//! It ends with 1 when a result was wrong, or when memory, descriptors, processes or bytes on the disk
//! grew from the first third of the time to the last.

use bytes::Bytes;
use sandbox::save::{self, SaveOptions};
use sandbox::{ExecuteRequest, Mount, OutputStream, Sandbox};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const N_SANDBOXES: usize = 8;
/// Steps of work between a start and a stop.
const STEPS_A_LIFE: u64 = 40;
/// How much more of a resource may be held at the end than at the beginning, in parts of a hundred.
const GROWTH: u64 = 15;

/// What was done so far, by kind, and what went wrong.
#[derive(Default)]
struct Tally {
    done: BTreeMap<&'static str, u64>,
    wrong: Vec<String>,
}

/// What this process and its machines hold at a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    rss: u64,
    descriptors: u64,
    processes: u64,
    disk: u64,
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let mut args = std::env::args().skip(1);
    let minutes: f64 = args.next().and_then(|text| text.parse().ok()).unwrap_or(30.0);
    let json = args.find(|arg| arg == "--json").and_then(|_| args.next());
    let home = tempfile::tempdir().expect("a folder for temporary files");
    let tally = Arc::new(Mutex::new(Tally::default()));
    let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let workers: Vec<_> = (0..N_SANDBOXES)
        .map(|number| {
            let folder = home.path().join(number.to_string());
            tokio::spawn(work(number as u64, folder, end, Arc::clone(&tally)))
        })
        .collect();
    let mut samples: Vec<Held> = Vec::new();
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_secs(5)).await;
        samples.push(held(home.path()));
    }
    for worker in workers {
        if let Err(error) = worker.await {
            tally.lock().expect("no panic").wrong.push(format!("a worker ended: {error}"));
        }
    }
    // What has ended is gone a moment later.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let last = held(home.path());
    let tally = tally.lock().expect("no panic");
    let report = report(minutes, &tally, &samples, last);
    println!("{report:#}");
    if let Some(path) = json {
        fs_err::write(path, format!("{report:#}\n")).expect("the figures can be written");
    }
    std::process::exit(i32::from(report["findings"].as_array().is_none_or(|all| !all.is_empty())));
}

/// The name of a figure, the figure, and how much it may move without having grown.
type Kind = (&'static str, fn(&Held) -> u64, u64);

fn report(minutes: f64, tally: &Tally, samples: &[Held], last: Held) -> serde_json::Value {
    let third = samples.len() / 3;
    let mean = |part: &[Held], get: fn(&Held) -> u64| {
        part.iter().map(get).sum::<u64>() / part.len().max(1) as u64
    };
    let mut findings = tally.wrong.clone();
    let mut figures = serde_json::Map::new();
    let kinds: [Kind; 4] = [
        ("rss_bytes", |it| it.rss, 32 << 20),
        ("descriptors", |it| it.descriptors, 24),
        ("processes", |it| it.processes, 2),
        ("disk_bytes", |it| it.disk, 64 << 20),
    ];
    for (name, get, slack) in kinds {
        // The very beginning is the way there.
        let (first, later) =
            (mean(&samples[third / 2..third], get), mean(&samples[2 * third..], get));
        if third >= 4 && later > first + first * GROWTH / 100 + slack {
            findings.push(format!("{name} grew from {first} to {later}"));
        }
        let most = samples.iter().map(get).max().unwrap_or(0);
        figures.insert(
            name.into(),
            serde_json::json!({"first_third": first, "last_third": later, "most": most, "at_the_end": get(&last)}),
        );
    }
    if last.processes > 0 {
        findings.push(format!("{} processes are left", last.processes));
    }
    let n_steps: u64 = tally.done.values().sum();
    serde_json::json!({
        "minutes": minutes, "sandboxes": N_SANDBOXES, "steps": n_steps, "done": tally.done,
        "held": figures, "findings": findings,
    })
}

/// One sandbox after another, each with some steps of work.
async fn work(number: u64, folder: PathBuf, end: Instant, tally: Arc<Mutex<Tally>>) {
    let mut random = fastrand::Rng::with_seed(number);
    let shared = folder.join("shared");
    fs_err::create_dir_all(&shared).expect("the folder is writable");
    while Instant::now() < end {
        let saved = folder.join("saves/kept");
        let image = match random.bool() && save::validate(&saved).is_ok() {
            true => saved.to_string_lossy().into_owned(),
            false => "minimal".to_owned(),
        };
        let builder = sandbox::SandboxConfig::builder(image).memory("128M");
        let sandbox = vm_tests::sandbox(builder);
        if let Err(error) = sandbox.start().await {
            note(&tally, "start", Err(format!("{error}")));
            continue;
        }
        note(&tally, "start", Ok(()));
        for _ in 0..STEPS_A_LIFE {
            if Instant::now() > end {
                break;
            }
            let (kind, outcome) = step(&sandbox, &folder, &mut random).await;
            let failed = outcome.is_err();
            note(&tally, kind, outcome);
            if failed {
                break;
            }
        }
        note(&tally, "stop", sandbox.stop().await.map_err(|error| error.to_string()));
    }
}

fn note(tally: &Mutex<Tally>, kind: &'static str, outcome: Result<(), String>) {
    let mut tally = tally.lock().expect("no panic");
    *tally.done.entry(kind).or_default() += 1;
    if let Err(error) = outcome {
        eprintln!("soak: {kind}: {error}");
        tally.wrong.push(format!("{kind}: {error}"));
    }
}

type Outcome = Result<(), String>;

async fn step(
    sandbox: &Sandbox,
    folder: &Path,
    random: &mut fastrand::Rng,
) -> (&'static str, Outcome) {
    match random.u8(..100) {
        0..35 => ("execute", execute(sandbox, random.u32(..)).await),
        35..50 => ("stream", stream(sandbox, random.usize(1..64) << 14).await),
        50..65 => ("files", files(sandbox, random).await),
        65..75 => ("cancel", cancel(sandbox, random.u64(1..300)).await),
        75..85 => ("mount", mount(sandbox, folder, random).await),
        85..93 => ("checkpoint", checkpoint(sandbox).await),
        _ => ("save", keep(sandbox, folder).await),
    }
}

fn message(error: sandbox::Error) -> String {
    error.to_string()
}

fn same<T: PartialEq + std::fmt::Debug>(seen: T, expected: T) -> Outcome {
    if seen == expected { Ok(()) } else { Err(format!("{seen:?} instead of {expected:?}")) }
}

fn request(command: impl Into<String>) -> ExecuteRequest {
    ExecuteRequest::new(command.into()).timeout(Duration::from_secs(300))
}

async fn execute(sandbox: &Sandbox, number: u32) -> Outcome {
    let code = number % 256;
    let command = format!("echo {number}; echo wrong >&2; exit {code}");
    let result = sandbox.execute(request(command)).await.map_err(message)?;
    same(result.stdout_lossy(), format!("{number}\n"))?;
    same(result.stderr_lossy(), "wrong\n".to_owned())?;
    same(result.exit_code, code as i32)
}

/// Bytes out of the guest as they come, compared with the guest's own checksum of them.
async fn stream(sandbox: &Sandbox, n_bytes: usize) -> Outcome {
    let command = format!(
        "head -c {n_bytes} /dev/urandom > /dev/shm/s && cat /dev/shm/s && sha256sum < /dev/shm/s >&2"
    );
    let digest = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let sink = {
        let digest = Arc::clone(&digest);
        move |stream, data: Bytes| {
            let mut kept = digest.lock().expect("no panic");
            match stream {
                OutputStream::Stdout => kept.0.extend_from_slice(&data),
                OutputStream::Stderr => kept.1.extend_from_slice(&data),
            }
            std::future::ready(ControlFlow::Continue(()))
        }
    };
    sandbox.stream(request(command), sink).await.map_err(message)?;
    let kept = digest.lock().expect("no panic");
    same(kept.0.len(), n_bytes)?;
    let line = String::from_utf8_lossy(&kept.1).into_owned();
    same(line.split(' ').next().unwrap_or_default().to_owned(), checksum::sha256(&kept.0))
}

async fn files(sandbox: &Sandbox, random: &mut fastrand::Rng) -> Outcome {
    let content: Vec<u8> = (0..random.usize(..200_000)).map(|_| random.u8(..)).collect();
    sandbox.write_file("/root/f", content.clone(), None).await.map_err(message)?;
    let result = sandbox.execute(request("sha256sum < /root/f")).await.map_err(message)?;
    let seen = result.stdout_lossy().split(' ').next().unwrap_or_default().to_owned();
    same(seen, checksum::sha256(&content))?;
    let read = sandbox.read_file("/root/f", 1 << 20).await.map_err(message)?;
    same(checksum::sha256(&read), checksum::sha256(&content))
}

/// A command whose caller goes away; its machine must not mind.
async fn cancel(sandbox: &Sandbox, milliseconds: u64) -> Outcome {
    let pause = Duration::from_millis(milliseconds);
    let call = sandbox.execute(request("sleep 60; echo never"));
    if tokio::time::timeout(pause, call).await.is_ok() {
        return Err("a cancelled command ended by itself".to_owned());
    }
    let result = sandbox.execute(request("echo on")).await.map_err(message)?;
    same(result.stdout_lossy(), "on\n".to_owned())
}

async fn mount(sandbox: &Sandbox, folder: &Path, random: &mut fastrand::Rng) -> Outcome {
    let shared = folder.join("shared");
    let content: Vec<u8> = (0..random.usize(1..100_000)).map(|_| random.u8(..)).collect();
    fs_err::write(shared.join("host"), &content).map_err(|error| error.to_string())?;
    let handle = sandbox.mount(Mount::new(&shared, "/mnt/soak")).await.map_err(message)?;
    let command = "sha256sum < /mnt/soak/host && cp /mnt/soak/host /mnt/soak/guest && sync";
    let result = sandbox.execute(request(command)).await.map_err(message)?;
    let seen = result.stdout_lossy().split(' ').next().unwrap_or_default().to_owned();
    sandbox.unmount(&handle, true).await.map_err(message)?;
    same(seen, checksum::sha256(&content))?;
    let back = fs_err::read(shared.join("guest")).map_err(|error| error.to_string())?;
    same(checksum::sha256(&back), checksum::sha256(&content))
}

async fn checkpoint(sandbox: &Sandbox) -> Outcome {
    sandbox.execute(request("echo before > /state; sync")).await.map_err(message)?;
    sandbox.checkpoint("soak").await.map_err(message)?;
    sandbox.execute(request("echo after > /state; sync")).await.map_err(message)?;
    sandbox.revert("soak").await.map_err(message)?;
    let result = sandbox.execute(request("cat /state")).await.map_err(message)?;
    sandbox.delete_checkpoint("soak").await.map_err(message)?;
    same(result.stdout_lossy(), "before\n".to_owned())
}

async fn keep(sandbox: &Sandbox, folder: &Path) -> Outcome {
    let options = SaveOptions { workspace: Some(folder.join("saves")), ..SaveOptions::default() };
    sandbox.save("kept", &options).await.map_err(message)?;
    save::validate(&folder.join("saves/kept")).map(drop).map_err(message)
}

fn held(home: &Path) -> Held {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().split(' ').next());
    let own = std::process::id().to_string();
    let processes = fs_err::read_dir("/proc").into_iter().flatten().flatten().filter(|entry| {
        let stat = fs_err::read_to_string(entry.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.split_whitespace().nth(1) == Some(&own))
    });
    Held {
        rss: rss.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) << 10,
        descriptors: fs_err::read_dir("/proc/self/fd").map_or(0, |all| all.count() as u64),
        processes: processes.count() as u64,
        disk: size(home),
    }
}

/// Bytes of the host's disk below a folder.
fn size(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => size(&entry.path()),
        _ => entry.metadata().map_or(0, |data| data.blocks() * 512),
    });
    sizes.sum()
}
