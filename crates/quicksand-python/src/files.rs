//! Files, shares and ports of a machine in the plain forms that Python takes: JSON and numbers.
//!
//! Owns the forms; the calls are `machine`'s, and what they do is the `sandbox` crate's business.

use crate::{errors, operation::Value};
use pyo3::prelude::*;
use sandbox::{Forward, Mount, MountHandle, Transfer};
use serde_json::json;

/// A forward of its JSON form.
pub fn forward_of(text: &str) -> PyResult<Forward> {
    let value = serde_json::from_str(text)
        .map_err(|error| errors::invalid("port_forwards", text, &error.to_string()))?;
    Forward::from_value(value).map_err(|error| errors::raise(&error))
}

/// A mounted share.
pub fn handle_value(handle: &MountHandle) -> serde_json::Value {
    let Mount { host, guest, readonly, kind, .. } = &handle.mount;
    json!({"id": handle.id(), "host": host, "guest": guest, "readonly": readonly, "type": kind.name()})
}

/// What was moved.
pub fn transfer_value(transfer: Transfer) -> Value {
    let Transfer { n_files, n_bytes, skipped } = transfer;
    Value::Json(json!({"n_files": n_files, "n_bytes": n_bytes, "skipped": skipped}))
}
