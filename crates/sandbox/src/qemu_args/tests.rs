//! Golden command lines: the documents' own, word for word, and ours as snapshots.

use super::*;
use crate::network::Forward;
use crate::plan::{DiskCache, DiskPlan, FdSet};
use host_platform::Arch;
use runtime_locator::Accelerator;

fn disk(file: &str, layers: &[&str], cache: DiskCache) -> DiskPlan {
    let layers = layers.iter().map(|layer| layer.to_string()).collect();
    DiskPlan { file: file.into(), layers, cache }
}

/// The documents' typical macOS machine.
fn documents_arm64() -> MachinePlan {
    MachinePlan {
        arch: Arch::Arm64,
        machine: MachineType::Virt,
        memory: "512M".into(),
        cpus: 1,
        firmware: Some("/path/to/share/qemu".into()),
        accelerator: Accelerator::Hvf,
        nested_hyperv: false,
        kernel: "/path/to/ubuntu-24.04-arm64.kernel".into(),
        initrd: "/path/to/ubuntu-24.04-arm64.initrd".into(),
        disk: disk("overlay.qcow2", &[], DiskCache::Writethrough),
        control: ControlPlan::Tcp {
            host_port: 8080,
            guest_port: 8080,
            append: AppendPlan::Argument { token: "abc123".into() },
        },
        qmp: QmpPlan::Tcp { port: 4444 },
        network_mode: NetworkMode::MountsOnly,
        forwards: Vec::new(),
        link_fd: None,
        plan9: Vec::new(),
        smb_server: Some("/path/to/smb_server".into()),
        display: None,
        fd_sets: Vec::new(),
        template: None,
        tsc_khz: None,
        seccomp: false,
        extra_args: Vec::new(),
    }
}

fn documents_amd64() -> MachinePlan {
    MachinePlan {
        arch: Arch::Amd64,
        machine: MachineType::Q35,
        kernel: "/path/to/ubuntu-24.04-amd64.kernel".into(),
        initrd: "/path/to/ubuntu-24.04-amd64.initrd".into(),
        ..documents_arm64()
    }
}

/// Our own transport on Linux without an accelerator, as on the machines of the tests.
fn socket_amd64() -> MachinePlan {
    MachinePlan {
        accelerator: Accelerator::Tcg,
        control: ControlPlan::Socket {
            agent_fd: 15,
            shares_fd: Some(16),
            window_fd: Some(17),
            token_file: "/proc/self/fd/14".into(),
        },
        qmp: QmpPlan::Fd { fd: 13 },
        disk: disk("/dev/fdset/0", &["/dev/fdset/1", "/dev/fdset/2"], DiskCache::Unsafe),
        fd_sets: vec![FdSet { fd: 10, set: 0 }, FdSet { fd: 11, set: 0 }, FdSet { fd: 12, set: 1 }],
        link_fd: None,
        plan9: Vec::new(),
        smb_server: None,
        seccomp: true,
        ..documents_amd64()
    }
}

fn socket_arm64() -> MachinePlan {
    MachinePlan {
        arch: Arch::Arm64,
        machine: MachineType::Virt,
        kernel: documents_arm64().kernel,
        initrd: documents_arm64().initrd,
        control: ControlPlan::Socket {
            agent_fd: 15,
            shares_fd: Some(16),
            window_fd: None,
            token_file: "/proc/self/fd/14".into(),
        },
        ..socket_amd64()
    }
}

/// One argument a line, flags with their values, as people read command lines.
fn lines(plan: &MachinePlan) -> String {
    let mut text = format!("qemu-system-{}", plan.arch.qemu_name());
    for arg in qemu_args(plan) {
        text.push_str(if arg.starts_with('-') { " \\\n" } else { " " });
        if arg.contains(' ') {
            text.push_str(&format!("\"{arg}\""));
        } else {
            text.push_str(&arg);
        }
    }
    text
}

#[test]
fn the_documents_macos_arm64_command_word_for_word() {
    let expect = r#"qemu-system-aarch64 \
-nodefaults \
-machine virt \
-m 512M \
-smp 1 \
-L /path/to/share/qemu \
-object iothread,id=iothread0 \
-drive file=overlay.qcow2,format=qcow2,if=none,id=drive0,cache=writethrough,discard=unmap,detect-zeroes=unmap \
-device virtio-blk-device,drive=drive0,iothread=iothread0 \
-serial stdio \
-nographic \
-vga none \
-cpu host \
-accel hvf \
-qmp tcp:127.0.0.1:4444,server,nowait \
-kernel /path/to/ubuntu-24.04-arm64.kernel \
-append "root=/dev/vda rw rootflags=rw console=ttyAMA0 rootfstype=ext4 quiet loglevel=0 raid=noautodetect quicksand_token=abc123 quicksand_port=8080" \
-initrd /path/to/ubuntu-24.04-arm64.initrd \
-netdev user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:8080-:8080,guestfwd=tcp:10.0.2.100:445-cmd:/path/to/smb_server \
-device virtio-net-device,netdev=net0"#;
    assert_eq!(lines(&documents_arm64()), expect);
}

