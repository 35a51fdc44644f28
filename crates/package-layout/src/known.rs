//! The images that have a name of ours, and which of them are published. This is the one list: names of
//! `quicksand install`, extras of the runtime, the release's plan and the workflows follow it or are held to it
//! by tests, and recipes and their locks are compared with it.

/// An image with a name of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownImage {
    pub name: &'static str,
    /// The architectures that it is published for, in the words of image files. None for a recipe that was never
    /// baked from its distribution's own mirror: its name is understood, for those who bake it themselves, and it
    /// is offered to nobody.
    pub arches: &'static [&'static str],
}

impl KnownImage {
    /// Whether it is published for any architecture.
    pub fn is_published(&self) -> bool {
        !self.arches.is_empty()
    }
}

/// Every one, by name.
pub const KNOWN: [KnownImage; 9] = [
    KnownImage { name: "alpine", arches: &[] },
    KnownImage { name: "alpine-desktop", arches: &[] },
    KnownImage { name: "debian", arches: &["amd64", "arm64"] },
    KnownImage { name: "debian-agent", arches: &["amd64"] },
    KnownImage { name: "debian-desktop", arches: &["amd64"] },
    KnownImage { name: "minimal", arches: &["amd64", "arm64"] },
    KnownImage { name: "ubuntu", arches: &[] },
    KnownImage { name: "ubuntu-desktop", arches: &[] },
    KnownImage { name: "ubuntu-resolute", arches: &[] },
];

/// The image of this name.
pub fn known(name: &str) -> Option<KnownImage> {
    KNOWN.into_iter().find(|image| image.name == name)
}

/// The names of those that are published.
pub fn published() -> impl Iterator<Item = &'static str> {
    KNOWN.into_iter().filter(KnownImage::is_published).map(|image| image.name)
}

/// The names of those that are published for an architecture, as image files call it.
pub fn published_for(arch: &str) -> impl Iterator<Item = &'static str> {
    KNOWN.into_iter().filter(move |image| image.arches.contains(&arch)).map(|image| image.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{ARCHES, check_name};

    #[test]
    fn the_list_is_sorted_and_of_good_names() {
        assert!(KNOWN.is_sorted_by_key(|image| image.name));
        for image in KNOWN {
            check_name(image.name).unwrap();
            assert!(image.arches.iter().all(|arch| ARCHES.contains(arch)), "{image:?}");
            assert_eq!(known(image.name), Some(image));
        }
        assert_eq!(known("debain"), None);
    }

    #[test]
    fn what_was_never_baked_is_not_published() {
        let all: Vec<&str> = published().collect();
        assert!(all.contains(&"debian-desktop") && !all.contains(&"ubuntu"));
        let arm: Vec<&str> = published_for("arm64").collect();
        assert!(arm.contains(&"debian") && !arm.contains(&"debian-desktop"));
        assert_eq!(published_for("riscv64").count(), 0);
    }
}
