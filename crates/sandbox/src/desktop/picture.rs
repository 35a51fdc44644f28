//! Pictures of the screen: from QEMU's dump to a PNG, whole, in part, or smaller.
//!
//! Pure, and bounded: the guest chooses the display's size and every pixel.

use super::raster::{self, Raster};
use crate::error::{Error, Result};

/// A part of the screen in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Distance from the left edge.
    pub x: u32,
    /// Distance from the upper edge.
    pub y: u32,
    /// Width, at least 1.
    pub width: u32,
    /// Height, at least 1.
    pub height: u32,
}

/// How a screenshot is made.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ScreenshotOptions {
    /// The part of the screen; all of it when it is `None`.
    pub region: Option<Region>,
    /// The factor of its size, more than 0 and at most 1; 1 when it is `None`.
    pub scale: Option<f64>,
}

/// Makes the PNG of a dump, which is a PPM, or a PNG already with some builds of QEMU.
pub(super) fn png(dump: Vec<u8>, options: ScreenshotOptions) -> Result<Vec<u8>> {
    let is_whole = options.region.is_none() && options.scale.is_none_or(|scale| scale == 1.0);
    if is_whole && dump.starts_with(raster::PNG) {
        return Ok(dump);
    }
    let mut picture = raster::read(&dump).map_err(broken)?;
    if let Some(region) = options.region {
        picture = crop(picture, region)?;
    }
    if let Some(scale) = options.scale {
        picture = resize(picture, scale)?;
    }
    picture.png().map_err(broken)
}

/// Width and height of a dump.
pub(super) fn size(dump: &[u8]) -> Result<(u32, u32)> {
    raster::size(dump).map_err(broken)
}

fn crop(picture: Raster, region: Region) -> Result<Raster> {
    let inside = |start: u32, length: u32, whole: u32| {
        length > 0 && start.checked_add(length).is_some_and(|end| end <= whole)
    };
    let (width, height) = (picture.width, picture.height);
    if inside(region.x, region.width, width) && inside(region.y, region.height, height) {
        return Ok(picture.part((region.x, region.y), (region.width, region.height)));
    }
    Err(Error::InvalidValue {
        option: "region",
        value: format!("{},{} {}x{}", region.x, region.y, region.width, region.height),
        allowed: format!("a part of the screen, which has {width}x{height} pixels"),
        hint: Some("A region is x, y, width, height".into()),
    })
}

fn resize(picture: Raster, scale: f64) -> Result<Raster> {
    if !(scale > 0.0 && scale <= 1.0) {
        return Err(Error::InvalidValue {
            option: "scale",
            value: scale.to_string(),
            allowed: "more than 0 and at most 1".into(),
            hint: None,
        });
    }
    let side = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
    Ok(picture.shrunk(side(picture.width), side(picture.height)))
}

fn broken(reason: impl ToString) -> Error {
    Error::Screen { reason: format!("QEMU's picture cannot be read: {}", reason.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ppm() -> Vec<u8> {
        let mut dump = b"P6\n4 2\n255\n".to_vec();
        dump.extend((0..24).map(|n| n * 10));
        dump
    }

    fn pixels(png: &[u8]) -> Vec<u8> {
        assert!(png.starts_with(raster::PNG));
        raster::read(png).unwrap().pixels
    }

    #[test]
    fn a_dump_becomes_a_png_of_the_same_pixels() {
        assert_eq!(size(&ppm()).unwrap(), (4, 2));
        let png = png(ppm(), ScreenshotOptions::default()).unwrap();
        assert_eq!(pixels(&png), &ppm()[11..]);
        assert_eq!(size(&png).unwrap(), (4, 2));
        // QEMU's own PNG is passed on as it is.
        assert_eq!(super::png(png.clone(), ScreenshotOptions::default()).unwrap(), png);
    }

    #[test]
    fn a_picture_without_a_pixel_is_refused() {
        for dump in ["P6 0 3\n255\n", "P6\n3 0\n255\n", "P6\n0 0\n255\n"] {
            let error = size(dump.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("pixels"), "{dump:?}: {error}");
            assert!(png(dump.into(), ScreenshotOptions::default()).is_err(), "{dump:?}");
        }
    }

    #[test]
    fn a_part_and_a_smaller_picture() {
        let region = Some(Region { x: 1, y: 1, width: 2, height: 1 });
        let part = png(ppm(), ScreenshotOptions { region, scale: None }).unwrap();
        assert_eq!(pixels(&part), [150, 160, 170, 180, 190, 200]);
        let half = png(ppm(), ScreenshotOptions { region: None, scale: Some(0.5) }).unwrap();
        assert_eq!(size(&half).unwrap(), (2, 1));
        for region in [
            Region { x: 4, y: 0, width: 1, height: 1 },
            Region { x: 0, y: 0, width: 0, height: 1 },
            Region { x: u32::MAX, y: 0, width: 2, height: 1 },
        ] {
            let options = ScreenshotOptions { region: Some(region), scale: None };
            assert!(png(ppm(), options).unwrap_err().to_string().contains("4x2"));
        }
        for scale in [0.0, -1.0, 1.5, f64::NAN] {
            assert!(png(ppm(), ScreenshotOptions { region: None, scale: Some(scale) }).is_err());
        }
    }

    #[test]
    fn a_malformed_picture_is_an_error() {
        for dump in [&b""[..], b"P6\n", b"P6\n4 2\n255\nshort", b"P6\n99999 99999\n255\n", b"GIF"] {
            assert!(png(dump.to_vec(), ScreenshotOptions::default()).is_err(), "{dump:?}");
        }
    }
}
