//! Runs `quicksand.exe` under Wine: the real registry's answer, and the command as far as it goes
//! without a machine.
//!
//! Wine writes PROCESSOR_ARCHITECTURE again whenever its server starts, so that one server stays
//! alive from the change of the value to the last program that reads it.

use anyhow::{Result, ensure};
use duct::{Expression, cmd};
use fs_err as fs;
use serde_json::Value;
use std::path::{Path, PathBuf};
use xtask_base::{
    context::Context,
    ui::{Step, hinted},
};
use xtask_host::setup;

const PACKAGES: &[&str] = &["wine", "wine64"];
const KEY: &str = r"HKLM\SYSTEM\CurrentControlSet\Control\Session Manager\Environment";

/// What the registry says, with what must follow from it.
const CASES: [(&str, &str, &str); 2] =
    [("ARM64", "arm64", "aarch64"), ("AMD64", "amd64", "x86_64")];

/// Runs the example that tells the host, and the command, in a Wine of its own; says so where Wine
/// cannot be had.
pub fn run(context: &Context, example: &Path, command: &Path) -> Result<()> {
    if !Wine::is_ready(context) {
        return Ok(());
    }
    context.ui.step("Run under Wine", |step| {
        for program in [example, command] {
            step.run(random_library(context, program))?;
        }
        let wine = Wine::start(step)?;
        let outcome = CASES.iter().try_for_each(|case| judge(step, &wine, example, command, *case));
        wine.stop();
        outcome
    })
}

/// Wine before 9 lacks a library that every program of Rust imports: it is put beside the program.
pub fn random_library(context: &Context, program: &Path) -> Expression {
    let source = context.root.join("xtask/trials/src/cross/bcryptprimitives.c");
    let library = program.with_file_name("bcryptprimitives.dll");
    cmd!(super::MINGW_GCC, "-shared", "-O1", "-o", library, source, "-ladvapi32")
}

/// How a program ended.
pub struct Call {
    /// Its exit code.
    pub code: i32,
    /// What it printed, with Unix' ends of lines.
    pub stdout: String,
    /// What it said beside.
    pub stderr: String,
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}exit code {}", self.stdout, self.stderr, self.code)
    }
}

/// A Wine with a registry and drives of its own.
pub struct Wine {
    prefix: tempfile::TempDir,
    /// Where programs start; this process's folder unless it is said.
    folder: Option<PathBuf>,
}

impl Wine {
    /// The same with another working folder of the programs.
    pub fn in_folder(self, folder: &Path) -> Self {
        Self { folder: Some(folder.to_owned()), ..self }
    }

    /// Whether Wine is there or could be installed; says so where not.
    pub fn is_ready(context: &Context) -> bool {
        let outcome = setup::ensure_packages(context, PACKAGES);
        if let Err(error) = &outcome {
            context.ui.line(&format!("    SKIPPED: nothing was run, for want of Wine: {error}"));
        }
        outcome.is_ok()
    }

    /// Makes one, whose server lives until [`Wine::stop`].
    pub fn start(step: &Step) -> Result<Self> {
        let wine = Self { prefix: tempfile::tempdir()?, folder: None };
        // The first start makes the registry and the drive; without a display it only warns.
        step.say("making a Wine environment");
        for (program, option) in
            [("wineboot", "--init"), (&wine_server(), "--wait"), (&wine_server(), "--persistent")]
        {
            let call = wine.call(program, [option], &[])?;
            ensure!(call.code == 0, "`{program} {option}` failed: {}", call.stderr);
        }
        Ok(wine)
    }

