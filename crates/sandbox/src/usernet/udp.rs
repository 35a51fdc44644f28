//! Datagrams: questions for names, and everything else that the policy lets out.
//!
//! A datagram may be lost, as everywhere; one that is not carried at all is answered with the error
//! that a router would send, so that a program in the guest learns of it.

use super::frame::Unreachable;
use super::policy::Verdict;
use super::stack::Shared;
use super::{GUEST, NAME_SERVER, dns, flow};
use crate::budget::Permit;
use std::collections::HashMap;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{Interest, Ready};
use tokio::net::UdpSocket;
use tokio::sync::{Semaphore, mpsc};

/// How long a partner is remembered after its last word.
const IDLE: Duration = Duration::from_secs(60);
/// Questions for names that wait for their answer at a time.
const MAX_QUESTIONS: usize = 64;
/// Datagrams that wait for a partner.
const MAX_WAITING: usize = 16;
/// Answers, and errors that a partner's host has sent.
const EITHER: Interest = Interest::READABLE.add(Interest::ERROR);
/// The longest datagram.
const MAX_LENGTH: usize = 65_536;

/// What the guest gets.
pub(super) enum Reply {
    Datagram {
        from: SocketAddrV4,
        to: SocketAddrV4,
        payload: Vec<u8>,
    },
    /// What the guest has sent did not get there.
    Unreachable {
        why: Unreachable,
        from: SocketAddrV4,
        to: SocketAddrV4,
    },
}

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

    /// Sends one on, or says why not.
    pub(super) fn take(&mut self, from: SocketAddrV4, to: SocketAddrV4, payload: Vec<u8>) {
        if *from.ip() != GUEST {
            return;
        }
        if (*to.ip(), to.port()) == (NAME_SERVER, 53) {
            self.ask(from, to, payload);
            return;
        }
        let (verdict, is_service) = {
            let policy = self.shared.policy();
            (policy.decide(to, Instant::now()), policy.is_service_host(*to.ip()))
        };
        // Shares and forwarded ports are TCP's.
        if is_service {
            self.refuse(Unreachable::Port, from, to);
            return;
        }
        if verdict == Verdict::Deny {
            self.refuse(Unreachable::Prohibited, from, to);
            return;
        }
        self.flows.retain(|_, flow| !flow.is_closed());
        let key = (from.port(), to);
        if !self.flows.contains_key(&key) {
            let place = self.shared.budget.descriptors(1);
            let memory = self.shared.budget.memory(MAX_WAITING * super::stack::MTU);
            let (Some(place), Some(memory)) = (place, memory) else {
                self.refuse(Unreachable::Host, from, to);
                return;
            };
            let (sender, payloads) = mpsc::channel(MAX_WAITING);
            let replies = self.replies.clone();
            tokio::spawn(exchange(verdict, from, to, payloads, replies, [place, memory]));
            self.flows.insert(key, sender);
        }
        let _ = self.flows[&key].try_send(payload);
    }

    fn refuse(&self, why: Unreachable, from: SocketAddrV4, to: SocketAddrV4) {
        // No ICMP error answers what was sent to everybody.
        let ip = to.ip();
        if !ip.is_multicast() && !ip.is_broadcast() && ip.octets()[3] != 255 {
            let _ = self.replies.try_send(Reply::Unreachable { why, from, to });
        }
    }

    fn ask(&self, from: SocketAddrV4, to: SocketAddrV4, question: Vec<u8>) {
        let Ok(permit) = Arc::clone(&self.questions).try_acquire_owned() else {
            self.refuse(Unreachable::Port, from, to);
            return;
        };
        let (shared, replies) = (Arc::clone(&self.shared), self.replies.clone());
        tokio::spawn(async move {
            let _permit = permit;
            if let Some(payload) = dns::answer(&shared, &question).await {
                let _ = replies.send(Reply::Datagram { from: to, to: from, payload }).await;
            }
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
    _cost: [Permit; 2],
) {
    let refuse = async |why| {
        let _ = replies.send(Reply::Unreachable { why, from: guest, to: partner }).await;
    };
    let to = match verdict {
        Verdict::Named(to) => Some(to),
        Verdict::Out(to) if !flow::is_own(to).await => Some(to),
        _ => None,
    };
    let Some(to) = to else { return refuse(Unreachable::Prohibited).await };
    let socket = async {
        let socket = UdpSocket::bind("0.0.0.0:0").await?;
        // A connected socket takes datagrams of this partner only.
        socket.connect(SocketAddr::V4(to)).await?;
        std::io::Result::Ok(socket)
    };
    let Ok(socket) = socket.await else { return refuse(Unreachable::Host).await };
    loop {
        let failed = tokio::select! {
            payload = payloads.recv() => match payload {
                Some(payload) => socket.send(&payload).await.err(),
                None => return,
            },
            ready = socket.ready(EITHER) => match ready.and_then(|ready| receive(&socket, ready)) {
                Ok(Some(payload)) => {
                    let reply = Reply::Datagram { from: partner, to: guest, payload };
                    if replies.send(reply).await.is_err() {
                        return;
                    }
                    None
                }
                Ok(None) => None,
                Err(error) => Some(error),
            },
            () = tokio::time::sleep(IDLE) => return,
        };
        // What a partner's host has answered comes as an error of the next call.
        match failed.map(|error| error.kind()) {
            None => {}
            Some(std::io::ErrorKind::ConnectionRefused) => refuse(Unreachable::Port).await,
            Some(_) => refuse(Unreachable::Host).await,
        }
    }
}

/// Takes a datagram that is there, or the partner's error. The buffer is only there for the moment.
fn receive(socket: &UdpSocket, ready: Ready) -> std::io::Result<Option<Vec<u8>>> {
    if ready.is_error() {
        let would_block = || std::io::ErrorKind::WouldBlock.into();
        let refused = socket.try_io(Interest::ERROR, || {
            Err::<(), _>(socket.take_error()?.unwrap_or_else(would_block))
        });
        match refused {
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
    let mut buffer = vec![0; MAX_LENGTH];
    match socket.try_recv(&mut buffer) {
        Ok(length) => {
            buffer.truncate(length);
            buffer.shrink_to_fit();
            Ok(Some(buffer))
        }
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
