//! Whether a licence asks for the source of what is given away. Pure.

use spdx::Expression;

/// The rule in words, for those who read the archive.
pub const RULE: &str = "Left out is only what can be had under permissive licences alone: where every term of \
                        its SPDX expression, or one side of each choice, is a licence of the SPDX list that is \
                        not marked as copyleft there. What has a term that the list does not know \
                        (LicenseRef-…), or names no licence, is taken in.";

/// Whether the source of something under this SPDX expression has to be in the archive. What is no expression
/// is owed: nobody has shown that it is not.
pub fn is_owed(licence: &str) -> bool {
    let Ok(expression) = Expression::parse(licence) else { return true };
    !expression.evaluate(|term| term.license.id().is_some_and(|id| !id.is_copyleft()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_permissive_throughout_is_left_out() {
        for (licence, owed) in [
            ("MIT", false),
            ("MIT AND BSD-3-Clause AND Zlib", false),
            ("Apache-2.0 WITH LLVM-exception", false),
            // A choice is ours to make.
            ("BSD-3-Clause OR GPL-2.0-only", false),
            ("(MIT OR Apache-2.0) AND LGPL-2.1-or-later", true),
            ("LGPL-3.0-or-later OR GPL-2.0-or-later", true),
            ("GPL-3.0-or-later WITH GCC-exception-3.1", true),
            ("MPL-2.0", true),
            ("LicenseRef-Debian-bzip2", true),
            ("MIT AND LicenseRef-x", true),
            ("", true),
            ("see the file", true),
        ] {
            assert_eq!(is_owed(licence), owed, "{licence}");
        }
    }
}
