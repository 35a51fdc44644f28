//! Kernel modules: which ones a list of names needs, in which order they load, and what they are
//! once unpacked. It reads module files' own `.modinfo` section, the source that depmod reads too;
//! it must not know what a recipe or an initrd is.

use crate::{
    Error, KernelError, kernel,
    tree::{Kind, Tree},
};
use std::collections::{BTreeMap, BTreeSet};

/// The modules of one kernel.
pub struct Modules {
    /// The kernel's release, as `uname -r` says it.
    pub release: String,
    /// The folder of the tree that holds them, `usr/lib/modules/RELEASE`.
    pub folder: String,
    modules: BTreeMap<String, Module>,
    builtin: BTreeSet<String>,
}

/// One module file.
struct Module {
    /// Its path in the tree.
    path: String,
}

/// What a module says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Info {
    depends: Vec<String>,
    /// Modules or aliases to load before it, though no symbol of them is needed.
    before: Vec<String>,
    /// Modules or aliases that it may ask for later.
    hints: Vec<String>,
    aliases: Vec<String>,
}

/// A module that is loaded at boot: its name and its unpacked file.
pub struct Unpacked {
    /// The module's name with underscores.
    pub name: String,
    /// Its path in the tree it came from.
    pub path: String,
    /// The ELF file.
    pub bytes: Vec<u8>,
}

/// Finds the modules of the one kernel whose package's files are in the tree.
pub fn find(tree: &Tree) -> Result<Modules, Error> {
    let mut modules = BTreeMap::new();
    let mut folder: Option<String> = None;
    let mut builtin = BTreeSet::new();
    for (path, node) in tree.iter() {
        let Ok(path) = std::str::from_utf8(path) else { continue };
        let Some(below) =
            path.strip_prefix("usr/lib/modules/").or_else(|| path.strip_prefix("lib/modules/"))
        else {
            continue;
        };
        let Some((release, rest)) = below.split_once('/') else { continue };
        let Kind::File(content) = &node.kind else { continue };
        let here = &path[..path.len() - rest.len() - 1];
        match &folder {
            Some(folder) if folder != here => {
                return Err(Error::Kernel(KernelError::TwoKernels {
                    first: folder.clone(),
                    second: here.to_owned(),
                }));
            }
            Some(_) => {}
            None => folder = Some(format!("{}{release}", &path[..path.len() - below.len()])),
        }
        let file = rest.rsplit('/').next().unwrap_or(rest);
        if rest == "modules.builtin" {
            let list = content.read()?;
            builtin = String::from_utf8_lossy(&list).lines().filter_map(module_name).collect();
        } else if let Some(name) = module_name(file) {
            modules.insert(name, Module { path: path.to_owned() });
        }
    }
    let folder = folder.ok_or(Error::Kernel(KernelError::NoModules))?;
    let release = folder.rsplit('/').next().unwrap_or_default().to_owned();
    Ok(Modules { release, folder, modules, builtin })
}

/// `kernel/fs/ext4/ext4.ko.xz` is the module `ext4`. The kernel takes `-` and `_` for the same.
fn module_name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next().unwrap_or(path);
    let (stem, suffix) = file.split_once(".ko")?;
    matches!(suffix, "" | ".xz" | ".gz" | ".zst").then(|| stem.replace('-', "_"))
}

impl Modules {
    /// The named modules and all that they need, unpacked, each after what it needs. What is built
    /// into the kernel is left out. `tree` is the one they were found in.
    pub fn closure(&self, tree: &Tree, names: &[String]) -> Result<Vec<Unpacked>, Error> {
        self.walk(tree, names, false)
    }

    /// The same with what modules only hint at: what they load when they need it, such as the ciphers
    /// that a file system's server asks for. A hint that nothing answers is no error.
    pub fn closure_with_hints(
        &self,
        tree: &Tree,
        names: &[String],
    ) -> Result<Vec<Unpacked>, Error> {
        self.walk(tree, names, true)
    }

    fn walk(&self, tree: &Tree, names: &[String], hints: bool) -> Result<Vec<Unpacked>, Error> {
        let (seen, order) = (BTreeSet::new(), Vec::new());
        let mut walk = Walk { modules: self, tree, hints, aliases: None, seen, order };
        for name in names {
            let plain = name.replace('-', "_");
            if !self.is_known(&plain) {
                let known = self.modules.keys().chain(&self.builtin).map(String::as_str);
                return Err(Error::Kernel(KernelError::UnknownModule {
                    name: name.clone(),
                    release: self.release.clone(),
                    nearest: spelling::nearest(&plain, known).map(str::to_owned),
                }));
            }
            walk.visit(&plain)?;
        }
        Ok(walk.order)
    }

