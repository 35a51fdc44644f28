//! Where dyld looks for a library: dyld(1), with `@executable_path`, `@loader_path` and `@rpath`.

use super::{Hit, Object, Root};
use crate::{error::Error, inspect::Format};
use std::path::{Path, PathBuf};

/// The library with the install name `name` for the first of `chain`; the last is the program.
pub(super) fn search(root: &Root, name: &str, chain: &[&Object]) -> Result<Option<Hit>, Error> {
    let program = chain.last().copied();
    let Some(rest) = name.strip_prefix("@rpath/") else {
        let path = expand(name, chain[0], program);
        return Ok(root.file(&path).map(Hit::plain));
    };
    // The LC_RPATHs of the asking file, then of what loaded it, up to the program.
    for object in chain {
        let Format::MachO(macho) = &object.binary.format else { continue };
        for rpath in macho.slices.iter().flat_map(|slice| &slice.rpaths) {
            let path = expand(rpath, object, program).join(rest);
            if let Some(file) = root.file(&path) {
                return Ok(Some(Hit::plain(file)));
            }
        }
    }
    Ok(None)
}

fn expand(text: &str, object: &Object, program: Option<&Object>) -> PathBuf {
    let folder = |object: &Object| object.file.parent().unwrap_or(Path::new("/")).to_path_buf();
    let below = |start: PathBuf, rest: &str| start.join(rest.trim_start_matches('/'));
    if let Some(rest) = text.strip_prefix("@loader_path") {
        return below(folder(object), rest);
    }
    match (text.strip_prefix("@executable_path"), program) {
        (Some(rest), Some(program)) => below(folder(program), rest),
        _ => PathBuf::from(text),
    }
}
