//! Users of the guest: made and removed by the agent.
//!
//! Owns the public calls; how a guest keeps its users is the agent's business. A name is checked
//! here as the agent would, so that a mistake costs no trip and needs no machine.

use crate::error::{Error, Result};
use crate::sandbox::Sandbox;
use agent_protocol::{
    CreateUserRequest, DeleteUserRequest, UserResponse, limits, paths, valid_user_name,
};

/// The longest home directory that is believed, in bytes.
const MAX_HOME: usize = limits::MAX_PATH;

/// A user of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The login name, as in passwd(5).
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// The number of its own group.
    pub gid: u32,
    /// Its home directory.
    pub home: String,
}

impl Sandbox {
    /// Adds a user with a home directory and a group of its own.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for a name that is not `[a-z_][a-z0-9_-]*` of at most 32 characters,
    /// [`Error::AgentRefused`] for one that is taken.
    ///
    /// ```no_run
    /// # async fn example(sandbox: &sandbox::Sandbox) -> Result<(), sandbox::Error> {
    /// use sandbox::ExecuteRequest;
    ///
    /// let alice = sandbox.create_user("alice").await?;
    /// let result = sandbox.execute(ExecuteRequest::new("id -un").user(&alice.name)).await?;
    /// assert_eq!(result.stdout, b"alice\n");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn create_user(&self, name: &str) -> Result<User> {
        check(name)?;
        let machine = self.machine("create a user")?;
        let body = serde_json::to_vec(&CreateUserRequest { name: name.to_owned() });
        let call = machine.agent.ask(paths::CREATE_USER, body.unwrap_or_default());
        let answer = machine.during("creating a user", call).await?;
        let user: UserResponse = serde_json::from_slice(&answer)
            .map_err(|error| Error::AgentBroken { reason: error.to_string() })?;
        let is_path = user.home.starts_with('/') && !user.home.contains(char::is_control);
        if user.name != name || !is_path || user.home.len() > MAX_HOME {
            let reason = "it tells of another user than it was asked for".into();
            return Err(Error::AgentBroken { reason });
        }
        Ok(User { name: user.name, uid: user.uid, gid: user.gid, home: user.home })
    }

    /// Removes a user, after its processes; with `remove_home` its home directory too.
    ///
    /// # Errors
    /// [`Error::AgentRefused`] for a user that does not exist, and for those of the system.
    pub async fn delete_user(&self, name: &str, remove_home: bool) -> Result<()> {
        check(name)?;
        let machine = self.machine("delete a user")?;
        let body = serde_json::to_vec(&DeleteUserRequest { name: name.to_owned(), remove_home });
        let call = machine.agent.ask(paths::DELETE_USER, body.unwrap_or_default());
        machine.during("deleting a user", call).await?;
        Ok(())
    }
}

fn check(name: &str) -> Result<()> {
    if valid_user_name(name) {
        return Ok(());
    }
    Err(Error::InvalidValue {
        option: "name",
        value: name.chars().take(100).collect(),
        allowed: "a lower-case letter or `_`, then letters, digits, `_` and `-`, 32 at most".into(),
        hint: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SandboxConfig;

    #[tokio::test]
    async fn a_bad_name_is_refused_before_a_missing_machine() {
        let sandbox = Sandbox::new(SandboxConfig::builder("x").build().unwrap());
        for name in ["", "Alice", "0a", "a b", "-a", "root:0", &"a".repeat(33)] {
            let error = sandbox.create_user(name).await.unwrap_err();
            assert!(matches!(error, Error::InvalidValue { option: "name", .. }), "{error}");
        }
        let error = sandbox.delete_user("alice", true).await.unwrap_err();
        assert!(matches!(error, Error::NotRunning { .. }), "{error}");
    }
}
