//! `cargo xtask test`: sets everything up and runs the tests. What the test runners print goes to
//! stdout as it is; a failed kind of test does not keep the others from running.

mod shares;

use crate::{
    audit, bake, bills,
    context::Context,
    dist,
    environment::{self, Environment},
    preflight::{Needs, Room},
    setup,
    ui::hinted,
};
use anyhow::{Context as _, Result};
use duct::cmd;
use runtime_builder::Profile;
use std::path::PathBuf;
use xtask_trials::{arm_host, cross, fresh};

/// Test tools of PyPI, pinned.
pub const PYTHON_TOOLS: &[&str] = &["pytest==9.0.1", "mypy==1.18.2", "pillow==13.0.0"];

/// What shows `quicksand view`; the first that is there is used.
const BROWSERS: &[&str] = &["chromium", "chromium-browser", "google-chrome"];

/// What the integration tests compare our output with.
const IT_PACKAGES: &[&str] =
    &["docker-registry", "e2fsprogs", "libarchive-tools", "qemu-utils", "zstd"];

/// What the tests that boot machines make networks of the host with.
const VM_PACKAGES: &[&str] = &["iproute2"];

/// An image with a server that has keys of its own in each machine, and what looks at them from outside.
const KEYS_IMAGE: &str = "openssh-test";
const KEYS_PACKAGES: &[&str] = &["openssh-client"];

/// Seconds of one processor for compiling the tests.
const SECONDS: f64 = 900.0;

/// The most that compiling them writes.
const ROOM: Room = Room { cache: 0, target: 6000, temporary: 200 };

/// Pyright as a package that brings its own engine, so that no test fetches one.
pub const PYRIGHT: &[&str] = &["basedpyright==1.40.2"];

/// Makes the fixtures for macOS and Windows.
const ZIG: &[&str] = &["ziglang==0.17.1"];

/// Installs from the index that a release writes.
const UV: &[&str] = &["uv==0.13.9"];

/// The tests that boot machines.
const VM_TESTS: &[&str] = &["--test", "vm", "--test", "empty_root"];

/// Which tests to run; all without an argument.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    apart: Option<Apart>,

    /// Moments of a sandbox's life at which the attacks kill its process (12; 200 for a full run)
    #[arg(long, value_name = "N")]
    kill_points: Option<u32>,

    /// Kinds of tests to run; all without an argument.
    #[arg(value_enum)]
    kinds: Vec<Kind>,

    /// Passed on to the test runners (libtest, pytest): the name of a test, say.
    #[arg(last = true)]
    runner_args: Vec<String>,
}

/// What is no kind of test for every day.
#[derive(clap::Subcommand)]
enum Apart {
    /// Run the README's commands as a newcomer, in fresh roots of distributions (hours; needs root or sudo).
    Fresh(fresh::Args),
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Beside the code: fast, no machine.
    Unit,
    /// One folder per crate: files, processes and tools, no machine.
    It,
    /// Real QEMU, real images, real agent.
    Vm,
    /// What a hostile guest, name or end of the process may try; each attempt prints a line.
    Attacks,
    /// pytest against the wheels in an environment of their own.
    Python,
    /// The real desktop, minutes long; only when it is named. Pictures go to target/desktop-pictures.
    Desktop,
    /// git, SQLite, rsync, virtual environments and POSIX suites on a share; only when it is named.
    Shares,
    /// Secrets that an image makes at its first start, in boots, copies and forks; the image is baked first; only
    /// when it is named.
    Images,
    /// A machine of the architecture that this host is not, emulated, baked first; only when it is
    /// named.
    OtherArch,
    /// Our QEMU for Linux on Arm under an emulator of programs, up to a guest's agent; only when it is named.
    ArmHost,
    /// The Windows command and our QEMU for Windows, under Wine; only when it is named.
    Wine,
}

/// What the tests need.
pub fn needs(context: &Context, args: &Args) -> Needs {
    if let Some(Apart::Fresh(args)) = &args.apart {
        return fresh::needs(args);
    }
    kinds(args).iter().map(|kind| needs_of(context, *kind)).fold(Needs::default(), Needs::and)
}