#[test]
fn the_documents_command_on_q35() {
    let expect = r#"qemu-system-x86_64 \
-nodefaults \
-machine q35 \
-m 512M \
-smp 1 \
-L /path/to/share/qemu \
-object iothread,id=iothread0 \
-drive file=overlay.qcow2,format=qcow2,if=none,id=drive0,cache=writethrough,discard=unmap,detect-zeroes=unmap \
-device virtio-blk-pci,drive=drive0,iothread=iothread0 \
-serial stdio \
-nographic \
-vga none \
-cpu host \
-accel hvf \
-qmp tcp:127.0.0.1:4444,server,nowait \
-kernel /path/to/ubuntu-24.04-amd64.kernel \
-append "root=/dev/vda rw rootflags=rw console=ttyS0 rootfstype=ext4 quiet loglevel=0 raid=noautodetect quicksand_token=abc123 quicksand_port=8080" \
-initrd /path/to/ubuntu-24.04-amd64.initrd \
-netdev user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:8080-:8080,guestfwd=tcp:10.0.2.100:445-cmd:/path/to/smb_server \
-device virtio-net-pci,netdev=net0,romfile="#;
    assert_eq!(lines(&documents_amd64()), expect);
}

#[test]
fn the_documents_displays() {
    let display = |plan: MachinePlan| {
        let args = qemu_args(&MachinePlan { display: Some(DisplayPlan::Vnc { first: 0 }), ..plan });
        let first = args.iter().position(|arg| arg == "stdio").unwrap() + 1;
        let end = args.iter().position(|arg| arg == "-cpu").unwrap();
        args[first..end].join(" ")
    };
    assert_eq!(
        display(documents_arm64()),
        "-device virtio-gpu-pci -display vnc=127.0.0.1:0,to=99,password=on -device usb-ehci,id=ehci \
         -device usb-tablet,bus=ehci.0 -device virtio-keyboard-pci"
    );
    assert_eq!(
        display(documents_amd64()),
        "-device virtio-vga -display vnc=127.0.0.1:0,to=99,password=on -device usb-ehci,id=ehci \
         -device usb-tablet,bus=ehci.0 -device virtio-keyboard-pci"
    );
}

#[test]
fn a_display_that_nobody_serves_is_still_one() {
    let args = qemu_args(&MachinePlan { display: Some(DisplayPlan::Hidden), ..socket_amd64() });
    let text = args.join(" ");
    assert!(text.contains("-device virtio-vga -display none -device usb-ehci,id=ehci"), "{text}");
    assert!(!text.contains("vnc") && !text.contains("-nographic"), "{text}");
}

#[test]
fn our_transport_on_both_machines() {
    insta::assert_snapshot!("socket_amd64", lines(&socket_amd64()));
    insta::assert_snapshot!("socket_arm64", lines(&socket_arm64()));
}

#[test]
fn no_secret_is_in_the_arguments_of_a_launch_on_unix() {
    let with_file = MachinePlan {
        control: ControlPlan::Tcp {
            host_port: 0,
            guest_port: 8080,
            append: AppendPlan::File { path: "/proc/self/fd/14".into() },
        },
        ..socket_amd64()
    };
    insta::assert_snapshot!("tcp_amd64_on_linux", lines(&with_file));
    let shown = shown_args(&documents_amd64()).join(" ");
    assert!(!shown.contains("abc123") && shown.contains("quicksand_token=<redacted>"), "{shown}");
}

