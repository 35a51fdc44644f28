//! From a request and the guest's accounts to what is executed: pure but for the look at which
//! shells and homes exist, which comes in as a function.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::time::Duration;

use agent_protocol::{ExecuteRequest, GuestText, PtyRequest};

use crate::accounts::Account;
use crate::{Error, Result};

/// Where programs are looked for, as in a login on Debian.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const DEFAULT_SHELL: &str = "/bin/sh";
/// A timeout from here on counts as no limit: timers do not reach that far.
const FOR_EVER: Duration = Duration::from_secs(365 * 86_400);
const DEFAULT_TERMINAL: &str = "xterm-256color";

/// What is executed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// File to execute.
    pub program: CString,
    /// Arguments, the name first.
    pub arguments: Vec<CString>,
    /// Environment as `NAME=value`.
    pub environment: Vec<CString>,
    /// Working directory.
    pub directory: CString,
    /// The user; `None` is the agent's own, root.
    pub account: Option<Account>,
    /// A terminal instead of pipes.
    pub pty: Option<PtyRequest>,
    /// How long it may run.
    pub timeout: Option<Duration>,
    /// Whether others may hold it up before its program runs: a user can stop a process of its own,
    /// and a folder or shell that the host named may be on a file system that does not answer.
    pub may_stall: bool,
}

impl Plan {
    /// The plan for a request. `exists` says whether a path names a file or folder in the guest;
    /// `account` is the request's user, or root when it names none.
    ///
    /// # Errors
    /// A shell that cannot be found, or a value that the kernel cannot take.
    pub fn new(
        request: &ExecuteRequest,
        account: Account,
        exists: impl Fn(&[u8]) -> bool,
    ) -> Result<Self> {
        let shell = request.shell.as_ref().map_or(DEFAULT_SHELL.as_bytes(), GuestText::as_bytes);
        let program = find_program(shell, &exists)?;
        let mut arguments = vec![shell];
        if request.command.is_empty() {
            // Only a session with a terminal has no command: the shell itself is what is wanted.
            arguments.push(b"-i");
        } else {
            arguments.extend([&b"-c"[..], request.command.as_bytes()]);
        }
        let home = if exists(account.home.as_bytes()) { account.home.as_str() } else { "/" };
        let directory = request.cwd.as_ref().map_or(home.as_bytes(), GuestText::as_bytes);
        Ok(Self {
            program: text(program)?,
            arguments: arguments.into_iter().map(text).collect::<Result<_>>()?,
            environment: environment(request, &account)?,
            directory: text(directory)?,
            account: request.user.is_some().then_some(account),
            pty: request.pty.clone(),
            timeout: request.timeout()?.filter(|timeout| *timeout < FOR_EVER),
            may_stall: request.user.is_some()
                || request.cwd.is_some()
                || request.shell.as_ref().is_some_and(|shell| *shell != DEFAULT_SHELL),
        })
    }

    /// A plan for a tool of the guest, as root, without a shell between, for a time at most.
    ///
    /// # Errors
    /// An argument with a NUL byte.
    pub fn tool(arguments: &[&str], limit: Duration) -> Result<Self> {
        Ok(Self {
            program: text(arguments[0])?,
            arguments: arguments.iter().copied().map(text).collect::<Result<_>>()?,
            environment: environment(&ExecuteRequest::default(), &Account::root())?,
            directory: text("/")?,
            account: None,
            pty: None,
            timeout: Some(limit),
            may_stall: false,
        })
    }
}

fn find_program(name: &[u8], exists: &impl Fn(&[u8]) -> bool) -> Result<Vec<u8>> {
    if name.contains(&b'/') {
        return Ok(name.to_owned());
    }
    PATH.split(':')
        .map(|folder| [folder.as_bytes(), b"/", name].concat())
        .find(|path| exists(path))
        .ok_or_else(|| Error::Shell {
            path: String::from_utf8_lossy(name).into_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        })
}

