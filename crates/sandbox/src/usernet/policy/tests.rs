//! Modes, lists and names: what is open, what is closed, and what must never be opened by accident.

use super::*;

fn to(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

fn list(entries: &[&str]) -> AllowList {
    let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
    AllowList::parse(&entries).unwrap()
}

#[test]
fn without_a_list_full_reaches_the_world_and_not_the_host() {
    let policy = Policy::new(NetworkMode::Full, None);
    let now = Instant::now();
    for open in ["192.0.2.1:80", "8.8.8.8:443", "192.168.1.7:22", "100.64.0.1:1"] {
        assert_eq!(policy.decide(to(open), now), Verdict::Out(to(open)), "{open}");
    }
    for closed in [
        "10.0.2.2:80",
        "127.0.0.1:80",
        "127.9.9.9:1",
        "169.254.169.254:80",
        "0.0.0.0:80",
        "100.100.100.200:80",
        "168.63.129.16:80",
        "224.0.0.1:1",
        "255.255.255.255:1",
        "10.0.2.100:445",
        "10.0.2.3:80",
        "10.0.2.15:1",
    ] {
        assert_eq!(policy.decide(to(closed), now), Verdict::Deny, "{closed}");
    }
    assert!(policy.may_resolve("example.com"));
}

#[test]
fn mounts_only_reaches_its_services_and_nothing_else() {
    let mut policy = Policy::new(NetworkMode::MountsOnly, None);
    policy.serve(to("10.0.2.100:445"), to("127.0.0.1:9999"));
    let now = Instant::now();
    assert_eq!(policy.decide(to("10.0.2.100:445"), now), Verdict::Named(to("127.0.0.1:9999")));
    for closed in ["10.0.2.100:9999", "10.0.2.2:9999", "192.0.2.1:80", "127.0.0.1:9999"] {
        assert_eq!(policy.decide(to(closed), now), Verdict::Deny, "{closed}");
    }
    assert!(!policy.may_resolve("example.com"));
    assert!(policy.unserve(to("10.0.2.100:445")));
    assert_eq!(policy.decide(to("10.0.2.100:445"), now), Verdict::Deny);
}

#[test]
fn a_list_opens_what_it_names() {
    let allow = list(&["example.com", "*.example.org:443", "192.0.2.0/24", "10.0.2.2:8000"]);
    let mut policy = Policy::new(NetworkMode::Full, Some(allow));
    let now = Instant::now();
    for (name, expect) in [
        ("example.com", true),
        ("www.example.com", false),
        ("a.example.org", true),
        ("a.b.example.org", true),
        ("example.org", false),
        ("notexample.org", false),
        (".example.org", false),
    ] {
        assert_eq!(policy.may_resolve(name), expect, "{name}");
    }
    assert_eq!(policy.decide(to("192.0.2.77:1"), now), Verdict::Out(to("192.0.2.77:1")));
    assert_eq!(policy.decide(to("192.0.3.1:1"), now), Verdict::Deny);
    assert_eq!(policy.decide(to("10.0.2.2:8000"), now), Verdict::Named(to("127.0.0.1:8000")));
    assert_eq!(policy.decide(to("10.0.2.2:8001"), now), Verdict::Deny);
    // An address is open once an allowed name stood for it, on the ports of its entry.
    assert_eq!(policy.decide(to("198.51.100.1:443"), now), Verdict::Deny);
    assert!(policy.note_resolved("a.example.org", &[Ipv4Addr::new(198, 51, 100, 1)], now));
    let out = to("198.51.100.1:443");
    assert_eq!(policy.decide(out, now), Verdict::Out(out));
    assert_eq!(policy.decide(to("198.51.100.1:80"), now), Verdict::Deny);
    assert_eq!(policy.decide(out, now + NAME_TIME), Verdict::Deny);
    // A name that its owner points at the host opens nothing.
    assert!(!policy.note_resolved("example.com", &[Ipv4Addr::LOCALHOST], now));
    assert!(!policy.note_resolved("example.com", &[Ipv4Addr::new(169, 254, 169, 254)], now));
    assert_eq!(policy.decide(to("127.0.0.1:80"), now), Verdict::Deny);
    assert_eq!(policy.decide(to("10.0.2.2:80"), now), Verdict::Deny);
    assert_eq!(policy.decide(to("169.254.169.254:80"), now), Verdict::Deny);
    policy.set_allow(Some(list(&[])));
    assert_eq!(policy.decide(out, now), Verdict::Deny);
}

#[test]
fn everything_can_be_named_beside_the_host() {
    let policy = Policy::new(NetworkMode::Full, Some(list(&["*", "169.254.169.254:80"])));
    let now = Instant::now();
    let out = to("198.51.100.1:80");
    assert_eq!(policy.decide(out, now), Verdict::Out(out));
    let metadata = to("169.254.169.254:80");
    assert_eq!(policy.decide(metadata, now), Verdict::Named(metadata));
    assert_eq!(policy.decide(to("127.0.0.1:80"), now), Verdict::Deny);
    assert!(policy.may_resolve("anything.example"));
}

#[test]
fn entries_that_mean_nothing_are_refused() {
    for entry in [
        "",
        "a b",
        "http://x",
        "1.2.3",
        "1.2.3.4/33",
        "example.com/8",
        "x:0",
        "x:99999",
        "*x.com",
        "-a.com",
        "a..b",
        "::1",
    ] {
        let error = AllowList::parse(&[entry.to_owned()]).unwrap_err();
        assert!(error.hint().is_some(), "{entry}");
    }
}

#[test]
fn a_network_in_the_list_never_opens_what_is_closed() {
    let now = Instant::now();
    for net in
        ["0.0.0.0/0", "0.0.0.0/1", "127.0.0.0/8", "10.0.2.2/16", "10.0.2.0/24", "10.0.2.2/31"]
    {
        let policy = Policy::new(NetworkMode::Full, Some(list(&[net])));
        for closed in [
            "10.0.2.2:80",
            "127.0.0.1:80",
            "127.1.2.3:80",
            "169.254.169.254:80",
            "100.100.100.200:80",
            "168.63.129.16:80",
            "10.0.2.3:80",
            "0.0.0.0:80",
        ] {
            assert_eq!(policy.decide(to(closed), now), Verdict::Deny, "{net} {closed}");
        }
    }
    // The host's own addresses are looked at when the connection is made: never by name alone.
    let policy = Policy::new(NetworkMode::Full, Some(list(&["0.0.0.0/0", "192.168.1.5"])));
    assert_eq!(policy.decide(to("192.168.1.4:1"), now), Verdict::Out(to("192.168.1.4:1")));
    assert_eq!(policy.decide(to("192.168.1.5:1"), now), Verdict::Named(to("192.168.1.5:1")));
    let policy = Policy::new(NetworkMode::Full, Some(list(&["10.0.2.2/16"])));
    assert_eq!(policy.decide(to("10.0.3.1:1"), now), Verdict::Out(to("10.0.3.1:1")));
    // What is named exactly is open.
    for (entry, open, leads_to) in [
        ("10.0.2.2", "10.0.2.2:80", "127.0.0.1:80"),
        ("10.0.2.2/32", "10.0.2.2:80", "127.0.0.1:80"),
        ("127.0.0.1:80", "10.0.2.2:80", "127.0.0.1:80"),
        ("169.254.169.254", "169.254.169.254:80", "169.254.169.254:80"),
    ] {
        let policy = Policy::new(NetworkMode::Full, Some(list(&["0.0.0.0/0", entry])));
        assert_eq!(policy.decide(to(open), now), Verdict::Named(to(leads_to)), "{entry}");
    }
}

#[test]
fn a_name_that_leads_to_a_private_address_opens_nothing() {
    let now = Instant::now();
    let private =
        ["10.1.2.3", "172.16.0.1", "192.168.7.7", "100.64.0.1", "127.0.0.1", "169.254.1.1"];
    for address in private {
        let ip: Ipv4Addr = address.parse().unwrap();
        let target = SocketAddrV4::new(ip, 80);
        let mut policy = Policy::new(NetworkMode::Full, Some(list(&["a.test"])));
        let public = Ipv4Addr::new(198, 51, 100, 1);
        assert!(!policy.note_resolved("a.test", &[public, ip], now), "{address}");
        assert_eq!(policy.decide(target, now), Verdict::Deny, "{address}");
        assert_eq!(policy.decide(SocketAddrV4::new(public, 80), now), Verdict::Deny);
        // With the address in the list as well, it is what the user wanted.
        let mut policy = Policy::new(NetworkMode::Full, Some(list(&["a.test", address])));
        assert!(policy.note_resolved("a.test", &[ip], now), "{address}");
        assert_ne!(policy.decide(target, now), Verdict::Deny, "{address}");
        // Without a list, and with everything in it, the host's networks are open anyway.
        for allow in [None, Some(list(&["*"]))] {
            let mut policy = Policy::new(NetworkMode::Full, allow);
            assert!(policy.note_resolved("a.test", &[ip], now), "{address}");
        }
    }
}