fn needs_of(context: &Context, kind: Kind) -> Needs {
    let tools = |requirements| setup::needs_of_python_tools(context, requirements);
    let compiled = context.root.join("target/debug/deps");
    let has_tests = glob::glob(&format!("{}/it-*", compiled.display()))
        .is_ok_and(|mut found| found.next().is_some());
    let tests = Needs { compiles: true, ..Needs::default() };
    let tests = if has_tests { tests } else { tests.build("the tests", SECONDS, ROOM) };
    let image = |name| bake::needs(context, &bake::Args::to(name, &context.dist()));
    match kind {
        Kind::Unit => tests,
        Kind::It => tests
            .packages(IT_PACKAGES)
            .and(tools(ZIG))
            .and(tools(UV))
            .and(audit::corpus::needs(context)),
        Kind::Vm | Kind::Attacks | Kind::Shares | Kind::Images => {
            let needs = tests
                .packages(VM_PACKAGES)
                .and(dist::needs(context, dist::IMAGES, Profile::Dev))
                .and(environment::needs(context, PYTHON_TOOLS));
            match kind {
                Kind::Shares => needs.and(shares::needs(context)),
                Kind::Images => needs.packages(KEYS_PACKAGES).and(image(KEYS_IMAGE)),
                _ => needs,
            }
        }
        Kind::Python | Kind::Desktop => {
            let name = if kind == Kind::Python { "desktop-test" } else { "debian-desktop" };
            let browser: &[&str] = if has_browser() { &[] } else { &BROWSERS[..1] };
            dist::needs(context, dist::IMAGES, Profile::Dev)
                .and(image(name))
                .and(tools(PYRIGHT))
                .and(bills::needs(context))
                .and(environment::needs(context, PYTHON_TOOLS))
                .packages(browser)
        }
        Kind::OtherArch => {
            let minimal = bake::Args::for_other_arch("minimal", &context.dist());
            let qemu = qemu_builder::needs(context, &qemu_builder::Args::for_release());
            tests.and(bake::needs(context, &minimal)).and(qemu)
        }
        Kind::ArmHost => {
            let minimal = bake::Args::for_other_arch("minimal", &context.dist());
            arm_host::needs(context).and(bake::needs(context, &minimal))
        }
        Kind::Wine => cross::machines::needs(context).and(image("minimal")),
    }
}

/// The kinds that are asked for.
fn kinds(args: &Args) -> &[Kind] {
    if args.kinds.is_empty() {
        return &[Kind::Unit, Kind::It, Kind::Vm, Kind::Attacks, Kind::Python];
    }
    &args.kinds
}

