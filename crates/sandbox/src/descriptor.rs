//! Open files as paths.

/// How a child opens a descriptor that it inherited, as a path.
pub(crate) fn descriptor_path(number: i32) -> String {
    if cfg!(target_os = "linux") {
        format!("/proc/self/fd/{number}")
    } else {
        format!("/dev/fd/{number}")
    }
}
