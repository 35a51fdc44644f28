//! Whose a file of an installed QEMU is: a table written by hand, dpkg's database, a keg of Homebrew.

use super::{
    super::{linked::Owners, pins::Licences},
    homebrew::{self, Keg},
    table::Table,
};
use anyhow::{Context as _, Result, bail, ensure};
use bill_of_materials::{Component, How, copyright};
use binary_bundler::closure::Root;
use fs_err as fs;
use std::path::Path;

/// A component without its files, and its licence texts by name.
pub struct Origin {
    pub component: Component,
    pub texts: Vec<(String, Vec<u8>)>,
}

/// Where origins are looked for.
pub struct Origins {
    root: Root,
    table: Table,
    licences: Licences,
    /// dpkg's database, where the system has one.
    packages: Option<Packages>,
}

struct Packages {
    owners: Owners,
    /// The distribution by its name in `os-release(5)`.
    distributor: String,
}

impl Origins {
    /// The origins in a system, those of the table before all others.
    pub fn new(root: &Root, table: Table, licences: Licences) -> Self {
        let database = root.join(Path::new("var/lib/dpkg"));
        let packages = database.join("status").is_file().then(|| Packages {
            owners: Owners::from_database(database),
            distributor: distributor(root),
        });
        Self { root: root.clone(), table, licences, packages }
    }

    /// Whether the system has a database of packages.
    pub fn has_packages(&self) -> bool {
        self.packages.is_some()
    }

    /// Whose the real file `file` is, which goes to `place` of the tree.
    pub fn origin_of(&mut self, file: &Path, place: &str) -> Result<Origin> {
        if let Some(origin) = self.table.find(place)? {
            return Ok(origin);
        }
        if let Some(keg) = Keg::from_path(file) {
            return from_keg(&keg);
        }
        let Some(packages) = &mut self.packages else { bail!("no package is known") };
        let inside = Path::new("/").join(file.strip_prefix(self.root.path())?);
        let owner = packages.owners.owner_of(&inside)?;
        let bare = owner.package.split(':').next().unwrap_or(&owner.package);
        let path = Path::new("usr/share/doc").join(bare).join("copyright");
        let path =
            self.root.real(&path).with_context(|| format!("`{bare}` has no copyright file"))?;
        let text = fs::read(path)?;
        let license = self.licences.known(&owner.source.name).unwrap_or_else(|| {
            copyright::all_of(&copyright::terms(bare, &String::from_utf8_lossy(&text)))
        });
        Ok(Origin {
            component: Component {
                name: owner.source.name,
                version: owner.source.version,
                how: How::Bundled,
                license,
                distributor: Some(packages.distributor.clone()),
                files: vec![],
                sources: vec![],
                patches: vec![],
            },
            texts: vec![(format!("{bare}.copyright"), text)],
        })
    }
}

fn from_keg(keg: &Keg) -> Result<Origin> {
    let formula = homebrew::read(&fs::read_to_string(keg.formula())?)?;
    let mut texts = Vec::new();
    for entry in fs::read_dir(&keg.folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_licence(&name) && entry.file_type()?.is_file() {
            texts.push((name, fs::read(entry.path())?));
        }
    }
    texts.sort();
    ensure!(!texts.is_empty(), "the keg `{}` has no licence text", keg.folder.display());
    Ok(Origin {
        component: Component {
            name: keg.name.clone(),
            version: keg.version.clone(),
            how: How::Bundled,
            license: formula.license,
            distributor: Some("homebrew".to_owned()),
            files: vec![],
            sources: vec![formula.source],
            patches: vec![],
        },
        texts,
    })
}

fn is_licence(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT"].iter().any(|start| name.starts_with(start))
}

fn distributor(root: &Root) -> String {
    let text =
        root.real(Path::new("etc/os-release")).ok().and_then(|path| fs::read_to_string(path).ok());
    let id =
        text.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("ID=")));
    id.unwrap_or("debian").trim_matches(['"', '\'']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// dpkg's database of a system with one package.
    #[cfg(target_os = "linux")]
    #[test]
    fn dpkg_tells_whose_a_file_of_another_system_is() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("etc/os-release", "NAME=x\nID=ubuntu\n");
        write("usr/lib/libodd.so.1", "");
        write("usr/lib/libstray.so.1", "");
        write(
            "usr/share/doc/libodd1/copyright",
            "Format: https://x/copyright-format/1.0/\nLicense: Expat\n",
        );
        let status = "Package: libodd1\nStatus: install ok installed\nPriority: optional\n\
                      Section: libs\nMaintainer: x <x@example.org>\nArchitecture: amd64\n\
                      Source: odd (2.0-1)\nVersion: 1:2.0-1+b1\nDescription: x\n";
        write("var/lib/dpkg/status", status);
        // The package's own path is from before /usr was merged.
        write("var/lib/dpkg/info/libodd1.list", "/.\n/lib\n/lib/libodd.so.1\n");
        write("var/lib/dpkg/info/format", "1\n");
        let qemu = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../qemu");
        let root = Root::at(folder.path()).unwrap();
        let mut origins = Origins::new(&root, Table::default(), Licences::read(&qemu).unwrap());
        let file = root.join(Path::new("usr/lib/libodd.so.1"));
        let Origin { component, texts } = origins.origin_of(&file, "bin/lib/libodd.so.1").unwrap();
        assert_eq!(component.purl(), "pkg:deb/ubuntu/odd@2.0-1?arch=source");
        assert_eq!(component.license, "MIT");
        assert_eq!(texts[0].0, "libodd1.copyright");
        let stray = root.join(Path::new("usr/lib/libstray.so.1"));
        let error = origins.origin_of(&stray, "bin/lib/libstray.so.1").map(drop).unwrap_err();
        assert_eq!(error.to_string(), "`/usr/lib/libstray.so.1` belongs to no package");
    }

    #[test]
    fn a_keg_tells_its_formula_and_texts() {
        let prefix = tempfile::tempdir().unwrap();
        let keg = prefix.path().join("Cellar/glib/2.84.3");
        fs::create_dir_all(keg.join(".brew")).unwrap();
        fs::create_dir_all(keg.join("lib")).unwrap();
        let library = keg.join("lib/libglib-2.0.0.dylib");
        fs::write(&library, "").unwrap();
        let formula =
            "  url \"u/glib-2.84.3.tar.xz\"\n  sha256 \"ab\"\n  license \"LGPL-2.1-or-later\"\n";
        fs::write(keg.join(".brew/glib.rb"), formula).unwrap();
        let qemu = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../qemu");
        let mut origins = Origins::new(
            &Root::at(prefix.path()).unwrap(),
            Table::default(),
            Licences::read(&qemu).unwrap(),
        );
        let place = "bin/lib/libglib-2.0.0.dylib";
        let error = origins.origin_of(&library, place).map(drop).unwrap_err().to_string();
        assert!(error.contains("has no licence text"), "{error}");
        fs::write(keg.join("COPYING"), "terms").unwrap();
        let Origin { component, texts } = origins.origin_of(&library, place).unwrap();
        assert_eq!(component.purl(), "pkg:brew/glib@2.84.3");
        assert_eq!(component.sources, [("glib-2.84.3.tar.xz".to_owned(), "ab".to_owned())]);
        assert_eq!(texts, [("COPYING".to_owned(), b"terms".to_vec())]);
        assert!(origins.origin_of(Path::new("/elsewhere/x"), "bin/lib/x").is_err());
    }
}
