//! The name server at 10.0.2.3, over UDP and TCP: the policy decides which names exist, and the
//! host's own name servers say what they are.
//!
//! Every question gets an answer, if only that it is refused: a program in the guest must not wait
//! for nothing. Addresses of IPv6 are answered with "none", because this network does not carry it.

#[cfg(test)]
mod fuzz;
mod message;
mod upstream;

use super::stack::Shared;
use message::{Answer, Code, Question};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// How long a name may take to be found.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(30);

/// The answer to a message that came as a datagram, no longer than the guest says that it takes.
/// `None` when it is not a question at all.
pub(super) async fn answer(shared: &Shared, question: &[u8]) -> Option<Vec<u8>> {
    let limit = message::datagram_limit(question);
    let answer = full_answer(shared, question).await?;
    Some(if answer.len() > limit { message::truncated(&answer) } else { answer })
}

/// Answers the messages of one connection, each after its length in two bytes.
pub(super) async fn serve(shared: Arc<Shared>, mut stream: DuplexStream) {
    loop {
        let reading = async {
            let length = stream.read_u16().await?;
            let mut question = vec![0; usize::from(length)];
            stream.read_exact(&mut question).await?;
            std::io::Result::Ok(question)
        };
        let Ok(Ok(question)) = tokio::time::timeout(IDLE, reading).await else { return };
        let Some(answer) = full_answer(&shared, &question).await else { return };
        let Ok(length) = u16::try_from(answer.len()) else { return };
        let writing = async {
            stream.write_u16(length).await?;
            stream.write_all(&answer).await
        };
        if !matches!(tokio::time::timeout(IDLE, writing).await, Ok(Ok(()))) {
            return;
        }
    }
}

async fn full_answer(shared: &Shared, bytes: &[u8]) -> Option<Vec<u8>> {
    let question = match message::parse(bytes) {
        Ok(question) => question,
        Err(code) => return message::complaint(bytes, code),
    };
    let answer = match refusal(shared, &question) {
        Some(code) => Answer::Code(code),
        None => {
            let finding = async {
                let _turn = shared.budget.lookup().await?;
                upstream::find(&question, &shared.budget).await
            };
            let found = tokio::time::timeout(PATIENCE, finding).await.ok().flatten();
            found.unwrap_or(Answer::Code(Code::Failed))
        }
    };
    Some(admitted(shared, &question, answer))
}

/// Why a name is not looked up at all.
fn refusal(shared: &Shared, question: &Question) -> Option<Code> {
    let policy = shared.policy();
    if !policy.is_full() {
        Some(Code::Refused)
    } else if !policy.may_resolve(&question.name) {
        Some(Code::NoSuchName)
    } else if !question.is_supported() {
        Some(Code::Refused)
    } else {
        None
    }
}

/// Opens the addresses of an allowed name, or refuses the answer: whoever owns an allowed name
/// must not open the host's own networks by pointing it there.
fn admitted(shared: &Shared, question: &Question, answer: Answer) -> Vec<u8> {
    let Some(addresses) = answer.addresses() else {
        return message::write(question, &Answer::Code(Code::Failed));
    };
    if !shared.policy().note_resolved(&question.name, &addresses, Instant::now()) {
        tracing::warn!(
            name = question.name,
            ?addresses,
            "an allowed name leads to a private address"
        );
        return message::write(question, &Answer::Code(Code::Refused));
    }
    message::write(question, &answer)
}
