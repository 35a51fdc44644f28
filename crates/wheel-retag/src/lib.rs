//! Reads, writes, verifies, retags and merges Python wheels