    /// Runs a program to its end. Its output goes through files: a pipe stays open as long as the
    /// server and the services that the program started.
    pub fn call<'a>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = &'a str>,
        variables: &[(&str, String)],
    ) -> Result<Call> {
        let (stdout, stderr) = (tempfile::NamedTempFile::new()?, tempfile::NamedTempFile::new()?);
        let mut expression = self
            .run(program, args)
            .unchecked()
            .stdout_path(stdout.path())
            .stderr_path(stderr.path());
        for (name, value) in variables {
            expression = expression.env(name, value);
        }
        let code = expression.run()?.status.code().unwrap_or(-1);
        let text = |path: &Path| -> Result<String> {
            Ok(String::from_utf8_lossy(&fs::read(path)?).replace("\r\n", "\n"))
        };
        Ok(Call { code, stdout: text(stdout.path())?, stderr: text(stderr.path())? })
    }

    fn run<'a>(
        &self,
        program: impl AsRef<str>,
        args: impl IntoIterator<Item = &'a str>,
    ) -> Expression {
        let call = cmd(program.as_ref(), args);
        let call = match &self.folder {
            Some(folder) => call.dir(folder),
            None => call,
        };
        call.env("WINEPREFIX", self.prefix.path())
            .env("WINEARCH", "win64")
            .env("WINEDEBUG", "-all")
            // No window, no offer to fetch Mono or Gecko.
            .env("WINEDLLOVERRIDES", "mscoree,mshtml=")
            .env_remove("DISPLAY")
            .stdin_null()
    }

    /// Ends the server.
    pub fn stop(&self) {
        let _ = self.call(&wine_server(), ["--kill"], &[]);
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
    let set = wine.call("wine", set, &[])?;
    ensure!(set.code == 0, "Wine's registry cannot be changed: {}", set.stderr);
    // What the tag of a wheel that is built here follows from, whatever the program is compiled for.
    let said = wine.call("wine", [example.to_str().unwrap_or_default()], &[])?;
    let host: Value = serde_json::from_str(&said.stdout).unwrap_or_default();
    let is_right = host["arch"] == arch && host["tag"] == format!("win_{arch}");
    ensure!(is_right && host["process_arch"] == "amd64", wrong(value, arch, &said.to_string()));
    let program = command.to_str().unwrap_or_default();
    let call = |args: &[&str], variables: &[(&str, String)]| {
        wine.call("wine", [program].into_iter().chain(args.iter().copied()), variables)
    };

    // Nothing is installed, so the command says whose QEMU it looked for.
    let outcome = call(&["qemu"], &[])?;
    let expect = format!("QEMU for {arch} guests (qemu-system-{qemu_name}) not found");
    let is_right = outcome.code == 1 && outcome.stderr.contains(&expect);
    ensure!(is_right, wrong(value, &expect, &outcome.to_string()));
    let outcome = call(&["list", "--json"], &[])?;
    let is_right = outcome.code == 0 && outcome.stdout.trim() == "[]";
    ensure!(is_right, wrong(value, "an empty list", &outcome.to_string()));

    // The fat bundle: the hardware's half is taken, whatever this program was compiled for.
    let fat = tempfile::tempdir()?;
    for (_, other, name) in CASES {
        let folder = fat.path().join(package_layout::qemu::fat_dir(other).unwrap_or_default());
        fs::create_dir_all(&folder)?;
        fs::copy(command, folder.join(format!("qemu-system-{name}.exe")))?;
    }
    let folder = fat.path().display().to_string();
    let folder = format!("Z:{}", folder.replace('/', "\\"));
    let found = call(&["qemu", "--json"], &[("QUICKSAND_QEMU_DIR", folder)])?;
    let answer: Value = serde_json::from_str(&found.stdout).unwrap_or_default();
    let binary = answer["qemu_binary"].as_str().unwrap_or_default().replace('\\', "/");
    let half = PathBuf::from(package_layout::qemu::fat_dir(arch).unwrap_or_default());
    let expect = half.join(format!("qemu-system-{qemu_name}.exe"));
    let is_right = found.code == 0 && Path::new(&binary).ends_with(&expect);
    ensure!(is_right, wrong(value, &expect.display().to_string(), &found.to_string()));
    step.say(format!("{value}: {arch}"));
    Ok(())
}

fn wrong(value: &str, expect: &str, outcome: &str) -> anyhow::Error {
    hinted(
        format!(
            "With {value} in the registry the command should say {expect}, but it said:\n{outcome}"
        ),
        "crates/host-platform/src/native.rs reads the registry",
    )
}
