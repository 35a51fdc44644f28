//! A host program for the tests: starts a sandbox, says so, and waits to be ended in whatever way.
//!
//! `vm-host IMAGE [COMMAND]` prints QEMU's process number and, with a command, what it puts out and
//! where the time went; then it sleeps until its standard input ends.

use sandbox::{ExecuteRequest, SandboxConfig};
use tokio::io::AsyncReadExt;

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let image = args.next().unwrap_or_else(|| "minimal".into());
    let builder = SandboxConfig::builder(image).memory("256M");
    let sandbox = vm_tests::started(builder).await;
    println!("{}", sandbox.pid().unwrap_or_default());
    if let Some(command) = args.next() {
        match sandbox.execute(ExecuteRequest::new(command)).await {
            Ok(result) => println!("{}{:?}", result.stdout_lossy(), sandbox.boot_timing()),
            Err(error) => println!("{error}"),
        }
    }
    let mut rest = Vec::new();
    // The end of the input is the sign to leave; what comes before it means nothing.
    let _ = tokio::io::stdin().read_to_end(&mut rest).await;
}
