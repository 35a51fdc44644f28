//! What a Rust source means, as far as a hash needs it: its text without comments, without layout and
//! without items that only tests compile. Whatever is not understood is kept, so that a change is rather
//! seen too often than missed.

/// A source's text, and the modules of it that only tests compile.
#[derive(Debug, PartialEq, Eq)]
pub struct Meaning {
    /// The tokens, a space between each two.
    pub text: String,
    /// The names `x` of `#[cfg(test)] mod x;`.
    pub test_modules: Vec<String>,
    /// A module is taken from a file that its name does not tell.
    pub has_paths: bool,
}

/// Reads a source.
pub fn meaning(source: &str) -> Meaning {
    let tokens = tokens(source);
    let mut kept: Vec<&str> = Vec::new();
    let mut test_modules = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let rest = &tokens[at..];
        if rest.starts_with(&["#", "[", "cfg", "(", "test", ")", "]"])
            && let Some(end) = end_of_item(&rest[7..])
        {
            let item = &rest[7..7 + end];
            if let [.., "mod", name, ";"] = item {
                test_modules.push((*name).to_owned());
            }
            at += 7 + end;
            continue;
        }
        kept.push(tokens[at]);
        at += 1;
    }
    let has_paths = tokens.windows(3).any(|three| three == ["#", "[", "path"]);
    Meaning { text: kept.join(" "), test_modules, has_paths }
}

/// What items begin with; fields, variants and statements do not.
const BEGINNINGS: [&str; 15] = [
    "async",
    "const",
    "enum",
    "extern",
    "fn",
    "impl",
    "macro_rules",
    "mod",
    "pub",
    "static",
    "struct",
    "trait",
    "type",
    "unsafe",
    "use",
];

/// How many tokens an item has with the attributes before it; none when this is no item.
fn end_of_item(tokens: &[&str]) -> Option<usize> {
    let mut at = 0;
    while tokens.get(at) == Some(&"#") {
        at += 1 + end_of_group(&tokens[at + 1..])?;
    }
    if !BEGINNINGS.contains(tokens.get(at)?) {
        return None;
    }
    // `pub name: Type,` is a field: items have one of the other words soon.
    if tokens[at] == "pub" {
        let mut next = at + 1;
        if tokens.get(next) == Some(&"(") {
            next += end_of_group(&tokens[next..])?;
        }
        if !BEGINNINGS.contains(tokens.get(next)?) {
            return None;
        }
    }
    let mut has_value = false;
    while let Some(token) = tokens.get(at) {
        match *token {
            ";" => return Some(at + 1),
            "=" => {
                has_value = true;
                at += 1;
            }
            "{" => {
                at += end_of_group(&tokens[at..])?;
                // What follows a block of a value or of an import belongs to it, up to the semicolon.
                if !has_value && tokens.get(at) != Some(&";") {
                    return Some(at);
                }
            }
            "(" | "[" => at += end_of_group(&tokens[at..])?,
            ")" | "]" | "}" => return None,
            _ => at += 1,
        }
    }
    None
}

/// How many tokens a group in brackets has, with its brackets.
fn end_of_group(tokens: &[&str]) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match *token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The tokens of a source. Words, numbers and literals are one each, everything else is one for each
/// character.
fn tokens(source: &str) -> Vec<&str> {
    let bytes = source.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &source[at..];
        let (length, is_kept) = match bytes[at] {
            b'/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), false),
            b'/' if rest.starts_with("/*") => (block_comment(rest), false),
            byte if byte.is_ascii_whitespace() => (1, false),
            b'"' => (quoted(rest, 0, b'"'), true),
            b'\'' => (character(rest), true),
            byte if is_word(byte) => (word_or_string(rest), true),
            _ => (1, true),
        };
        if is_kept {
            found.push(&source[at..at + length]);
        }
        at += length;
    }
    found
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// A word, or the literal that one begins: `b"…"`, `r#"…"#`, `c"…"`, `b'…'`.
fn word_or_string(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let word = bytes.iter().take_while(|byte| is_word(**byte)).count();
    let prefix = &rest[..word];
    match bytes.get(word) {
        Some(b'"') if ["b", "c"].contains(&prefix) => quoted(rest, word, b'"'),
        Some(b'\'') if prefix == "b" => quoted(rest, word, b'\''),
        Some(b'"' | b'#') if ["r", "br", "cr"].contains(&prefix) => {
            let n_hashes = bytes[word..].iter().take_while(|byte| **byte == b'#').count();
            let start = word + n_hashes;
            if bytes.get(start) != Some(&b'"') {
                return word;
            }
            let end = format!("\"{}", "#".repeat(n_hashes));
            rest[start + 1..].find(&end).map_or(rest.len(), |length| start + 1 + length + end.len())
        }
        _ => word,
    }
}

