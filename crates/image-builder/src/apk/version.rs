//! Versions of Alpine's packages and what a dependency asks of one, see apk-package(5):
//! `NUMBER(.NUMBER)*[LETTER](_SUFFIX[NUMBER])*[~HASH][-rNUMBER]`.

use std::cmp::Ordering;

/// Suffixes of what comes before the version itself, the earliest first.
const BEFORE: [&str; 4] = ["alpha", "beta", "pre", "rc"];
/// Suffixes of what comes after it.
const AFTER: [&str; 5] = ["cvs", "svn", "git", "hg", "p"];

/// A piece of a version. Kinds are ordered: where two versions go on differently, the one with the
/// later kind is the smaller, since it has less to say at this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Number,
    Letter,
    Suffix,
    SuffixNumber,
    Revision,
    End,
}

type Piece = (Kind, i64);

/// What a dependency asks of a version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Constraint {
    less: bool,
    equal: bool,
    greater: bool,
    /// The version may go on where the asked one ends: `~1.2` is met by `1.2.7-r3`.
    fuzzy: bool,
    version: String,
}

/// Compares two versions.
pub fn compare(left: &str, right: &str) -> Ordering {
    order(&pieces(left), &pieces(right))
}

impl std::fmt::Display for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let signs = [
            (self.less, "<"),
            (self.greater, ">"),
            (self.equal && !self.fuzzy, "="),
            (self.fuzzy, "~"),
        ];
        for (_, sign) in signs.iter().filter(|(is_set, _)| *is_set) {
            f.write_str(sign)?;
        }
        f.write_str(&self.version)
    }
}

impl Constraint {
    /// Reads an operator and a version, such as `>=` and `1.2`; `None` for an operator that there
    /// is not.
    pub fn new(operator: &str, version: &str) -> Option<Self> {
        let has = |c: char| operator.contains(c);
        let is_known = !operator.is_empty() && operator.chars().all(|c| "<>=~".contains(c));
        // `><` compares digests, which no package of a repository asks for.
        (is_known && !version.is_empty() && !(has('<') && has('>'))).then(|| Self {
            less: has('<'),
            equal: has('=') || has('~'),
            greater: has('>'),
            fuzzy: has('~'),
            version: version.to_owned(),
        })
    }

    /// Whether a version is one that was asked for.
    pub fn is_met_by(&self, version: &str) -> bool {
        let (there, asked) = (pieces(version), pieces(&self.version));
        if self.fuzzy && there.starts_with(&asked[..asked.len() - 1]) {
            return true;
        }
        match order(&there, &asked) {
            Ordering::Less => self.less,
            Ordering::Equal => self.equal,
            Ordering::Greater => self.greater,
        }
    }
}

fn order(left: &[Piece], right: &[Piece]) -> Ordering {
    let differing = left.iter().zip(right).find(|(a, b)| a != b);
    let Some((a, b)) = differing else { return Ordering::Equal };
    if a.0 == b.0 {
        return a.1.cmp(&b.1);
    }
    // `1.2_rc1` comes before `1.2`, and before `1.2-r1`.
    let is_before = |piece: &Piece| piece.0 == Kind::Suffix && piece.1 < 0;
    match (is_before(a), is_before(b)) {
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        _ => b.0.cmp(&a.0),
    }
}

/// The pieces of a version, `End` last. What follows the first thing that belongs to no version is
/// left out.
fn pieces(version: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let (mut rest, revision) = match version.rsplit_once("-r") {
        Some((rest, revision)) if is_number(revision) => (rest, Some(revision)),
        _ => (version, None),
    };
    // The digest of a commit says nothing of the order.
    rest = rest.split('~').next().unwrap_or(rest);
    let mut is_first = true;
    loop {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits == 0 {
            break;
        }
        let (number, after) = rest.split_at(digits);
        // A part with zeros before it is a fraction: 1.05 comes before 1.1, and 1.005 before it.
        let zeros = number.len() - number.trim_start_matches('0').len();
        if !is_first && zeros > 0 && number.len() > 1 {
            pieces.push((Kind::Number, -(zeros as i64)));
            if zeros < number.len() {
                pieces.push((Kind::Number, value(&number[zeros..])));
            }
        } else {
            pieces.push((Kind::Number, value(number)));
        }
        is_first = false;
        rest = after;
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None => break,
        }
    }
    if let Some(letter) = rest.chars().next().filter(char::is_ascii_lowercase) {
        pieces.push((Kind::Letter, i64::from(u32::from(letter))));
        rest = &rest[1..];
    }
    while let Some(suffix) = rest.strip_prefix('_') {
        let end = suffix.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(suffix.len());
        let (name, after) = suffix.split_at(end);
        let before = BEFORE.iter().position(|known| *known == name);
        let after_it = AFTER.iter().position(|known| *known == name);
        let value_of_suffix = match (before, after_it) {
            (Some(place), _) => place as i64 - BEFORE.len() as i64,
            (None, Some(place)) => place as i64,
            (None, None) => break,
        };
        pieces.push((Kind::Suffix, value_of_suffix));
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits > 0 {
            pieces.push((Kind::SuffixNumber, value(&after[..digits])));
        }
        rest = &after[digits..];
    }
    pieces.extend(revision.map(|revision| (Kind::Revision, value(revision))));
    pieces.push((Kind::End, 0));
    pieces
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn value(digits: &str) -> i64 {
    digits.parse().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_order() {
        let ascending = [
            "0.9",
            "1.0_alpha",
            "1.0_alpha2",
            "1.0_beta",
            "1.0_rc1",
            "1.0_rc1-r1",
            "1.0",
            "1.0-r0",
            "1.0-r10",
            "1.0_git20240101",
            "1.0_p1",
            "1.0a",
            "1.0b",
            "1.0.005",
            "1.0.05",
            "1.0.1",
            "1.0.1-r1",
            "1.1",
            "1.2",
            "1.10",
            "2",
            "20240101",
        ];
        for (place, left) in ascending.iter().enumerate() {
            assert_eq!(compare(left, left), Ordering::Equal, "{left}");
            for right in &ascending[place + 1..] {
                assert_eq!(compare(left, right), Ordering::Less, "{left} {right}");
                assert_eq!(compare(right, left), Ordering::Greater, "{right} {left}");
            }
        }
    }

    #[test]
    fn a_constraint_accepts_and_refuses_versions() {
        for (operator, asked, met, not) in [
            ("=", "1.2-r0", "1.2-r0", "1.2-r1"),
            (">=", "1.2", "1.2-r0", "1.1-r9"),
            (">", "1.2", "1.3", "1.2"),
            ("<", "1.2", "1.2_rc1", "1.2"),
            ("<=", "1.2", "1.2", "1.2-r0"),
            ("~", "1.2", "1.2.7-r3", "1.20"),
            ("=~", "3.12", "3.12.10-r1", "3.13.0-r0"),
            (">=~", "3.12", "3.13", "3.11.9"),
        ] {
            let constraint = Constraint::new(operator, asked).unwrap();
            assert!(constraint.is_met_by(met), "{met} {operator} {asked}");
            assert!(!constraint.is_met_by(not), "{not} {operator} {asked}");
        }
        assert_eq!(Constraint::new("><", "Q1abc"), None);
        assert_eq!(Constraint::new("!", "1"), None);
    }
}
