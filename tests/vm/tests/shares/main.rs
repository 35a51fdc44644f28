//! What people do in a project, on a share by FUSE in a machine of `debian-agent`; then looked at from the
//! host. `cargo xtask test shares` runs it.
//!
//! All tests have one machine and one share, and a folder of their own in it.
#![cfg(target_os = "linux")]

mod files;
mod posix;
mod projects;
mod sqlite;

use sandbox::{ExecuteRequest, Mount, NetworkMode, Sandbox, SandboxConfig};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Where the share is in the guest.
const PLACE: &str = "/mnt/s";
/// How long one job may take in an emulated machine on a busy host.
const LIMIT: Duration = Duration::from_secs(900);

struct Machine {
    runtime: Runtime,
    sandbox: Sandbox,
    folder: tempfile::TempDir,
}

/// Lives as long as the test process, as QEMU does.
static MACHINE: LazyLock<Machine> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = Runtime::new().expect("a runtime");
    let builder = SandboxConfig::builder("debian-agent")
        .memory("1G")
        .network_mode(NetworkMode::None)
        .mount(Mount::new(folder.path(), PLACE));
    let sandbox = runtime.block_on(vm_tests::started(builder));
    Machine { runtime, sandbox, folder }
});

/// A folder of the share, by its names on both sides.
struct Place {
    host: PathBuf,
    guest: String,
}

impl Place {
    fn new(name: &str) -> Self {
        let host = MACHINE.folder.path().join(name);
        fs_err::create_dir(&host).expect("each test has its own name");
        Self { host, guest: format!("{PLACE}/{name}") }
    }

    /// Runs a script of bash in the folder, which ends at the first failure; gives what it prints.
    fn bash(&self, script: &str) -> String {
        self.run("bash -euo pipefail -s", script)
    }

    /// Runs a script of Python in the folder.
    fn python(&self, script: &str) -> String {
        self.run("python3 -", script)
    }

    fn run(&self, program: &str, script: &str) -> String {
        let request = ExecuteRequest::new(format!("cd {} && {program}", self.guest));
        let request = request.stdin(script.to_owned()).timeout(LIMIT);
        let result = MACHINE.runtime.block_on(MACHINE.sandbox.execute(request));
        let result = result.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(result.exit_code, 0, "{result:?}");
        result.stdout_lossy().trim_end().to_owned()
    }

    /// Runs a command of the host in the folder.
    fn on_host(&self, program: &str, args: &[&str]) -> String {
        let run = duct::cmd(program, args).dir(&self.host).env("PYTHONDONTWRITEBYTECODE", "1");
        run.read().unwrap_or_else(|error| panic!("{program} {args:?}: {error}"))
    }

    fn host(&self, name: impl AsRef<Path>) -> PathBuf {
        self.host.join(name)
    }

    fn text(&self, name: impl AsRef<Path>) -> String {
        fs_err::read_to_string(self.host(name)).unwrap()
    }
}
