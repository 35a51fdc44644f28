//! Hostile pictures: QEMU writes them, and the guest may have QEMU.

use super::picture::{self, Region, ScreenshotOptions};
use fuzz_driver::Target;

#[test]
fn fuzz_picture() {
    let words: &[&[u8]] =
        &[b"P6\n", b"640 480\n", b"255\n", b"65535 65535\n", b"#\n", b"\x89PNG\r\n\x1a\n", b"IHDR"];
    Target::new("picture").words(words).max_memory(900 << 20).run(|input| {
        if let Ok((width, height)) = picture::size(input) {
            assert!(width > 0 && height > 0);
        }
        let region = Some(Region { x: 1, y: 1, width: 2, height: 2 });
        for options in [
            ScreenshotOptions { region: None, scale: None },
            ScreenshotOptions { region, scale: Some(0.5) },
        ] {
            let _ = picture::png(input.to_vec(), options);
        }
    });
}
