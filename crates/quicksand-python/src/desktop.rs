//! The calls of desktop control.
//!
//! Owns their plain forms: names and numbers. Types are checked by Python's side, meanings by the
//! `sandbox` crate.

use crate::{
    operation::{Operation, Value},
    owned::Owned,
};
use pyo3::prelude::*;
use sandbox::{Key, MouseButton, PointerUnit, Region, Result, Sandbox, ScreenshotOptions};
use std::{future::Future, sync::Arc, time::Duration};

/// The screen, keyboard and mouse of a machine.
#[pyclass(frozen, module = "quicksand._native")]
pub struct Desktop {
    owned: Arc<Owned>,
}

#[pymethods]
impl Desktop {
    fn screenshot(
        &self,
        wake: Py<PyAny>,
        region: Option<(u32, u32, u32, u32)>,
        scale: Option<f64>,
    ) -> PyResult<Operation> {
        let region = region.map(|(x, y, width, height)| Region { x, y, width, height });
        self.operate(wake, move |sandbox| async move {
            sandbox.screenshot(ScreenshotOptions { region, scale }).await.map(Value::Bytes)
        })
    }

    fn wait_for_change(&self, wake: Py<PyAny>, timeout: f64) -> PyResult<Operation> {
        // What no clock can count to is no limit.
        let timeout = Duration::try_from_secs_f64(timeout).ok();
        self.operate(wake, move |sandbox| async move {
            sandbox.wait_for_change(timeout).await.map(Value::Flag)
        })
    }

    fn type_text(&self, wake: Py<PyAny>, text: String) -> PyResult<Operation> {
        self.operate(wake, move |sandbox| async move {
            sandbox.type_text(&text).await.map(|()| Value::Nothing)
        })
    }

    fn press_key(&self, wake: Py<PyAny>, keys: Vec<String>) -> PyResult<Operation> {
        self.operate(wake, move |sandbox| async move {
            let combinations = keys.iter().map(|keys| Key::combination(keys));
            let keys = combinations.collect::<Result<Vec<_>>>()?.concat();
            sandbox.press_key(&keys).await.map(|()| Value::Nothing)
        })
    }

    fn mouse_move(&self, wake: Py<PyAny>, x: u32, y: u32, unit: String) -> PyResult<Operation> {
        self.operate(wake, move |sandbox| async move {
            sandbox.mouse_move(x, y, unit.parse()?).await.map(|()| Value::Nothing)
        })
    }

    fn mouse_click(&self, wake: Py<PyAny>, button: String, double: bool) -> PyResult<Operation> {
        self.operate(wake, move |sandbox| async move {
            sandbox.mouse_click(button.parse()?, double).await.map(|()| Value::Nothing)
        })
    }

    fn mouse_drag(
        &self,
        wake: Py<PyAny>,
        start: (u32, u32),
        end: (u32, u32),
        button: String,
        unit: String,
    ) -> PyResult<Operation> {
        self.operate(wake, move |sandbox| async move {
            let (button, unit): (MouseButton, PointerUnit) = (button.parse()?, unit.parse()?);
            sandbox.mouse_drag(start, end, button, unit).await.map(|()| Value::Nothing)
        })
    }

    fn query_display_size(&self, wake: Py<PyAny>) -> PyResult<Operation> {
        self.operate(wake, |sandbox| async move {
            sandbox.query_display_size().await.map(|size| Value::Pair(Some(size)))
        })
    }

    fn set_display_size(&self, wake: Py<PyAny>, width: u32, height: u32) -> PyResult<Operation> {
        self.operate(wake, move |sandbox| async move {
            sandbox.set_display_size(width, height).await.map(|()| Value::Nothing)
        })
    }

    fn query_mouse_position(&self, wake: Py<PyAny>) -> PyResult<Operation> {
        self.operate(wake, |sandbox| async move {
            sandbox.query_mouse_position().await.map(Value::Pair)
        })
    }
}

impl Desktop {
    /// That of a machine.
    pub fn new(owned: Arc<Owned>) -> Self {
        Self { owned }
    }

    fn operate<F>(
        &self,
        wake: Py<PyAny>,
        work: impl FnOnce(Arc<Sandbox>) -> F,
    ) -> PyResult<Operation>
    where
        F: Future<Output = Result<Value>> + Send + 'static,
    {
        self.owned.operate(wake, "use the desktop", work)
    }
}
