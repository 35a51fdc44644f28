//! Launches virtual machines for untrusted work