#[test]
fn network_modes_and_forwards() {
    let mut elsewhere = Forward::new(2222, 22);
    elsewhere.host_address = std::net::Ipv4Addr::UNSPECIFIED;
    elsewhere.guest_address = Some(std::net::Ipv4Addr::new(10, 0, 2, 15));
    let forwards = vec![Forward::new(8080, 80), elsewhere];
    let netdev = |plan: MachinePlan| {
        let args = qemu_args(&plan);
        args.iter().position(|arg| arg == "-netdev").map(|index| args[index + 1].clone())
    };
    let socket = |network_mode, forwards: &[Forward]| {
        netdev(MachinePlan { network_mode, forwards: forwards.to_vec(), ..socket_amd64() })
    };
    let tcp =
        |network_mode| netdev(MachinePlan { network_mode, smb_server: None, ..documents_amd64() });
    for (given, expect) in [
        (socket(NetworkMode::None, &[]), None),
        (socket(NetworkMode::MountsOnly, &[]), Some("user,id=net0,ipv6=off,restrict=on")),
        (socket(NetworkMode::Full, &[]), Some("user,id=net0,ipv6=off")),
        (
            socket(NetworkMode::Full, &forwards),
            Some(
                "user,id=net0,ipv6=off,hostfwd=tcp:127.0.0.1:8080-:80,hostfwd=tcp:0.0.0.0:2222-10.0.2.15:22",
            ),
        ),
        // The agent's own way in remains; nothing leads out.
        (tcp(NetworkMode::None), Some("user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:8080-:8080")),
        (tcp(NetworkMode::Full), Some("user,id=net0,hostfwd=tcp:127.0.0.1:8080-:8080")),
    ] {
        assert_eq!(given.as_deref(), expect);
    }
}

#[test]
fn commas_in_values_do_not_become_options() {
    let plan = MachinePlan {
        disk: disk("a,b=c.qcow2", &["a,b\"c.qcow2"], DiskCache::Unsafe),
        smb_server: Some("/srv/a,b".into()),
        ..documents_arm64()
    };
    let args = qemu_args(&plan).join(" ");
    assert!(args.contains("file=a,,b=c.qcow2,format=qcow2"), "{args}");
    assert!(args.contains("-cmd:/srv/a,,b "), "{args}");
}

#[test]
fn the_users_arguments_come_last() {
    let extra_args = vec!["-device".to_owned(), "virtio-balloon-pci".to_owned()];
    let args = qemu_args(&MachinePlan { extra_args: extra_args.clone(), ..socket_amd64() });
    assert_eq!(args[args.len() - 2..], extra_args);
}

#[test]
fn only_a_share_server_may_be_a_child_of_qemu() {
    let sandbox = |plan: &MachinePlan| {
        let args = qemu_args(plan);
        args.iter().position(|arg| arg == "-sandbox").map(|index| args[index + 1].clone())
    };
    let with_share = MachinePlan { smb_server: Some("/smb".into()), ..socket_amd64() };
    assert!(sandbox(&socket_amd64()).unwrap().contains("spawn=deny"));
    assert!(sandbox(&with_share).unwrap().contains("spawn=allow"));
    assert_eq!(sandbox(&documents_arm64()), None);
}

#[test]
fn a_template_and_its_copies_have_the_same_devices() {
    let memory = || "/proc/self/fd/9".to_owned();
    let make =
        MachinePlan { template: Some(TemplatePlan::Make { memory: memory() }), ..socket_amd64() };
    let copy = MachinePlan {
        template: Some(TemplatePlan::Copy { memory: memory(), forks: false }),
        ..socket_amd64()
    };
    let of = |plan: &MachinePlan, name: &str| {
        let args = qemu_args(plan);
        let pairs: Vec<String> =
            args.windows(2).filter(|pair| pair[0] == name).map(|pair| pair[1].clone()).collect();
        pairs
    };
    assert_eq!(of(&make, "-device"), of(&copy, "-device"));
    assert!(of(&make, "-device").contains(&"vmgenid,guid=auto".to_owned()));
    assert_eq!(of(&make, "-machine"), of(&copy, "-machine"));
    assert_eq!(
        of(&make, "-object")[0],
        "memory-backend-file,id=memory0,size=512M,mem-path=/proc/self/fd/9,share=on"
    );
    assert_eq!(
        of(&copy, "-object")[0],
        "memory-backend-file,id=memory0,size=512M,mem-path=/proc/self/fd/9,share=off,readonly=on,\
         rom=off"
    );
    assert_eq!(
        (of(&make, "-incoming"), of(&copy, "-incoming")),
        (vec![], vec!["defer".to_owned()])
    );
}

#[test]
fn a_template_and_its_copy_under_kvm() {
    let with = |template| MachinePlan {
        accelerator: Accelerator::Kvm,
        template: Some(template),
        ..socket_amd64()
    };
    let memory = || "/proc/self/fd/9".to_owned();
    insta::assert_snapshot!(
        "template_amd64_kvm",
        lines(&with(TemplatePlan::Make { memory: memory() }))
    );
    let copy = TemplatePlan::Copy { memory: memory(), forks: false };
    insta::assert_snapshot!("copy_amd64_kvm", lines(&with(copy)));
}