    /// The name of a module that a recipe asks for; `None` for one with a `?` that this kernel has not.
    pub fn wanted<'a>(&self, asked: &'a str) -> Option<&'a str> {
        match asked.strip_suffix('?') {
            None => Some(asked),
            Some(name) => self.is_known(&name.replace('-', "_")).then_some(name),
        }
    }

    fn is_known(&self, plain: &str) -> bool {
        self.builtin.contains(plain) || self.modules.contains_key(plain)
    }

    /// How many modules there are as files.
    pub fn len(&self) -> usize {
        self.modules.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }

    fn unpack(&self, tree: &Tree, name: &str) -> Result<Vec<u8>, Error> {
        let path = &self.modules[name].path;
        let packed = tree.read(path)?.ok_or(Error::Kernel(KernelError::NoModules))?;
        let mut bytes = match kernel::decompress(&packed) {
            Some(bytes) => bytes.map_err(|_| {
                Error::Kernel(KernelError::BadModule {
                    path: path.clone(),
                    detail: "its compression is broken",
                })
            })?,
            None => packed.to_vec(),
        };
        bytes.truncate(unsigned_length(&bytes));
        Ok(bytes)
    }
}

/// The length of a module without the signature that may follow it.
///
/// The distribution's key proves nothing here: initrd and disk are made by us, the kernel takes
/// modules without a signature too, and under emulation it spends tens of milliseconds on each that
/// has one. See <https://docs.kernel.org/admin-guide/module-signing.html>.
pub(crate) fn unsigned_length(module: &[u8]) -> usize {
    const MARK: &[u8] = b"~Module signature appended~\n";
    /// `struct module_signature`; its last four bytes are the signature's length.
    const TRAILER: usize = 12;
    let length = module.strip_suffix(MARK).and_then(|rest| {
        let (_, length) = rest.split_last_chunk::<4>()?;
        rest.len().checked_sub(TRAILER + usize::try_from(u32::from_be_bytes(*length)).ok()?)
    });
    length.unwrap_or(module.len())
}

/// A depth-first walk over dependencies.
struct Walk<'a> {
    modules: &'a Modules,
    tree: &'a Tree,
    /// Whether what is only hinted at comes along.
    hints: bool,
    aliases: Option<BTreeMap<String, String>>,
    seen: BTreeSet<String>,
    order: Vec<Unpacked>,
}

impl Walk<'_> {
    fn visit(&mut self, name: &str) -> Result<(), Error> {
        if !self.seen.insert(name.to_owned()) || !self.modules.modules.contains_key(name) {
            return Ok(());
        }
        let bytes = self.modules.unpack(self.tree, name)?;
        let path = self.modules.modules[name].path.clone();
        let info = info(&bytes).ok_or_else(|| {
            Error::Kernel(KernelError::BadModule {
                path: path.clone(),
                detail: "it has no .modinfo section",
            })
        })?;
        for needed in &info.depends {
            self.visit(needed)?;
        }
        for wanted in &info.before {
            if let Some(found) = self.resolve(wanted)? {
                self.visit(&found)?;
            }
        }
        self.order.push(Unpacked { name: name.to_owned(), path, bytes });
        let hints = if self.hints { info.hints } else { Vec::new() };
        for wanted in &hints {
            // Ciphers are called by their algorithm, and their modules answer to it with a prefix.
            let found = match self.resolve(wanted)? {
                Some(found) => Some(found),
                None => self.resolve(&format!("crypto-{wanted}"))?,
            };
            if let Some(found) = found {
                self.visit(&found)?;
            }
        }
        Ok(())
    }

    /// A module by its name or alias. A soft dependency that nothing provides is no error.
    fn resolve(&mut self, wanted: &str) -> Result<Option<String>, Error> {
        let plain = wanted.replace('-', "_");
        if self.modules.modules.contains_key(&plain) || self.modules.builtin.contains(&plain) {
            return Ok(Some(plain));
        }
        if self.aliases.is_none() {
            self.aliases = Some(self.crypto_aliases()?);
        }
        Ok(self.aliases.as_ref().and_then(|aliases| aliases.get(wanted)).cloned())
    }

    /// The aliases of the modules that provide checksums and ciphers: the only ones that soft
    /// dependencies name by alias (`crc32c`). The portable implementation wins over those for
    /// particular processors, which need features that the guest may not have.
    fn crypto_aliases(&self) -> Result<BTreeMap<String, String>, Error> {
        let mut aliases = BTreeMap::new();
        let crypto =
            self.modules.modules.iter().filter(|(_, module)| module.path.contains("/crypto/"));
        for (name, _) in crypto {
            let Some(info) = info(&self.modules.unpack(self.tree, name)?) else { continue };
            for alias in info.aliases {
                if name.ends_with("_generic") || !aliases.contains_key(&alias) {
                    aliases.insert(alias, name.clone());
                }
            }
        }
        Ok(aliases)
    }
}

