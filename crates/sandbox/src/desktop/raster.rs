//! Pixels of three bytes: read from a PPM or PNG, cut, made smaller, written as a PNG. It knows nothing of
//! screens.
//!
//! The PPM is netpbm's with one byte a colour, as QEMU writes it: <https://netpbm.sourceforge.net/doc/ppm.html>.

use png::{BitDepth, ColorType, Compression, Decoder, Encoder, Filter, Limits, Transformations};
use std::io::Cursor;

/// The largest picture that is read, in pixels on a side and in bytes of memory.
const MAX_SIDE: u32 = 16_384;
const MAX_MEMORY: usize = 1 << 30;

/// How a PNG begins.
pub const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Bytes of a pixel: red, green, blue.
const DEPTH: usize = 3;

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raster {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// The rows from the top.
    pub pixels: Vec<u8>,
}

/// Width and height of a PPM or PNG, read from its header alone. The error says what is wrong.
pub fn size(file: &[u8]) -> Result<(u32, u32), String> {
    let (width, height) = if file.starts_with(PNG) {
        let reader = decoder(file).read_info().map_err(|error| error.to_string())?;
        (reader.info().width, reader.info().height)
    } else {
        let header = ppm(file)?;
        (header.width, header.height)
    };
    let is_fine = |side: u32| (1..=MAX_SIDE).contains(&side);
    let memory = u64::from(width) * u64::from(height) * DEPTH as u64;
    if is_fine(width) && is_fine(height) && memory <= MAX_MEMORY as u64 {
        return Ok((width, height));
    }
    Err(format!("it has {width}x{height} pixels"))
}

/// Reads a PPM or PNG.
pub fn read(file: &[u8]) -> Result<Raster, String> {
    let (width, height) = size(file)?;
    let n_bytes = width as usize * height as usize * DEPTH;
    let pixels = if file.starts_with(PNG) {
        png_pixels(file, n_bytes).map_err(|error| error.to_string())?
    } else {
        let pixels = &file[ppm(file)?.length..];
        pixels.get(..n_bytes).ok_or("it ends before its last pixel")?.to_vec()
    };
    Ok(Raster { width, height, pixels })
}

fn decoder(file: &[u8]) -> Decoder<Cursor<&[u8]>> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(file), Limits { bytes: MAX_MEMORY });
    decoder.set_transformations(Transformations::normalize_to_color8());
    decoder
}

fn png_pixels(file: &[u8], n_bytes: usize) -> Result<Vec<u8>, png::DecodingError> {
    let mut reader = decoder(file).read_info()?;
    let (colours, _) = reader.output_color_type();
    let mut samples = vec![0; reader.output_buffer_size().unwrap_or(n_bytes)];
    reader.next_frame(&mut samples)?;
    let n_samples = colours.samples();
    let pixel = |samples: &[u8]| match samples {
        [red, green, blue, ..] => [*red, *green, *blue],
        // Grey, with or without opacity.
        samples => [samples[0]; DEPTH],
    };
    Ok(samples.chunks_exact(n_samples).flat_map(pixel).take(n_bytes).collect())
}

struct Ppm {
    width: u32,
    height: u32,
    /// Bytes of the header.
    length: usize,
}

/// The header: `P6`, width, height and the largest value, with blanks between, and one behind.
fn ppm(file: &[u8]) -> Result<Ppm, String> {
    let mut rest = file.strip_prefix(b"P6").ok_or("it is neither PPM nor PNG")?;
    let mut number = || {
        let start = rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
        let length = rest[start..].iter().position(|byte| !byte.is_ascii_digit())?;
        let (digits, behind) = rest[start..].split_at(length);
        let is_apart = start > 0 && behind[0].is_ascii_whitespace();
        rest = behind;
        is_apart.then(|| std::str::from_utf8(digits).ok()?.parse::<u32>().ok())?
    };
    let header = (number(), number(), number());
    let (Some(width), Some(height), Some(largest)) = header else {
        return Err("its header is not whole".to_owned());
    };
    if largest != 255 {
        return Err(format!("its largest value is {largest}, not 255"));
    }
    Ok(Ppm { width, height, length: file.len() - rest.len() + 1 })
}