fn environment(request: &ExecuteRequest, account: &Account) -> Result<Vec<CString>> {
    let terminal = match &request.pty {
        Some(pty) => pty.term.as_deref().unwrap_or(DEFAULT_TERMINAL),
        None => "dumb",
    };
    let mut variables: BTreeMap<&str, &[u8]> = [
        ("PATH", PATH),
        ("HOME", account.home.as_str()),
        ("USER", account.name.as_str()),
        ("LOGNAME", account.name.as_str()),
        ("SHELL", account.shell.as_str()),
        ("TERM", terminal),
        ("LANG", "C.UTF-8"),
    ]
    .map(|(name, value)| (name, value.as_bytes()))
    .into();
    variables.extend(request.env.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
    let join = |(name, value): (&str, &[u8])| text([name.as_bytes(), b"=", value].concat());
    variables.into_iter().map(join).collect()
}

fn text(value: impl Into<Vec<u8>>) -> Result<CString> {
    CString::new(value).map_err(|_| {
        Error::Protocol(agent_protocol::Error::value("A value contains a NUL byte", None))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(values: &[CString]) -> Vec<&str> {
        values.iter().map(|value| value.to_str().unwrap()).collect()
    }

    fn plan(request: &ExecuteRequest) -> Plan {
        let exists = |path: &[u8]| {
            ["/root", "/bin/sh", "/usr/bin/bash"].iter().any(|known| known.as_bytes() == path)
        };
        Plan::new(request, Account::root(), exists).unwrap()
    }

    #[test]
    fn a_plain_command_runs_in_sh_at_home_as_root() {
        let plan = plan(&ExecuteRequest::new("echo $HOME"));
        assert_eq!(plan.program.to_str(), Ok("/bin/sh"));
        assert_eq!(strings(&plan.arguments), ["/bin/sh", "-c", "echo $HOME"]);
        assert_eq!(plan.directory.to_str(), Ok("/root"));
        assert_eq!(plan.account, None);
        let path = format!("PATH={PATH}");
        let expect = [
            "HOME=/root",
            "LANG=C.UTF-8",
            "LOGNAME=root",
            &path,
            "SHELL=/bin/sh",
            "TERM=dumb",
            "USER=root",
        ];
        assert_eq!(strings(&plan.environment), expect);
    }

    #[test]
    fn the_request_decides_over_the_defaults() {
        let mut request = ExecuteRequest::new("true");
        request.shell = Some("bash".into());
        request.cwd = Some("/tmp".into());
        request.env = [("TERM".to_owned(), "vt100".into()), ("X".to_owned(), "1".into())].into();
        let plan = plan(&request);
        assert_eq!(plan.program.to_str(), Ok("/usr/bin/bash"));
        assert_eq!(plan.directory.to_str(), Ok("/tmp"));
        let environment = strings(&plan.environment);
        assert!(environment.contains(&"TERM=vt100") && environment.contains(&"X=1"));
        assert!(!environment.contains(&"TERM=dumb"));
    }

    #[test]
    fn bytes_that_are_not_utf8_reach_the_kernel() {
        let mut request = ExecuteRequest::new(&b"cat a\xff"[..]);
        request.cwd = Some(b"/tmp/d\xfe"[..].into());
        request.env = [("A".to_owned(), b"\xfd"[..].into())].into();
        let plan = plan(&request);
        assert_eq!(plan.arguments[2].as_bytes(), b"cat a\xff");
        assert_eq!(plan.directory.as_bytes(), b"/tmp/d\xfe");
        assert!(plan.environment.iter().any(|variable| variable.as_bytes() == b"A=\xfd"));
    }

    #[test]
    fn a_shell_that_is_nowhere_is_named() {
        let mut request = ExecuteRequest::new("true");
        request.shell = Some("zsh".into());
        let error = Plan::new(&request, Account::root(), |_| false).unwrap_err();
        assert!(error.to_string().contains("`zsh`"), "{error}");
    }

    #[test]
    fn a_terminal_without_command_is_an_interactive_shell() {
        let pty = PtyRequest { rows: 24, cols: 80, term: None };
        let request = ExecuteRequest { pty: Some(pty), ..ExecuteRequest::default() };
        let plan = plan(&request);
        assert_eq!(strings(&plan.arguments), ["/bin/sh", "-i"]);
        assert!(strings(&plan.environment).contains(&"TERM=xterm-256color"));
    }
}
