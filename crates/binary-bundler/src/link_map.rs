//! Which files a static link really took, out of the map that GNU ld writes (`-Wl,-Map`).
//!
//! A list of libraries kept by hand goes wrong with the first new option of the build; the map is
//! what the linker did. Archives whose every section was garbage-collected are not in the result:
//! nothing of them is in the executable.

use crate::{error::Error, lexical::clean};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// The object files and archives of which at least one byte with an address is in the executable,
/// with `..` resolved by name, in sorted order.
///
/// # Errors
/// When `map` holds no memory map, so that it is no linker map of GNU ld. `path` names it.
pub fn linked_files(path: &Path, map: &str) -> Result<BTreeSet<PathBuf>, Error> {
    let (_, memory_map) = map
        .split_once("\nLinker script and memory map\n")
        .ok_or_else(|| Error::LinkMap { path: path.to_path_buf() })?;
    Ok(memory_map.lines().filter_map(contribution).map(|file| clean(&file)).collect())
}

/// The file of one contribution, `[.section] 0xADDRESS 0xSIZE FILE[(MEMBER)]`. ld breaks the line
/// after a long section name, so the section may be missing here.
fn contribution(line: &str) -> Option<PathBuf> {
    if !line.starts_with(' ') {
        return None;
    }
    let (before, after) = line.split_once(" 0x")?;
    // Fill patterns and assignments (`*fill*`, `PROVIDE`) have no file behind the numbers.
    if before.trim_start().starts_with('*') {
        return None;
    }
    let (address, rest) = after.split_once(char::is_whitespace)?;
    let (size, file) = rest.trim_start().strip_prefix("0x")?.split_once(' ')?;
    let address = u64::from_str_radix(address, 16).ok()?;
    let size = u64::from_str_radix(size.trim(), 16).ok()?;
    // Sections without an address (comments, debug information) are not loaded; strip drops them.
    if address == 0 || size == 0 {
        return None;
    }
    let file = file.trim();
    let file = match file.strip_suffix(')').and_then(|file| file.rsplit_once('(')) {
        Some((archive, _member)) => archive,
        None => file,
    };
    Some(PathBuf::from(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "\
Archive member included to satisfy reference by file (symbol)

/usr/lib/libaio.a(io_queue.o) block.o (io_queue_init)

Discarded input sections

 .text          0x0000000000000000       0x20 /usr/lib/libaio.a(io_queue.o)

Memory Configuration

Linker script and memory map

LOAD /usr/lib/libunused.a
                0x0000000000000000                PROVIDE (__executable_start = 0x0)
 .text          0x0000000000001000       0x30 /usr/lib/gcc/x86_64-linux-gnu/12/../../../x86_64-linux-gnu/Scrt1.o
 *fill*         0x0000000000001030        0x6 
 .text.a_very_long_section_name_that_breaks_the_line
                0x0000000000001040       0x10 /usr/lib/libz.a(inflate.o)
 .data.empty    0x0000000000002000        0x0 /usr/lib/libempty.a(e.o)
 .comment       0x0000000000000000       0x1f /usr/lib/libcomment.a(c.o)
 .text          0x0000000000002000       0x44 libqemu.a.p/main.c.o
";

    #[test]
    fn only_what_has_an_address_counts() {
        let files = linked_files(Path::new("a.map"), MAP).unwrap();
        let names: Vec<_> = files.iter().map(|file| file.to_str().unwrap()).collect();
        assert_eq!(
            names,
            ["/usr/lib/libz.a", "/usr/lib/x86_64-linux-gnu/Scrt1.o", "libqemu.a.p/main.c.o"]
        );
    }

    #[test]
    fn another_file_is_no_map() {
        let error = linked_files(Path::new("a.map"), "hello").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`a.map` is not a linker map of GNU ld: it has no memory map"
        );
    }
}