impl Raster {
    /// A part of it; it lies inside.
    pub fn part(&self, (x, y): (u32, u32), (width, height): (u32, u32)) -> Self {
        let rows = y as usize..(y + height) as usize;
        let pixels = rows.flat_map(|row| {
            let start = row * self.width as usize + x as usize;
            &self.pixels[start * DEPTH..(start + width as usize) * DEPTH]
        });
        Self { width, height, pixels: pixels.copied().collect() }
    }

    /// The same in fewer pixels, each the mean of those in its place.
    pub fn shrunk(&self, width: u32, height: u32) -> Self {
        let mut pixels = Vec::with_capacity(width as usize * height as usize * DEPTH);
        for y in 0..height {
            for x in 0..width {
                let columns = covered(x, width, self.width);
                pixels.extend(self.mean(columns, covered(y, height, self.height)));
            }
        }
        Self { width, height, pixels }
    }

    fn mean(&self, columns: std::ops::Range<usize>, rows: std::ops::Range<usize>) -> [u8; DEPTH] {
        let n_pixels = (columns.len() * rows.len()) as u64;
        let mut sums = [n_pixels / 2; DEPTH];
        for row in rows {
            let start = row * self.width as usize;
            let pixels =
                &self.pixels[(start + columns.start) * DEPTH..(start + columns.end) * DEPTH];
            for pixel in pixels.chunks_exact(DEPTH) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += u64::from(*value);
                }
            }
        }
        sums.map(|sum| (sum / n_pixels) as u8)
    }

    /// Its PNG, made by the encoder's fast way: a picture of a desktop takes a few milliseconds, and half
    /// the size more than by the slowest.
    pub fn png(&self) -> Result<Vec<u8>, String> {
        let mut file = Vec::with_capacity(64 << 10);
        let mut encoder = Encoder::new(&mut file, self.width, self.height);
        encoder.set_color(ColorType::Rgb);
        encoder.set_depth(BitDepth::Eight);
        encoder.set_compression(Compression::Fast);
        encoder.set_filter(Filter::Adaptive);
        let write = |mut writer: png::Writer<_>| {
            writer.write_image_data(&self.pixels)?;
            writer.finish()
        };
        encoder.write_header().and_then(write).map_err(|error| error.to_string())?;
        Ok(file)
    }
}

/// Which pixels of a side of `before` one of `after` stands for: one at least.
fn covered(place: u32, after: u32, before: u32) -> std::ops::Range<usize> {
    let start = |place: u32| (u64::from(place) * u64::from(before) / u64::from(after)) as usize;
    start(place)..start(place + 1).max(start(place) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_png_of_any_kind_is_read() {
        for (colour, samples, expect) in [
            (ColorType::Grayscale, &[7u8, 9][..], [7, 7, 7, 9, 9, 9]),
            (ColorType::GrayscaleAlpha, &[7, 0, 9, 255], [7, 7, 7, 9, 9, 9]),
            (ColorType::Rgb, &[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]),
            (ColorType::Rgba, &[1, 2, 3, 0, 4, 5, 6, 255], [1, 2, 3, 4, 5, 6]),
        ] {
            let mut file = vec![];
            let mut encoder = Encoder::new(&mut file, 2, 1);
            encoder.set_color(colour);
            encoder.write_header().unwrap().write_image_data(samples).unwrap();
            assert_eq!(read(&file).unwrap().pixels, expect, "{colour:?}");
        }
    }

    #[test]
    fn each_pixel_counts_once_when_sides_are_multiples() {
        let pixels = (0..8).flat_map(|n| [n * 10, 0, n]).collect();
        let raster = Raster { width: 4, height: 2, pixels };
        assert_eq!(raster.shrunk(2, 1).pixels, [25, 0, 3, 45, 0, 5]);
        assert_eq!(raster.shrunk(4, 2), raster);
        // Any size is made of pixels that are there.
        for width in 1..=4 {
            for height in 1..=2 {
                let small = raster.shrunk(width, height);
                assert_eq!(small.pixels.len(), (width * height) as usize * DEPTH);
            }
        }
    }
}
