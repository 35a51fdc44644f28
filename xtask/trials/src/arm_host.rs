//! Our QEMU for Linux on Arm, run on this host: the emulator of programs that images of another architecture
//! are baked with runs QEMU, and QEMU boots `minimal` for Arm up to its agent.
//!
//! An emulator of programs has no seccomp and no KVM, so that neither `-sandbox` nor acceleration is proved.

use anyhow::{Context as _, Result, ensure};
use duct::cmd;
use host_platform::Arch;
use image_builder::foreign::Runner;
use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    sync::mpsc,
    time::{Duration, Instant},
};
use wheel_retag::Runner as Machine;
use xtask_base::{
    context::Context,
    ui::{Step, hinted},
};
use xtask_host::preflight::Needs;

/// How long a boot may take that is emulated twice.
const BOOT: Duration = Duration::from_secs(1200);

/// What the guest's agent writes on the console when it is there (`agent_protocol::READY_LINE`).
const READY: &str = "quicksand-agent: ready";

/// What it needs beside the image.
pub fn needs(context: &Context) -> Needs {
    qemu_builder::needs(context, &qemu_builder::Args::for_machine(Machine::LinuxArm64))
}

/// Builds QEMU for Linux on Arm, and runs it; `images` holds `minimal` for Arm.
///
/// # Errors
/// QEMU cannot be built, or the guest's agent does not come up.
pub fn run(context: &Context, images: &Path) -> Result<()> {
    let args = qemu_builder::Args::for_machine(Machine::LinuxArm64);
    let (bundle, _) = qemu_builder::bundle(context, &args)?;
    let emulator = match xtask_host::emulator::runner(context, Arch::Arm64)? {
        Runner::Emulator(program) => Some(program),
        Runner::Host | Runner::Registered => None,
    };
    context.ui.step("Run QEMU for linux-arm64", |step| {
        let program =
            |name: &str| Program { emulator: &emulator, path: bundle.join("bin").join(name) };
        let system = program("qemu-system-aarch64");
        let version = system.call(&["--version"]).read()?;
        ensure!(version.starts_with("QEMU emulator version"), "QEMU says `{version}`");
        let accelerators = system.call(&["-accel", "help"]).read()?;
        for name in ["tcg", "kvm"] {
            ensure!(accelerators.contains(name), "`-accel help` lacks {name}: `{accelerators}`");
        }
        let part = |extension: &str| find(images, extension);
        let folder = tempfile::tempdir()?;
        let overlay = folder.path().join("overlay.qcow2");
        let disk = part("qcow2")?;
        let create = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"];
        let create = create.map(str::to_owned).into_iter().chain([text(&disk)?, text(&overlay)?]);
        step.run(program("qemu-img").call(&create.collect::<Vec<_>>()))?;
        let drive = format!("file={},format=qcow2,if=none,id=disk", text(&overlay)?);
        let line = "console=ttyAMA0 root=/dev/vda rw rootfstype=ext4 panic=-1";
        let (kernel, initrd) = (text(&part("kernel")?)?, text(&part("initrd")?)?);
        let args = [
            "-machine",
            "virt",
            "-cpu",
            "max",
            "-m",
            "256",
            "-accel",
            "tcg",
            "-nodefaults",
            "-nographic",
            "-no-reboot",
            "-serial",
            "stdio",
            "-kernel",
            &kernel,
            "-initrd",
            &initrd,
            "-append",
            line,
            "-drive",
            &drive,
            "-device",
            "virtio-blk-device,drive=disk",
        ];
        boot(step, system.call(&args))
    })
}

/// One of QEMU's programs.
struct Program<'a> {
    emulator: &'a Option<PathBuf>,
    path: PathBuf,
}

impl Program<'_> {
    fn call<T: AsRef<str>>(&self, args: &[T]) -> duct::Expression {
        let args = args.iter().map(|arg| arg.as_ref().to_owned());
        match self.emulator {
            Some(emulator) => {
                cmd(emulator, std::iter::once(self.path.display().to_string()).chain(args))
            }
            None => cmd(&self.path, args),
        }
    }
}

/// Boots until the guest's agent says that it is there.
fn boot(step: &Step, call: duct::Expression) -> Result<()> {
    step.say("booting");
    let started = Instant::now();
    let reader = call.stdin_null().stderr_to_stdout().unchecked().reader()?;
    let reader = std::sync::Arc::new(reader);
    let (sender, lines) = mpsc::channel();
    let from = reader.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(&*from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let mut last = String::new();
    let is_ready = loop {
        match lines.recv_timeout(BOOT.saturating_sub(started.elapsed())) {
            Ok(line) if line.contains(READY) => break true,
            Ok(line) => last = line,
            Err(_) => break false,
        }
    };
    let _ = reader.kill();
    if is_ready {
        step.say(format!("the agent was there after {} s", started.elapsed().as_secs()));
        return Ok(());
    }
    Err(hinted(
        format!(
            "The agent was not there after {} s; the last line was `{last}`",
            started.elapsed().as_secs()
        ),
        "QEMU's build for linux-arm64 is at fault, or the image for arm64: `cargo xtask test other-arch` \
         boots the image with this host's QEMU first",
    ))
}

/// The image's file of that kind.
fn find(images: &Path, extension: &str) -> Result<PathBuf> {
    for found in walkdir::WalkDir::new(images) {
        let path = found?.into_path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("minimal-") && name.ends_with(&format!("-arm64.{extension}")) {
            return Ok(path.clone());
        }
    }
    anyhow::bail!("`{}` has no {extension} of `minimal` for arm64", images.display())
}

fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().context("A path is not UTF-8")?.to_owned())
}
