//! A folder of the host as the SMB server serves it: `smb-server`'s own file system, and around it
//! what a guest must not do.
//!
//! A link of the host is shown as a link and never followed: deleting in the guest reaches the link
//! and not what it leads to. What is neither a file, a folder nor a link is seen and cannot be
//! opened. Each open file takes a place in the machine's budget. Once the share is revoked every
//! request fails, whatever the server or the guest still believe.

use super::link;
use super::node::Node;
use super::open::Open;
use crate::budget::Budget;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, Metadata};
use smb_server::{
    BackendCapabilities, Handle, LocalFsBackend, OpenAction, OpenIntent, OpenOptions, ShareBackend,
    SmbError, SmbPath, SmbResult, VolumeInfo,
};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// Whether a share has been taken back. Clones are the same switch.
#[derive(Clone, Debug, Default)]
pub(super) struct Revocation(Arc<watch::Sender<bool>>);

impl Revocation {
    /// Takes the share back. From here on nothing of it is read or written.
    pub(super) fn revoke(&self) {
        self.0.send_replace(true);
    }

    pub(super) fn is_revoked(&self) -> bool {
        *self.0.borrow()
    }

    /// The error of every request to a share that has been taken back.
    pub(super) fn check(&self) -> SmbResult<()> {
        if self.is_revoked() { Err(SmbError::AccessDenied) } else { Ok(()) }
    }
}

/// One shared folder.
pub(super) struct Folder {
    inner: LocalFsBackend,
    root: Arc<Dir>,
    budget: Arc<Budget>,
    revocation: Revocation,
}

impl Folder {
    /// Opens a folder of the host.
    pub(super) fn open(
        host: &Path,
        readonly: bool,
        budget: Arc<Budget>,
        revocation: Revocation,
    ) -> io::Result<Self> {
        let root = Arc::new(Dir::open_ambient_dir(host, ambient_authority())?);
        // The kernel's watches are the whole user's, and the guest's kernel does not ask for them.
        let inner = LocalFsBackend::new(host)?.watch_host_changes(false);
        let inner = if readonly { inner.read_only() } else { inner };
        Ok(Self { inner, root, budget, revocation })
    }
}

#[async_trait::async_trait]
impl ShareBackend for Folder {
    async fn open(
        &self,
        path: &SmbPath,
        options: OpenOptions,
    ) -> SmbResult<(Box<dyn Handle>, OpenAction)> {
        self.revocation.check()?;
        let place = self.budget.descriptors(1).ok_or_else(|| {
            SmbError::Io(io::Error::other("the machine's budget of descriptors is used up"))
        })?;
        let (root, asked) = (Arc::clone(&self.root), path.clone());
        let found = blocking(move || look(&root, &asked)).await?;
        if let Some(found) = found
            && !found.is_dir()
            && !found.is_file()
        {
            let node = open_node(Arc::clone(&self.root), path, options, found).await?;
            return Ok((Box::new(Open::new(self, path, node, place)), OpenAction::Opened));
        }
        let (handle, action) = self.inner.open(path, options).await?;
        Ok((Box::new(Open::new(self, path, handle, place)), action))
    }

    async fn unlink(&self, path: &SmbPath) -> SmbResult<()> {
        self.revocation.check()?;
        self.check_parents(path).await?;
        self.inner.unlink(path).await
    }

    async fn rename(&self, from: &SmbPath, to: &SmbPath, replace: bool) -> SmbResult<()> {
        self.revocation.check()?;
        self.check_parents(from).await?;
        self.check_parents(to).await?;
        self.inner.rename(from, to, replace).await
    }

    fn capabilities(&self) -> BackendCapabilities {
        self.inner.capabilities()
    }

    async fn volume_info(&self) -> SmbResult<VolumeInfo> {
        self.revocation.check()?;
        self.inner.volume_info().await
    }
}

impl Folder {
    pub(super) fn parts(&self) -> (Arc<Dir>, Arc<Budget>, Revocation) {
        (Arc::clone(&self.root), Arc::clone(&self.budget), self.revocation.clone())
    }

    async fn check_parents(&self, path: &SmbPath) -> SmbResult<()> {
        let (root, path) = (Arc::clone(&self.root), path.clone());
        blocking(move || look(&root, &path)).await.map(|_| ())
    }
}

/// A handle of what is neither a file nor a folder: it can be looked at, renamed and deleted.
async fn open_node(
    root: Arc<Dir>,
    path: &SmbPath,
    options: OpenOptions,
    found: Metadata,
) -> SmbResult<Box<dyn Handle>> {
    if options.directory {
        return Err(SmbError::NotADirectory);
    }
    match options.intent {
        OpenIntent::Create => return Err(SmbError::Exists),
        OpenIntent::Open | OpenIntent::OpenOrCreate if !options.write => {}
        _ => return Err(SmbError::AccessDenied),
    }
    let path = path.clone();
    blocking(move || {
        let name = path.file_name().unwrap_or_default().to_owned();
        let top = root.dir_metadata()?;
        Ok(Box::new(node(&root, &relative(&path), name, &found, &top)?) as Box<dyn Handle>)
    })
    .await
}

/// What a client sees of an entry that is neither a file nor a folder. `top` is the share's folder.
pub(super) fn node(
    parent: &Dir,
    path: &Path,
    name: String,
    found: &Metadata,
    top: &Metadata,
) -> io::Result<Node> {
    let content = match found.is_symlink() {
        true => link::file(parent.read_link_contents(path)?.as_os_str().as_encoded_bytes()),
        false => None,
    };
    Ok(Node::new(name, found, top, content))
}

/// Looks at an entry without following a link, neither there nor on the way to it.
fn look(root: &Dir, path: &SmbPath) -> io::Result<Option<Metadata>> {
    let Some((last, parents)) = path.components().split_last() else {
        return root.dir_metadata().map(Some);
    };
    let mut so_far = PathBuf::new();
    for parent in parents {
        so_far.push(parent);
        match root.symlink_metadata(&so_far) {
            Ok(parent) if parent.is_symlink() => return Err(io::ErrorKind::NotADirectory.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    so_far.push(last);
    match root.symlink_metadata(&so_far) {
        Ok(found) => Ok(Some(found)),
        // The file system behind this one says what exactly is missing.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A path of the share below its folder.
pub(super) fn relative(path: &SmbPath) -> PathBuf {
    if path.is_root() { PathBuf::from(".") } else { path.components().iter().collect() }
}

/// Runs what waits for the disk where that is allowed.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> SmbResult<T> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?;
    done.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => SmbError::NotFound,
        io::ErrorKind::PermissionDenied => SmbError::AccessDenied,
        io::ErrorKind::NotADirectory => SmbError::PathNotFound,
        _ => SmbError::Io(error),
    })
}

#[cfg(all(test, unix))]
mod tests;
