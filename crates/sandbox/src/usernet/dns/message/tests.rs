//! Questions and answers, whole, cut short and made up.

use super::*;

fn query(labels: &[&str], kind: u16) -> Vec<u8> {
    let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in labels {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

#[test]
fn a_question_is_read_and_its_answer_written() {
    let question = parse(&query(&["WWW", "example", "com"], 1)).unwrap();
    assert_eq!(question.name, "www.example.com");
    let answer = Answer::Addresses(vec![Ipv4Addr::new(192, 0, 2, 1)]);
    let bytes = write(&question, &answer);
    assert_eq!(bytes[..8], [0xab, 0xcd, 0x81, 0x80, 0, 1, 0, 1]);
    assert_eq!(bytes[bytes.len() - 4..], [192, 0, 2, 1]);
    assert_eq!(addresses(&bytes).unwrap(), [Ipv4Addr::new(192, 0, 2, 1)]);
    assert_eq!(write(&question, &Answer::Code(Code::NoSuchName))[3], 0x83);
    assert!(!parse(&query(&["a"], 28)).unwrap().is_for_addresses());
}

#[test]
fn records_are_looked_up_and_transfers_are_not() {
    // A, PTR, MX, TXT, AAAA, SRV, HTTPS, ANY.
    for kind in [1, 12, 15, 16, 28, 33, 65, 255] {
        assert!(parse(&query(&["a"], kind)).unwrap().is_supported(), "{kind}");
    }
    // OPT, IXFR, AXFR, MAILB.
    for kind in [0, 41, 251, 252, 253] {
        assert!(!parse(&query(&["a"], kind)).unwrap().is_supported(), "{kind}");
    }
    let mut chaos = query(&["version", "bind"], 16);
    *chaos.last_mut().unwrap() = 3;
    assert!(!parse(&chaos).unwrap().is_supported());
}

#[test]
fn malformed_messages_are_answered_with_an_error() {
    let good = query(&["a", "b"], 1);
    for length in 0..good.len() {
        assert_eq!(parse(&good[..length]), Err(Code::Malformed), "{length}");
        let said = complaint(&good[..length], Code::Malformed);
        assert_eq!(said.map(|said| said[3]), (length >= HEADER).then_some(0x81), "{length}");
    }
    let mut answer = good.clone();
    answer[2] |= 0x80;
    assert!(complaint(&answer, Code::Malformed).is_none(), "two servers would talk for ever");
    let mut pointer = good.clone();
    pointer[HEADER] = 0xc0;
    let mut control = good.clone();
    control[HEADER + 1] = b'\n';
    for message in [answer, pointer, control, query(&["x"; 200], 1)] {
        assert_eq!(parse(&message), Err(Code::Malformed));
    }
    let mut update = good;
    update[2] |= 0x28;
    assert_eq!(parse(&update), Err(Code::NotImplemented));
}

#[test]
fn long_answers_come_again_over_tcp() {
    let bytes = query(&["a"], 16);
    assert_eq!(datagram_limit(&bytes), 512);
    let mut larger = bytes.clone();
    larger.extend([0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(datagram_limit(&larger), 1232);
    larger[bytes.len() + 3..bytes.len() + 5].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(datagram_limit(&larger), 1472);

    let question = parse(&bytes).unwrap();
    let addresses = (0..100).map(|last| Ipv4Addr::new(192, 0, 2, last)).collect();
    let whole = write(&question, &Answer::Addresses(addresses));
    let short = truncated(&whole);
    assert_eq!(short.len(), HEADER + question.section.len());
    assert!(is_truncated(&short) && !is_truncated(&whole));
    assert_eq!(short[4..12], [0, 1, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn an_answer_is_to_its_question_alone() {
    let asked = parse(&query(&["a", "test"], 1)).unwrap();
    let good = write(&asked, &Answer::Addresses(vec![Ipv4Addr::LOCALHOST]));
    assert!(is_answer(&good, &asked, [0xab, 0xcd]));
    assert!(!is_answer(&good, &asked, [0xab, 0xce]));
    assert!(!is_answer(&query(&["a", "test"], 1), &asked, [0xab, 0xcd]));
    let other = parse(&query(&["b", "test"], 1)).unwrap();
    assert!(!is_answer(&good, &other, [0xab, 0xcd]));
    // Addresses behind an alias count as well, and an answer that ends too early has none.
    let mut alias = good[..HEADER + asked.section.len()].to_vec();
    alias[7] = 2;
    alias.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 3, 1, b'x', 0]);
    alias.extend([1, b'x', 0, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 168, 0, 1]);
    assert_eq!(addresses(&alias).unwrap(), [Ipv4Addr::new(192, 168, 0, 1)]);
    for length in 0..alias.len() {
        assert_eq!(addresses(&alias[..length]), None, "{length}");
    }
}
