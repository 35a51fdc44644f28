//! Starts from templates: what a copy can do, what no two copies share, and what becomes of a template
//! that is not right.

use super::run;
use runtime_locator::Search;
use sandbox::{NetworkMode, Sandbox, SandboxConfigBuilder, Warm};
use std::collections::HashSet;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where a test keeps its templates.
fn search(cache: &Path) -> Search {
    Search { cache_dir: Some(cache.to_owned()), ..vm_tests::search() }
}

async fn started(builder: SandboxConfigBuilder, cache: &Path) -> Sandbox {
    let config = builder.warm(Warm::Make).build().unwrap();
    let sandbox = Sandbox::new(config).with_locator(search(cache));
    if let Err(error) = sandbox.start().await {
        panic!("{error}\nhint: {:?}", error.hint());
    }
    sandbox
}

fn is_warm(sandbox: &Sandbox) -> bool {
    sandbox.boot_timing().unwrap().warm
}

fn names(cache: &Path) -> Vec<String> {
    let entries = fs_err::read_dir(cache.join("templates")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_answer_soon_and_share_nothing_that_tells_who_they_are() {
    let cache = tempfile::tempdir().unwrap();
    let mut seen: [HashSet<String>; 4] = Default::default();
    let mut sandboxes = Vec::new();
    // A run of many by hand: they do not all fit into a host's memory at once.
    let n = std::env::var("QUICKSAND_COPIES").map_or(5, |n| n.parse().unwrap());
    for _ in 0..n {
        let sandbox = started(vm_tests::minimal(), cache.path()).await;
        assert!(is_warm(&sandbox));
        eprintln!("{:?}", sandbox.boot_timing().unwrap());
        let script = "cat /proc/sys/kernel/random/uuid; cat /proc/sys/kernel/random/boot_id; \
                      cat /sys/class/net/eth0/address; head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n'";
        let output = run(&sandbox, script).await;
        for (set, line) in seen.iter_mut().zip(output.lines()) {
            set.insert(line.to_owned());
        }
        // The guest's clock is the host's, to a twentieth of a second and what a command takes.
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let guest: f64 = run(
            &sandbox,
            "cut -d' ' -f1 /proc/uptime >/dev/null; date +%s.%N 2>/dev/null | sed 's/[^0-9.]//g'",
        )
        .await
        .parse()
        .unwrap();
        let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((before - 1.05..after + 0.05).contains(&guest), "{before} {guest} {after}");
        sandboxes.push(sandbox);
        if sandboxes.len() > 5 {
            sandboxes.remove(0).stop().await.unwrap();
        }
    }
    for set in &seen {
        assert_eq!(set.len(), n, "{set:?}");
    }
    // What one writes no other sees.
    run(&sandboxes[0], "echo mine > /mine; sync").await;
    assert_eq!(run(&sandboxes[1], "ls /mine 2>/dev/null || echo none").await, "none");
    for sandbox in &sandboxes {
        sandbox.stop().await.unwrap();
    }
    assert_eq!(names(cache.path()).len(), 5, "{:?}", names(cache.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_does_what_a_machine_does() {
    let cache = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("host.txt"), "from the host").unwrap();
    let workspace = tempfile::tempdir().unwrap();
    let builder = vm_tests::minimal()
        .network_mode(NetworkMode::MountsOnly)
        .workspace(workspace.path())
        .mount(sandbox::Mount::new(folder.path(), "/mnt/host"));
    let sandbox = started(builder, cache.path()).await;
    assert!(is_warm(&sandbox));
    assert_eq!(run(&sandbox, "cat /mnt/host/host.txt").await, "from the host");
    run(&sandbox, "echo guest > /mnt/host/guest.txt; echo kept > /kept").await;
    assert_eq!(fs_err::read_to_string(folder.path().join("guest.txt")).unwrap(), "guest\n");
    sandbox.checkpoint("one").await.unwrap();
    run(&sandbox, "echo lost > /kept; sync").await;
    sandbox.revert("one").await.unwrap();
    assert_eq!(run(&sandbox, "cat /kept").await, "kept");
    sandbox.save("of-a-copy", &sandbox::save::SaveOptions::default()).await.unwrap();
    sandbox.stop().await.unwrap();
    let place = workspace.path().join("of-a-copy");
    let again = sandbox::SandboxConfig::builder(place.to_str().unwrap());
    let again = started(again.workspace(workspace.path()), cache.path()).await;
    assert!(!is_warm(&again), "a save starts from its disk");
    assert_eq!(run(&again, "cat /kept").await, "kept");
    again.stop().await.unwrap();
}

/// Where an image has what makes its secrets again.
const PROGRAM: &str = "/usr/lib/quicksand/new-identity";

/// An image on `minimal` with this program: what a machine has saved, where images are installed.
async fn image_with(program: &str, folder: &Path) -> String {
    let machine = vm_tests::started(vm_tests::minimal().workspace(folder)).await;
    let script = format!(
        "mkdir -p /usr/lib/quicksand; cat > {PROGRAM}; chmod 755 {PROGRAM}; echo first > /secret"
    );
    let request = sandbox::ExecuteRequest::new(script).stdin(format!("#!/bin/sh\n{program}\n"));
    assert_eq!(machine.execute(request).await.unwrap().exit_code, 0);
    machine.save("with-secret", &sandbox::save::SaveOptions::default()).await.unwrap();
    machine.stop().await.unwrap();
    let installed = folder.join("images");
    fs_err::create_dir_all(&installed).unwrap();
    fs_err::rename(folder.join("with-secret"), installed.join("with-secret")).unwrap();
    "with-secret".into()
}

/// A start of it from a template.
async fn started_with(name: &str, folder: &Path) -> Sandbox {
    let cache = folder.join("cache");
    let mut search = search(&cache);
    search.image_path.insert(0, folder.join("images"));
    let config = sandbox::SandboxConfig::builder(name).memory("128M").warm(Warm::Make);
    let sandbox = Sandbox::new(config.build().unwrap()).with_locator(search);
    if let Err(error) = sandbox.start().await {
        panic!("{error}\nhint: {:?}", error.hint());
    }
    sandbox
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_makes_its_secrets_anew_before_a_copy_answers() {
    let folder = tempfile::tempdir().unwrap();
    let program = "set -e; cat /proc/sys/kernel/random/boot_id > /secret; \
                   head -c 16 /dev/urandom | od -An -tx1 >> /secret; id -u >> /secret; pwd >> /secret";
    let name = image_with(program, folder.path()).await;
    let mut seen = HashSet::new();
    for _ in 0..2 {
        let copy = started_with(&name, folder.path()).await;
        assert!(is_warm(&copy), "{:?}", copy.boot_timing().unwrap().cold_reason);
        let secret = run(&copy, "cat /secret").await;
        // The copy had its own names by then.
        assert!(secret.starts_with(&run(&copy, "cat /proc/sys/kernel/random/boot_id").await));
        assert!(secret.ends_with("\n0\n/"), "{secret}");
        let child = copy.fork(std::num::NonZeroUsize::MIN).await.unwrap().remove(0);
        let secrets = [secret, run(&child, "cat /secret").await];
        seen.extend(secrets.map(|secret| secret.lines().nth(1).unwrap().to_owned()));
        child.stop().await.unwrap();
        copy.stop().await.unwrap();
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_keeps_an_old_secret_answers_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let program = "echo 'no key could be made' >&2; exit 3";
    let name = image_with(program, folder.path()).await;
    for expected in ["no key could be made", "a template could not be made"] {
        let begun = std::time::Instant::now();
        let machine = started_with(&name, folder.path()).await;
        let timing = machine.boot_timing().unwrap();
        assert!(!timing.warm);
        let reason = timing.cold_reason.unwrap();
        assert!(reason.contains(PROGRAM) && reason.contains(expected), "{reason}");
        eprintln!("cold after {:.1?}: {reason}", begun.elapsed());
        // It booted, as every machine may.
        assert_eq!(run(&machine, "cat /secret").await, "first");
        let error = machine.fork(std::num::NonZeroUsize::MIN).await.unwrap_err();
        assert!(error.to_string().contains("no key could be made"), "{error}");
        // The machine itself goes on, and one whose program takes for ever is not waited for.
        run(&machine, &format!("printf '#!/bin/sh\nsleep 1000 & sleep 1000\n' > {PROGRAM}")).await;
        if expected == "no key could be made" {
            let begun = std::time::Instant::now();
            let error = machine.fork(std::num::NonZeroUsize::MIN).await.unwrap_err();
            assert!(error.to_string().contains("timed out after 15 s"), "{error}");
            assert!(begun.elapsed().as_secs() < 40, "{:?}", begun.elapsed());
        }
        run(&machine, &format!("rm {PROGRAM}")).await;
        let child = machine.fork(std::num::NonZeroUsize::MIN).await.unwrap().remove(0);
        assert_eq!(run(&child, "cat /secret").await, "first");
        child.stop().await.unwrap();
        machine.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_hands_each_machine_out_once_and_replaces_those_that_died() {
    let cache = tempfile::tempdir().unwrap();
    let config = vm_tests::minimal().warm(Warm::Make).build().unwrap();
    let pool = sandbox::Pool::start(config, 2.try_into().unwrap(), Some(search(cache.path())));
    let one = pool.take().await.unwrap();
    run(&one, "echo used > /used").await;
    let two = pool.take().await.unwrap();
    assert_eq!(run(&two, "ls /used 2>/dev/null || echo new").await, "new");
    assert_ne!(one.pid(), two.pid());
    drop(pool);
    // What was handed out goes on.
    assert_eq!(run(&one, "cat /used").await, "used");
    one.stop().await.unwrap();
    two.stop().await.unwrap();

    let missing = sandbox::SandboxConfig::builder("/nonexistent").build().unwrap();
    let pool = sandbox::Pool::start(missing, 1.try_into().unwrap(), Some(search(cache.path())));
    assert!(pool.take().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_starts_at_once_make_one_template_and_all_start() {
    let cache = tempfile::tempdir().unwrap();
    let starts: Vec<_> = (0..4)
        .map(|_| {
            let cache = cache.path().to_owned();
            tokio::spawn(async move { started(vm_tests::minimal(), &cache).await })
        })
        .collect();
    for start in starts {
        let sandbox = start.await.unwrap();
        assert_eq!(run(&sandbox, "echo fine").await, "fine");
        sandbox.stop().await.unwrap();
    }
    assert_eq!(names(cache.path()).len(), 5, "{:?}", names(cache.path()));
    let sandbox = started(vm_tests::minimal(), cache.path()).await;
    assert!(is_warm(&sandbox));
    sandbox.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_the_second_start_makes_what_is_copied() {
    let cache = tempfile::tempdir().unwrap();
    for expected in [false, true, true] {
        let config = sandbox::SandboxConfig::builder("minimal").memory("160M").build().unwrap();
        let sandbox = Sandbox::new(config).with_locator(search(cache.path()));
        sandbox.start().await.unwrap();
        let timing = sandbox.boot_timing().unwrap();
        assert_eq!(timing.warm, expected, "{:?}", timing.cold_reason);
        assert_eq!(run(&sandbox, "echo fine").await, "fine");
        sandbox.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_is_not_right_is_made_anew_and_never_used() {
    let cache = tempfile::tempdir().unwrap();
    let builder = || vm_tests::minimal().network_mode(NetworkMode::None);
    started(builder(), cache.path()).await.stop().await.unwrap();
    let before: HashSet<String> = names(cache.path()).into_iter().collect();
    let state = before.iter().find(|name| name.ends_with(".state")).unwrap();
    let state = cache.path().join("templates").join(state);
    let mut bytes = fs_err::read(&state).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    fs_err::write(&state, bytes).unwrap();
    let sandbox = started(builder(), cache.path()).await;
    assert_eq!(run(&sandbox, "echo fine").await, "fine");
    sandbox.stop().await.unwrap();
    let after: HashSet<String> = names(cache.path()).into_iter().collect();
    assert!(!after.contains(state.file_name().unwrap().to_str().unwrap()), "{after:?}");
    // Another machine has another template.
    started(builder().memory("192M"), cache.path()).await.stop().await.unwrap();
    assert_eq!(names(cache.path()).iter().filter(|name| name.ends_with(".json")).count(), 2);
}
