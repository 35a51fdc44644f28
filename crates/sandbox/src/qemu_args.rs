//! QEMU's command line, a pure function of the plan.
//!
//! Owns the flags and their order, which is the documents' order; knows nothing of files,
//! processes or the configuration. Flags: <https://www.qemu.org/docs/master/system/invocation.html>
//!
//! The `tcp` transport gives the documents' command word for word. The `socket` transport differs
//! where the design says so: descriptors instead of ports, the token in fw_cfg, and a chipset
//! without the parts that only cost boot time.

use crate::hardware::{MachineType, accel_flag, cpu_flag, cpu_properties};
use crate::kernel_cmdline;
use crate::network::NetworkMode;
use crate::plan::{
    AppendPlan, ControlPlan, DisplayPlan, MachinePlan, QmpPlan, REDACTED, TemplatePlan,
};
use agent_protocol::{FW_CFG_TOKEN, VIRTIO_PORT_NAME, share_frame::SHARE_PORT_NAME};
use serde_json::json;

/// Where the guest finds the host's shares in the documents' design.
const SMB_ADDRESS: &str = "10.0.2.100:445";

/// VNC's ports end at 5999.
pub(crate) const LAST_DISPLAY: u16 = 99;

/// All arguments, without the program's name.
pub fn qemu_args(plan: &MachinePlan) -> Vec<String> {
    let mut args = Args::default();
    args.flag("-nodefaults");
    args.pair("-machine", machine(plan));
    args.pair("-m", &plan.memory);
    args.pair("-smp", plan.cpus.to_string());
    memory(plan, &mut args);
    if let Some(firmware) = &plan.firmware {
        args.pair("-L", firmware.to_string_lossy());
    }
    confine(plan, &mut args);
    disk(plan, &mut args);
    args.pair("-serial", "stdio");
    display(plan, &mut args);
    args.pair("-cpu", cpu_flag(plan.accelerator));
    args.pair("-accel", accel_flag(plan.accelerator, plan.arch, plan.nested_hyperv));
    for property in cpu_properties(plan.accelerator, plan.arch) {
        args.pair("-global", *property);
    }
    qmp(plan, &mut args);
    kernel(plan, &mut args);
    agent(plan, &mut args);
    network(plan, &mut args);
    plan9(plan, &mut args);
    args.0.extend(plan.extra_args.iter().cloned());
    args.0
}

/// The arguments as they may be shown: without the token.
pub(crate) fn shown_args(plan: &MachinePlan) -> Vec<String> {
    let mut plan = plan.clone();
    if let ControlPlan::Tcp { append, .. } = &mut plan.control {
        *append = AppendPlan::Argument { token: REDACTED.into() };
    }
    qemu_args(&plan)
}

/// A value inside a comma-separated option: QEMU reads a doubled comma as one.
pub(crate) fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

#[derive(Default)]
struct Args(Vec<String>);

