//! Hostile text for what names and manifests say.

use crate::*;
use fuzz_driver::Target;

#[test]
fn fuzz_manifest() {
    let words: &[&[u8]] =
        &[b"\"version\"", b"\"config\"", b"\"image\"", b"\"arch\"", b"6", b"\"base\""];
    Target::new("manifest").words(words).run(|input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        if let Ok(manifest) = manifest::Manifest::parse(text) {
            let again = manifest::Manifest::parse(&manifest.to_json()).unwrap();
            assert_eq!(again.base_image(), manifest.base_image());
        }
        if let Some(file) = image::ImageFileName::parse(text) {
            assert_eq!(file.file_name(), text);
        }
        let _ = image::overlay_number(text);
        if image::check_name(text).is_ok() || save::check_name(text).is_ok() {
            assert!(!text.contains(['/', '\\', '\0']) && text != "..", "{text:?}");
        }
        let (before, after) = text.split_at(text.floor_char_boundary(text.len() / 2));
        let order = image::compare_versions(before, after);
        assert_eq!(image::compare_versions(after, before), order.reverse());
    });
}
