//! `quicksand qemu`: which QEMU, from where, why that one, and how fast it can be here.

use crate::{
    args::{QemuArgs, arch_of},
    places,
    report::{FAILURE, Failure},
};
use host_platform::Arch;
use runtime_locator::{AcceleratorRequest, Choice, QemuFind};
use serde_json::{Value, json};

/// Prints it, for people or as JSON.
pub fn run(args: &QemuArgs) -> Result<(), Failure> {
    let arch = arch_of(args.arch.as_deref())?;
    let search = places::search();
    let found =
        runtime_locator::find_qemu(&search, arch).map_err(|error| Failure::locate(&error))?;
    let choice = runtime_locator::choose_accelerator(&search, AcceleratorRequest::Auto, arch);
    let version = version(&found);
    let walls = sandbox::standing_walls().map_err(|error| {
        Failure::new(FAILURE, format!("No process can be started: {error}"), None)
    })?;
    if args.json {
        let mut value = as_json(&found, version.as_deref(), &choice, arch);
        value["walls"] = json!(walls.walls);
        value["missing_walls"] = json!(walls.missing);
        println!("{value:#}");
    } else {
        print!("{}{}", as_text(&found, version.as_deref(), &choice), walls_text(&walls));
    }
    Ok(())
}

/// What the emulator says of itself; none when it does not run here.
fn version(found: &QemuFind) -> Option<String> {
    let text = duct::cmd!(&found.system, "--version").stderr_null().read().ok()?;
    parse_version(&text)
}

fn parse_version(text: &str) -> Option<String> {
    let version = text.lines().next()?.split("version ").nth(1)?;
    version.split_whitespace().next().map(str::to_owned)
}

fn as_json(found: &QemuFind, version: Option<&str>, choice: &Choice, arch: Arch) -> Value {
    json!({
        "qemu_binary": found.system,
        "qemu_img": found.img,
        "firmware_dir": found.firmware_dir,
        "version": version,
        "arch": arch.image_name(),
        "source": found.source.to_string(),
        "tried": found.tried.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "accelerator": choice.accelerator.name(),
        "accelerator_reason": choice.reason,
    })
}

fn as_text(found: &QemuFind, version: Option<&str>, choice: &Choice) -> String {
    let unknown = "unknown: it does not run here";
    let mut lines = vec![
        format!("QEMU:        {}", found.system.display()),
        format!("version:     {}", version.unwrap_or(unknown)),
        format!("found in:    {}", found.source),
    ];
    lines.extend(found.firmware_dir.iter().map(|path| format!("firmware:    {}", path.display())));
    lines.extend(found.img.iter().map(|path| format!("qemu-img:    {}", path.display())));
    lines.push(format!("accelerator: {} ({})", choice.accelerator.name(), choice.reason));
    lines.extend(found.tried.iter().map(|attempt| format!("tried:       {attempt}")));
    lines.into_iter().map(|line| line + "\n").collect()
}

/// What stands between a QEMU that a guest has taken over and this host.
fn walls_text(walls: &sandbox::Walls) -> String {
    let names: Vec<&str> = walls.walls.iter().map(|wall| wall.name()).collect();
    let missing = walls.missing.iter();
    let missing = missing.map(|(wall, why)| format!("no wall:     {}: {why}\n", wall.name()));
    std::iter::once(format!("walls:       {}\n", names.join(", "))).chain(missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_distributions_write_them() {
        for (text, expect) in [
            ("QEMU emulator version 10.2.2\nCopyright", Some("10.2.2")),
            ("QEMU emulator version 7.2.19 (Debian 1:7.2+dfsg-7+deb12u16)\n", Some("7.2.19")),
            ("something else", None),
            ("", None),
        ] {
            assert_eq!(parse_version(text).as_deref(), expect, "{text}");
        }
    }
}
