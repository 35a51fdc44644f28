//! The folder of templates: found, published, counted, removed.
//!
//! `KEY.json` says what a template's files are called and how they looked when it was made; it is
//! written last, so that without it there is no template. Everything belongs to one user, with modes
//! 0700 and 0600; what does not, or has changed since, is not used.

use super::TemplateEntry;
use super::key::{FORMAT, identity};
use crate::new_file::NewFile;
use crate::positioned::Positioned;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Our folder below the user's caches.
pub(crate) const FOLDER: &str = "templates";
/// The most bytes of all templates, as they lie on the disk, and the most templates.
const MAX_BYTES: u64 = 4 << 30;
const MAX_TEMPLATES: usize = 32;
/// The most bytes of what says what a template is.
const MAX_MANIFEST: u64 = 64 << 10;
/// How long a template that could not be made is not tried again.
const REFUSED: Duration = Duration::from_secs(3600);
/// What hidden names start with, where files need one.
const PREFIX: &str = ".template-";
const LOCK: &str = "lock";
/// What the names of notes end with that a machine was started, and how long these are kept.
const STARTED: &str = ".started";
const NOTED: Duration = Duration::from_secs(30 * 24 * 3600);
/// The parts of a template, as the ends of their names.
const PARTS: [&str; 3] = ["memory", "state", "disk"];

/// The folder.
pub(crate) struct Store {
    folder: Dir,
}

/// A template whose files are open.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pub key: String,
    /// The token that its agent knows.
    pub token: String,
    /// The guest's memory.
    pub memory: Arc<File>,
    /// The state of its devices.
    pub state: Arc<File>,
    /// What it has written to its disk.
    pub disk: Arc<File>,
}

/// What was made and has no name yet.
pub(crate) struct Parts {
    pub token: String,
    pub memory: NewFile,
    pub state: NewFile,
    pub disk: NewFile,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    key: String,
    image: String,
    token: String,
    /// What its files' names start with.
    stem: String,
    /// How each part looked once it had its name.
    parts: [[i64; 5]; 3],
    state_sha256: String,
}

impl Store {
    /// Opens the folder, and makes it where it is missing.
    pub(crate) fn open(cache_dir: &Path) -> io::Result<Self> {
        let path = cache_dir.join(FOLDER);
        if !path.is_dir() {
            fs_err::create_dir_all(cache_dir)?;
            match rustix::fs::mkdir(&path, Mode::RWXU) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let folder = Dir::open_ambient_dir(&path, ambient_authority())?;
        let found = rustix::fs::fstat(&folder)?;
        if found.st_uid != rustix::process::geteuid().as_raw() || found.st_mode & 0o077 != 0 {
            return Err(io::Error::other(format!(
                "`{}` is not this user's alone (mode 0700)",
                path.display()
            )));
        }
        Ok(Self { folder })
    }

    /// The template of a key; the error says why one that is there is not used.
    pub(crate) fn find(&self, key: &str) -> Result<Option<Template>, String> {
        let name = format!("{key}.json");
        let file = match self.open_file(&name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("`{name}`: {error}")),
        };
        let manifest = read_manifest(&file).map_err(|error| format!("`{name}`: {error}"))?;
        if manifest.format != FORMAT || manifest.key != key {
            return Err(format!("`{name}` is of another form"));
        }
        let mut parts = Vec::with_capacity(PARTS.len());
        for (part, before) in PARTS.iter().zip(&manifest.parts) {
            let name = part_name(&manifest.stem, part);
            let file = self.open_file(&name).map_err(|error| format!("`{name}`: {error}"))?;
            let now = identity(&file).map_err(|error| format!("`{name}`: {error}"))?;
            if now != *before {
                return Err(format!("`{name}` has changed since it was made"));
            }
            parts.push(Arc::new(file));
        }
        let [memory, state, disk] = <[Arc<File>; 3]>::try_from(parts).map_err(|_| "parts")?;
        if digest(&state).map_err(|error| error.to_string())? != manifest.state_sha256 {
            return Err(format!("the state of `{name}` is damaged"));
        }
        // The time of the last use; a file that cannot be touched is removed a little too early.
        let _ = file.set_modified(SystemTime::now());
        Ok(Some(Template { key: key.to_owned(), token: manifest.token, memory, state, disk }))
    }

