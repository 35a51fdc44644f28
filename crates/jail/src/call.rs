//! What the system's calls take and give.

use std::ffi::CString;
use std::io;

/// A string with its end.
pub(crate) fn c_string(bytes: &[u8]) -> io::Result<CString> {
    Ok(CString::new(bytes)?)
}

/// What a call gave, or the error that it left where its number is negative.
pub(crate) fn system(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
