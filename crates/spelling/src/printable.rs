//! Text that cannot steer the terminal of whoever reads it.
//!
//! Names and words of guests, saves, wheels and indexes end up in messages, and a terminal obeys
//! what is in them (<https://www.ecma-international.org/publications-and-standards/standards/ecma-48/>).
//! Whatever shows a message to a person passes it through here last.

use std::borrow::Cow;

/// The text with an escape (`\u{1b}`) in place of each control character but line ends and tabs, and
/// of each character that changes the direction of what follows it.
///
/// ```
/// assert_eq!(spelling::printable("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
/// assert_eq!(spelling::printable("two\nlines"), "two\nlines");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if steers(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

fn steers(character: char) -> bool {
    match character {
        '\n' | '\t' => false,
        // Marks, embeddings, overrides and isolates of the bidirectional algorithm (UAX #9).
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            true
        }
        _ => character.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_shown_as_an_escape() {
        for (text, expect) in [
            ("plain \u{e9} \u{6f22}\n\tend", "plain \u{e9} \u{6f22}\n\tend"),
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("progress\rerror", "progress\\u{d}error"),
            ("c1 \u{9b}31m", "c1 \\u{9b}31m"),
            ("back\u{8}space\u{7f}", "back\\u{8}space\\u{7f}"),
            ("a\u{202e}cod.exe", "a\\u{202e}cod.exe"),
            ("nul\0", "nul\\u{0}"),
        ] {
            assert_eq!(printable(text), expect);
        }
    }
}
