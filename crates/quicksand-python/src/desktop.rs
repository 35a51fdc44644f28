//! The calls of desktop control, as one word of JSON each.
//!
//! One door for all of them keeps the native module small: names and types are checked by Python's
//! side, meanings by the `sandbox` crate.

use crate::operation::Value;
use sandbox::{Error, Key, MouseButton, PointerUnit, Region, Sandbox, ScreenshotOptions};
use serde::Deserialize;
use std::time::Duration;

/// One call with its arguments.
#[derive(Deserialize)]
#[serde(tag = "call", rename_all = "snake_case", deny_unknown_fields)]
pub enum Call {
    /// `screenshot`
    Screenshot { region: Option<(u32, u32, u32, u32)>, scale: Option<f64> },
    /// `wait_for_change`
    WaitForChange { timeout: f64 },
    /// `type_text`
    TypeText { text: String },
    /// `press_key`
    PressKey { keys: Vec<String> },
    /// `mouse_move`
    MouseMove { x: u32, y: u32, unit: String },
    /// `mouse_click`
    MouseClick { button: String, double: bool },
    /// `mouse_drag`
    MouseDrag { from: (u32, u32), to: (u32, u32), button: String, unit: String },
    /// `query_display_size`
    QueryDisplaySize {},
    /// `set_display_size`
    SetDisplaySize { width: u32, height: u32 },
    /// `query_mouse_position`
    QueryMousePosition {},
}

impl Call {
    /// Runs the call on a machine.
    pub async fn run(self, sandbox: &Sandbox) -> sandbox::Result<Value> {
        match self {
            Self::Screenshot { region, scale } => {
                let region = region.map(|(x, y, width, height)| Region { x, y, width, height });
                let picture = sandbox.screenshot(ScreenshotOptions { region, scale });
                return picture.await.map(Value::Bytes);
            }
            Self::WaitForChange { timeout } => {
                let timeout = Duration::try_from_secs_f64(timeout).unwrap_or(Duration::MAX);
                // Ten years are for ever, and a clock can count to them.
                let timeout = timeout.min(Duration::from_secs(315_360_000));
                return sandbox.wait_for_change(timeout).await.map(Value::Flag);
            }
            Self::TypeText { text } => sandbox.type_text(&text).await?,
            Self::PressKey { keys } => {
                let combinations = keys.iter().map(|keys| Key::combination(keys));
                let keys = combinations.collect::<Result<Vec<_>, Error>>()?.concat();
                sandbox.press_key(&keys).await?;
            }
            Self::MouseMove { x, y, unit } => sandbox.mouse_move(x, y, unit.parse()?).await?,
            Self::MouseClick { button, double } => {
                sandbox.mouse_click(button.parse()?, double).await?;
            }
            Self::MouseDrag { from, to, button, unit } => {
                let (button, unit): (MouseButton, PointerUnit) = (button.parse()?, unit.parse()?);
                sandbox.mouse_drag(from, to, button, unit).await?;
            }
            Self::QueryDisplaySize {} => {
                return sandbox.query_display_size().await.map(|size| Value::Pair(Some(size)));
            }
            Self::SetDisplaySize { width, height } => {
                sandbox.set_display_size(width, height).await?;
            }
            Self::QueryMousePosition {} => {
                return sandbox.query_mouse_position().await.map(Value::Pair);
            }
        }
        Ok(Value::Nothing)
    }
}
