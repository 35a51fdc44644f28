//! Several terms as one SPDX expression.

use std::collections::BTreeSet;

/// One expression that holds for everything: all of the terms together.
pub fn all_of<'a>(terms: impl IntoIterator<Item = &'a String>) -> String {
    let terms: BTreeSet<&str> = terms.into_iter().map(String::as_str).collect();
    terms.into_iter().collect::<Vec<_>>().join(" AND ")
}
