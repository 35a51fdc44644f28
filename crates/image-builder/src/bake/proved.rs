//! The end of a bake: the image is proved by a boot, and what is proved is published. The report of a proof is an
//! entry of what the host keeps, so that what was proved already is not booted again. What boots the image is a
//! [`Prover`]'s; this module must not know machines.

use super::{Baked, CODE, Host, Outcome, publish, report_name};
use cache_key::Key;
use fs_err as fs;
use host_platform::Arch;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The kind of the entries with reports.
const PROOFS: &str = "image-proof";

/// The file with the report in such an entry.
const REPORT: &str = "report";

/// The folder with the image's files while they are proved.
const IMAGES: &str = "images";

/// Boots finished images and runs their checks; `F` are the errors of whoever runs the bake.
pub trait Prover<F> {
    /// All that the outcome of a proof depends on besides the image: what boots it and runs its checks.
    ///
    /// # Errors
    /// A program cannot be read.
    fn identity(&self, arch: Arch) -> Result<Vec<u8>, F>;

    /// Boots the image, whose files are laid out in the folder `images`, and gives what was found; `say` hears what
    /// is done.
    ///
    /// # Errors
    /// The machine does not start, or a check fails.
    fn prove(&self, baked: &Baked, images: &Path, say: &dyn Fn(String)) -> Result<Value, F>;
}

/// How an image is proved and where it goes.
pub struct Publication<'a, F> {
    /// The folder that its files, its wheel and the report are written to.
    pub out: &'a Path,
    /// What boots it; without one it is published as it is.
    pub prover: Option<&'a dyn Prover<F>>,
    /// Prove it again, whatever is kept.
    pub no_cache: bool,
    /// What is published of the report.
    pub report: Report,
}

/// What is published of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// All of it, as `NAME-VERSION-ARCH.json`.
    Whole,
    /// The proof alone, as `NAME.json`, where there is one.
    Proof,
}

impl Report {
    fn file_name(self, baked: &Baked) -> String {
        match self {
            Self::Whole => report_name(&baked.recipe, baked.arch),
            Self::Proof => format!("{}.json", baked.recipe.name),
        }
    }

    fn text(self, baked: &Baked, mut proof: Value) -> std::io::Result<String> {
        let report = match self {
            Self::Whole => baked.finished.report(&baked.recipe, baked.arch, &proof)?,
            Self::Proof => {
                proof["image"] = baked.recipe.name.as_str().into();
                proof["arch"] = baked.arch.image_name().into();
                proof
            }
        };
        Ok(format!("{report:#}\n"))
    }

    fn is_wanted(self, proof: &Value) -> bool {
        self == Self::Whole || !proof.is_null()
    }
}

/// Proves the image, puts its files and its wheel where they are wanted, and gives the wheel's place. What is not
/// proved is not published, unless that is what was asked for.
///
/// # Errors
/// The proof failed, or a file cannot be written.
pub fn publish_proved<H: Host>(
    host: &H,
    baked: &Baked,
    publication: &Publication<'_, H::Failure>,
) -> Outcome<PathBuf, H> {
    let out = publication.out;
    fs::create_dir_all(out)?;
    let report = proved(host, baked, publication).inspect_err(|_| {
        let place = out.display();
        host.line(&format!("    nothing was written to {place}; --no-boot does without proof"));
    })?;
    let wheel = baked.finished.publish(out)?;
    if report.is_file() {
        publish(&report, &out.join(publication.report.file_name(baked)))?;
    }
    Ok(wheel)
}

/// Proves the image, unless that was done, and gives the place of the report, which is absent where none is wanted.
///
/// # Errors
/// The proof failed.
pub fn proved<H: Host>(
    host: &H,
    baked: &Baked,
    publication: &Publication<'_, H::Failure>,
) -> Outcome<PathBuf, H> {
    let key = key(baked, publication)?;
    if publication.no_cache {
        host.forget(PROOFS, &key)?;
    }
    let entry = host.entry(PROOFS, &key, |folder| {
        let proof = match publication.prover {
            None => {
                host.line("warning: the image was not booted, and nothing of it is proved");
                Value::Null
            }
            Some(prover) => {
                let images = folder.join(IMAGES);
                baked.finished.lay_out(&images)?;
                let title = format!("Boot {} and check it", baked.recipe.name);
                let proof =
                    host.step(&title, |step| prover.prove(baked, &images, &|what| step.say(what)))?;
                fs::remove_dir_all(images)?;
                proof
            }
        };
        if publication.report.is_wanted(&proof) {
            fs::write(folder.join(REPORT), publication.report.text(baked, proof)?)?;
        }
        Ok(())
    })?;
    Ok(entry.join(REPORT))
}

/// The hash of all that a proof depends on: the files, the checks, and what boots and runs them.
fn key<F>(baked: &Baked, publication: &Publication<'_, F>) -> Result<Key, F> {
    let mut key = Key::new("proof");
    key.add("code", CODE.as_bytes());
    for (made, name) in baked.finished.below.iter().chain(&baked.finished.files) {
        key.add(name, made.as_os_str().as_encoded_bytes());
    }
    let body = &baked.recipe.body;
    key.add("checks", format!("{:?} {:?}", body.checks, body.defaults).as_bytes());
    key.add("report", format!("{:?}", publication.report).as_bytes());
    key.add("boot", &[u8::from(publication.prover.is_some())]);
    if let Some(prover) = publication.prover {
        key.add("prover", &prover.identity(baked.arch)?);
    }
    Ok(key)
}