/// Runs the tests, kind by kind.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    if let Some(Apart::Fresh(args)) = &args.apart {
        return fresh::run(context, args);
    }
    let mut failed = vec![];
    for kind in kinds(args) {
        let name = match kind {
            Kind::Unit => "unit",
            Kind::It => "it",
            Kind::Vm => "vm",
            Kind::Attacks => "attacks",
            Kind::Python => "python",
            Kind::Desktop => "desktop",
            Kind::Shares => "shares",
            Kind::Images => "images",
            Kind::OtherArch => "other-arch",
            Kind::ArmHost => "arm-host",
            Kind::Wine => "wine",
        };
        context.ui.line(&format!("==> Tests: {name}"));
        let outcome = match kind {
            Kind::Unit => unit(context, &args.runner_args),
            Kind::It => it(context, &args.runner_args),
            Kind::Vm => vm(context, &args.runner_args),
            Kind::Attacks => attacks(context, args),
            Kind::Python => python(context, "desktop-test", "", &args.runner_args),
            Kind::Desktop => python(context, "debian-desktop", "xfce.py", &args.runner_args),
            Kind::Shares => shares::run(context, &args.runner_args),
            Kind::Images => {
                let tests = cargo_test(context, &["--test", "images"], &args.runner_args);
                with_image(context, KEYS_IMAGE, tests)
            }
            Kind::OtherArch => other_arch(context, &args.runner_args),
            Kind::ArmHost => {
                let images = minimal_of_other_arch(context)?;
                arm_host::run(context, &images)
            }
            Kind::Wine => wine(context),
        };
        if let Err(error) = outcome {
            crate::ui::report(&error);
            failed.push(name);
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    let first = failed[0];
    Err(hinted(
        format!("These tests failed: {}", failed.join(", ")),
        format!("what failed stands above; again with: cargo xtask test {first}"),
    ))
}

fn unit(context: &Context, runner_args: &[String]) -> Result<()> {
    cargo_test(context, &["--lib", "--bins"], runner_args).run()?;
    cargo_test(context, &["--doc"], runner_args).run()?;
    Ok(())
}

fn it(context: &Context, runner_args: &[String]) -> Result<()> {
    setup::ensure_packages(context, IT_PACKAGES)?;
    let zig = setup::python_tools(context, ZIG)?.join("python");
    let zig = cmd!(zig, "-c", "import ziglang; print(ziglang.__path__[0] + '/zig')").read()?;
    // It has a pip of its own, which the host's Python need not have.
    let installers = setup::python_tools(context, UV)?;
    cargo_test(context, &["--test", "it"], runner_args)
        .env("QUICKSAND_AUDIT_CORPUS", audit::corpus::folder(context)?)
        .env("QUICKSAND_AUDITWHEEL", audit::corpus::auditwheel(context)?)
        .env("QUICKSAND_ZIG", zig)
        .env("QUICKSAND_UV", installers.join("uv"))
        .env("QUICKSAND_PIP", installers.join("pip"))
        .run()?;
    Ok(())
}

fn vm(context: &Context, runner_args: &[String]) -> Result<()> {
    with_machines(context, cargo_test(context, VM_TESTS, runner_args))
}

/// The attacks one after another, so that each has the host for itself and their lines stay apart.
fn attacks(context: &Context, args: &Args) -> Result<()> {
    let mut runner_args = vec!["--nocapture".to_owned(), "--test-threads=1".to_owned()];
    runner_args.extend_from_slice(&args.runner_args);
    let mut tests = cargo_test(context, &["--test", "attacks"], &runner_args);
    if let Some(points) = args.kill_points {
        tests = tests.env("QUICKSAND_KILL_POINTS", points.to_string());
    }
    with_machines(context, tests)
}

/// Runs tests beside the wheels.
fn with_machines(context: &Context, tests: duct::Expression) -> Result<()> {
    beside(&installed(context)?, None, tests)
}

/// Runs tests beside the wheels and one more image, which is baked first.
fn with_image(context: &Context, image: &str, tests: duct::Expression) -> Result<()> {
    let environment = installed(context)?;
    let images = context.cache.folder("test-images")?;
    bake::run(context, &bake::Args::to(image, &images))?;
    beside(&environment, Some(images), tests)
}

/// Runs tests with what is installed in an environment, and the images of one more folder.
fn beside(
    environment: &Environment,
    images: Option<PathBuf>,
    tests: duct::Expression,
) -> Result<()> {
    // The futures of a development build are several times as large as those that ship.
    let mut tests = tests.env("RUST_MIN_STACK", "8388608");
    for (name, value) in environment.variables() {
        let value = match (&images, name) {
            (Some(images), "QUICKSAND_IMAGE_PATH") => {
                let folders = std::env::split_paths(&value).chain([images.clone()]);
                std::env::join_paths(folders)?.into()
            }
            _ => value,
        };
        tests = tests.env(name, value);
    }
    tests.run()?;
    Ok(())
}

/// The wheels in an environment with the test tools.
pub fn installed(context: &Context) -> Result<Environment> {
    let images: Vec<bake::Args> =
        dist::IMAGES.iter().map(|name| bake::Args::for_image(name)).collect();
    let wanted = dist::Wanted { profile: Profile::Dev, images: &images, cross: false };
    environment::cached(context, &dist::make(context, &wanted)?, PYTHON_TOOLS)
}

fn other_arch(context: &Context, runner_args: &[String]) -> Result<()> {
    let images = minimal_of_other_arch(context)?;
    let (bundle, _) = qemu_builder::cross_bundle(context, &qemu_builder::Args::default())?;
    let mut args = vec!["other_arch".to_owned(), "--ignored".to_owned()];
    args.extend_from_slice(runner_args);
    cargo_test(context, &["--test", "vm"], &args)
        .env("QUICKSAND_QEMU_DIR", bundle.join("bin"))
        .env("QUICKSAND_IMAGE_PATH", images)
        .run()?;
    Ok(())
}

/// The folder with `minimal` for the architecture that this host is not.
fn minimal_of_other_arch(context: &Context) -> Result<PathBuf> {
    let images = context.cache.folder("other-arch-images")?;
    bake::run(context, &bake::Args::for_other_arch("minimal", &images))?;
    Ok(images)
}

fn wine(context: &Context) -> Result<()> {
    if !cross::machines::is_ready(context) {
        return Ok(());
    }
    let images = context.cache.folder("test-images")?;
    bake::run(context, &bake::Args::to("minimal", &images))?;
    cross::machines::run(context, &images)
}

fn has_browser() -> bool {
    let is_there = |name: &&str| cmd!("which", name).stdout_null().stderr_null().run().is_ok();
    BROWSERS.iter().any(is_there)
}

/// Runs what lies at a path below tests/python, beside the wheels with one more image, which is for
/// the desktop's tests.
fn python(context: &Context, image: &str, path: &str, runner_args: &[String]) -> Result<()> {
    if !has_browser() {
        setup::ensure_packages(context, &BROWSERS[..1])?;
    }
    let environment = installed(context)?;
    let n_bills = bills::check(context, &wheel_retag::wheels_in(&context.dist())?)?;
    eprintln!("{n_bills} bills of materials are valid CycloneDX");
    let images = context.cache.folder("test-images")?;
    bake::run(context, &bake::Args::to(image, &images))?;
    let folder = context.root.join("tests/python");
    let tests = folder.join(path);
    let tests = tests.to_str().context("The path of the tests is not UTF-8")?;
    let mut line = vec!["-m", "pytest", "-q", "-p", "no:cacheprovider", tests];
    line.extend(runner_args.iter().map(String::as_str));
    // Tests must find the installed package, not the folder of its source.
    cmd(environment.program("python"), line)
        .dir(folder)
        .env("QUICKSAND_PYRIGHT", setup::python_tools(context, PYRIGHT)?.join("basedpyright"))
        .env_remove("PYTHONPATH")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("QUICKSAND_IMAGE_PATH", images)
        .env("QUICKSAND_ARTIFACTS", context.root.join("target/desktop-pictures"))
        .run()?;
    Ok(())
}

/// The command that runs tests of this workspace. It names all packages, whichever are tested: the
/// features of what they depend on are those of all, so that it is compiled once.
fn cargo_test(context: &Context, args: &[&str], runner_args: &[String]) -> duct::Expression {
    let mut line = vec!["test", "--no-fail-fast", "--workspace"];
    line.extend(args);
    if context.offline {
        line.push("--offline");
    }
    line.push("--");
    line.extend(runner_args.iter().map(String::as_str));
    cmd("cargo", line).dir(&context.root)
}
