//! `POST /create_user` and `POST /delete_user`.

use std::path::Path;
use std::rc::Rc;

use agent_protocol::{
    CreateUserRequest, DeleteUserRequest, OkResponse, UserResponse, valid_user_name,
};
use hyper::Response;

use super::{TOOL_TIME, in_thread, run_tool};
use crate::agent::Agent;
use crate::answer::answer;
use crate::body::Body;
use crate::{Error, Result, accounts};

const ROOT: &str = "/";

/// Adds a user with a home and a group of its own.
///
/// # Errors
/// A name that is taken or not allowed; tools or files that fail.
pub async fn create(agent: Rc<Agent>, body: &[u8]) -> Result<Response<Body>> {
    let name = CreateUserRequest::from_json(body)?.name;
    check(&name)?;
    if accounts::find(Path::new(ROOT), &name).is_ok() {
        return Err(Error::UserExists { name });
    }
    let account = match find_tool("useradd") {
        Some(tool) => {
            let shell = if exists("/bin/bash") { "/bin/bash" } else { "/bin/sh" };
            let line = [&tool, "--create-home", "--user-group", "--shell", shell, &name];
            run_tool(&agent, &line, TOOL_TIME).await?;
            accounts::find(Path::new(ROOT), &name)?
        }
        None => in_thread("add a user", move || accounts::add(Path::new(ROOT), &name)).await?,
    };
    Ok(answer(&UserResponse::from(account)))
}

/// Removes a user; its processes are killed first.
///
/// # Errors
/// A user that does not exist or belongs to the system; tools or files that fail.
pub async fn delete(agent: Rc<Agent>, body: &[u8]) -> Result<Response<Body>> {
    let DeleteUserRequest { name, remove_home } = DeleteUserRequest::from_json(body)?;
    check(&name)?;
    let account = match accounts::find(Path::new(ROOT), &name) {
        Err(Error::UnknownUser { name, .. }) => return Err(Error::NoUserToDelete { name }),
        found => found?,
    };
    if !accounts::is_person(&account) {
        return Err(Error::SystemUser { name });
    }
    kill_processes_of(account.uid);
    match find_tool("userdel") {
        Some(tool) => run_tool(&agent, &[&tool, "--force", &name], TOOL_TIME).await?,
        None => {
            in_thread("remove a user", move || accounts::remove(Path::new(ROOT), &name)).await?;
        }
    }
    if remove_home && account.home.strip_prefix("/home/").is_some_and(|rest| !rest.is_empty()) {
        let home = account.home;
        in_thread("remove a home", move || match fs_err::remove_dir_all(&home) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::File { action: "remove", path: home.into(), source })
            }
            _ => Ok(()),
        })
        .await?;
    }
    Ok(answer(&OkResponse { ok: true }))
}

fn check(name: &str) -> Result<()> {
    if valid_user_name(name) {
        return Ok(());
    }
    Err(Error::UserName { name: name.to_owned() })
}

fn exists(path: &str) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

fn find_tool(name: &str) -> Option<String> {
    ["/usr/sbin", "/sbin", "/usr/bin"]
        .into_iter()
        .map(|folder| format!("{folder}/{name}"))
        .find(|path| exists(path))
}

fn kill_processes_of(uid: u32) {
    use std::os::unix::fs::MetadataExt as _;
    for entry in fs_err::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if entry.metadata().is_ok_and(|metadata| metadata.uid() == uid) {
            crate::process::group::signal(pid, libc::SIGKILL);
        }
    }
}
