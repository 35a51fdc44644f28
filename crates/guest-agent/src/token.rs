//! The tokens that open the agent. Without any, nothing does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_protocol::resync;

/// The accepted tokens; each at least one byte long. Clones are the same tokens.
#[derive(Clone, Default)]
pub struct Tokens(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    tokens: Vec<Vec<u8>>,
    n_changes: u64,
}

impl Tokens {
    /// Tokens from all sources; empty ones are no tokens.
    pub fn new(tokens: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let tokens = tokens.into_iter().filter(|token| !token.is_empty()).collect();
        Self(Arc::new(Mutex::new(Known { tokens, n_changes: 0 })))
    }

    /// Whether nobody can be let in.
    pub fn is_empty(&self) -> bool {
        self.known().tokens.is_empty()
    }

    /// What each token's host and this agent know to begin a stream's connection again.
    pub fn resync_secrets(&self) -> Vec<resync::Secret> {
        self.known().tokens.iter().map(|token| resync::Secret::new(token)).collect()
    }

    /// Whether `candidate` is one of the tokens. The time taken depends on the lengths alone.
    pub fn accept(&self, candidate: &[u8]) -> bool {
        self.known().tokens.iter().fold(false, |found, token| found | same(token, candidate))
    }

    /// Lets nobody in any more but who has this token.
    pub fn renew(&self, token: Vec<u8>) {
        let mut known = self.known();
        known.tokens = vec![token];
        known.n_changes += 1;
    }

    /// How often the tokens were replaced.
    pub fn n_changes(&self) -> u64 {
        self.known().n_changes
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn same(token: &[u8], candidate: &[u8]) -> bool {
    if token.len() != candidate.len() {
        return false;
    }
    let difference =
        token.iter().zip(candidate).fold(0u8, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
    std::hint::black_box(difference) == 0
}

/// The token of an `Authorization: Bearer` header.
pub fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_opens() {
        let tokens = Tokens::new([b"secret".to_vec(), vec![], b"other".to_vec()]);
        for (candidate, expect) in [
            ("secret", true),
            ("other", true),
            ("", false),
            ("secre", false),
            ("secrets", false),
            ("Secret", false),
            ("secreu", false),
        ] {
            assert_eq!(tokens.accept(candidate.as_bytes()), expect, "{candidate}");
        }
    }

    #[test]
    fn a_new_token_is_the_only_one() {
        let tokens = Tokens::new([b"old".to_vec(), b"other".to_vec()]);
        let same = tokens.clone();
        same.renew(b"new".to_vec());
        assert_eq!(tokens.n_changes(), 1);
        for (candidate, expect) in [("old", false), ("other", false), ("new", true)] {
            assert_eq!(tokens.accept(candidate.as_bytes()), expect, "{candidate}");
        }
        assert_eq!(tokens.resync_secrets().len(), 1);
    }

    #[test]
    fn without_a_token_nothing_opens() {
        let tokens = Tokens::new([vec![]]);
        assert!(tokens.is_empty());
        assert!(!tokens.accept(b""));
    }

    #[test]
    fn the_header_is_read_as_rfc_6750_says() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer  abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"Basic abc"), None);
        assert_eq!(bearer(b"Bearer"), None);
        assert_eq!(bearer(b""), None);
    }
}
