//! Every option: what is read, what is refused and in which words.

use super::*;
use host_platform::Arch;
use serde_json::json;
use std::time::Duration;

fn refused(value: Value) -> Error {
    SandboxConfig::from_value(value).unwrap_err()
}

#[test]
fn defaults_are_those_of_the_documents() {
    let config = SandboxConfig::builder("ubuntu").build().unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&config).unwrap(), @r#"
    {
      "accel": "auto",
      "allow": null,
      "arch": null,
      "boot_timeout": null,
      "cpus": null,
      "disk_size": null,
      "enable_display": false,
      "extra_qemu_args": [],
      "image": "ubuntu",
      "limits": {
        "checkpoints": 16,
        "descriptors": 256,
        "disk": null,
        "memory": "64M",
        "picture": "64M"
      },
      "memory": null,
      "mounts": [],
      "network_mode": "mounts_only",
      "port_forwards": [],
      "transport": "auto",
      "vnc": "auto",
      "wait_for": "agent",
      "warm": "auto"
    }
    "#);
}

#[test]
fn everything_survives_json() {
    let config = SandboxConfig::builder("debian")
        .arch(Arch::Arm64)
        .memory("1.5GiB")
        .cpus(4)
        .port_forward(Forward::new(8080, 80))
        .port_forward(Forward::new(2222, 22))
        .network_mode(NetworkMode::Full)
        .extra_qemu_args(["-name", "a b"])
        .boot_timeout(Duration::from_millis(1500))
        .accel(AccelChoice::Fixed(Accelerator::Tcg))
        .transport(Transport::Tcp)
        .wait_for(WaitFor::Boot)
        .limits(&crate::Limits::default().with_descriptors(1000).with_disk(5 << 30))
        .build()
        .unwrap();
    assert_eq!(SandboxConfig::from_json(&config.to_json()).unwrap(), config);
    let through_serde: SandboxConfig =
        serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
    assert_eq!(through_serde, config);
    assert_eq!(config.memory().unwrap().as_str(), "1.5GiB");
    assert_eq!(config.port_forwards().len(), 2);
}

#[test]
fn forms_that_scripts_use_are_read() {
    let read = |value| SandboxConfig::from_value(value).unwrap();
    assert_eq!(read(json!({"image": "x", "memory": 2048})).memory().unwrap().bytes(), 2 << 30);
    assert_eq!(
        read(json!({"image": "x", "accel": null})).accel(),
        AccelChoice::Fixed(Accelerator::Tcg)
    );
    assert_eq!(read(json!({"image": "x", "arch": "aarch64"})).arch(), Some(Arch::Arm64));
    assert_eq!(
        read(json!({"image": "x", "boot_timeout": 60})).boot_timeout(),
        Some(Duration::from_secs(60))
    );
    let forward = json!([{"host": {"address": "0.0.0.0", "port": 80}, "guest": 80}]);
    let config = read(json!({"image": "x", "port_forwards": forward}));
    assert_eq!(config.port_forwards()[0].host_address, std::net::Ipv4Addr::UNSPECIFIED);
    assert_eq!(config.to_value()["port_forwards"], forward);
    let out = json!([{"host": {"address": "localhost", "port": 80}, "guest": 80,
        "direction": "guest_to_host"}]);
    let config = read(json!({"image": "x", "port_forwards": out}));
    assert_eq!(config.to_value()["port_forwards"], out);
    let found = config.port_forwards()[0].destination().unwrap();
    assert_eq!(found, std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 80));
    // What a configuration of a later version writes for options that are not used.
    read(
        json!({"image": "x", "mounts": [], "disk_size": null, "enable_display": false, "save": null}),
    );
}

