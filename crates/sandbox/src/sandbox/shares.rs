//! The calls that share folders of the host with a running guest; what they do is `shares`' business.

use super::Sandbox;
use crate::error::{Error, Result};
use crate::mount::{Mount, MountHandle, MountType};
use crate::mounting;

/// Folders of the host in the guest.
impl Sandbox {
    /// Shares a folder of the host, or a file, with the running guest.
    ///
    /// # Errors
    /// [`Error::Mount`]: it does not exist, the guest cannot mount it, or the share is 9p, which is
    /// for the start only.
    ///
    /// ```no_run
    /// # async fn example(sandbox: &sandbox::Sandbox) -> Result<(), sandbox::Error> {
    /// let handle = sandbox.mount(sandbox::Mount::new("/home/me/code", "/mnt/code")).await?;
    /// assert_eq!(sandbox.active_mounts(), [handle.clone()]);
    /// sandbox.unmount(&handle, false).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn mount(&self, mount: Mount) -> Result<MountHandle> {
        mount.check()?;
        let machine = self.machine("mount")?;
        if mount.kind == MountType::Plan9 {
            return Err(Error::Mount {
                action: "mount",
                share: mount.host.display().to_string(),
                reason: "9p is for the start only".into(),
                hint: Some("Name it in `mounts`, or leave the type out".into()),
            });
        }
        machine.during("a mount", mounting::mount(&machine, &mount, 0)).await
    }

    /// Takes a share away from the guest. The host's side comes first and needs nothing from the
    /// guest: programs in it that use the share see errors from then on. The guest is told
    /// afterwards, and has ten seconds to unmount; its answer changes nothing.
    ///
    /// With 9p QEMU serves the folder until the machine ends. There the guest is asked to unmount,
    /// and refuses while the share is in use unless `force` is set; its root can mount it again.
    ///
    /// # Errors
    /// [`Error::Mount`]: it is not mounted, or it is 9p and the guest refuses.
    pub async fn unmount(&self, handle: &MountHandle, force: bool) -> Result<()> {
        let machine = self.machine("unmount")?;
        mounting::unmount(&machine, handle, force).await
    }

    /// What is shared now.
    pub fn active_mounts(&self) -> Vec<MountHandle> {
        match self.lifecycle_machine() {
            Some(machine) => machine.shares.active(),
            None => Vec::new(),
        }
    }
}
