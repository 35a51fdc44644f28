//! Pictures of the screen: from QEMU's dump to a PNG, whole, in part, or smaller.
//!
//! Pure, and bounded: the guest chooses the display's size and every pixel.

use crate::error::{Error, Result};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{DynamicImage, ImageFormat, ImageReader, Limits};
use std::io::Cursor;

/// The largest display that is read: 16384 pixels on a side, and 1 GiB of memory in all.
const MAX_SIDE: u32 = 16_384;
const MAX_MEMORY: u64 = 1 << 30;
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

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
    if is_whole && dump.starts_with(PNG) {
        return Ok(dump);
    }
    let mut picture = decode(&dump)?;
    if let Some(region) = options.region {
        picture = crop(picture, region)?;
    }
    if let Some(scale) = options.scale {
        picture = resize(picture, scale)?;
    }
    encode(&picture.into_rgb8())
}

/// Width and height of a dump.
pub(super) fn size(dump: &[u8]) -> Result<(u32, u32)> {
    let (width, height) = reader(dump)?.into_dimensions().map_err(broken)?;
    if width == 0 || height == 0 {
        return Err(broken(format!("it has {width}x{height} pixels")));
    }
    Ok((width, height))
}

fn reader(dump: &[u8]) -> Result<ImageReader<Cursor<&[u8]>>> {
    let format = match dump {
        dump if dump.starts_with(PNG) => ImageFormat::Png,
        dump if dump.starts_with(b"P6") => ImageFormat::Pnm,
        _ => return Err(broken("it is neither PPM nor PNG")),
    };
    let mut reader = ImageReader::with_format(Cursor::new(dump), format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_MEMORY);
    reader.limits(limits);
    Ok(reader)
}

fn decode(dump: &[u8]) -> Result<DynamicImage> {
    size(dump)?;
    reader(dump)?.decode().map_err(broken)
}

fn crop(picture: DynamicImage, region: Region) -> Result<DynamicImage> {
    let inside = |start: u32, length: u32, whole: u32| {
        length > 0 && start.checked_add(length).is_some_and(|end| end <= whole)
    };
    let (width, height) = (picture.width(), picture.height());
    if inside(region.x, region.width, width) && inside(region.y, region.height, height) {
        return Ok(picture.crop_imm(region.x, region.y, region.width, region.height));
    }
    Err(Error::InvalidValue {
        option: "region",
        value: format!("{},{} {}x{}", region.x, region.y, region.width, region.height),
        allowed: format!("a part of the screen, which has {width}x{height} pixels"),
        hint: Some("A region is x, y, width, height".into()),
    })
}

fn resize(picture: DynamicImage, scale: f64) -> Result<DynamicImage> {
    if !(scale > 0.0 && scale <= 1.0) {
        return Err(Error::InvalidValue {
            option: "scale",
            value: scale.to_string(),
            allowed: "more than 0 and at most 1".into(),
            hint: None,
        });
    }
    let side = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
    Ok(picture.thumbnail_exact(side(picture.width()), side(picture.height())))
}

/// The encoder's fast way: a picture of a desktop takes a few milliseconds, and half the size more
/// than the slowest.
fn encode(picture: &image::RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(64 << 10);
    let encoder =
        PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive);
    picture.write_with_encoder(encoder).map_err(broken)?;
    Ok(bytes)
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

    fn pixels(png: &[u8]) -> image::RgbImage {
        assert!(png.starts_with(PNG));
        decode(png).unwrap().into_rgb8()
    }

    #[test]
    fn a_dump_becomes_a_png_of_the_same_pixels() {
        assert_eq!(size(&ppm()).unwrap(), (4, 2));
        let png = png(ppm(), ScreenshotOptions::default()).unwrap();
        assert_eq!(pixels(&png).into_raw(), &ppm()[11..]);
        assert_eq!(size(&png).unwrap(), (4, 2));
        // QEMU's own PNG is passed on as it is.
        assert_eq!(super::png(png.clone(), ScreenshotOptions::default()).unwrap(), png);
    }

    #[test]
    fn a_picture_without_a_pixel_is_refused() {
        for dump in ["P6 0 3\n2", "P6\n3 0\n255\n", "P6\n0 0\n255\n"] {
            let error = size(dump.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("pixels"), "{dump:?}: {error}");
            assert!(png(dump.into(), ScreenshotOptions::default()).is_err(), "{dump:?}");
        }
    }

    #[test]
    fn a_part_and_a_smaller_picture() {
        let region = Some(Region { x: 1, y: 1, width: 2, height: 1 });
        let part = png(ppm(), ScreenshotOptions { region, scale: None }).unwrap();
        assert_eq!(pixels(&part).into_raw(), [150, 160, 170, 180, 190, 200]);
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
    fn nonsense_is_an_error() {
        for dump in [&b""[..], b"P6\n", b"P6\n4 2\n255\nshort", b"P6\n99999 99999\n255\n", b"GIF"] {
            assert!(png(dump.to_vec(), ScreenshotOptions::default()).is_err(), "{dump:?}");
        }
    }
}