#[test]
fn bad_values_are_named_with_what_is_allowed() {
    let cases = [
        (json!({"memory": "lots"}), "`lots` for `memory`"),
        (json!({"memory": "16M"}), "at least 32M"),
        (json!({"memory": true}), "`true` for `memory`"),
        (json!({"disk_size": "huge"}), "`huge` for `disk_size`"),
        (json!({"disk_size": 0}), "more than 0 and at most 16T"),
        (json!({"disk_size": "17T"}), "at most 16T"),
        (json!({"disk_size": -1}), "`-1` for `disk_size`"),
        (json!({"save": ""}), "`save`"),
        (json!({"save": ".."}), "`..` for `save`"),
        (json!({"save": "a/b"}), "`a/b` for `save`"),
        (json!({"save": "/"}), "`/` for `save`"),
        (json!({"save": 7}), "`7` for `save`"),
        (json!({"workspace": ""}), "`workspace`"),
        (json!({"cpus": 0}), "`0` for `cpus`"),
        (json!({"cpus": 256}), "from 1 to 255"),
        (json!({"cpus": 1.5}), "`1.5` for `cpus`"),
        (json!({"cpus": -1}), "`-1` for `cpus`"),
        (json!({"cpus": "two"}), "`two` for `cpus`"),
        (json!({"arch": "mips"}), "`mips` for `arch`"),
        (json!({"accel": "xen"}), "kvm, hvf, whpx, tcg"),
        (json!({"network_mode": "ful"}), "none, mounts_only, full"),
        (json!({"boot_timeout": 0}), "`0` for `boot_timeout`"),
        (json!({"boot_timeout": -5}), "`-5`"),
        (json!({"boot_timeout": 1e9}), "86400"),
        (json!({"transport": "udp"}), "auto, socket, tcp"),
        (json!({"wait_for": "ever"}), "agent, boot"),
        (json!({"extra_qemu_args": "-s -S"}), "a list of strings"),
        (json!({"extra_qemu_args": ["a\u{0}"]}), "a list of strings"),
        (json!({"image": ""}), "`image`"),
        (json!({"mounts": "/a:/b"}), "a list of mounts"),
        (json!({"mounts": [{"host": "/a", "guest": "b"}]}), "an absolute path of the guest"),
        (
            json!({"network_mode": "none", "mounts": [{"host": "/a", "guest": "/b", "type": "cifs"}]}),
            "any other type",
        ),
        (json!({"allow": ["example.com"]}), "network_mode=\"full\""),
        (json!({"network_mode": "full", "allow": ["http://x"]}), "`http://x` for `allow`"),
        (json!({"image": 7}), "`7` for `image`"),
        (json!({"port_forwards": [{"host": 80, "guest": 0}]}), "1 to 65535"),
        (
            json!({"port_forwards": [{"host": 0, "guest": 80, "direction": "guest_to_host"}]}),
            "1 to 65535",
        ),
        // Names are for what a port of the guest leads to, and addresses are whole.
        (
            json!({"port_forwards": [{"host": {"address": "a.test", "port": 1}, "guest": 1}]}),
            "1 to 65535",
        ),
        (
            json!({"port_forwards": [{"host": {"address": "10.0.2", "port": 1}, "guest": 1,
                "direction": "guest_to_host"}]}),
            "1 to 65535",
        ),
        (json!({"limits": {"descriptors": 1}}), "from 16 to 65535"),
        (json!({"limits": {"files": 1}}), "descriptors, memory, disk"),
        (json!({"port_forwards": [{"host": 80, "guest": 65536}]}), "1 to 65535"),
        (json!({"port_forwards": [{"host": 80}]}), "1 to 65535"),
        (json!({"port_forwards": [{"host": 80, "guest": 80, "x": 1}]}), "1 to 65535"),
        (json!({"port_forwards": 80}), "1 to 65535"),
        (
            json!({"port_forwards": [{"host": 80, "guest": 1}, {"host": 80, "guest": 2}]}),
            "each host port once",
        ),
        (
            json!({"network_mode": "none", "port_forwards": [{"host": 80, "guest": 1}]}),
            "network_mode=\"none\"",
        ),
    ];
    for (mut options, expect) in cases {
        let object = options.as_object_mut().unwrap();
        object.entry("image").or_insert(json!("debian"));
        let error = refused(options.clone());
        let message = error.to_string();
        assert!(message.contains(expect), "{options}: {message}");
        assert_eq!(error.kind(), crate::error::ErrorKind::Value);
        assert!(error.hint().is_some(), "{options}");
    }
}

