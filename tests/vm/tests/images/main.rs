//! Secrets that an image's packages make at their first start, in machines of `openssh-test`: no two machines have the
//! same, however a machine came about, and what the server shows to who connects is what lies in its files.
//! `cargo xtask test images` runs it.
#![cfg(target_os = "linux")]

use duct::cmd;
use runtime_locator::Search;
use sandbox::{ExecuteRequest, Forward, Sandbox, SandboxConfig, SandboxConfigBuilder, Warm};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

fn builder(warm: Warm) -> SandboxConfigBuilder {
    SandboxConfig::builder("openssh-test").memory("256M").warm(warm).option("wait_for", "boot")
}

fn sandbox(warm: Warm, cache: &Path) -> Sandbox {
    let search = Search { cache_dir: Some(cache.to_owned()), ..vm_tests::search() };
    Sandbox::new(builder(warm).build().unwrap()).with_locator(search)
}

async fn started(name: &str, sandbox: Sandbox) -> Sandbox {
    let begun = Instant::now();
    if let Err(error) = sandbox.start().await {
        panic!("{name}: {error}\nhint: {:?}", error.hint());
    }
    let timing = sandbox.boot_timing().unwrap();
    let (warm, forked) = (timing.warm, timing.forked);
    eprintln!("{name}: started after {:.2?}, warm {warm}, forked {forked}", begun.elapsed());
    sandbox
}

async fn run(sandbox: &Sandbox, command: &str) -> String {
    let request = ExecuteRequest::new(command).timeout(Duration::from_secs(120));
    let result = sandbox.execute(request).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(result.exit_code, 0, "{command}: {result:?}");
    result.stdout_lossy().trim_end().to_owned()
}

/// Public keys by their kind, in the form of files and of `ssh-keyscan` alike.
fn keys(text: &str) -> BTreeMap<String, String> {
    let words = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let mut words =
            line.split(' ').skip_while(|word| !word.contains("ssh-") && !word.contains("ecdsa-"));
        (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned())
    });
    words.collect()
}

/// The host keys of a machine: what lies in its files, which is what its server shows to who connects over a
/// forward, at the first moment.
async fn host_keys(name: &str, sandbox: &Sandbox) -> BTreeMap<String, String> {
    let files = keys(&run(sandbox, "cat /etc/ssh/ssh_host_*_key.pub").await);
    assert!(files.contains_key("ssh-ed25519"), "{name}: {files:?}");
    let forward = sandbox.add_forward(Forward::new(0, 22)).await.unwrap();
    let port = forward.host_port.to_string();
    let kinds = "ed25519,ecdsa,rsa";
    let shown =
        cmd!("ssh-keyscan", "-T", "60", "-t", kinds, "-p", port, "127.0.0.1").stderr_null().read();
    assert_eq!(keys(&shown.unwrap()), files, "{name}");
    // The private halves belong to them.
    let private = "for key in /etc/ssh/ssh_host_*_key; do ssh-keygen -y -f $key || exit; done";
    assert_eq!(keys(&run(sandbox, private).await), files, "{name}");
    files
}

/// Remembers a machine's keys, none of which another one may have.
#[derive(Default)]
struct Seen {
    keys: BTreeMap<String, String>,
    kinds: BTreeSet<String>,
}

impl Seen {
    async fn add(&mut self, name: &str, sandbox: &Sandbox) {
        let found = host_keys(name, sandbox).await;
        let kinds: BTreeSet<String> = found.keys().cloned().collect();
        if self.kinds.is_empty() {
            self.kinds.clone_from(&kinds);
        }
        assert_eq!(kinds, self.kinds, "{name}");
        for key in found.into_values() {
            if let Some(other) = self.keys.insert(key, name.to_owned()) {
                panic!("{name} has a host key of {other}");
            }
        }
    }
}

