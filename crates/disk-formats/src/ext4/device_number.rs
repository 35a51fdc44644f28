//! Numbers of devices as ext4 keeps them in the first two words of an inode's block area: small ones
//! in the first (`old_encode_dev` of Linux), others in the second behind a first that is zero
//! (`new_encode_dev`). <https://docs.kernel.org/filesystems/ext4/inodes.html>

/// The largest major number, and the largest minor one.
const MAX: (u32, u32) = (0xfff, 0xf_ffff);

/// The two words of a device; `None` where they cannot hold its number.
pub fn words(major: u32, minor: u32) -> Option<[u32; 2]> {
    match (major, minor) {
        (0..=0xff, 0..=0xff) => Some([major << 8 | minor, 0]),
        _ if major > MAX.0 || minor > MAX.1 => None,
        _ => Some([0, minor & 0xff | major << 8 | (minor & !0xff) << 12]),
    }
}

/// The major and the minor number of two words.
pub fn numbers(words: [u32; 2]) -> (u32, u32) {
    match words {
        [0, new] => ((new >> 8) & 0xfff, (new & 0xff) | ((new >> 12) & 0xf_ff00)),
        [old, _] => ((old >> 8) & 0xff, old & 0xff),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_that_fits_comes_back() {
        for number in [(5, 1), (0, 0), (255, 255), (259, 0), (8, 256), (0xfff, 0xf_ffff)] {
            assert_eq!(words(number.0, number.1).map(numbers), Some(number));
        }
        // As Linux has it: the minor number's upper bits are above the major one.
        assert_eq!(words(259, 300), Some([0, 0x0011_032c]));
        assert_eq!(words(8, 1), Some([0x801, 0]));
    }

    #[test]
    fn a_number_that_does_not_fit_is_refused() {
        assert_eq!(words(0x1000, 0), None);
        assert_eq!(words(0, 0x10_0000), None);
    }
}
