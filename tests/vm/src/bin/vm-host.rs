//! A host program for the tests: starts a sandbox, says so, and waits to be ended in whatever way.
//!
//! `vm-host IMAGE [COMMAND…]` prints QEMU's process number and, for each command, what it puts out
//! and where the time went, or its error; `rm:PATH` removes a file of the host instead, and `9p:PATH`
//! shares a folder at `/mnt/9p`. Then it sleeps until its standard input ends. With `forks:CACHE` it starts
//! three by forks, with templates in that folder, and a child of the last one, which goes back to a
//! checkpoint, and prints four numbers.

use sandbox::{
    ExecuteRequest, Mount, MountType, Sandbox, SandboxConfig, SandboxConfigBuilder, Warm,
};
use tokio::io::AsyncReadExt;

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let image = args.next().unwrap_or_else(|| "minimal".into());
    let mut builder = SandboxConfig::builder(image).memory("256M");
    let mut commands = Vec::new();
    let mut forks = Vec::new();
    for arg in args {
        if let Some(cache) = arg.strip_prefix("forks:") {
            for _ in 0..3 {
                forks.push(fork(builder.clone(), cache).await);
            }
            forks.push(child(&forks[2]).await);
            continue;
        }
        match arg.strip_prefix("9p:") {
            Some(path) => {
                builder = builder.mount(Mount::new(path, "/mnt/9p").kind(MountType::Plan9));
            }
            None => commands.push(arg),
        }
    }
    for fork in &forks {
        println!("{}", fork.pid().unwrap_or_default());
    }
    let sandbox = vm_tests::started(builder).await;
    if forks.is_empty() {
        println!("{}", sandbox.pid().unwrap_or_default());
    }
    for command in commands {
        if let Some(path) = command.strip_prefix("rm:") {
            fs_err::remove_file(path).expect("the file is there");
            continue;
        }
        match sandbox.execute(ExecuteRequest::new(command)).await {
            Ok(result) => println!("{}{:?}", result.stdout_lossy(), sandbox.boot_timing()),
            Err(error) => println!("{error}"),
        }
    }
    let mut rest = Vec::new();
    // The end of the input is the sign to leave; what comes before it means nothing.
    let _ = tokio::io::stdin().read_to_end(&mut rest).await;
}

async fn fork(builder: SandboxConfigBuilder, cache: &str) -> Sandbox {
    let search = sandbox::Search { cache_dir: Some(cache.into()), ..vm_tests::search() };
    let config = builder.warm(Warm::Fork).build().expect("the test's configuration is right");
    let sandbox = Sandbox::new(config).with_locator(search).one_of_many();
    sandbox.start().await.expect("a start");
    assert!(sandbox.boot_timing().is_some_and(|timing| timing.forked), "it is no fork");
    sandbox
}

async fn child(parent: &Sandbox) -> Sandbox {
    let child = parent.fork(std::num::NonZeroUsize::MIN).await.expect("a child").remove(0);
    let timing = child.boot_timing().expect("it runs");
    assert!(timing.forked, "{:?}", timing.unforked_reason);
    child.checkpoint("one").await.expect("a checkpoint");
    child.revert("one").await.expect("a revert");
    child
}
