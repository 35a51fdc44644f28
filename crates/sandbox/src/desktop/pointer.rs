//! The pointer: positions, buttons, and the input events that say them to QEMU.
//!
//! Pure. Positions are absolute, 0 to 32767 on each axis whatever the display's size, as a tablet
//! reports them: <https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html#object-QMP-ui.InputMoveEvent>

use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::str::FromStr;

/// The largest coordinate on either axis.
pub const POINTER_MAX: u32 = 32_767;

/// What coordinates count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PointerUnit {
    /// 0 to 32767 from edge to edge.
    #[default]
    Absolute,
    /// Pixels of the display, from its upper left corner.
    Pixels,
}

/// A button of the mouse; a turn of the wheel is one too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MouseButton {
    /// The one that presses buttons of programs.
    #[default]
    Left,
    /// The one that opens menus.
    Right,
    /// The one that pastes a selection under X.
    Middle,
    /// One step of the wheel away from the user.
    WheelUp,
    /// One step of the wheel towards the user.
    WheelDown,
}

impl MouseButton {
    const ALL: [Self; 5] = [Self::Left, Self::Right, Self::Middle, Self::WheelUp, Self::WheelDown];

    /// QEMU's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
            Self::Middle => "middle",
            Self::WheelUp => "wheel-up",
            Self::WheelDown => "wheel-down",
        }
    }
}

impl FromStr for MouseButton {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|button| button.name() == name).ok_or_else(|| {
            Error::InvalidValue {
                option: "button",
                value: name.to_owned(),
                allowed: Self::ALL.map(Self::name).join(", "),
                hint: None,
            }
        })
    }
}

impl FromStr for PointerUnit {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "abs" => Ok(Self::Absolute),
            "px" => Ok(Self::Pixels),
            _ => Err(Error::InvalidValue {
                option: "unit",
                value: name.to_owned(),
                allowed: "abs (0 to 32767), px (pixels)".into(),
                hint: None,
            }),
        }
    }
}

/// The absolute coordinate of the middle of a pixel on an axis of `size` pixels.
pub(super) fn absolute(pixel: u32, size: u32) -> u32 {
    let middle = (u64::from(pixel) * 2 + 1) * u64::from(POINTER_MAX + 1) / (u64::from(size) * 2);
    middle.min(u64::from(POINTER_MAX)) as u32
}

/// Refuses a coordinate that lies outside.
pub(super) fn check(axis: &'static str, value: u32, limit: u32) -> Result<()> {
    if value <= limit {
        return Ok(());
    }
    Err(Error::InvalidValue {
        option: axis,
        value: value.to_string(),
        allowed: format!("0 to {limit}"),
        hint: Some(
            "Coordinates run from 0 to 32767 on each axis, or name unit=\"px\" for pixels".into(),
        ),
    })
}

/// The arguments of `input-send-event` that move the pointer.
pub(super) fn moved(x: u32, y: u32) -> Value {
    let axis = |axis, value| json!({"type": "abs", "data": {"axis": axis, "value": value}});
    json!({"events": [axis("x", x), axis("y", y)]})
}

/// The arguments of `input-send-event` that press or release a button.
pub(super) fn pressed(button: MouseButton, down: bool) -> Value {
    json!({"events": [{"type": "btn", "data": {"button": button.name(), "down": down}}]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_documents() {
        assert_eq!(
            moved(500, 300),
            json!({"events": [
                {"type": "abs", "data": {"axis": "x", "value": 500}},
                {"type": "abs", "data": {"axis": "y", "value": 300}}
            ]})
        );
        assert_eq!(
            pressed(MouseButton::Left, true),
            json!({"events": [{"type": "btn", "data": {"button": "left", "down": true}}]})
        );
    }

    #[test]
    fn a_pixel_comes_back_from_its_coordinate() {
        for size in [1, 2, 640, 1024, 1080, 1920, 8192] {
            for pixel in [0, size / 3, size - 1] {
                let value = absolute(pixel, size);
                assert_eq!(u64::from(value) * u64::from(size) / 32_768, u64::from(pixel), "{size}");
            }
        }
        assert!(check("x", 32_767, POINTER_MAX).is_ok());
        assert!(check("x", 32_768, POINTER_MAX).is_err());
    }

    #[test]
    fn buttons_are_known_by_name() {
        assert_eq!("wheel-up".parse::<MouseButton>().unwrap(), MouseButton::WheelUp);
        let error = "mid".parse::<MouseButton>().unwrap_err().to_string();
        assert!(error.contains("`mid`") && error.contains("wheel-down"), "{error}");
    }
}
