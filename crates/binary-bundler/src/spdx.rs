//! SPDX licence expressions: checked for form, and joined for a whole bundle.
//!
//! PEP 639 wants one expression for a wheel. The grammar is that of the SPDX specification, annex
//! "SPDX license expressions"; identifiers are checked for form, not against the list.

use std::collections::BTreeSet;

/// Whether `text` has the form of an SPDX expression.
pub(crate) fn is_expression(text: &str) -> bool {
    let spaced = text.replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    disjunction(&mut rest) && rest.is_empty()
}

fn disjunction(rest: &mut &[&str]) -> bool {
    if !term(rest) {
        return false;
    }
    while let [operator @ ("AND" | "OR" | "WITH"), after @ ..] = *rest {
        *rest = after;
        let is_whole = if *operator == "WITH" { identifier(rest) } else { term(rest) };
        if !is_whole {
            return false;
        }
    }
    true
}

fn term(rest: &mut &[&str]) -> bool {
    let ["(", after @ ..] = *rest else { return identifier(rest) };
    *rest = after;
    if !disjunction(rest) {
        return false;
    }
    let [")", after @ ..] = *rest else { return false };
    *rest = after;
    true
}

fn identifier(rest: &mut &[&str]) -> bool {
    let [first, after @ ..] = *rest else { return false };
    let is_operator = matches!(*first, "AND" | "OR" | "WITH");
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | ':');
    let is_good = !is_operator && !first.is_empty() && first.chars().all(is_word);
    *rest = after;
    is_good
}

/// Joins expressions with AND, each once, in sorted order; those with OR are bracketed.
pub(crate) fn join<'a>(expressions: impl IntoIterator<Item = &'a str>) -> String {
    let mut parts = BTreeSet::new();
    for expression in expressions {
        if expression.contains(" OR ") {
            parts.insert(format!("({expression})"));
        } else {
            parts.extend(expression.split(" AND ").map(str::to_owned));
        }
    }
    parts.into_iter().collect::<Vec<_>>().join(" AND ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_checked() {
        let check = |text: &str, expect: bool| assert_eq!(is_expression(text), expect, "{text}");
        check("MIT", true);
        check("GPL-2.0-only AND LGPL-2.1-or-later", true);
        check("(MIT OR Apache-2.0) AND Zlib", true);
        check("GPL-3.0-or-later WITH GCC-exception-3.1", true);
        check("LicenseRef-public-domain", true);
        check("", false);
        check("see copyright", false);
        check("GPL-2.0-only AND", false);
        check("(MIT", false);
        check("MIT, BSD", false);
    }

    #[test]
    fn a_bundle_names_each_part_once() {
        let parts = ["MIT AND BSD-3-Clause", "MIT", "GPL-2.0-or-later OR LGPL-3.0-or-later"];
        assert_eq!(
            join(parts),
            "(GPL-2.0-or-later OR LGPL-3.0-or-later) AND BSD-3-Clause AND MIT"
        );
    }
}
