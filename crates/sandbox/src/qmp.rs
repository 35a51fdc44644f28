//! QEMU's control connection: commands, answers and events.
//!
//! Owns the protocol on one stream (<https://www.qemu.org/docs/master/interop/qmp-spec.html>) with
//! bounded lines; knows nothing of what the commands are for. QEMU runs the guest and may be taken
//! over by it, so that its answers are bounded like the guest's.

use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{oneshot, watch};

/// The longest line that is read.
const MAX_LINE: u64 = 4 << 20;
/// How long QEMU may take to answer a command.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// How long QEMU may be busy with a job that keeps it from answering, such as keeping the memory of
/// a large machine on a slow disk.
const JOB_TIMEOUT: Duration = Duration::from_secs(900);

type Answer = std::result::Result<Value, String>;
type Waiting = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>>;

/// What QEMU has told about the machine without being asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MachineEvents {
    /// The machine stands still because a write found no space on the host.
    pub no_space: bool,
    /// The guest's kernel reported its panic.
    pub panicked: bool,
}

/// A connected client.
pub(crate) struct Qmp {
    writer: tokio::sync::Mutex<Box<dyn AsyncWrite + Send + Unpin>>,
    waiting: Waiting,
    next_id: AtomicU64,
    events: watch::Receiver<MachineEvents>,
}

impl Qmp {
    /// Waits for the greeting and negotiates. Gives up when the stream ends.
    pub(crate) async fn connect<S>(stream: S) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (reader, writer) = tokio::io::split(stream);
        let mut reader = BufReader::new(reader);
        let greeting = read_line(&mut reader).await.ok_or_else(|| broken("greeting"))?;
        if greeting.get("QMP").is_none() {
            return Err(broken("greeting"));
        }
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let (sender, events) = watch::channel(MachineEvents::default());
        tokio::spawn(dispatch(reader, Arc::clone(&waiting), sender));
        let qmp = Self {
            writer: tokio::sync::Mutex::new(Box::new(writer)),
            waiting,
            next_id: AtomicU64::new(1),
            events,
        };
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// Runs a command and gives what it returns.
    pub(crate) async fn execute(&self, command: &str, arguments: Value) -> Result<Value> {
        self.execute_within(ANSWER_TIMEOUT, command, arguments).await
    }

    /// Runs a job and waits for its end. `arguments` holds its `job-id`. Dropping the future leaves
    /// the job to itself.
    ///
    /// See <https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html#background-jobs>.
    pub(crate) async fn job(&self, command: &str, arguments: Value) -> Result<()> {
        let id = arguments["job-id"].as_str().unwrap_or_default().to_owned();
        self.execute_within(JOB_TIMEOUT, command, arguments).await?;
        self.finish_job(command, &id).await
    }

