//! Where names are found: the host's own table (`/etc/hosts`), then its name servers
//! (`/etc/resolv.conf`), both read for each question, since hosts change networks.
//!
//! Names are asked for as they stand: the host's search domains are not the guest's. No thread waits
//! for an answer, so that a slow name server delays nobody but the guest.

use super::message::{self, Answer, Code, Question};
use crate::budget::Budget;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

const PORT: u16 = 53;
/// Name servers that are asked, as the C library does it.
const MAX_SERVERS: usize = 3;
/// How long one of them may take.
const ATTEMPT: Duration = Duration::from_secs(3);
/// Bytes of a file of the host that are read.
const MAX_FILE: u64 = 1 << 20;
const MAX_ADDRESSES: usize = 16;

/// Looks a name up; `None` when the machine's budget does not allow it.
pub(super) async fn find(question: &Question, budget: &Budget) -> Option<Answer> {
    if question.is_for_addresses() || question.is_for_ipv6() {
        let known = in_table(&text("/etc/hosts"), &question.name);
        if !known.is_empty() {
            let known = if question.is_for_addresses() { known } else { Vec::new() };
            return Some(Answer::Addresses(known));
        }
    }
    let _place = budget.descriptors(1)?;
    for server in servers(&text("/etc/resolv.conf")) {
        let asking = ask(question, SocketAddr::new(server, PORT));
        match tokio::time::timeout(ATTEMPT, asking).await {
            Ok(Ok(answer)) if question.is_for_ipv6() && message::is_no_error(&answer) => {
                return Some(Answer::Addresses(Vec::new()));
            }
            Ok(Ok(answer)) => return Some(Answer::Message(answer)),
            Ok(Err(error)) => tracing::debug!(%error, %server, "a name server did not answer"),
            Err(_) => tracing::debug!(%server, "a name server did not answer in time"),
        }
    }
    Some(Answer::Code(Code::Failed))
}

/// Asks one name server, by TCP when its answer is too long for a datagram.
async fn ask(question: &Question, server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut id = [0; 2];
    getrandom::fill(&mut id)?;
    let asked = message::question(question, id);
    let from: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((from, 0)).await?;
    socket.connect(server).await?;
    socket.send(&asked).await?;
    let mut buffer = vec![0; 4096];
    let answer = loop {
        let length = socket.recv(&mut buffer).await?;
        if message::is_answer(&buffer[..length], question, id) {
            buffer.truncate(length);
            break buffer;
        }
    };
    if !message::is_truncated(&answer) {
        return Ok(answer);
    }
    drop(socket);
    let mut stream = TcpStream::connect(server).await?;
    stream.write_u16(asked.len() as u16).await?;
    stream.write_all(&asked).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    match message::is_answer(&answer, question, id) {
        true => Ok(answer),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn text(path: &str) -> String {
    let read = || {
        let mut bytes = Vec::new();
        let file = fs_err::File::open(Path::new(path))?;
        io::Read::read_to_end(&mut io::Read::take(file, MAX_FILE), &mut bytes)?;
        io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_default()
}

/// The IPv4 addresses of a name in the host's table.
fn in_table(table: &str, name: &str) -> Vec<Ipv4Addr> {
    let words = table.lines().map(|line| line.split('#').next().unwrap_or_default());
    let mut found = Vec::new();
    for line in words {
        let mut words = line.split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse::<Ipv4Addr>) else { continue };
        let is_named = words.any(|word| word.trim_end_matches('.').eq_ignore_ascii_case(name));
        if is_named && !found.contains(&address) && found.len() < MAX_ADDRESSES {
            found.push(address);
        }
    }
    found
}

/// The name servers of the host; without any the one on the host itself, as the C library does it.
fn servers(configuration: &str) -> Vec<IpAddr> {
    let lines = configuration.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = (words.next() == Some("nameserver")).then(|| words.next()).flatten()?;
        address.parse().ok()
    });
    let mut servers: Vec<IpAddr> = lines.take(MAX_SERVERS).collect();
    if servers.is_empty() {
        servers.push(Ipv4Addr::LOCALHOST.into());
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_long_answer_is_fetched_over_tcp_and_a_false_one_is_not_taken() {
        let asked = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x10\0\x01";
        let question = message::parse(asked).unwrap();
        // A port that is free for UDP may be taken for TCP.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = tokio::net::TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let server = udp.local_addr().unwrap();
        let answering = async {
            let mut buffer = [0; 512];
            let (length, peer) = udp.recv_from(&mut buffer).await.unwrap();
            let answer = &mut buffer[..length];
            // The question itself, and somebody else's answer, are no answers.
            udp.send_to(answer, peer).await.unwrap();
            answer[2] |= 0x82;
            answer[0] ^= 1;
            udp.send_to(answer, peer).await.unwrap();
            answer[0] ^= 1;
            udp.send_to(answer, peer).await.unwrap();
            let (mut stream, _) = tcp.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut whole = vec![0; usize::from(length)];
            stream.read_exact(&mut whole).await.unwrap();
            whole[2] |= 0x80;
            whole.extend([b'x'; 3000]);
            stream.write_u16(whole.len() as u16).await.unwrap();
            stream.write_all(&whole).await.unwrap();
        };
        let (answer, ()) = tokio::join!(ask(&question, server), answering);
        let answer = answer.unwrap();
        assert!(answer.len() > 3000 && !message::is_truncated(&answer));
    }

    #[test]
    fn the_hosts_own_files_are_read() {
        let table = "127.0.0.1 localhost # me\n# 192.0.2.9 gone\n192.0.2.1\tA.test a\n\
            ::1 a.test\n192.0.2.2 a.test\n192.0.2.2 a.test\nnonsense a.test\n";
        let expect = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
        assert_eq!(in_table(table, "a.test"), expect);
        assert_eq!(in_table(table, "a"), expect[..1]);
        assert!(in_table(table, "gone").is_empty());
        assert!(in_table("", "a").is_empty());

        let configuration = "search corp.example\nnameserver 192.0.2.53\n#nameserver 192.0.2.54\n\
            nameserver ::1\nnameserver fe80::1%eth0\nnameserver 192.0.2.55\nnameserver 192.0.2.56\n";
        let expect: Vec<IpAddr> =
            ["192.0.2.53", "::1", "192.0.2.55"].map(|text| text.parse().unwrap()).into();
        assert_eq!(servers(configuration), expect);
        assert_eq!(servers("# nothing"), [IpAddr::from(Ipv4Addr::LOCALHOST)]);
    }
}
