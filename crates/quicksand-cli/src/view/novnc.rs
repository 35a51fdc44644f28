//! noVNC, the VNC client that runs in a browser: its release as the npm registry has it
//! (`@novnc/novnc`), unchanged and with its licences, as part of the program.
//!
//! MPL-2.0 asks for the source of what is handed out; the archive is that source.

use std::{collections::HashMap, io::Read as _};

/// The release, as published.
pub const ARCHIVE: &[u8] = include_bytes!("novnc/novnc-1.7.0.tgz");
/// The folder inside the archive that everything lies in.
const FOLDER: &str = "package/";
/// The most bytes that one file may have.
const MAX_FILE: u64 = 1 << 20;

/// The scripts by their path below the package's folder.
pub fn files() -> std::io::Result<HashMap<String, Vec<u8>>> {
    let mut files = HashMap::new();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(ARCHIVE));
    for entry in archive.entries()? {
        let entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        if let Some(name) = path.strip_prefix(FOLDER).filter(|name| name.ends_with(".js")) {
            let name = name.to_owned();
            let mut content = Vec::new();
            entry.take(MAX_FILE).read_to_end(&mut content)?;
            files.insert(name, content);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};

    /// The sha256 of the file whose sha512 the registry publishes as
    /// `ucEJOx4T2avIRCleodk7YobZj5O2Ga2AeLfQ69A/yjG9HHba2+PDgwSkN3FttrmG+70ZGx21sElNFouK13RzyA==`.
    const SHA256: &str = "32689f18d6abe96bc6530828a6bd0b9ae33bda07c083a6575ed255b5a8f2e903";

    #[test]
    fn the_archive_is_the_published_one() {
        let sum: String = hex::encode(Sha256::digest(ARCHIVE));
        assert_eq!(sum, SHA256);
        let files = files().unwrap();
        assert!(
            files.contains_key("core/rfb.js")
                && files.contains_key("vendor/pako/lib/zlib/inflate.js")
        );
    }
}
