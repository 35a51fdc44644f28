//! A step of a bake, shown as the steps of tasks are.

use anyhow::{Error, Result};
use duct::Expression;
use image_builder::bake::Step;
use xtask_base::ui;

/// The step that a bake reports to.
pub struct Shown<'a>(pub &'a ui::Step<'a>);

impl Step<Error> for Shown<'_> {
    fn say(&self, what: String) {
        self.0.say(what);
    }

    fn progress(&self, n_done: u64, n_total: u64) {
        self.0.expect(n_total);
        self.0.reach(n_done);
    }

    fn run(&self, _program: &str, command: Expression) -> Result<()> {
        self.0.run(command)
    }

    fn has_printed(&self, text: &str) -> bool {
        self.0.has_printed(text)
    }
}
