//! What the machine tests share: where QEMU and images are, and a machine of the usual kind.
//!
//! A test that finds neither fails with a message: nothing here is ever skipped in silence.

use runtime_locator::Search;
use sandbox::{Sandbox, SandboxConfig, SandboxConfigBuilder};
use std::path::PathBuf;

/// Where the tests look: what the environment names (`QUICKSAND_QEMU_DIR`,
/// `QUICKSAND_IMAGE_PATH`), or what the build has left in `target/dist-tree`.
///
/// # Panics
/// When there is no QEMU or no image `minimal`, with what to do.
pub fn search() -> Search {
    let mut search = Search::from_process(Vec::new());
    let tree = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/dist-tree");
    search.site_packages.push(tree);
    let arch = search.host.arch;
    if let Err(error) = runtime_locator::find_qemu(&search, arch) {
        panic!("{error}\nhint: `cargo xtask test vm` builds QEMU and names its folder");
    }
    if let Err(error) = runtime_locator::find_image(&search, "minimal", Some(arch)) {
        panic!("{error}\nhint: `cargo xtask test vm` bakes the image and names its folder");
    }
    search
}

/// A configuration for the smallest machine, which boots. With `QUICKSAND_TEST_WARM=make` the tests run
/// with copies of a template, where there can be any.
pub fn minimal() -> SandboxConfigBuilder {
    let warm = std::env::var("QUICKSAND_TEST_WARM").unwrap_or_else(|_| "off".into());
    SandboxConfig::builder("minimal").memory("128M").option("warm", warm)
}

/// A sandbox of a configuration, not started.
pub fn sandbox(builder: SandboxConfigBuilder) -> Sandbox {
    let config = builder.build().expect("the test's configuration is right");
    Sandbox::new(config).with_locator(search())
}

/// A started sandbox.
pub async fn started(builder: SandboxConfigBuilder) -> Sandbox {
    let sandbox = sandbox(builder);
    if let Err(error) = sandbox.start().await {
        panic!("{error}\nhint: {:?}", error.hint());
    }
    sandbox
}