impl Args {
    fn flag(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    fn pair(&mut self, name: &str, value: impl AsRef<str>) {
        self.0.extend([name.to_owned(), value.as_ref().to_owned()]);
    }
}

fn is_socket(plan: &MachinePlan) -> bool {
    matches!(plan.control, ControlPlan::Socket { .. })
}

fn machine(plan: &MachinePlan) -> String {
    match plan.machine {
        // These parts are probed at boot, for a tenth of its time, and used by nobody.
        MachineType::Q35 if may_be_frozen(plan) => {
            "q35,smbus=off,sata=off,usb=off,hpet=off,memory-backend=memory0".into()
        }
        machine => machine.name().into(),
    }
}

/// What every machine has whose memory and devices may be kept, so that all of them are alike. The state
/// of the devices says nothing of memory that is shared with a file, and a copy maps the file as its own.
fn memory(plan: &MachinePlan, args: &mut Args) {
    if !may_be_frozen(plan) {
        return;
    }
    let file = |memory: &str, sharing: &str| {
        let (size, memory) = (&plan.memory, escape(memory));
        format!("memory-backend-file,id=memory0,size={size},mem-path={memory},{sharing}")
    };
    let object = match &plan.template {
        None | Some(TemplatePlan::Resume) => {
            format!("memory-backend-ram,id=memory0,size={}", plan.memory)
        }
        Some(TemplatePlan::Make { memory }) => file(memory, "share=on"),
        Some(TemplatePlan::Copy { memory, .. }) => file(memory, "share=off,readonly=on,rom=off"),
    };
    args.pair("-object", object);
    // Tells the guest's kernel that it is another machine now. See docs/specs/vmgenid.rst of QEMU.
    args.pair("-device", "vmgenid,guid=auto");
    if matches!(plan.template, Some(TemplatePlan::Copy { .. } | TemplatePlan::Resume)) {
        args.pair("-incoming", "defer");
    }
}

/// Whether there is a way to keep the machine's memory and to go on with it in another process.
fn may_be_frozen(plan: &MachinePlan) -> bool {
    plan.machine == MachineType::Q35 && is_socket(plan)
}

fn confine(plan: &MachinePlan, args: &mut Args) {
    if plan.seccomp {
        // A share's server is a child of QEMU, or a copy of itself; nothing else ever is.
        let spawn = match &plan.template {
            _ if plan.smb_server.is_some() => "allow",
            // Known to a QEMU of ours alone: a copy of itself, and no other program.
            Some(TemplatePlan::Copy { forks: true, .. }) => "fork",
            _ => "deny",
        };
        args.pair(
            "-sandbox",
            format!("on,obsolete=deny,elevateprivileges=deny,spawn={spawn},resourcecontrol=deny"),
        );
    }
    if is_socket(plan) {
        // A guest that panics or reboots ends: its start must fail at once, with the reason.
        args.flag("-no-reboot");
    }
    for set in &plan.fd_sets {
        args.pair("-add-fd", format!("fd={},set={}", set.fd, set.set));
    }
}

fn disk(plan: &MachinePlan, args: &mut Args) {
    args.pair("-object", "iothread,id=iothread0");
    for (index, file) in plan.disk.layers.iter().enumerate() {
        let below = index.checked_sub(1).map(layer_name);
        let layer = json!({
            "driver": "qcow2",
            "node-name": layer_name(index),
            "read-only": true,
            "file": {"driver": "file", "filename": file},
            // `null` says that there is nothing below, whatever the file itself names.
            "backing": below,
        });
        args.pair("-blockdev", layer.to_string());
    }
    let mut drive = format!(
        "file={},format=qcow2,if=none,id=drive0,cache={},discard=unmap,detect-zeroes=unmap",
        escape(&plan.disk.file),
        plan.disk.cache.name()
    );
    if plan.disk.file.starts_with("/dev/fdset/") {
        // Nobody else can open a file without a name, and a machine that goes on after its state was
        // written could not lock it again: the set holds another opening of it.
        drive.push_str(",file.locking=off");
    }
    if let Some(top) = plan.disk.layers.len().checked_sub(1) {
        drive.push_str(&format!(",backing={}", layer_name(top)));
    }
    args.pair("-drive", drive);
    args.pair("-device", format!("{},drive=drive0,iothread=iothread0", plan.machine.virtio("blk")));
}

/// The name of a layer's node in QEMU's graph.
fn layer_name(index: usize) -> String {
    format!("layer{index}")
}

fn display(plan: &MachinePlan, args: &mut Args) {
    let Some(display) = plan.display else {
        args.flag("-nographic");
        args.pair("-vga", "none");
        return;
    };
    args.pair("-device", plan.machine.gpu());
    match display {
        DisplayPlan::Hidden => args.pair("-display", "none"),
        // QEMU takes the first free port itself, so that two machines never race for one.
        DisplayPlan::Vnc { first } => {
            args.pair("-display", format!("vnc=127.0.0.1:{first},to={LAST_DISPLAY},password=on"));
        }
    }
    args.pair("-device", "usb-ehci,id=ehci");
    // A tablet says where the pointer is; a mouse only how it moved, which drifts.
    args.pair("-device", "usb-tablet,bus=ehci.0");
    // `virt` has no PS/2 controller for keys.
    args.pair("-device", "virtio-keyboard-pci");
}

fn qmp(plan: &MachinePlan, args: &mut Args) {
    match plan.qmp {
        QmpPlan::Tcp { port } => args.pair("-qmp", format!("tcp:127.0.0.1:{port},server,nowait")),
        QmpPlan::Fd { fd } => {
            args.pair("-chardev", format!("socket,id=qmp,fd={fd}"));
            args.pair("-mon", "chardev=qmp,mode=control");
        }
    }
}

fn kernel(plan: &MachinePlan, args: &mut Args) {
    args.pair("-kernel", plan.kernel.to_string_lossy());
    match &plan.control {
        ControlPlan::Tcp { guest_port, append: AppendPlan::Argument { token }, .. } => {
            args.pair("-append", kernel_cmdline::tcp(plan.machine, token, *guest_port));
        }
        ControlPlan::Tcp { append: AppendPlan::File { path }, .. } => {
            args.pair("-readconfig", path);
        }
        ControlPlan::Socket { .. } => {
            let line = kernel_cmdline::socket(plan.machine, plan.accelerator, plan.tsc_khz);
            args.pair("-append", line);
        }
    }
    args.pair("-initrd", plan.initrd.to_string_lossy());
}

fn agent(plan: &MachinePlan, args: &mut Args) {
    let ControlPlan::Socket { agent_fd, shares_fd, window_fd, token_file } = &plan.control else {
        return;
    };
    args.pair("-fw_cfg", format!("name={FW_CFG_TOKEN},file={}", escape(token_file)));
    // The guest's driver sets up two queues for each possible port; port 0 is not for us.
    let n_ports = if shares_fd.is_some() { 3 } else { 2 };
    let serial = plan.machine.virtio("serial");
    args.pair("-device", format!("{serial},id=serial0,max_ports={n_ports}"));
    let ports =
        [("agent", Some(*agent_fd), VIRTIO_PORT_NAME), ("shares", *shares_fd, SHARE_PORT_NAME)];
    for (id, fd, name) in ports {
        let Some(fd) = fd else { continue };
        args.pair("-chardev", format!("socket,id={id},fd={fd}"));
        args.pair("-device", format!("virtserialport,bus=serial0.0,chardev={id},name={name}"));
    }
    if let Some(fd) = window_fd {
        args.pair("-chardev", format!("socket,id=window,fd={fd}"));
        // Its memory is part of checkpoints, which a peer other than the master forbids.
        let device = "ivshmem-doorbell,vectors=1,master=on,chardev=window";
        args.pair("-device", device);
    }
    args.pair("-object", "rng-builtin,id=rng0");
    args.pair("-device", format!("{},rng=rng0", plan.machine.virtio("rng")));
}

fn network(plan: &MachinePlan, args: &mut Args) {
    let mut netdev = String::from("user,id=net0");
    let mut device = format!("{},netdev=net0", plan.machine.virtio("net"));
    if is_socket(plan) && plan.network_mode == NetworkMode::None {
        return;
    }
    if let Some(fd) = plan.link_fd {
        if plan.machine == MachineType::Q35 {
            device.push_str(",romfile=");
        }
        args.pair("-netdev", format!("stream,id=net0,server=off,addr.type=fd,addr.str={fd}"));
        args.pair("-device", device);
        return;
    }
    if is_socket(plan) {
        // Most hosts have no IPv6 to pass on, and a guest that believes in it waits for it.
        netdev.push_str(",ipv6=off");
    }
    if plan.machine == MachineType::Q35 {
        // The option ROM could only boot from the network, and bundles leave it out.
        device.push_str(",romfile=");
    }
    if plan.network_mode != NetworkMode::Full {
        netdev.push_str(",restrict=on");
    }
    if let ControlPlan::Tcp { host_port, guest_port, .. } = plan.control {
        netdev.push_str(&format!(",hostfwd=tcp:127.0.0.1:{host_port}-:{guest_port}"));
    }
    for forward in &plan.forwards {
        let guest = forward.guest_address.map(|address| address.to_string()).unwrap_or_default();
        netdev.push_str(&format!(
            ",hostfwd=tcp:{}:{}-{guest}:{}",
            forward.host_address, forward.host_port, forward.guest_port
        ));
    }
    if let Some(server) = &plan.smb_server {
        netdev.push_str(&format!(",guestfwd=tcp:{SMB_ADDRESS}-cmd:{}", escape(server)));
    }
    args.pair("-netdev", netdev);
    args.pair("-device", device);
}

fn plan9(plan: &MachinePlan, args: &mut Args) {
    for (index, share) in plan.plan9.iter().enumerate() {
        // Never the guest's own modes and kinds: its set-user-ID programs and devices would be the
        // host's.
        let model = if share.mapped { "mapped-xattr" } else { "mapped-file" };
        let readonly = if share.readonly { ",readonly=on" } else { "" };
        // Files of two file systems below one share would otherwise look like the same file.
        args.pair(
            "-fsdev",
            format!(
                "local,id=fs{index},path={},security_model={model},multidevs=remap{readonly}",
                escape(&share.path.to_string_lossy())
            ),
        );
        let device = plan.machine.virtio("9p");
        args.pair("-device", format!("{device},fsdev=fs{index},mount_tag={}", share.tag));
    }
}

#[cfg(test)]
mod tests;
