//! Where QEMU's source comes from: the value of `--source`, and the check of a file's hash.

use super::pins::{Pin, Sha256Hex};
use anyhow::Result;
use fs_err as fs;
use std::path::{Path, PathBuf};
use xtask_base::ui::hinted;

/// Where QEMU's source comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The pinned source package, through a private apt configuration.
    Apt,
    /// A tarball at a URL; nothing but its hash says what it is.
    Url { url: String, sha256: Sha256Hex },
    /// A tarball on this machine.
    File { path: PathBuf, sha256: Option<Sha256Hex> },
}

impl Source {
    /// Reads `--source` and `--sha256`.
    pub fn parse(source: &str, sha256: Option<&Sha256Hex>) -> Result<Self> {
        let is_url = source.contains("://");
        match (source, sha256) {
            ("apt", None) => Ok(Self::Apt),
            ("apt", Some(_)) => Err(hinted(
                "`--sha256` does not go with `--source apt`",
                "the hashes of apt's source packages are in qemu/pins.toml",
            )),
            (url, sha256) if is_url => {
                let scheme = url.split("://").next().unwrap_or_default();
                if !matches!(scheme, "https" | "http" | "file") {
                    return Err(hinted(
                        format!("`--source {url}`: the scheme `{scheme}` is not known"),
                        "use https, http or file",
                    ));
                }
                let sha256 = sha256.cloned().ok_or_else(|| {
                    hinted(
                        format!("`--source {url}` needs `--sha256`"),
                        "give the hash that the publisher signs; a download without one is not built",
                    )
                })?;
                Ok(Self::Url { url: url.to_owned(), sha256 })
            }
            (path, sha256) => Ok(Self::File { path: PathBuf::from(path), sha256: sha256.cloned() }),
        }
    }
}

/// The SHA-256 of a file.
pub fn sha256_of(path: &Path) -> Result<String> {
    Ok(checksum::sha256_of(fs::File::open(path)?)?)
}

/// Refuses a file whose hash is not the expected one.
pub fn verify(path: &Path, name: &str, expected: &Sha256Hex) -> Result<()> {
    let actual = sha256_of(path)?;
    if actual == expected.as_str() {
        return Ok(());
    }
    Err(hinted(
        format!("`{name}` has the sha256 {actual}, expected {}", expected.as_str()),
        "the file is damaged or is not the one that was meant; fetch it again, or correct the \
         hash after you have made sure that it is the right one",
    ))
}

/// Checks a local tarball: against the hash that was given, else against the pins. Gives the pin
/// when it is one.
pub fn verify_local<'a>(
    path: &Path,
    sha256: Option<&Sha256Hex>,
    pins: &'a [Pin],
) -> Result<(String, Option<&'a Pin>)> {
    if !path.is_file() {
        return Err(hinted(
            format!("`--source {}`: there is no such file", path.display()),
            "give `apt`, a URL with `--sha256`, or the path of a source tarball",
        ));
    }
    if let Some(expected) = sha256 {
        verify(path, &path.display().to_string(), expected)?;
    }
    let actual = sha256_of(path)?;
    let pin = pins.iter().find(|pin| pin.sha256.as_str() == actual);
    if pin.is_none() && sha256.is_none() {
        let pinned: Vec<String> =
            pins.iter().map(|pin| format!("{} ({})", pin.sha256.as_str(), pin.version)).collect();
        return Err(hinted(
            format!(
                "`{}` has the sha256 {actual}, expected one of the pinned: {}",
                path.display(),
                pinned.join(", ")
            ),
            format!("if this is the source that you mean, say so with --sha256 {actual}"),
        ));
    }
    Ok((actual, pin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> Sha256Hex {
        text.parse().unwrap()
    }

    #[test]
    fn sources_are_distinguished() {
        let ab = hash(&"ab".repeat(32));
        let parse = Source::parse;
        assert_eq!(parse("apt", None).unwrap(), Source::Apt);
        assert_eq!(
            parse("https://x.example/q.tar.xz", Some(&ab)).unwrap(),
            Source::Url { url: "https://x.example/q.tar.xz".to_owned(), sha256: ab.clone() }
        );
        assert_eq!(
            parse("./q.tar.xz", None).unwrap(),
            Source::File { path: "./q.tar.xz".into(), sha256: None }
        );
        let check = |source: &str, sha256: Option<&Sha256Hex>, expect: &str| {
            assert_eq!(parse(source, sha256).unwrap_err().to_string(), expect);
        };
        check("apt", Some(&ab), "`--sha256` does not go with `--source apt`");
        check("https://x.example/q", None, "`--source https://x.example/q` needs `--sha256`");
        check(
            "ftp://x.example/q",
            Some(&ab),
            "`--source ftp://x.example/q`: the scheme `ftp` is not known",
        );
    }

    #[test]
    fn a_wrong_hash_names_both() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qemu.tar.xz");
        fs::write(&path, "woolly").unwrap();
        let actual = sha256_of(&path).unwrap();
        assert_eq!(actual, checksum::sha256(b"woolly"));
        let wrong = hash(&"00".repeat(32));
        let error = verify_local(&path, Some(&wrong), &[]).unwrap_err().to_string();
        assert!(error.contains(&actual) && error.contains(wrong.as_str()), "{error}");
        assert!(verify_local(&path, Some(&hash(&actual)), &[]).unwrap().1.is_none());
        let pin = Pin {
            version: "1".to_owned(),
            upstream: None,
            path: "pool/qemu.tar.xz".to_owned(),
            sha256: hash(&actual),
            patches: vec![],
            patches_for: std::collections::BTreeMap::new(),
            debian: None,
            day: None,
        };
        assert!(verify_local(&path, None, std::slice::from_ref(&pin)).unwrap().1.is_some());
        fs::write(&path, "wooly").unwrap();
        let error = verify_local(&path, None, &[pin]).unwrap_err().to_string();
        assert!(error.contains("expected one of the pinned") && error.contains(&actual), "{error}");
    }
}
