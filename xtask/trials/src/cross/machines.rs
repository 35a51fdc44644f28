//! Machines of the Windows command under Wine: `quicksand.exe` starts our own QEMU for Windows, boots
//! `minimal` and runs commands in it, by the tcp transport that Windows has.
//!
//! Wine is no Windows: that the processor's virtualisation is used, and that nothing of Wine's own helps,
//! is not proved here.

use super::{
    Tools, WINDOWS,
    wine::{Call, Wine},
};
use anyhow::{Result, ensure};
use std::path::Path;
use wheel_retag::Runner;
use xtask_base::{
    context::Context,
    ui::{Step, hinted},
};
use xtask_host::preflight::Needs;

/// What one call of the command must give.
struct Case {
    /// What is tried, for the failure's message.
    what: &'static str,
    args: &'static [&'static str],
    code: i32,
    /// What is printed, without its end of line.
    prints: &'static str,
    /// Words of what is said to stderr.
    says: &'static str,
}

/// Each boots a machine, but the last ones. A later case reads what an earlier one saved.
const CASES: &[Case] = &[
    Case {
        what: "start, execute, stop",
        args: &["run", "minimal", "--", "uname", "-m"],
        code: 0,
        prints: "x86_64",
        says: "",
    },
    Case {
        what: "both streams and an exit code",
        args: &["run", "minimal", "--", "sh", "-c", "echo out; echo err >&2; exit 7"],
        code: 7,
        prints: "out",
        says: "err",
    },
    Case {
        what: "a command that is not there",
        args: &["run", "minimal", "--", "no-such-command"],
        code: 127,
        prints: "",
        says: "no-such-command",
    },
    Case {
        what: "a command that takes too long",
        args: &["run", "--timeout", "2", "minimal", "--", "sleep", "60"],
        code: 124,
        prints: "",
        says: "",
    },
    Case {
        what: "a save",
        args: &["run", "-o", "kept", "minimal", "--", "sh", "-c", "echo of before > /root/note"],
        code: 0,
        prints: "",
        says: "",
    },
    Case {
        what: "a start from the save",
        args: &["run", "kept", "--", "cat", "/root/note"],
        code: 0,
        prints: "of before",
        says: "",
    },
    Case {
        what: "an image that is not there",
        args: &["run", "no-such-image", "--", "true"],
        code: 125,
        prints: "",
        says: "no-such-image",
    },
];

/// What it needs beside the image.
pub fn needs(context: &Context) -> Needs {
    super::needs(context)
        .and(qemu_builder::needs(context, &qemu_builder::Args::for_machine(Runner::WindowsX64)))
}

/// Whether Wine is there or could be installed; says so where not.
pub fn is_ready(context: &Context) -> bool {
    Wine::is_ready(context)
}

/// Builds what is needed and runs the cases; `images` holds `minimal`.
///
/// # Errors
/// Something cannot be built, or a call gives another thing than it must.
pub fn run(context: &Context, images: &Path) -> Result<()> {
    let (bundle, _) =
        qemu_builder::bundle(context, &qemu_builder::Args::for_machine(Runner::WindowsX64))?;
    let tools = Tools::ready(context, &[WINDOWS])?;
    context.ui.step("Build for Windows", |step| {
        step.run(tools.cargo(context, WINDOWS, &["build", "--package", "quicksand-cli"]))
    })?;
    let command = tools.target_dir.join(WINDOWS).join("debug/quicksand.exe");
    context.ui.step("Run machines under Wine", |step| {
        step.run(super::wine::random_library(context, &command))?;
        let wine = Wine::start(step)?;
        // Saves go below the working folder.
        let work = tempfile::tempdir()?;
        let wine = wine.in_folder(work.path());
        let outcome = all(step, &wine, &command, &bundle.join("bin"), images);
        wine.stop();
        outcome
    })
}

fn all(step: &Step, wine: &Wine, command: &Path, qemu: &Path, images: &Path) -> Result<()> {
    let program = command.to_str().unwrap_or_default();
    let variables = [
        ("QUICKSAND_QEMU_DIR", windows_path(qemu)),
        ("QUICKSAND_IMAGE_PATH", windows_path(images)),
    ];
    step.expect(CASES.len() as u64);
    for (number, case) in CASES.iter().enumerate() {
        step.say(case.what);
        let call =
            wine.call("wine", [program].into_iter().chain(case.args.iter().copied()), &variables)?;
        ensure!(case.fits(&call), case.wrong(&call));
        step.reach(number as u64 + 1);
    }
    Ok(())
}

impl Case {
    fn fits(&self, call: &Call) -> bool {
        let printed = call.stdout.trim_end();
        call.code == self.code && printed == self.prints && call.stderr.contains(self.says)
    }

    fn wrong(&self, call: &Call) -> anyhow::Error {
        hinted(
            format!(
                "Under Wine, {}: `quicksand {}` should print `{}`, say `{}` and end with {}, but it \
                 said:\n{call}",
                self.what,
                self.args.join(" "),
                self.prints,
                self.says,
                self.code
            ),
            "crates/sandbox/src/launch/windows.rs starts QEMU on Windows",
        )
    }
}

/// A path of this host as Wine's drive Z has it.
fn windows_path(path: &Path) -> String {
    format!("Z:{}", path.display().to_string().replace('/', "\\"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_differs_in_anything_does_not_fit() {
        let call = |code: i32, stdout: &str, stderr: &str| Call {
            code,
            stdout: stdout.to_owned(),
            stderr: stderr.to_owned(),
        };
        let case = &CASES[1];
        assert!(case.fits(&call(7, "out\n", "warning\nerr\n")));
        for other in [call(0, "out\n", "err\n"), call(7, "", "err\n"), call(7, "out\n", "")] {
            assert!(!case.fits(&other), "{other}");
        }
        assert_eq!(windows_path(Path::new("/a/b")), r"Z:\a\b");
    }
}
