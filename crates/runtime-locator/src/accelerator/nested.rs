//! Whether this host is a guest of a hypervisor itself, as far as it tells.

/// Whether this system runs in a virtual machine. False where it does not tell.
pub fn is_guest() -> bool {
    super::is_hyperv_guest() || tells_of_a_hypervisor()
}

#[cfg(target_os = "linux")]
fn tells_of_a_hypervisor() -> bool {
    use std::path::Path;
    let processors = fs_err::read_to_string("/proc/cpuinfo").unwrap_or_default();
    is_flagged(&processors)
        || ["/sys/hypervisor/type", "/proc/device-tree/hypervisor"]
            .iter()
            .any(|place| Path::new(place).exists())
}

#[cfg(not(target_os = "linux"))]
fn tells_of_a_hypervisor() -> bool {
    false
}

/// Whether a processor says so: bit 31 of CPUID leaf 1, which no real one has set.
#[cfg(any(target_os = "linux", test))]
fn is_flagged(processors: &str) -> bool {
    let mut flags = processors.lines().filter(|line| line.starts_with("flags"));
    flags.any(|line| line.split_whitespace().any(|flag| flag == "hypervisor"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_processor_says_so() {
        assert!(is_flagged("processor\t: 0\nflags\t\t: fpu hypervisor lahf_lm\n"));
        assert!(!is_flagged("model name\t: hypervisor\nflags\t\t: fpu lahf_lm\n"));
        assert!(!is_flagged(""));
    }
}
