//! Text of Python as the bytes that the guest gets.
//!
//! Invariant: what this package gives out as text it takes back as the same bytes. Bytes of the
//! guest that are not UTF-8 are lone surrogates in Python (PEP 383, `surrogateescape`).

use crate::errors;
use pyo3::{
    Borrowed,
    prelude::*,
    types::{PyBytes, PyString},
};

/// A `str`, `bytes` or path-like object as bytes. A parameter of this type takes all three.
pub struct Text(pub Vec<u8>);

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl FromPyObject<'_, '_> for Text {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let mut object = object.to_owned();
        if !object.is_instance_of::<PyString>()
            && let Ok(path) = object.call_method0("__fspath__")
        {
            object = path;
        }
        if let Ok(bytes) = object.cast::<PyBytes>() {
            return Ok(Self(bytes.as_bytes().to_vec()));
        }
        // The usual case: text that is UTF-8. What is not text gives the usual TypeError.
        let text = object.cast::<PyString>()?;
        if let Ok(text) = text.to_str() {
            return Ok(Self(text.as_bytes().to_vec()));
        }
        match text.call_method1("encode", ("utf-8", "surrogateescape")) {
            Ok(bytes) => Ok(Self(bytes.extract()?)),
            Err(_) => {
                let value = text.repr()?.to_string();
                let allowed = "Unicode text; a lone surrogate from U+DC80 to U+DCFF stands for a \
                    byte that is not UTF-8 (PEP 383), other surrogates for nothing";
                Err(errors::invalid("text", &value, allowed))
            }
        }
    }
}

/// A name that has no meaning as bytes: of a user, a variable, a terminal, a checkpoint, a save.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(pub String);

impl FromPyObject<'_, '_> for Name {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let text = object.cast::<PyString>()?;
        match text.to_str() {
            Ok(text) => Ok(Self(text.to_owned())),
            Err(_) => {
                let allowed = "Unicode text, without lone surrogates";
                Err(errors::invalid("name", &text.repr()?.to_string(), allowed))
            }
        }
    }
}
