//! Runs a command to its end: feeds it, passes on what it prints, and collects that up to a bound.

use super::AgentClient;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::execute::{ExecuteRequest, ExecuteResult, OutputSink, OutputStream, SessionEvent};
use bytes::Bytes;
use std::ops::ControlFlow;
use tokio::sync::mpsc;

/// A sink for those who only want the result.
pub(crate) struct Discard;

impl OutputSink for Discard {
    async fn output(&mut self, _stream: OutputStream, _data: Bytes) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Runs a command, feeds the sink, and collects up to the request's bound.
pub(crate) async fn run_to_end(
    agent: &AgentClient,
    request: &ExecuteRequest,
    sink: &mut impl OutputSink,
) -> Result<ExecuteResult> {
    run_with_input(agent, request, None, sink).await
}

/// The same, with input that comes while the command runs.
pub(crate) async fn run_with_input(
    agent: &AgentClient,
    request: &ExecuteRequest,
    more: Option<mpsc::Receiver<Bytes>>,
    sink: &mut impl OutputSink,
) -> Result<ExecuteResult> {
    let mut deadline = Deadline::after(request.timeout);
    let opening = agent.session(request, None, more.is_some());
    let (input, mut output) = deadline.wait(opening).await?;
    let feeding = async {
        if !request.stdin.is_empty() {
            input.write(request.stdin.clone()).await?;
        }
        let is_open = more.is_some() || !request.stdin.is_empty();
        if let Some(mut more) = more {
            while let Some(data) = more.recv().await {
                input.write(data).await?;
            }
        }
        if is_open {
            input.close().await?;
        }
        // The command may end without reading; its exit ends this.
        std::future::pending::<Result<()>>().await
    };
    let mut feeding = std::pin::pin!(feeding);
    let mut fed = false;
    let mut result = ExecuteResult::default();
    loop {
        let event = tokio::select! {
            event = deadline.wait(output.next()) => event?,
            // A command that closes its input early has not failed.
            _ = &mut feeding, if !fed => {
                fed = true;
                continue;
            }
        };
        let (stream, data) = match event {
            Some(SessionEvent::Stdout(data)) => (OutputStream::Stdout, data),
            Some(SessionEvent::Stderr(data)) => (OutputStream::Stderr, data),
            Some(SessionEvent::Exit { exit_code, timed_out }) => {
                result.exit_code = exit_code;
                result.timed_out = timed_out;
                return Ok(result);
            }
            None => return Err(Error::AgentBroken { reason: "the exit code is missing".into() }),
        };
        deadline.note(&data)?;
        if data.is_empty() {
            continue;
        }
        let (kept, dropped) = match stream {
            OutputStream::Stdout => (&mut result.stdout, &mut result.stdout_dropped),
            OutputStream::Stderr => (&mut result.stderr, &mut result.stderr_dropped),
        };
        let room = request.max_output.saturating_sub(kept.len()).min(data.len());
        kept.extend_from_slice(&data[..room]);
        *dropped += (data.len() - room) as u64;
        if sink.output(stream, data).await.is_break() {
            return Err(Error::OutputRefused);
        }
    }
}
