//! Datagrams: questions for names, and everything else that the policy lets out.

use super::policy::Verdict;
use super::stack::Shared;
use super::{GUEST, NAME_SERVER, dns, flow};
use std::collections::HashMap;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::sync::{Semaphore, mpsc};

/// The most partners that the guest sends datagrams to at a time.
const MAX_FLOWS: usize = 256;
/// How long a partner is remembered after its last word.
const IDLE: Duration = Duration::from_secs(60);
/// Questions for names that are looked up at a time.
const MAX_QUESTIONS: usize = 64;

/// A datagram for the guest: from, to, payload.
pub(super) type Reply = (SocketAddrV4, SocketAddrV4, Vec<u8>);

/// The guest's datagrams on their way.
pub(super) struct Datagrams {
    replies: mpsc::Sender<Reply>,
    shared: Arc<Shared>,
    flows: HashMap<(u16, SocketAddrV4), mpsc::Sender<Vec<u8>>>,
    questions: Arc<Semaphore>,
}

impl Datagrams {
    pub(super) fn new(replies: mpsc::Sender<Reply>, shared: Arc<Shared>) -> Self {
        let questions = Arc::new(Semaphore::new(MAX_QUESTIONS));
        Self { replies, shared, flows: HashMap::new(), questions }
    }

    /// Sends one on. Datagrams may be lost: whatever is too much is thrown away.
    pub(super) fn take(&mut self, from: SocketAddrV4, to: SocketAddrV4, payload: Vec<u8>) {
        if *from.ip() != GUEST {
            return;
        }
        if (*to.ip(), to.port()) == (NAME_SERVER, 53) {
            self.ask(from, to, &payload);
            return;
        }
        let policy = self.shared.policy.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = policy.decide(to, Instant::now());
        // Shares and forwarded ports are TCP's.
        if verdict == Verdict::Deny || policy.is_service_host(*to.ip()) {
            return;
        }
        drop(policy);
        self.flows.retain(|_, flow| !flow.is_closed());
        let key = (from.port(), to);
        if !self.flows.contains_key(&key) {
            if self.flows.len() >= MAX_FLOWS {
                return;
            }
            let (sender, payloads) = mpsc::channel(64);
            tokio::spawn(exchange(verdict, from, to, payloads, self.replies.clone()));
            self.flows.insert(key, sender);
        }
        let _ = self.flows[&key].try_send(payload);
    }

    fn ask(&self, from: SocketAddrV4, to: SocketAddrV4, message: &[u8]) {
        let Some(question) = dns::parse(message) else { return };
        let Ok(permit) = Arc::clone(&self.questions).try_acquire_owned() else { return };
        let (shared, replies) = (Arc::clone(&self.shared), self.replies.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let policy = || shared.policy.lock().unwrap_or_else(PoisonError::into_inner);
            let answer = if !policy().may_resolve(&question.name) {
                if policy().is_full() { dns::Answer::NoSuchName } else { dns::Answer::Refused }
            } else {
                dns::resolve(&question).await
            };
            if let dns::Answer::Addresses(addresses) = &answer {
                policy().note_resolved(&question.name, addresses, Instant::now());
            }
            let _ = replies.send((to, from, dns::message(&question, &answer))).await;
        });
    }
}

/// Passes datagrams of one pair both ways until both are silent.
async fn exchange(
    verdict: Verdict,
    guest: SocketAddrV4,
    partner: SocketAddrV4,
    mut payloads: mpsc::Receiver<Vec<u8>>,
    replies: mpsc::Sender<Reply>,
) {
    let to = match verdict {
        Verdict::Deny => return,
        Verdict::Named(to) => to,
        Verdict::Out(to) if flow::is_own(to).await => return,
        Verdict::Out(to) => to,
    };
    let Ok(socket) = UdpSocket::bind("0.0.0.0:0").await else { return };
    // A connected socket takes datagrams of this partner only.
    if socket.connect(SocketAddr::V4(to)).await.is_err() {
        return;
    }
    let mut buffer = vec![0; 65_536];
    loop {
        tokio::select! {
            payload = payloads.recv() => match payload {
                Some(payload) => { let _ = socket.send(&payload).await; }
                None => return,
            },
            received = socket.recv(&mut buffer) => match received {
                Ok(length) => {
                    let reply = (partner, guest, buffer[..length].to_vec());
                    if replies.send(reply).await.is_err() {
                        return;
                    }
                }
                // "Port unreachable" comes as an error of the next call.
                Err(_) => return,
            },
            () = tokio::time::sleep(IDLE) => return,
        }
    }
}
