//! Prints what this host is and the platform tag of wheels that are built on it, as JSON:
//! `cargo run -p host-platform --example host`. Where the hardware and the process differ, the tag
//! follows the hardware.

fn main() {
    let host = host_platform::host();
    println!(
        r#"{{"os": "{}", "arch": "{}", "process_arch": "{}", "tag": "{}"}}"#,
        host.os,
        host.arch,
        host.process_arch,
        host_platform::wheel_platform_tag(&host, None)
    );
}
