//! The operating system, native architecture and wheel platform tag of this host
