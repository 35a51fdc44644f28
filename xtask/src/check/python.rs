//! All Python of the tree: its form, what ruff and pyright find, and that `quicksand/sync.py` is what
//! `python/generate_sync.py` makes of the asynchronous source. Their settings are `ruff.toml` and
//! `pyrightconfig.json`.

use crate::{context::Context, preflight::Needs, setup, test};
use anyhow::Result;
use duct::cmd;

/// Formatter and linter.
const RUFF: &[&str] = &["ruff==0.17.6"];

/// The tools, as packages that bring their own engines.
pub fn needs(context: &Context) -> Needs {
    let of = |requirements| setup::needs_of_python_tools(context, requirements);
    of(RUFF).and(of(test::PYRIGHT))
}

/// Fails at the first that finds something.
pub fn run(context: &Context) -> Result<()> {
    let ruff = setup::python_tools(context, RUFF)?.join("ruff");
    let pyright = setup::python_tools(context, test::PYRIGHT)?;
    let root = &context.root;
    context.ui.step("Check the form of the Python", |step| {
        step.run(cmd!(&ruff, "format", "--check", "--quiet", ".").dir(root))
    })?;
    context.ui.step("Check the Python with ruff", |step| {
        step.run(cmd!(&ruff, "check", "--quiet", "--output-format", "concise", ".").dir(root))
    })?;
    context.ui.step("Compare quicksand.sync with its source", |step| {
        step.run(cmd!("python3", "python/generate_sync.py", "--check").dir(root))
    })?;
    context.ui.step("Check the Python with pyright", |step| {
        let python = pyright.join("python");
        step.run(cmd!(pyright.join("basedpyright"), "--pythonpath", python).dir(root))
    })
}