async fn fork(name: &str, parent: &Sandbox) -> Sandbox {
    let begun = Instant::now();
    let child = parent.fork(std::num::NonZeroUsize::MIN).await.unwrap().remove(0);
    let reason = child.boot_timing().unwrap().unforked_reason;
    eprintln!("{name}: answered after {:.2?}, by memory because of {reason:?}", begun.elapsed());
    child
}

#[tokio::test(flavor = "multi_thread")]
async fn no_two_machines_have_the_same_host_keys() {
    let cache = tempfile::tempdir().unwrap();
    let mut seen = Seen::default();
    for name in ["cold 1", "cold 2"] {
        let machine = started(name, sandbox(Warm::Off, cache.path())).await;
        seen.add(name, &machine).await;
        if name == "cold 2" {
            let child = fork("child of cold 2", &machine).await;
            seen.add("child of cold 2", &child).await;
            child.stop().await.unwrap();
        }
        machine.stop().await.unwrap();
    }
    let started_first = started("copy 1, after its template", sandbox(Warm::Make, cache.path()));
    let one = started_first.await;
    let two = started("copy 2", sandbox(Warm::Make, cache.path())).await;
    for (name, machine) in [("copy 1", &one), ("copy 2", &two)] {
        let timing = machine.boot_timing().unwrap();
        assert!(timing.warm && !timing.forked, "{name}: {:?}", timing.cold_reason);
        seen.add(name, machine).await;
    }
    one.stop().await.unwrap();
    two.stop().await.unwrap();

    let waiting = sandbox(Warm::Fork, cache.path()).one_of_many();
    let parent = started("fork 1, after what waits", waiting).await;
    let other = started("fork 2", sandbox(Warm::Fork, cache.path()).one_of_many()).await;
    for (name, machine) in [("fork 1", &parent), ("fork 2", &other)] {
        assert!(machine.boot_timing().unwrap().forked, "{name}");
        seen.add(name, machine).await;
    }
    // Deeper than systemd lets a service start in a short time.
    let mut line = vec![parent];
    for depth in 1..=7 {
        let name = format!("child {depth}");
        let child = fork(&name, line.last().unwrap()).await;
        assert!(child.boot_timing().unwrap().forked, "{name}");
        seen.add(&name, &child).await;
        line.push(child);
    }
    // The parent goes on with its own.
    let before = host_keys("fork 1", &line[0]).await;
    assert!(before.values().all(|key| seen.keys[key] == "fork 1"), "{before:?}");
    // So does one that goes back to a checkpoint.
    line[0].checkpoint("with its keys").await.unwrap();
    line[0].revert("with its keys").await.unwrap();
    assert_eq!(host_keys("fork 1", &line[0]).await, before);
    assert_eq!(run(&line[7], "systemctl is-system-running || systemctl --failed").await, "running");
    eprintln!("{} host keys of {} kinds, all different", seen.keys.len(), seen.kinds.len());
    for machine in line.iter().chain([&other]) {
        machine.stop().await.unwrap();
    }
}

/// A server that somebody started by hand in place of the service, which has gone to the background, and one that
/// is not there.
#[tokio::test(flavor = "multi_thread")]
async fn servers_that_no_service_manager_started_change_their_keys_too() {
    let cache = tempfile::tempdir().unwrap();
    let machine = started("cold", sandbox(Warm::Off, cache.path())).await;
    let mut seen = Seen::default();
    seen.add("cold", &machine).await;
    run(&machine, "systemctl stop ssh.socket ssh.service 2>/dev/null; systemctl stop ssh.service")
        .await;
    let child = fork("child without a server", &machine).await;
    assert_eq!(run(&child, "systemctl is-active ssh || :").await, "inactive");
    run(&child, "mkdir -p /run/sshd && /usr/sbin/sshd").await;
    seen.add("child with a server of its own", &child).await;
    let grandchild = fork("grandchild", &child).await;
    seen.add("grandchild", &grandchild).await;
    seen.add("grandchild's child", &fork("grandchild's child", &grandchild).await).await;
    for machine in [grandchild, child, machine] {
        machine.stop().await.unwrap();
    }
}
