//! Turns a parser's complaint into a place and a hint: line, column, the nearest key that exists.

use crate::{Error, RecipeError};
use fs_err as fs;
use std::path::Path;

/// Explains a parser's error.
pub fn explain(text: &str, path: &Path, error: &toml::de::Error) -> Error {
    let message = error.message().to_owned();
    let span = error.span().unwrap_or_default();
    // The parser names the whole list when one of its values is wrong: look for the value itself.
    let value = message.split('`').nth(1).map(|value| format!("\"{value}\"")).unwrap_or_default();
    let within = text.get(span.clone()).and_then(|text| text.find(&value)).unwrap_or(0);
    let (line, column) = place(text, span.start + within);
    let hint = unknown(&message).map(|(given, known)| {
        match spelling::nearest(given, known.iter().copied()) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("known here: {}", known.join(", ")),
        }
    });
    Error::Recipe(RecipeError::Invalid { path: path.to_owned(), line, column, message, hint })
}

/// Reads a file of a recipe; what is no UTF-8 is pointed at.
pub fn read(path: &Path) -> Result<String, Error> {
    String::from_utf8(fs::read(path)?).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(&error.as_bytes()[..good]).into_owned();
        at(&text, path, good, "this is not UTF-8 text".to_owned(), None)
    })
}

/// An error at a place, given as an offset in bytes.
pub fn at(text: &str, path: &Path, at: usize, message: String, hint: Option<String>) -> Error {
    let (line, column) = place(text, at);
    Error::Recipe(RecipeError::Invalid { path: path.to_owned(), line, column, message, hint })
}

fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// serde's words for an unknown key or variant: what was given, and what is known.
fn unknown(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message
        .strip_prefix("unknown field ")
        .or_else(|| message.strip_prefix("unknown variant "))?;
    let mut quoted = rest.split('`').skip(1).step_by(2);
    Some((quoted.next()?, quoted.collect()))
}
