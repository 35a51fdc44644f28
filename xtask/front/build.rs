//! Writes down which compiler this is. cargo runs it again when the compiler changes, so that no run of
//! the front itself has to ask.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    // The one crate that may have no dependencies has no wrapper to call instead.
    #[allow(clippy::disallowed_methods, clippy::disallowed_types)]
    let output = std::process::Command::new(rustc).arg("--version").output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    // `rustc 1.95.0 (hash date)`
    let version = text.split_whitespace().nth(1).unwrap_or_default();
    println!("cargo:rustc-env=XTASK_RUSTC={version}");
}
