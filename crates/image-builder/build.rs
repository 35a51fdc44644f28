//! Tells the crate the digest of its own code, which every key of what it makes begins with.

fn main() -> std::io::Result<()> {
    cache_key::code::tell_crate()
}
