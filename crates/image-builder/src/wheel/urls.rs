//! Package URLs of a distribution's packages, as bills of materials have them.

use crate::{Error, lock::Package, owners, packages::Source, recipe::Distribution, tree::Tree};
use bill_of_materials::purl_with;
use std::path::Path;

/// The package URLs of a distribution's packages. They name its release and each package's source, because
/// that is how the distributions' security teams name what they mend.
pub(crate) struct Urls {
    kind: String,
    distro: String,
}

impl Urls {
    pub(crate) fn new(distribution: &Distribution, tree: &Tree) -> Result<Self, Error> {
        let name = distribution.name.as_str();
        let kind = if name == "alpine" { format!("apk/{name}") } else { format!("deb/{name}") };
        let text = tree.read("etc/os-release")?.or(tree.read("usr/lib/os-release")?);
        let text = text.map(|text| String::from_utf8_lossy(&text).into_owned());
        let release = match text.as_deref().and_then(version_id) {
            Some(release) => release,
            // A tree without that file, and what is never released.
            None => number_of(&distribution.suite),
        };
        Ok(Self { kind, distro: format!("{name}-{release}") })
    }

    pub(crate) fn for_package(
        &self,
        name: &str,
        version: &str,
        arch: &str,
        source: Option<&Source>,
    ) -> String {
        let upstream = source.map(|source| match &source.version {
            Some(version) => format!("{}@{version}", source.name),
            None => source.name.clone(),
        });
        let qualifiers = [
            ("arch", arch),
            ("distro", &self.distro),
            ("upstream", upstream.as_deref().unwrap_or_default()),
        ];
        purl_with(&self.kind, name, version, &qualifiers)
    }

    pub(crate) fn for_locked(&self, package: &Package, store: &Path) -> Result<String, Error> {
        let source = owners::source_of(package, store)?;
        Ok(self.for_package(&package.name, &package.version, &package.arch, source.as_ref()))
    }
}

/// The number of a release in os-release(5).
fn version_id(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("VERSION_ID="))?;
    Some(line.trim().trim_matches(['"', '\'']).to_owned()).filter(|number| !number.is_empty())
}

/// The number of a suite, or its name where it has none; Alpine's are their numbers.
fn number_of(suite: &str) -> String {
    const NUMBERS: [(&str, &str); 8] = [
        ("bullseye", "11"),
        ("bookworm", "12"),
        ("trixie", "13"),
        ("forky", "14"),
        ("focal", "20.04"),
        ("jammy", "22.04"),
        ("noble", "24.04"),
        ("resolute", "26.04"),
    ];
    let known = NUMBERS.iter().find(|(name, _)| *name == suite);
    known.map_or(suite.trim_start_matches('v'), |(_, number)| number).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_named_with_its_release_and_its_source() {
        let distribution = |text: &str| toml::from_str::<Distribution>(text).unwrap();
        let trixie = distribution("name = \"debian\"\nsuite = \"trixie\"");
        let mut tree = Tree::new(0);
        let url = |tree: &Tree, source: Option<&Source>| {
            Urls::new(&trixie, tree).unwrap().for_package("libc6", "2.41-1", "amd64", source)
        };
        let plain = "pkg:deb/debian/libc6@2.41-1?arch=amd64&distro=debian-13";
        assert_eq!(url(&tree, None), plain);
        let source = Source { name: "glibc".to_owned(), version: None };
        assert_eq!(url(&tree, Some(&source)), format!("{plain}&upstream=glibc"));
        let source = Source { version: Some("2.41-0".to_owned()), ..source };
        assert_eq!(url(&tree, Some(&source)), format!("{plain}&upstream=glibc%402.41-0"));
        // What the image says of itself comes first.
        let release = crate::tree::Node::file(*b"ID=debian\nVERSION_ID=\"13.2\"\n", 0o644, 0);
        tree.put("etc/os-release", release).unwrap();
        assert!(url(&tree, None).ends_with("distro=debian-13.2"));
        assert_eq!(number_of("v3.23"), "3.23");
        assert_eq!(number_of("sid"), "sid");
    }
}
