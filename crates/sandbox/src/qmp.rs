//! QEMU's control connection: commands, answers and events.
//!
//! Owns the protocol on one stream (<https://www.qemu.org/docs/master/interop/qmp-spec.html>) with
//! bounded lines; knows nothing of what the commands are for. QEMU runs the guest and may be taken
//! over by it, so that its answers are bounded like the guest's.

mod outgoing;

use crate::error::{Error, Result};
use outgoing::{Outgoing, Writer};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::sync::{mpsc, oneshot, watch};

/// The longest line that is read.
const MAX_LINE: u64 = 4 << 20;
/// How long QEMU may take to answer a command.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a job may stand still before it is given up.
const STANDSTILL: Duration = Duration::from_secs(120);
/// Commands that wait for their turn to be written.
const QUEUE: usize = 16;
/// The number of the first command of a forked machine: above all of the machine that it was forked from.
#[cfg(target_os = "linux")]
const FIRST_OF_FORK: u64 = 1 << 40;

type Answer = std::result::Result<Value, String>;
type Waiting = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>>;

/// Removes a command that nobody waits for any more, such as one that was cancelled.
struct Ticket<'a> {
    waiting: &'a Waiting,
    id: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = waiting.as_mut() {
            waiting.remove(&self.id);
        }
    }
}

/// What QEMU's events have said of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MachineEvents {
    /// The machine stands still because a write found no space on the host.
    pub no_space: bool,
    /// The guest's kernel reported its panic.
    pub panicked: bool,
}

/// A connected client.
pub(crate) struct Qmp {
    /// Whole lines, to the task that writes them: a caller that is cancelled leaves none cut off.
    lines: mpsc::Sender<Outgoing>,
    waiting: Waiting,
    next_id: AtomicU64,
    events: watch::Receiver<MachineEvents>,
}

