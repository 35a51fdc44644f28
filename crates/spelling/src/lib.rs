//! Text between people and programs: the names that are nearest to a misspelt one, text that steers no
//! terminal, and words for a shell.
//!
//! Pure; knows nothing of what the names and words stand for.

mod nearest;
mod printable;

pub use nearest::{all_near, nearest};
pub use printable::printable;

/// A word for a POSIX shell, always between single quotes.
///
/// ```
/// assert_eq!(spelling::quoted("it's"), r"'it'\''s'");
/// ```
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
