//! A machine of the architecture that this host is not, emulated: its kernel, its devices over MMIO,
//! and the agent that was compiled for it.

use super::{execute, run};
use runtime_locator::{Accelerator, Search};
use sandbox::{ExecuteRequest, Sandbox, SandboxConfig, Transport};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "its image takes minutes to bake on a new host; `cargo xtask test other-arch` does both"]
async fn a_machine_of_the_other_architecture_runs_commands() {
    let search = Search::from_process(Vec::new());
    let arch = search.host.arch.other();
    for transport in [Transport::Socket, Transport::Tcp] {
        let config = SandboxConfig::builder("minimal").arch(arch).memory("256M");
        let config = config.transport(transport).build().unwrap();
        let sandbox = Sandbox::new(config).with_locator(search.clone());
        if let Err(error) = sandbox.start().await {
            panic!("{error}\nhint: {:?}", error.hint());
        }
        assert_eq!(sandbox.accelerator(), Some(Accelerator::Tcg));
        assert_eq!(run(&sandbox, "uname -m").await, arch.qemu_name());
        assert_eq!(execute(&sandbox, "exit 7").await.exit_code, 7);
        let echo = ExecuteRequest::new("wc -c").stdin(vec![0; 100_000]);
        let echo = sandbox.execute(echo).await.unwrap();
        assert_eq!(echo.stdout_lossy().trim(), "100000");

        // What is forked off by other means than the usual dies with its command as well.
        let slow = ExecuteRequest::new("setsid sleep 77 & sleep 77");
        let slow = sandbox.execute(slow.timeout(Duration::from_secs(2))).await.unwrap();
        assert!(slow.timed_out, "{slow:?}");
        assert_eq!(super::count_in_guest(&sandbox, "sleep 77").await, 0);
        sandbox.stop().await.unwrap();
    }
}
