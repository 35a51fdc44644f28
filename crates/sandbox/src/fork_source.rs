//! What a machine's process is forked from: a machine that waits (`zygote`), a copy of one that stands still
//! (`still`), and what is known of either for its forks (`parent`).
//!
//! Must not know how machines start: that is `boot`'s.

mod parent;
mod still;
mod zygote;

pub(crate) use parent::{Bound, Parent, Ready, second};
pub(crate) use still::Still;
pub(crate) use zygote::Zygote;
