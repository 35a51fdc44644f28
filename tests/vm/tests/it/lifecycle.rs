//! Start and stop: progress, timings, states, the ends that nobody asked for, and the base image.

use super::{eventually, execute, host_processes, run};
use runtime_locator::find_image;
use rustix::process::{Pid, Signal, kill_process};
use sandbox::{Accelerator, DONE, Error, ExecuteRequest, STAGES, Sandbox, SandboxConfig, WaitFor};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid as i32).expect("a process number is not zero");
    kill_process(pid, signal).expect("QEMU is ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quick_start_with_progress_and_timings() {
    let stages = Arc::new(Mutex::new(Vec::new()));
    let teller = Arc::clone(&stages);
    let sandbox =
        vm_tests::sandbox(vm_tests::minimal()).on_progress(move |stage, current, total| {
            teller.lock().unwrap().push((stage.to_owned(), current, total));
        });
    let start = Instant::now();
    sandbox.start().await.unwrap_or_else(|error| panic!("{error}"));
    let elapsed = start.elapsed();
    assert!(sandbox.is_running());
    assert!(run(&sandbox, "uname -a").await.starts_with("Linux"));
    let mut expect: Vec<(String, usize, usize)> =
        STAGES.iter().enumerate().map(|(index, stage)| (stage.to_string(), index, 4)).collect();
    expect.push((DONE.to_owned(), 4, 4));
    assert_eq!(*stages.lock().unwrap(), expect);
    let timing = sandbox.boot_timing().unwrap();
    let sum = timing.locate + timing.prepare + timing.launch + timing.boot;
    assert!(
        timing.total <= elapsed && sum <= timing.total + Duration::from_millis(5),
        "{timing:?}"
    );
    let marks: Vec<&str> = timing.guest_marks.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(marks, ["init", "root", "ready"]);
    assert!(matches!(sandbox.start().await, Err(Error::AlreadyRunning)));
    let pid = sandbox.pid().unwrap();
    sandbox.stop().await.unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    sandbox.stop().await.unwrap();
    assert!(!sandbox.is_running());
    let error = sandbox.execute(ExecuteRequest::new("true")).await.unwrap_err().to_string();
    assert!(error.contains("non-running"), "{error}");
    // A stopped sandbox may start again, from the untouched image.
    sandbox.start().await.unwrap();
    assert_eq!(run(&sandbox, "echo again").await, "again");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_share_the_base_and_never_write_it() {
    let base = find_image(&vm_tests::search(), "minimal", None).unwrap().chain[0].clone();
    let hash = || checksum::sha256(&fs_err::read(&base).unwrap());
    let before = hash();
    let (one, two) = tokio::join!(
        vm_tests::started(vm_tests::minimal()),
        vm_tests::started(vm_tests::minimal())
    );
    tokio::join!(
        run(&one, "echo one > /which; dd if=/dev/zero of=/fill bs=1M count=8; sync"),
        run(&two, "echo two > /which; sync")
    );
    assert_eq!(run(&one, "cat /which").await, "one");
    assert_eq!(run(&two, "cat /which").await, "two");
    one.stop().await.unwrap();
    assert_eq!(run(&two, "cat /which").await, "two");
    two.stop().await.unwrap();
    assert_eq!(hash(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unexpected_end_of_qemu_is_an_error() {
    let sandbox = Arc::new(vm_tests::started(vm_tests::minimal()).await);
    let pid = sandbox.pid().unwrap();
    let call = tokio::spawn({
        let sandbox = Arc::clone(&sandbox);
        async move { sandbox.execute(ExecuteRequest::new("sleep 100")).await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    signal(pid, Signal::KILL);
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(&error, Error::QemuExited { status, .. } if status == "signal 9"), "{error}");
    assert!(!sandbox.is_running());
    let error = sandbox.execute(ExecuteRequest::new("true")).await.unwrap_err();
    assert!(matches!(error, Error::QemuExited { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_qemu_that_crashes_at_once_is_started_once_more() {
    let folder = tempfile::tempdir().unwrap();
    let firmware = folder.path().join("share/qemu");
    fs_err::create_dir_all(&firmware).unwrap();
    fs_err::write(firmware.join("targets"), "crash").unwrap();
    let emulator = format!("qemu-system-{}", std::env::consts::ARCH);
    fs_err::copy(env!("CARGO_BIN_EXE_hostile"), folder.path().join(emulator)).unwrap();
    let mut search = vm_tests::search();
    search.qemu_dir = Some(folder.path().to_owned());
    let n_launched = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&n_launched);
    let sandbox = Sandbox::new(vm_tests::minimal().build().unwrap())
        .with_locator(search)
        .on_progress(move |_, stage, _| {
            counter.fetch_add(usize::from(stage == 2), Ordering::SeqCst);
        });
    let error = sandbox.start().await.unwrap_err();
    // The first process of a namespace is not ended by SIGABRT, and `abort` then executes what is no instruction.
    let Error::QemuExited { status, .. } = &error else { panic!("{error}") };
    assert!(["signal 6", "signal 11"].contains(&status.as_str()), "{error}");
    assert_eq!(n_launched.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_guest_is_shown_with_the_end_of_its_console() {
    let sandbox = vm_tests::started(vm_tests::minimal()).await;
    let request = ExecuteRequest::new("sleep 0.2; echo c > /proc/sysrq-trigger; sleep 100");
    let error = sandbox.execute(request).await.unwrap_err();
    assert!(matches!(error, Error::QemuExited { .. }), "{error}");
    assert!(error.to_string().contains("Kernel panic - not syncing"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_hangs_does_not_hang_its_caller() {
    let sandbox = vm_tests::started(vm_tests::minimal()).await;
    let pid = sandbox.pid().unwrap();
    signal(pid, Signal::STOP);
    let start = Instant::now();
    let request = ExecuteRequest::new("true").timeout(Duration::from_secs(1));
    let error = sandbox.execute(request).await.unwrap_err();
    assert!(matches!(error, Error::GuestSilent { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(13), "{:?}", start.elapsed());
    signal(pid, Signal::CONT);
    assert_eq!(run(&sandbox, "echo back").await, "back");
    signal(pid, Signal::STOP);
    // A stopped process can be ended, too.
    sandbox.stop().await.unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_a_start_and_a_dropped_start_leaves_nothing() {
    let named = |name: &str| vm_tests::minimal().extra_qemu_args(["-name", name]);
    let sandbox = Arc::new(vm_tests::sandbox(named("stopped-while-starting")));
    let start = tokio::spawn({
        let sandbox = Arc::clone(&sandbox);
        async move { sandbox.start().await }
    });
    let limit = Duration::from_secs(10);
    eventually("a QEMU", limit, async || !host_processes("stopped-while-starting").is_empty())
        .await;
    sandbox.stop().await.unwrap();
    assert!(matches!(start.await.unwrap(), Err(Error::Stopped { .. })));
    assert!(!sandbox.is_running());
    let gone = async || host_processes("stopped-while-starting").is_empty();
    eventually("the end of QEMU", Duration::from_secs(20), gone).await;

    let sandbox = vm_tests::sandbox(named("dropped-while-starting"));
    let start = tokio::time::timeout(Duration::from_millis(300), sandbox.start());
    assert!(start.await.is_err());
    let gone = async || host_processes("dropped-while-starting").is_empty();
    eventually("the end of QEMU", Duration::from_secs(20), gone).await;
    sandbox.start().await.unwrap();
    // Calls that are under way learn of a stop.
    let (call, _) = tokio::join!(sandbox.execute(ExecuteRequest::new("sleep 100")), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        sandbox.stop().await.unwrap();
    });
    assert!(matches!(call, Err(Error::Stopped { action: "execute" })), "{call:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_makes_no_progress_falls_back_to_tcg() {
    // Where hardware acceleration works, this machine simply keeps it.
    let native = sandbox::native_accelerator(vm_tests::search().host.os);
    let sandbox = vm_tests::sandbox(vm_tests::minimal()).assuming(native);
    sandbox.start().await.unwrap_or_else(|error| panic!("{error}"));
    let accelerator = sandbox.accelerator().unwrap();
    let reason = sandbox.accelerator_reason().unwrap();
    let fell_back = accelerator == Accelerator::Tcg && reason.contains("no progress");
    assert!(accelerator == native || fell_back, "{accelerator:?}: {reason}");
    assert_eq!(execute(&sandbox, "true").await.exit_code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn debian_answers_and_its_boot_can_be_waited_for() {
    let builder = SandboxConfig::builder("debian").wait_for(WaitFor::Boot);
    let sandbox = vm_tests::started(builder).await;
    assert_eq!(run(&sandbox, ". /etc/os-release; echo $ID").await, "debian");
    let state = execute(&sandbox, "systemctl is-system-running").await.stdout_lossy();
    assert!(["running\n", "degraded\n"].contains(&&*state), "{state}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guests_clock_counts_as_the_hosts() {
    let sandbox = vm_tests::started(vm_tests::minimal()).await;
    // When the host asked, at the earliest and the latest, and what the guest's clock was then.
    let ask = async || {
        let before = Instant::now();
        let uptime = run(&sandbox, "cut -d' ' -f1 /proc/uptime").await;
        (before, before.elapsed().as_secs_f64(), uptime.parse::<f64>().unwrap())
    };
    let first = ask().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let second = ask().await;
    let guest = second.2 - first.2;
    let between = second.0.duration_since(first.0).as_secs_f64();
    // A hundredth of a second is what `/proc/uptime` tells.
    let allowed = between * 0.99 - first.1 - 0.02..between * 1.01 + second.1 + 0.02;
    assert!(allowed.contains(&guest), "{guest} s in {allowed:?}");
    if cfg!(target_arch = "x86_64") && sandbox.accelerator() == Some(sandbox::Accelerator::Tcg) {
        let command_line = run(&sandbox, "cat /proc/cmdline").await;
        assert!(command_line.contains(" tsc_early_khz="), "{command_line}");
    }
    sandbox.stop().await.unwrap();
}