impl Qmp {
    /// Waits for the greeting and negotiates. Gives up when the stream ends.
    #[cfg(any(test, not(unix)))]
    pub(crate) async fn connect<S>(stream: S) -> Result<Self>
    where
        S: AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let (reader, writer) = tokio::io::split(stream);
        Self::negotiate(reader, Writer::Stream(Box::new(writer))).await
    }

    /// As [`Qmp::connect`], on a socket that can carry open files ([`Qmp::pass_file`]).
    #[cfg(unix)]
    pub(crate) async fn connect_socket(stream: tokio::net::UnixStream) -> Result<Self> {
        let (reader, writer) = stream.into_split();
        Self::negotiate(reader, Writer::Socket(writer)).await
    }

    async fn negotiate<R>(reader: R, writer: Writer) -> Result<Self>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let mut reader = BufReader::new(reader);
        let greeting = read_line(&mut reader).await.ok_or_else(|| broken("greeting"))?;
        if greeting.get("QMP").is_none() {
            return Err(broken("greeting"));
        }
        let qmp = Self::begin(reader, writer, 1);
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// The connection of a machine that was forked from another, with which that one's terms were
    /// agreed. The first line on it answers a command of the other connection.
    #[cfg(target_os = "linux")]
    pub(crate) async fn for_fork(stream: tokio::net::UnixStream) -> Result<Self> {
        let (reader, writer) = stream.into_split();
        let qmp = Self::begin(BufReader::new(reader), Writer::Socket(writer), FIRST_OF_FORK);
        qmp.execute("query-status", json!({})).await?;
        Ok(qmp)
    }

    fn begin<R>(reader: BufReader<R>, writer: Writer, first_id: u64) -> Self
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let (sender, events) = watch::channel(MachineEvents::default());
        tokio::spawn(dispatch(reader, Arc::clone(&waiting), sender));
        let (lines, queue) = mpsc::channel(QUEUE);
        tokio::spawn(writer.write_all(queue));
        Self { lines, waiting, next_id: AtomicU64::new(first_id), events }
    }

    /// Runs a command and gives what it returns.
    pub(crate) async fn execute(&self, command: &str, arguments: Value) -> Result<Value> {
        self.execute_within(ANSWER_TIMEOUT, command, arguments).await
    }

    /// Runs a command that takes open files.
    #[cfg(target_os = "linux")]
    pub(crate) async fn execute_with(
        &self,
        command: &str,
        arguments: Value,
        files: Vec<std::fs::File>,
    ) -> Result<Value> {
        self.send(ANSWER_TIMEOUT, command, arguments, files).await
    }

    /// Gives QEMU an open file, as `/dev/fdset/SET`: it can open next to nothing by a path of the host.
    /// See <https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html> (`add-fd`). Gives QEMU's number of it.
    #[cfg(unix)]
    pub(crate) async fn pass_file(&self, file: std::fs::File, set: u32) -> Result<i32> {
        let arguments = json!({ "fdset-id": set });
        let answer = self.send(ANSWER_TIMEOUT, "add-fd", arguments, vec![file]).await?;
        Ok(answer["fd"].as_i64().and_then(|fd| i32::try_from(fd).ok()).unwrap_or(-1))
    }

    /// Runs a job and waits for its end. `arguments` holds its `job-id`; `busy` is how long the job may
    /// keep QEMU from answering. Dropping the future leaves the job to itself.
    ///
    /// See <https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html#background-jobs>.
    pub(crate) async fn job(&self, command: &str, arguments: Value, busy: Duration) -> Result<()> {
        let id = arguments["job-id"].as_str().unwrap_or_default().to_owned();
        self.execute_within(busy, command, arguments).await?;
        self.finish_job(command, &id, busy).await
    }

    /// Waits for the end of a job that a command has begun. One that makes no progress for two
    /// minutes is given up.
    pub(crate) async fn finish_job(&self, command: &str, id: &str, busy: Duration) -> Result<()> {
        let mut pause = Duration::from_millis(2);
        let mut last = (Value::Null, Instant::now());
        loop {
            // A job on the machine's state keeps QEMU from answering until it is done.
            let jobs = self.execute_within(busy, "query-jobs", json!({})).await?;
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
            let progress = json!([own["status"], own["current-progress"]]);
            if last.0 != progress {
                last = (progress, Instant::now());
            } else if last.1.elapsed() > STANDSTILL {
                return Err(Error::Qmp {
                    command: command.to_owned(),
                    reason: format!("its job made no progress for {} s", STANDSTILL.as_secs()),
                });
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
        self.send(limit, command, arguments, Vec::new()).await
    }

    async fn send(
        &self,
        limit: Duration,
        command: &str,
        arguments: Value,
        files: Vec<std::fs::File>,
    ) -> Result<Value> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        match self.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(waiting) => waiting.insert(id, sender),
            None => return Err(broken(command)),
        };
        let mut line = json!({"execute": command, "arguments": arguments, "id": id}).to_string();
        line.push('\n');
        let _ticket = Ticket { waiting: &self.waiting, id };
        let answered = async {
            // A task that has ended could not write, and then no answer comes either.
            let _ = self.lines.send(Outgoing { line, files }).await;
            receiver.await
        };
        match tokio::time::timeout(limit, answered).await {
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

    /// Whether QEMU is at the other end still.
    #[cfg(target_os = "linux")]
    pub(crate) fn is_connected(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_some()
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
    use tokio::io::{AsyncWriteExt, DuplexStream};

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
    async fn a_cancelled_command_is_written_whole_and_forgotten() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let client = tokio::spawn(Qmp::connect(ours));
        theirs.write_all(GREETING.as_bytes()).await.unwrap();
        let mut theirs = BufReader::new(theirs);
        let id = read_line(&mut theirs).await.unwrap()["id"].as_u64().unwrap();
        theirs
            .write_all(format!("{{\"return\": {{}}, \"id\": {id}}}\r\n").as_bytes())
            .await
            .unwrap();
        let qmp = client.await.unwrap().unwrap();
        // QEMU does not read: the pipe takes a part of the line, and the caller gives up.
        let long = json!({ "text": "x".repeat(1000) });
        let call = qmp.execute("first", long);
        assert!(tokio::time::timeout(Duration::from_millis(50), call).await.is_err());
        assert!(qmp.waiting.lock().unwrap().as_ref().unwrap().is_empty());
        let reading = async {
            let first = read_line(&mut theirs).await.unwrap();
            let second = read_line(&mut theirs).await.unwrap();
            assert_eq!(
                (&first["execute"], &second["execute"]),
                (&json!("first"), &json!("second"))
            );
        };
        let second = qmp.execute("second", json!({}));
        let second = tokio::time::timeout(Duration::from_millis(200), second);
        assert!(tokio::join!(second, reading).0.is_err());
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