    /// Gives what was made its names. Gives the template.
    pub(crate) fn publish(&self, key: &str, image: &str, mut made: Parts) -> io::Result<Template> {
        let mut random = [0; 8];
        getrandom::fill(&mut random)?;
        let stem = format!("{key}-{}", hex::encode(random));
        let state_sha256 = digest(made.state.file())?;
        let parts = [&mut made.memory, &mut made.state, &mut made.disk];
        let mut looks = [[0; 5]; 3];
        let placed =
            parts.into_iter().zip(PARTS).zip(&mut looks).try_for_each(|((file, part), look)| {
                file.place(&self.folder, OsStr::new(&part_name(&stem, part)))?;
                *look = identity(file.file())?;
                Ok(())
            });
        let manifest = Manifest {
            format: FORMAT,
            key: key.to_owned(),
            image: image.to_owned(),
            token: made.token,
            stem: stem.clone(),
            parts: looks,
            state_sha256,
        };
        let published = placed.and_then(|()| {
            let mut file = NewFile::create(&self.folder, PREFIX)?;
            io::Write::write_all(&mut file.file(), serde_json::to_string(&manifest)?.as_bytes())?;
            file.replace(&self.folder, OsStr::new(&format!("{key}.json")))
        });
        if let Err(error) = published {
            self.remove_parts(&stem);
            return Err(error);
        }
        self.tidy();
        self.find(key)
            .map_err(io::Error::other)?
            .ok_or_else(|| io::Error::other("it is gone already"))
    }

