//! Hostile questions of the guest, and hostile answers of name servers.

use super::message::{self, Answer, Code, Question};
use crate::network::NetworkMode;
use crate::usernet::policy::Policy;
use crate::usernet::stack::Shared;
use fuzz_driver::Target;
use std::net::Ipv4Addr;

const WORDS: &[&[u8]] = &[
    b"\x07example\x03com\0",
    b"\0\x01\0\x01",
    b"\xc0\x0c",
    b"\x3f",
    b"\x40",
    b"\0\0\x29",
    b"\xff\xff",
    b"\0\x04\x7f\0\0\x01",
];

#[test]
fn fuzz_dns() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Nothing is looked up in this mode; a question is read and answered all the same.
    let budget = crate::budget::Budget::new(&crate::limits::Limits::default());
    let shared = Shared::new(Policy::new(NetworkMode::MountsOnly, None), budget);
    Target::new("dns").words(WORDS).run(|input| {
        if let Some(answer) = runtime.block_on(super::answer(&shared, input)) {
            assert!(answer.len() <= 1472, "an answer of {} bytes is no datagram", answer.len());
            assert_eq!(answer[..2], input[..2]);
        }
        let Ok(question) = message::parse(input) else { return };
        assert!(question.name.len() < 256, "{}", question.name.len());
        for answer in [
            Answer::Addresses(vec![Ipv4Addr::LOCALHOST; 100]),
            Answer::Code(Code::NoSuchName),
            Answer::Message(input.to_vec()),
        ] {
            let written = message::write(&question, &answer);
            assert_eq!(written[..2], input[..2]);
            assert!(message::truncated(&written).len() <= 512);
        }
    });
}

/// What a name server says, who may be anybody that can write into its datagrams.
#[test]
fn fuzz_dns_answer() {
    let asked = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01";
    let question: Question = message::parse(asked).unwrap();
    Target::new("dns_answer").words(WORDS).run(|input| {
        let _ = message::is_truncated(input);
        let _ = message::is_no_error(input);
        if message::is_answer(input, &question, [0, 7]) {
            let answer = Answer::Message(input.to_vec());
            // Each record with an address has ten bytes beside the address and its name.
            let n_addresses = answer.addresses().map_or(0, |addresses| addresses.len());
            assert!(n_addresses * 15 <= input.len());
            let _ = message::write(&question, &answer);
        }
    });
}
