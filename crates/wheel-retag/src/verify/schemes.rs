//! Where installers put the entries: what is below `NAME.data/` goes by its scheme (the binary distribution
//! format, "The .data directory").

use super::{Check, Findings};
use crate::{archive::Archive, collision_key};
use std::collections::BTreeMap;

/// The keys of `sysconfig`'s install paths that a wheel may use.
const SCHEMES: [&str; 5] = ["purelib", "platlib", "headers", "scripts", "data"];

pub(super) fn check(archive: &Archive, findings: &mut Findings, warnings: &mut Findings) {
    let mut taken: BTreeMap<String, &str> = BTreeMap::new();
    for entry in archive.entries.iter().filter(|entry| !entry.is_dir()) {
        let name = entry.name.as_str();
        let place = match place(name) {
            Ok(place) => place,
            Err(message) => {
                findings.add_for(name, Check::Scheme, message);
                continue;
            }
        };
        let is_of_the_library = !place.starts_with('/');
        if is_of_the_library && !place.contains('/') && place.ends_with(".pth") {
            let message = "It is read, and its code is run, at each start of Python";
            warnings.add_for(name, Check::Startup, message);
        }
        // Two entries of one name, or of names that differ by case, are found elsewhere.
        match taken.insert(collision_key(&place), name) {
            Some(first) if collision_key(first) != collision_key(name) => {
                let message = format!("It is installed as the same file as `{first}`");
                findings.add_for(name, Check::Scheme, message);
            }
            _ => {}
        }
    }
}

/// The place of an entry below the library's folder, or `/SCHEME/…`. Environments have one folder for both
/// kinds of libraries.
fn place(name: &str) -> Result<String, String> {
    let Some((top, rest)) = name.split_once('/').filter(|(top, _)| top.ends_with(".data")) else {
        return Ok(name.to_owned());
    };
    let Some((scheme, path)) = rest.split_once('/') else {
        return Err(format!(
            "pip refuses it: a file of `{top}` belongs into a folder for its scheme"
        ));
    };
    match scheme {
        "purelib" | "platlib" => Ok(path.to_owned()),
        _ if SCHEMES.contains(&scheme) => Ok(format!("/{scheme}/{path}")),
        _ => Err(format!("pip refuses it: `{scheme}` is not one of {}", SCHEMES.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_the_scheme() {
        let check = |name: &str, expect: Option<&str>| {
            assert_eq!(place(name).ok().as_deref(), expect, "{name}");
        };
        check("q.py", Some("q.py"));
        check("q-1.data/purelib/q.py", Some("q.py"));
        check("q-1.data/platlib/q/a.so", Some("q/a.so"));
        check("q-1.data/scripts/q", Some("/scripts/q"));
        check("q-1.data/bogus/q", None);
        check("q-1.data/q", None);
        check("q.data.py", Some("q.data.py"));
    }
}
