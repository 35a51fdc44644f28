//! Shares on agents made elsewhere that do not serve mounts: a command of the guest mounts them, as root.

use super::AgentClient;
use crate::error::{Error, Result};
use crate::execute::ExecuteRequest;
use crate::{SessionEvent, deadline};
use agent_protocol::{MountRequest, UnmountRequest};
use std::time::Duration;

/// How much of a command's error output is shown.
const MAX_SAID: usize = 4096;

impl AgentClient {
    /// Mounts a share; its folder is made.
    pub(super) async fn mount_by_command(
        &self,
        request: &MountRequest,
        patience: Duration,
    ) -> Result<()> {
        let target = spelling::quoted(&request.target);
        let mut options = vec![if request.readonly { "ro" } else { "rw" }, "nosuid", "nodev"];
        options.extend((!request.options.is_empty()).then_some(request.options.as_str()));
        let command = format!(
            "mkdir -p -- {target} && mount -t {} -o {} -- {} {target}",
            spelling::quoted(&request.kind),
            spelling::quoted(&options.join(",")),
            spelling::quoted(&request.source),
        );
        self.must_run("mount", command, patience).await
    }

    /// Takes it away.
    pub(super) async fn unmount_by_command(
        &self,
        request: &UnmountRequest,
        patience: Duration,
    ) -> Result<()> {
        let flag = if request.force { "-l " } else { "" };
        let command = format!("umount {flag}-- {}", spelling::quoted(&request.target));
        self.must_run("umount", command, patience).await
    }

    /// Runs a command as root and gives its complaint as an error. The command is not shown: it may hold
    /// the password of a share.
    async fn must_run(&self, name: &str, command: String, patience: Duration) -> Result<()> {
        let request = ExecuteRequest::new(command).timeout(patience);
        let mut deadline = deadline::Deadline::after(Some(patience));
        let opened = deadline.wait(self.session(&request, None, false)).await?;
        let (_input, mut output) = opened;
        let mut said = Vec::new();
        while let Some(event) = deadline.wait(output.next()).await? {
            match event {
                SessionEvent::Stdout(data) | SessionEvent::Stderr(data) => {
                    deadline.note(&data)?;
                    let room = MAX_SAID.saturating_sub(said.len());
                    said.extend_from_slice(&data[..data.len().min(room)]);
                }
                SessionEvent::Exit { exit_code: 0, timed_out: false } => return Ok(()),
                SessionEvent::Exit { exit_code, .. } => {
                    let said = String::from_utf8_lossy(&said);
                    return Err(Error::AgentRefused {
                        status: 500,
                        message: format!("`{name}` ended with {exit_code}: {}", said.trim()),
                        hint: None,
                    });
                }
            }
        }
        let reason = format!("`{name}` ended without an exit code");
        Err(Error::AgentBroken { reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::mpsc;

    /// An agent that knows `/execute_stream` alone, and gives this code to each command.
    fn agent_of_events(code: i32) -> (AgentClient, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, commands) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut path, mut length) = (String::new(), 0);
                for line in reader.by_ref().lines().map_while(std::io::Result::ok) {
                    if path.is_empty() {
                        path = line.split(' ').nth(1).unwrap().to_owned();
                    }
                    if let Some((name, value)) = line.split_once(':')
                        && name.eq_ignore_ascii_case("content-length")
                    {
                        length = value.trim().parse().unwrap();
                    }
                    if line.is_empty() {
                        break;
                    }
                }
                if path != "/execute_stream" {
                    let _ = stream.write_all(
                        b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                    );
                    continue;
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
                sender.send(value["command"].as_str().unwrap().to_owned()).unwrap();
                let events = format!(
                    "data: {{\"stream\": \"stderr\", \"data\": \"no such share\"}}\n\n\
                     data: {{\"stream\": \"exit\", \"exit_code\": {code}}}\n\n"
                );
                let head =
                    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close";
                let length = events.len();
                let _ = write!(stream, "{head}\r\ncontent-length: {length}\r\n\r\n{events}");
            }
        });
        (AgentClient::on_port(port, "token"), commands)
    }

    #[tokio::test]
    async fn an_agent_without_mounts_is_sent_the_command() {
        let mount = MountRequest {
            source: "//10.0.2.100/share1".into(),
            target: "/mnt/it's here".into(),
            kind: "cifs".into(),
            options: "user=a,pass=b".into(),
            readonly: true,
            file: false,
        };
        let (client, commands) = agent_of_events(0);
        client.mount(&mount).await.unwrap();
        let expect = "mkdir -p -- '/mnt/it'\\''s here' && mount -t 'cifs' -o \
                      'ro,nosuid,nodev,user=a,pass=b' -- '//10.0.2.100/share1' '/mnt/it'\\''s here'";
        assert_eq!(commands.recv().unwrap(), expect);
        let unmount = UnmountRequest { target: "/mnt/x".into(), force: true };
        client.unmount(&unmount).await.unwrap();
        assert_eq!(commands.recv().unwrap(), "umount -l -- '/mnt/x'");
        let (client, _commands) = agent_of_events(32);
        let error = client.mount(&mount).await.unwrap_err().to_string();
        assert!(error.contains("no such share") && !error.contains("pass=b"), "{error}");
        // What only an agent can do is not tried.
        let fuse = MountRequest { kind: "fuse".into(), ..mount };
        let error = client.mount(&fuse).await.unwrap_err().to_string();
        assert!(error.contains("does not serve"), "{error}");
    }
}
