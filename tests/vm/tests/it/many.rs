//! Many sandboxes at once: no race for anything, one image for all, and an end that is everybody's.

use super::{free_port, host_processes, run};
use runtime_locator::find_image;
use sandbox::Forward;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

const N: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_start_together_on_one_image() {
    let base = find_image(&vm_tests::search(), "minimal", None).unwrap().chain[0].clone();
    let base = fs_err::metadata(base).unwrap();
    // Another run of the tests may be beside this one.
    let name = format!("one-of-many-{}", std::process::id());
    let mut starts = tokio::task::JoinSet::new();
    for index in 0..N {
        // Half of them forward a port, which each must get for itself.
        let mut builder = vm_tests::minimal().extra_qemu_args(["-name", &name]);
        if index % 2 == 0 {
            builder = builder.port_forward(Forward::new(free_port(), 80));
        }
        starts.spawn(async move {
            let sandbox = Arc::new(vm_tests::started(builder).await);
            run(&sandbox, &format!("echo {index} > /own; sync")).await;
            (index, sandbox)
        });
    }
    let all = starts.join_all().await;
    assert_eq!(host_processes(&name).len(), N);
    let mut pids = BTreeSet::new();
    for (index, sandbox) in &all {
        assert_eq!(run(sandbox, "cat /own").await, index.to_string());
        let pid = sandbox.pid().unwrap();
        assert!(pids.insert(pid));
        // All of them read the one file, so that the page cache holds it once.
        let opens_base = fs_err::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten().any(|fd| {
            fs_err::metadata(fd.path())
                .is_ok_and(|it| (it.dev(), it.ino()) == (base.dev(), base.ino()))
        });
        assert!(opens_base, "{pid} does not read the image");
    }
    let begin = Instant::now();
    let mut stops = tokio::task::JoinSet::new();
    for (_, sandbox) in all {
        stops.spawn(async move { sandbox.stop().await.unwrap() });
    }
    stops.join_all().await;
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    assert!(host_processes(&name).is_empty());
}