    /// Waits for the end of a job that a command has begun.
    pub(crate) async fn finish_job(&self, command: &str, id: &str) -> Result<()> {
        let mut pause = Duration::from_millis(2);
        loop {
            // A job on the machine's state keeps QEMU from answering until it is done.
            let jobs = self.execute_within(JOB_TIMEOUT, "query-jobs", json!({})).await?;
            let own = jobs.as_array().into_iter().flatten().find(|job| job["id"] == id);
            let Some(own) = own else {
                return Err(Error::Qmp {
                    command: command.to_owned(),
                    reason: "its job is gone".into(),
                });
            };
            if own["status"] == "concluded" {
                let error = own["error"].as_str().map(str::to_owned);
                self.execute("job-dismiss", json!({ "id": id })).await?;
                return match error {
                    None => Ok(()),
                    Some(reason) => Err(Error::Qmp { command: command.to_owned(), reason }),
                };
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    async fn execute_within(
        &self,
        limit: Duration,
        command: &str,
        arguments: Value,
    ) -> Result<Value> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        match self.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(waiting) => waiting.insert(id, sender),
            None => return Err(broken(command)),
        };
        let mut line = json!({"execute": command, "arguments": arguments, "id": id}).to_string();
        line.push('\n');
        let written = {
            let mut writer = self.writer.lock().await;
            writer.write_all(line.as_bytes()).await
        };
        if written.is_err() {
            return Err(broken(command));
        }
        match tokio::time::timeout(limit, receiver).await {
            Ok(Ok(answer)) => {
                answer.map_err(|reason| Error::Qmp { command: command.to_owned(), reason })
            }
            Ok(Err(_)) => Err(broken(command)),
            Err(_) => Err(Error::Qmp {
                command: command.to_owned(),
                reason: format!("no answer within {} s", limit.as_secs()),
            }),
        }
    }

    /// The machine's events so far.
    pub(crate) fn events(&self) -> MachineEvents {
        *self.events.borrow()
    }

    /// Waits until the host's disk is full; for ever when it never is.
    pub(crate) async fn no_space(&self) {
        let mut events = self.events.clone();
        if events.wait_for(|events| events.no_space).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn broken(command: &str) -> Error {
    Error::Qmp { command: command.to_owned(), reason: "the connection ended".into() }
}

async fn read_line<R: AsyncRead + Unpin>(reader: &mut BufReader<R>) -> Option<Value> {
    let mut line = Vec::new();
    reader.take(MAX_LINE).read_until(b'\n', &mut line).await.ok()?;
    if line.last() != Some(&b'\n') {
        return None;
    }
    serde_json::from_slice(&line).ok()
}

/// Hands answers to those who wait for them until the connection ends, and then tells them so.
async fn dispatch<R: AsyncRead + Unpin>(
    mut reader: BufReader<R>,
    waiting: Waiting,
    events: watch::Sender<MachineEvents>,
) {
    while let Some(mut message) = read_line(&mut reader).await {
        if message.get("event").is_some() {
            events.send_if_modified(|events| note_event(&message, events));
            continue;
        }
        let Some(id) = message.get("id").and_then(Value::as_u64) else { continue };
        let answer = match message.get_mut("return") {
            Some(value) => Ok(value.take()),
            None => Err(message["error"]["desc"].as_str().unwrap_or("no reason").to_owned()),
        };
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = waiting.as_mut().and_then(|waiting| waiting.remove(&id)) {
            // Whoever asked may have given up.
            let _ = sender.send(answer);
        }
    }
    waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
}

/// Takes one event in and says whether it changed anything.
fn note_event(message: &Value, events: &mut MachineEvents) -> bool {
    let before = *events;
    let data = &message["data"];
    match message["event"].as_str() {
        Some("BLOCK_IO_ERROR") if data["nospace"] == true && data["action"] == "stop" => {
            events.no_space = true;
        }
        Some("RESUME") => events.no_space = false,
        Some("GUEST_PANICKED") => events.panicked = true,
        _ => {}
    }
    *events != before
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::DuplexStream;

    const GREETING: &str = "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 2, \"minor\": 2, \"major\": 10}, \"package\": \"\"}, \"capabilities\": [\"oob\"]}}\r\n";

    /// Plays QEMU: greets, then answers each command as the function says.
    fn fake(respond: impl Fn(&str, u64) -> String + Send + 'static) -> DuplexStream {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        tokio::spawn(async move {
            theirs.write_all(GREETING.as_bytes()).await.unwrap();
            let (reader, mut writer) = tokio::io::split(theirs);
            let mut reader = BufReader::new(reader);
            while let Some(command) = read_line(&mut reader).await {
                let id = command["id"].as_u64().unwrap();
                let answer = respond(command["execute"].as_str().unwrap(), id);
                if writer.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
        ours
    }

    #[tokio::test]
    async fn answers_errors_and_events_of_a_recorded_talk() {
        let stream = fake(|command, id| match command {
            "qmp_capabilities" => format!("{{\"return\": {{}}, \"id\": {id}}}\r\n"),
            "query-status" => format!(
                "{{\"timestamp\": {{\"seconds\": 1, \"microseconds\": 2}}, \"event\": \"BLOCK_IO_ERROR\", \
                 \"data\": {{\"device\": \"drive0\", \"nospace\": true, \"operation\": \"write\", \
                 \"action\": \"stop\", \"reason\": \"No space left on device\"}}}}\r\n\
                 {{\"return\": {{\"status\": \"io-error\", \"running\": false}}, \"id\": {id}}}\r\n"
            ),
            "cont" => {
                format!("{{\"event\": \"RESUME\"}}\r\n{{\"return\": {{}}, \"id\": {id}}}\r\n")
            }
            _ => format!(
                "{{\"id\": {id}, \"error\": {{\"class\": \"CommandNotFound\", \"desc\": \"The command x has not been found\"}}}}\r\n"
            ),
        });
        let qmp = Qmp::connect(stream).await.unwrap();
        let status = qmp.execute("query-status", json!({})).await.unwrap();
        assert_eq!(status["status"], "io-error");
        assert!(qmp.events().no_space);
        qmp.no_space().await;
        qmp.execute("cont", json!({})).await.unwrap();
        assert!(!qmp.events().no_space);
        let error = qmp.execute("x", json!({})).await.unwrap_err().to_string();
        assert!(error.contains("`x`") && error.contains("has not been found"), "{error}");
    }

    #[tokio::test]
    async fn an_end_reaches_everyone_who_waits() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let client = tokio::spawn(Qmp::connect(ours));
        theirs.write_all(GREETING.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(theirs);
        let error = client.await.unwrap().err().unwrap().to_string();
        assert!(error.contains("the connection ended"), "{error}");
    }

    #[tokio::test]
    async fn a_line_without_end_is_refused() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let writer = tokio::spawn(async move {
            let block = vec![b' '; 1 << 16];
            while theirs.write_all(&block).await.is_ok() {}
        });
        assert!(Qmp::connect(ours).await.is_err());
        writer.await.unwrap();
    }
}