/// Reads the `.modinfo` section: `key=value` strings, each ended by a zero byte.
pub(crate) fn info(elf: &[u8]) -> Option<Info> {
    let text = section(elf, b".modinfo")?;
    let mut info = Info::default();
    for line in text.split(|byte| *byte == 0) {
        let Some((key, value)) =
            std::str::from_utf8(line).ok().and_then(|line| line.split_once('='))
        else {
            continue;
        };
        match key {
            "depends" => info.depends.extend(
                value.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")),
            ),
            // `pre: a b post: c`: what comes before the module, and what it asks for itself. Some say
            // neither word, which kmod takes for a hint alone.
            "softdep" => {
                let mut is_before = false;
                for word in value.split_whitespace() {
                    match word {
                        "pre:" => is_before = true,
                        "post:" => is_before = false,
                        word if is_before => info.before.push(word.to_owned()),
                        word => info.hints.push(word.to_owned()),
                    }
                }
            }
            "weakdep" => info.hints.extend(value.split_whitespace().map(str::to_owned)),
            "alias" => info.aliases.push(value.to_owned()),
            _ => {}
        }
    }
    Some(info)
}

/// A section of a 64-bit little-endian ELF file.
fn section<'a>(elf: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let number = |offset: usize, length: usize| -> Option<usize> {
        let bytes = elf.get(offset..offset.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0_usize, |value, byte| value << 8 | usize::from(*byte)))
    };
    if elf.get(..5)? != b"\x7fELF\x02" {
        return None;
    }
    let (table, size) = (number(0x28, 8)?, number(0x3a, 2)?);
    let (n, names) = (number(0x3c, 2)?, number(0x3e, 2)?);
    let contents = |index: usize| -> Option<&'a [u8]> {
        let header = table.checked_add(index * size)?;
        let (start, length) = (number(header + 24, 8)?, number(header + 32, 8)?);
        elf.get(start..start.checked_add(length)?)
    };
    let names = contents(names)?;
    (0..n).find_map(|index| {
        let name = names.get(number(table.checked_add(index * size)?, 4)?..)?;
        let name = &name[..name.iter().position(|byte| *byte == 0)?];
        if name == wanted { contents(index) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_cut_off_and_a_broken_one_is_left() {
        let signed = |length: u32| {
            let mut bytes = b"ELF and so on".to_vec();
            bytes.extend(b"signed!");
            bytes.extend([0; 8]);
            bytes.extend(length.to_be_bytes());
            bytes.extend(b"~Module signature appended~\n");
            bytes
        };
        assert_eq!(&signed(7)[..unsigned_length(&signed(7))], b"ELF and so on");
        assert_eq!(unsigned_length(&signed(70)), signed(70).len());
        assert_eq!(unsigned_length(b"ELF"), 3);
    }
    use crate::tree::Node;

    /// A module file: an ELF with nothing but names and `.modinfo`.
    fn module(modinfo: &[&str]) -> Vec<u8> {
        let text: Vec<u8> = modinfo.iter().flat_map(|line| line.bytes().chain([0])).collect();
        let names = b"\0.shstrtab\0.modinfo\0";
        let mut elf = vec![0; 64];
        elf[..5].copy_from_slice(b"\x7fELF\x02");
        elf.extend_from_slice(names);
        elf.extend_from_slice(&text);
        let table = elf.len();
        let mut header = |name: u32, start: usize, length: usize| {
            let mut header = vec![0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[24..32].copy_from_slice(&(start as u64).to_le_bytes());
            header[32..40].copy_from_slice(&(length as u64).to_le_bytes());
            elf.extend(header);
        };
        header(0, 0, 0);
        header(1, 64, names.len());
        header(11, 64 + names.len(), text.len());
        elf[0x28..0x30].copy_from_slice(&(table as u64).to_le_bytes());
        elf[0x3a..0x3c].copy_from_slice(&64_u16.to_le_bytes());
        elf[0x3c..0x3e].copy_from_slice(&3_u16.to_le_bytes());
        elf[0x3e..0x40].copy_from_slice(&1_u16.to_le_bytes());
        elf
    }

    fn tree() -> Tree {
        let mut tree = Tree::new(0);
        let mut put = |path: &str, bytes: Vec<u8>| {
            tree.put(&format!("usr/lib/modules/6.1-x/{path}"), Node::file(bytes, 0o644, 0))
                .unwrap();
        };
        put(
            "kernel/fs/ext4/ext4.ko",
            module(&["depends=jbd2,mbcache", "softdep=pre: crc32c post: later"]),
        );
        put("kernel/fs/jbd2/jbd2.ko", module(&["depends="]));
        put("kernel/fs/mbcache.ko", module(&["depends="]));
        let zstd = zstd::encode_all(module(&["alias=crc32c", "depends="]).as_slice(), 1).unwrap();
        put("kernel/crypto/crc32c_generic.ko.zst", zstd);
        put("kernel/arch/x86/crypto/crc32c-intel.ko", module(&["alias=crc32c", "depends="]));
        put("kernel/drivers/virtio/virtio-rng.ko", module(&["depends=virtio_ring,virtio"]));
        put("kernel/drivers/virtio/virtio.ko", module(&["depends=virtio_ring"]));
        put("kernel/drivers/virtio/virtio_ring.ko", module(&["depends="]));
        put("modules.builtin", b"kernel/drivers/virtio/virtio_pci.ko\n".to_vec());
        tree
    }

    fn order(names: &[&str]) -> Result<Vec<String>, Error> {
        let tree = tree();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Ok(find(&tree)?.closure(&tree, &names)?.into_iter().map(|module| module.name).collect())
    }

    #[test]
    fn each_module_comes_after_what_it_needs() {
        assert_eq!(order(&["ext4"]).unwrap(), ["jbd2", "mbcache", "crc32c_generic", "ext4"]);
        assert_eq!(
            order(&["virtio_rng", "virtio"]).unwrap(),
            ["virtio_ring", "virtio", "virtio_rng"]
        );
    }

    #[test]
    fn what_modules_hint_at_comes_along_on_the_disk() {
        let mut tree = tree();
        let mut put = |path: &str, lines: &[&str]| {
            let place = format!("usr/lib/modules/6.1-x/kernel/{path}.ko");
            tree.put(&place, Node::file(module(lines), 0o644, 0)).unwrap();
        };
        // As Linux 6.12 has cifs, and as later ones have what they call weak.
        put("fs/smb/client/cifs", &["depends=", "softdep=cmac", "softdep=none", "weakdep=ccm"]);
        put("crypto/cmac", &["alias=crypto-cmac", "depends="]);
        put("crypto/ccm", &["depends=ctr"]);
        put("crypto/ctr", &["depends="]);
        let names = ["cifs".to_owned(), "ext4".to_owned()];
        let modules = find(&tree).unwrap();
        let list = |found: Vec<Unpacked>| -> Vec<String> {
            found.into_iter().map(|module| module.name).collect()
        };
        assert_eq!(
            list(modules.closure_with_hints(&tree, &names).unwrap()),
            ["cifs", "cmac", "ctr", "ccm", "jbd2", "mbcache", "crc32c_generic", "ext4"]
        );
        assert_eq!(list(modules.closure(&tree, &names[..1]).unwrap()), ["cifs"]);
    }

    #[test]
    fn what_is_built_in_is_no_file() {
        assert_eq!(order(&["virtio_pci"]).unwrap(), [""; 0]);
    }

    #[test]
    fn an_unknown_module_is_refused_with_the_nearest_name() {
        let error = order(&["virtio_rgn"]).err().unwrap();
        assert!(error.to_string().contains("`virtio_rgn`"), "{error}");
        assert!(error.hint().unwrap().contains("virtio_rng"), "{error}");
    }

    #[test]
    fn a_module_that_not_each_kernel_has_may_be_asked_for() {
        let tree = tree();
        let modules = find(&tree).unwrap();
        assert_eq!(modules.wanted("virtio-rng?"), Some("virtio-rng"));
        assert_eq!(modules.wanted("virtio_pci?"), Some("virtio_pci"), "it is built in");
        assert_eq!(modules.wanted("ghash_generic?"), None);
        assert_eq!(
            modules.wanted("ghash_generic"),
            Some("ghash_generic"),
            "which is an error later"
        );
    }

    #[test]
    fn modules_are_unpacked() {
        let tree = tree();
        let modules = find(&tree).unwrap();
        assert_eq!(modules.release, "6.1-x");
        assert_eq!(modules.folder, "usr/lib/modules/6.1-x");
        let closure = modules.closure(&tree, &["ext4".to_owned()]).unwrap();
        assert!(closure.iter().all(|module| module.bytes.starts_with(b"\x7fELF")));
    }
}
