//! The guest agent's binary for an image: static, small, built once for each state of its sources.

use crate::{cache::Key, context::Context, ui::hinted};
use anyhow::Result;
use duct::cmd;
use fs_err as fs;
use host_platform::Arch;
use std::path::PathBuf;

/// What the binary is made from, relative to the workspace's root.
const SOURCES: [&str; 2] = ["crates/guest-agent", "crates/agent-protocol"];
const SHARED: [&str; 3] = ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml"];

/// The path of the binary.
pub fn binary(context: &Context, arch: Arch) -> Result<PathBuf> {
    let target = target(arch)?;
    let mut key = Key::new("agent 1");
    key.add("target", target.as_bytes());
    for source in SOURCES {
        key.add_tree(&context.root.join(source))?;
    }
    for file in SHARED {
        key.add_file(&context.root.join(file))?;
    }
    let entry = context.cache.entry("agent", &key, |folder| {
        context.ui.step("Build the guest agent", |step| {
            let target_dir = context.cache.folder("target-agent")?;
            let build = cmd!(
                "cargo",
                "build",
                "--package",
                "guest-agent",
                "--profile",
                "agent",
                "--target",
                target
            );
            let build = build
                .dir(&context.root)
                .env("CARGO_TARGET_DIR", &target_dir)
                // One static file: it is the initrd's /init, where no library is.
                .env("RUSTFLAGS", "-C target-feature=+crt-static")
                .env_remove("CARGO_ENCODED_RUSTFLAGS");
            step.run(if context.offline { build.env("CARGO_NET_OFFLINE", "true") } else { build })?;
            let made = target_dir.join(target).join("agent/quicksand-agent");
            fs::copy(made, folder.join("agent"))?;
            Ok(())
        })
    })?;
    Ok(entry.join("agent"))
}

/// The target that the agent is compiled for; an error where there is none yet.
pub fn target(arch: Arch) -> Result<&'static str> {
    match arch {
        Arch::Amd64 => Ok("x86_64-unknown-linux-gnu"),
        Arch::Arm64 => Err(hinted(
            "Images for arm64 cannot be baked yet: there is no agent for it",
            "leave out --arch, or use --arch amd64",
        )),
    }
}
