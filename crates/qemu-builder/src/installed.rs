//! `build-qemu --from`: the wheel of a QEMU that is installed already, with its shared libraries.
//!
//! `bundle` makes the tree, [`origin`] finds out whose each file is: a wheel says the version, licence
//! and source of everything in it, so that a file of unknown origin is refused.

mod homebrew;
mod origin;
mod table;

use super::{bundle, emulator::Emulator, fetch::PrivateApt, pack, pins::Licences};
use crate::installation;
use anyhow::{Context as _, Result};
use binary_bundler::relocate::Plan;
use bundle::Record;
use fs_err as fs;
use host_platform::Arch;
use origin::{Origin, Origins};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use table::Table;
use xtask_base::{
    context::Context,
    ui::{Step, hinted},
};

/// How many files of unknown origin are named in the error.
const MAX_NAMED: usize = 10;

/// Packs an emulator of the QEMU installed at `from` into `place`, and returns the wheel.
pub fn wheel(
    context: &Context,
    from: &str,
    emulator: Emulator,
    components: Option<&Path>,
    place: &Path,
) -> Result<PathBuf> {
    let table = components.map(Table::read).transpose()?.unwrap_or_default();
    let installation = installation::find(from)?;
    let host = installation.arch()?;
    let arch = emulator.guest_on(host);
    let mut request = installation::request(
        &installation,
        &[arch.qemu_name().to_owned()],
        &installation::MODULES.map(str::to_owned),
    )?;
    if emulator == Emulator::Cross {
        // The other wheel has it.
        let is_img = |to: &Path| to.file_stem().is_some_and(|stem| stem == "qemu-img");
        request.files.retain(|file| !is_img(&file.to));
    }
    let work = tempfile::tempdir_in(place)?;
    let entry = work.path().join("tree");
    let plan = installation::make(context, &request, &entry)?;
    context.ui.step("Find out whose the files are", |step| {
        let licences = Licences::read(&context.root.join("qemu"))?;
        let origins = Origins::new(&installation.root, table, licences);
        let record = record(context, step, &plan, origins, arch, &entry)?;
        record.write(&entry)
    })?;
    context.ui.step("Pack QEMU's wheel", |step| {
        step.say("compressing");
        pack::installed(&entry, emulator, &context.root.join("qemu/python"), arch, place)
    })
}

/// What each file of the tree is a part of; the texts of licences are laid beside.
fn record(
    context: &Context,
    step: &Step,
    plan: &Plan,
    mut origins: Origins,
    arch: Arch,
    entry: &Path,
) -> Result<Record> {
    let sources = origins.has_packages().then(|| PrivateApt::open(context)).transpose()?;
    if let Some(Err(error)) = sources.as_ref().map(|apt| apt.update(context, step)) {
        context.ui.line(&format!("warning: the hashes of source packages stay out: {error}"));
    }
    let (mut files, mut unknown) = (BTreeMap::new(), Vec::new());
    // Many files come from one source package, and apt takes its time for each question.
    let mut known: BTreeMap<(String, String), Vec<(String, String)>> = BTreeMap::new();
    let mut n_done = 0;
    step.expect(plan.copies.len() as u64);
    for copy in &plan.copies {
        let place = slashed(&copy.to);
        match origins.origin_of(&copy.from, &place) {
            Ok(Origin { mut component, texts }) => {
                if let (true, Some(apt)) = (component.sources.is_empty(), &sources) {
                    let source = (component.name.clone(), component.version.clone());
                    if !known.contains_key(&source) {
                        let found = apt.source_files(&component.name, &component.version)?;
                        known.insert(source.clone(), found);
                    }
                    component.sources.clone_from(&known[&source]);
                }
                for (name, text) in texts {
                    let folder = entry.join(bundle::LICENCES).join(&component.name);
                    fs::create_dir_all(&folder)?;
                    fs::write(folder.join(name), text)?;
                }
                component.files = vec![place.clone()];
                files.insert(place, vec![component]);
            }
            Err(error) => unknown.push(format!("{place}: {error}")),
        }
        n_done += 1;
        step.reach(n_done);
    }
    if !unknown.is_empty() {
        let n_more = unknown.len().saturating_sub(MAX_NAMED);
        let mut named = unknown.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>().join("\n  ");
        if n_more > 0 {
            named += &format!("\n  and {n_more} more");
        }
        return Err(hinted(
            format!("{} files have no known origin:\n  {named}", unknown.len()),
            "name their version, licence, source and texts in a file for --components; \
             CONTRIBUTING.md shows one",
        ));
    }
    let emulator = format!("bin/{}", package_layout::qemu::system_binary(arch.qemu_name(), ""));
    let component = files
        .get(&emulator)
        .or_else(|| files.get(&format!("{emulator}.exe")))
        .and_then(|parts| parts.first())
        .context("The tree has no emulator")?;
    Ok(Record {
        qemu_version: upstream(&component.version).to_owned(),
        chosen: format!(
            "installed, {} {} ({})",
            component.name,
            component.version,
            component.distributor.as_deref().unwrap_or("upstream"),
        ),
        compiled_with: String::new(),
        files,
    })
}

/// `10.0.2` of `1:10.0.2+ds-2+deb13u1` or `10.0.2_1`.
fn upstream(version: &str) -> &str {
    let version = version.split_once(':').map_or(version, |(_epoch, rest)| rest);
    version.split(['+', '-', '~', '_']).next().unwrap_or(version)
}

/// A path of the tree with `/` between names.
fn slashed(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_the_program_is_in_that_of_the_package() {
        for version in ["10.0.2", "1:10.0.2+ds-2+deb13u1~bpo12+1", "10.0.2_1", "1:10.0.2-1ubuntu2"]
        {
            assert_eq!(upstream(version), "10.0.2", "{version}");
        }
    }
}