#[test]
fn unknown_options_offer_the_nearest() {
    for (name, nearest) in [
        ("memmory", Some("memory")),
        ("cpu", Some("cpus")),
        ("port_forward", Some("port_forwards")),
        ("networkmode", Some("network_mode")),
        ("zzz", None),
    ] {
        let error = refused(json!({"image": "x", name: 1}));
        let Error::UnknownOption { option, nearest: found } = &error else { panic!("{error}") };
        assert_eq!((option.as_str(), found.as_deref()), (name, nearest));
    }
}

#[test]
fn options_that_are_not_an_object_are_refused() {
    assert!(matches!(refused(json!([1])), Error::NotAnObject { .. }));
    assert!(matches!(SandboxConfig::from_json("{"), Err(Error::NotAnObject { .. })));
}

#[test]
fn a_place_to_save_to_is_read_and_written_only_when_it_is_given() {
    let config = SandboxConfig::builder("x")
        .disk_size("1.5G")
        .save("my-env")
        .workspace("/saves")
        .build()
        .unwrap();
    assert_eq!(config.disk_size().unwrap().bytes(), 3 << 29);
    assert_eq!((config.save(), config.workspace()), (Some("my-env"), Some(Path::new("/saves"))));
    assert_eq!(SandboxConfig::from_json(&config.to_json()).unwrap(), config);
    let plain = SandboxConfig::builder("x").build().unwrap().to_value();
    assert!(plain.get("save").is_none() && plain.get("workspace").is_none());
}

#[test]
fn listeners_on_all_addresses_collide_with_single_ones() {
    let all = json!({"host": {"address": "0.0.0.0", "port": 80}, "guest": 1});
    let one = json!({"host": 80, "guest": 2});
    for pair in [json!([all, one]), json!([one, all])] {
        refused(json!({"image": "x", "port_forwards": pair}));
    }
    let other = json!({"host": {"address": "127.0.0.2", "port": 80}, "guest": 1});
    let both = json!({"image": "x", "port_forwards": [one, other]});
    assert_eq!(SandboxConfig::from_value(both).unwrap().port_forwards().len(), 2);
}

#[test]
fn defaults_of_the_image_apply_where_no_option_is_given() {
    let of_image: Map<String, Value> =
        serde_json::from_value(json!({"memory": "1G", "cpus": 2, "image": "debian"})).unwrap();
    let resources = |config: &SandboxConfig| {
        let Resources { memory, cpus, .. } = config.resources(&of_image).unwrap();
        (memory.as_str().to_owned(), cpus)
    };
    let plain = SandboxConfig::builder("x").build().unwrap();
    assert_eq!(resources(&plain), ("1G".to_owned(), 2));
    let named = SandboxConfig::builder("x").memory("512M").build().unwrap();
    assert_eq!(resources(&named), ("512M".to_owned(), 2));
    assert_ne!(plain, named, "one of them leaves it to the image");
    let null = SandboxConfig::from_value(json!({"image": "x", "memory": null, "cpus": 1})).unwrap();
    assert_eq!(resources(&null), ("1G".to_owned(), 1));
    let broken = serde_json::from_value(json!({"memory": "much"})).unwrap();
    assert!(plain.resources(&broken).unwrap_err().to_string().contains("`much`"));
    let plain = plain.resources(&Map::new()).unwrap();
    assert_eq!((plain.memory.as_str(), plain.cpus), ("512M", 1));
    assert!(plain.disk_size.is_none());
    let large: Map<String, Value> = serde_json::from_value(json!({"disk_size": "8G"})).unwrap();
    let disk = |builder: SandboxConfigBuilder| {
        builder.build().unwrap().resources(&large).unwrap().disk_size.map(|size| size.to_string())
    };
    assert_eq!(disk(SandboxConfig::builder("x")).as_deref(), Some("8G"));
    assert_eq!(disk(SandboxConfig::builder("x").disk_size("9G")).as_deref(), Some("9G"));
}
