//! What a guest knew of its shares when a checkpoint was made, for the day it goes back there.

#[cfg(target_os = "linux")]
use share_server::Moment;
#[cfg(target_os = "linux")]
use std::collections::HashMap;
#[cfg(target_os = "linux")]
use std::collections::hash_map::Entry;

/// What the guest knew of all its shares at one moment, by their numbers.
#[derive(Default)]
pub(crate) struct Moments {
    #[cfg(target_os = "linux")]
    pub(super) all: HashMap<u32, Moment>,
}

impl Moments {
    /// Both of two moments, of which this is the later one.
    pub(crate) fn join(&mut self, earlier: Self) {
        #[cfg(target_os = "linux")]
        for (id, moment) in earlier.all {
            match self.all.entry(id) {
                Entry::Occupied(mut later) => later.get_mut().join(moment),
                Entry::Vacant(none) => {
                    none.insert(moment);
                }
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = earlier;
    }
}