    /// The right to make a template, which one process has at a time; `None` while another has it.
    pub(crate) fn turn(&self) -> io::Result<Option<File>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = File::from(openat(&self.folder, LOCK, flags, Mode::RUSR | Mode::WUSR)?);
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(lock)),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a machine of this key was started before; from now on one was.
    pub(crate) fn was_started(&self, key: &str) -> bool {
        let name = format!("{key}{STARTED}");
        if self.open_file(&name).is_ok() {
            return true;
        }
        // Where no note can be taken the template is made at once.
        let noted = NewFile::create(&self.folder, PREFIX)
            .and_then(|mut file| file.place(&self.folder, OsStr::new(&name)));
        noted.is_err()
    }

    /// Says why a template could not be made a while ago.
    pub(crate) fn check_refusal(&self, key: &str) -> Result<(), String> {
        let Ok(file) = self.open_file(&refusal_name(key)) else { return Ok(()) };
        let age = file.metadata().and_then(|found| found.modified()).ok();
        let age = age.and_then(|time| time.elapsed().ok()).unwrap_or_default();
        if age > REFUSED {
            return Ok(());
        }
        let mut reason = String::new();
        let _ = file.take(1000).read_to_string(&mut reason);
        Err(format!("a template could not be made {} s ago: {reason}", age.as_secs()))
    }

    /// Takes note that a template cannot be made.
    pub(crate) fn refuse(&self, key: &str, reason: &str) {
        let written = NewFile::create(&self.folder, PREFIX).and_then(|mut file| {
            io::Write::write_all(&mut file.file(), reason.as_bytes())?;
            file.replace(&self.folder, OsStr::new(&refusal_name(key)))
        });
        if let Err(error) = written {
            tracing::debug!(%error, "it is tried again at the next start");
        }
    }

    /// Removes a template; machines that were copied from it go on.
    pub(crate) fn remove(&self, key: &str) {
        let name = format!("{key}.json");
        let manifest = self.open_file(&name).ok().and_then(|file| read_manifest(&file).ok());
        let _ = self.folder.remove_file(&name);
        if let Some(manifest) = manifest.filter(|manifest| manifest.stem.starts_with(key)) {
            self.remove_parts(&manifest.stem);
        }
    }

    /// All templates, the one that was used last first.
    pub(crate) fn list(&self) -> io::Result<Vec<TemplateEntry>> {
        let mut all = Vec::new();
        for entry in self.folder.entries()?.flatten() {
            let name = entry.file_name();
            let Some(key) = name.to_str().and_then(|name| name.strip_suffix(".json")) else {
                continue;
            };
            let Ok(file) = self.open_file(&format!("{key}.json")) else { continue };
            let Ok(manifest) = read_manifest(&file) else { continue };
            let bytes = PARTS.iter().map(|part| {
                let part = self.folder.metadata(part_name(&manifest.stem, part));
                part.map(|part| cap_std::fs::MetadataExt::blocks(&part) * 512).unwrap_or_default()
            });
            let used = file.metadata().and_then(|found| found.modified());
            all.push(TemplateEntry {
                key: key.to_owned(),
                image: manifest.image,
                bytes: bytes.sum(),
                used: used.unwrap_or(SystemTime::UNIX_EPOCH),
            });
        }
        all.sort_by_key(|entry| std::cmp::Reverse(entry.used));
        Ok(all)
    }

    /// Removes what is over the limits, and what a killed process has left. Whoever calls it has the
    /// turn.
    pub(crate) fn tidy(&self) {
        let all = self.list().unwrap_or_default();
        let mut bytes = 0;
        for (index, entry) in all.iter().enumerate() {
            bytes += entry.bytes;
            if index > 0 && (bytes > MAX_BYTES || index >= MAX_TEMPLATES) {
                self.remove(&entry.key);
            }
        }
        let stems: Vec<String> = all
            .iter()
            .filter_map(|entry| self.open_file(&format!("{}.json", entry.key)).ok())
            .filter_map(|file| Some(read_manifest(&file).ok()?.stem))
            .collect();
        for entry in self.folder.entries().into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let written = entry.metadata().and_then(|found| found.modified()).ok();
            let age = written.and_then(|time| time.into_std().elapsed().ok());
            if name.ends_with(STARTED) && age.is_some_and(|age| age > NOTED) {
                let _ = self.folder.remove_file(name);
            }
            let stem = PARTS.iter().find_map(|part| name.strip_suffix(&format!(".{part}")));
            if stem.is_some_and(|stem| !stems.iter().any(|known| known == stem)) {
                let _ = self.folder.remove_file(name);
            }
        }
    }

    /// A file to be written, of this user alone.
    pub(crate) fn new_file(&self) -> io::Result<NewFile> {
        NewFile::create(&self.folder, PREFIX)
    }

    fn remove_parts(&self, stem: &str) {
        for part in PARTS {
            let _ = self.folder.remove_file(part_name(stem, part));
        }
    }

    /// Opens a regular file of this user alone, through no link.
    fn open_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&self.folder, name, flags, Mode::empty())?);
        let found = file.metadata()?;
        if !found.is_file()
            || found.uid() != rustix::process::geteuid().as_raw()
            || found.mode() & 0o077 != 0
        {
            return Err(io::Error::other("it is not a file of this user alone (mode 0600)"));
        }
        Ok(file)
    }
}

fn part_name(stem: &str, part: &str) -> String {
    format!("{stem}.{part}")
}

fn refusal_name(key: &str) -> String {
    format!("{key}.refused")
}

fn read_manifest(mut file: &File) -> io::Result<Manifest> {
    let mut text = Vec::new();
    file.rewind()?;
    file.take(MAX_MANIFEST).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

fn digest(file: &File) -> io::Result<String> {
    checksum::sha256_of(Positioned::new(file))
}

#[cfg(test)]
mod tests;
