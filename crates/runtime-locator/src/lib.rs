//! Finds QEMU and images on this host and probes its accelerators