/// A literal in quotes that begin at `start`.
fn quoted(rest: &str, start: usize, quote: u8) -> usize {
    let bytes = rest.as_bytes();
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    // A backslash at the end of a file that does not compile.
    bytes.len()
}

/// A character, or the quote of a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), _) => quoted(rest, 0, b'\''),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

/// A comment, with those inside of it.
fn block_comment(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(source: &str) -> String {
        meaning(source).text
    }

    #[test]
    fn comments_layout_and_tests_are_left_out_and_nothing_else() {
        for (one, other) in [
            ("fn a() { b(1); }", "/// Says.\nfn a() {\n    b(1); // why\n}\n"),
            ("fn a() {}", "/* one /* inside */ more */ fn a() {}"),
            ("fn a() {}", "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { \"}\"; '}'; } }"),
            ("fn a() {}", "#[cfg(test)]\nuse b::{c, d};\nfn a() {}"),
            ("fn a() {}", "#[cfg(test)]\n#[path = \"x.rs\"]\nmod b;\nfn a() {}"),
            ("fn a() {}", "#[cfg(test)]\npub(crate) fn b<T: C>(c: [u8; 2]) -> T { d }\nfn a() {}"),
            ("fn a() {}", "#[cfg(test)]\nconst B: [u8; 1] = [{ 1 }];\nfn a() {}"),
            ("fn a() {}", "#[cfg(test)] const B: u8 = { 1 } + { 2 }; fn a() {}"),
        ] {
            assert_eq!(text(one), text(other), "{other}");
        }
        for (one, other) in [
            ("a(\"// no comment\")", "a(\"// no remark\")"),
            ("a(r#\"\" // b\"#)", "a(r#\"\" // c\"#)"),
            ("a('\"', 1) // b", "a('\"', 2) // b"),
            ("a('\\'', 1)", "a('\\'', 2)"),
            ("fn a<'b>(c: &'b u8) {}", "fn a<'d>(c: &'d u8) {}"),
            ("a(b'\"', \"x\")", "a(b'\"', \"y\")"),
            ("#[cfg(not(test))] fn a() {}", "#[cfg(not(test))] fn b() {}"),
            (
                "struct A { #[cfg(test)] pub b: u8, c: u8 }",
                "struct A { #[cfg(test)] pub b: u8, d: u8 }",
            ),
            ("enum A { #[cfg(test)] B, C }", "enum A { #[cfg(test)] B, D }"),
            ("a(r, 1)", "a(r, 2)"),
            ("let r#type = 1;", "let r#type = 2;"),
        ] {
            assert_ne!(text(one), text(other), "{one}");
        }
    }

    #[test]
    fn modules_of_tests_are_named() {
        let found = meaning("mod a;\n#[cfg(test)]\nmod b;\n#[cfg(test)] mod c {}\npub mod d;");
        assert_eq!(found.test_modules, ["b"]);
        assert!(!found.has_paths);
        assert!(meaning("#[path = \"x.rs\"] mod a;").has_paths);
    }

    #[test]
    fn the_lexer_ends_on_source_that_does_not_compile() {
        for source in [
            "\"",
            "'",
            "'\\",
            "r#\"",
            "/*",
            "b\"\\",
            "#[cfg(test)]",
            "#[cfg(test)] fn",
            "\u{e4}\u{f6}",
        ] {
            meaning(source);
        }
    }
}
