//! Puts one machine together: files, sockets, secrets and the command line that names them.
//!
//! Blocking, short, and without any waiting for QEMU: that is `boot`'s.

#[cfg(target_os = "linux")]
use super::ForkedFrom;
use super::Source;
#[cfg(not(unix))]
use super::wires::free_port;
#[cfg(unix)]
use super::wires::{Link, open_link};
use super::wires::{QmpEnd, WireEnds, Wires, check_ports};
#[cfg(unix)]
use crate::budget::Budget;
use crate::config::{SandboxConfig, Transport};
use crate::console::Console;
use crate::error::{Error, Result};
use crate::hardware::MachineType;
use crate::kernel_cmdline;
use crate::launch::{Inherited, Launch, launch};
use crate::limits::Limits;
use crate::located::{Ends, Located};
use crate::network::{Forward, NetworkMode};
use crate::overlay::{Origin, Overlay};
use crate::plan::{
    AppendPlan, ControlPlan, DiskCache, DiskPlan, DisplayPlan, MachinePlan, QmpPlan, TemplatePlan,
};
use crate::qemu_args::{LAST_DISPLAY, qemu_args, shown_args};
use crate::qemu_process::QemuProcess;
#[cfg(target_os = "linux")]
use crate::qemu_process::{Own, OwnEnd};
use crate::screen::Screen;
#[cfg(target_os = "linux")]
use crate::share_port::Channel;
use crate::time_stamp;
use runtime_locator::Accelerator;
#[cfg(unix)]
use std::sync::Arc;

#[cfg(unix)]
use crate::descriptor::descriptor_path;
#[cfg(unix)]
use crate::overlay::secret_file;
#[cfg(unix)]
use crate::plan::FdSet;
use crate::secret;

/// The agent's port in the guest with the `tcp` transport, as in the documents.
pub(super) const GUEST_PORT: u16 = 8080;
/// The descriptor set of the lowest layer; those below are of single files.
const FIRST_LAYER_SET: u32 = 100;

/// Everything that a launch needs.
pub(crate) struct Prepared {
    launch: Launch,
    shown: Vec<String>,
    wires: WireEnds,
    origin: Origin,
    /// The forwards with the ports that they have.
    forwards: Vec<Forward>,
    limits: Limits,
    #[cfg(unix)]
    link: Option<Link>,
    #[cfg(target_os = "linux")]
    shares: Option<Channel>,
    #[cfg(unix)]
    budget: Arc<Budget>,
    #[cfg(target_os = "linux")]
    memory: Option<std::fs::File>,
    #[cfg(target_os = "linux")]
    token: String,
    #[cfg(target_os = "linux")]
    own: Vec<Own>,
    #[cfg(target_os = "linux")]
    from: Option<ForkedFrom>,
    screen: Option<Screen>,
    #[cfg(not(unix))]
    overlay: tempfile::TempPath,
}

/// Makes everything that the machine needs.
pub(crate) fn prepare(
    config: &SandboxConfig,
    located: &Located,
    source: &Source,
) -> Result<Prepared> {
    let token = secret::hexadecimal(secret::TOKEN)?;
    let is_socket = located.transport(config)? == Transport::Socket;
    if !located.has_link(config, is_socket) {
        check_ports(config.port_forwards())?;
    }
    #[cfg_attr(not(target_os = "linux"), expect(unused_mut, reason = "only Linux has templates"))]
    let mut overlay = Overlay::create(
        &located.image,
        located.disk_size.as_ref(),
        (located.memory.clone(), located.cpus),
        source.disks(),
    )?;
    #[cfg(target_os = "linux")]
    if let Some(written) = source.written() {
        overlay.origin.begin_with(written)?;
    }
    #[cfg(target_os = "linux")]
    if let Some((n_counted, set)) = source.place() {
        overlay.origin.place(n_counted, set);
    }
    prepare_platform(config, located, overlay, token, is_socket, source)
}

#[cfg(unix)]
fn prepare_platform(
    config: &SandboxConfig,
    located: &Located,
    overlay: Overlay,
    token: String,
    is_socket: bool,
    source: &Source,
) -> Result<Prepared> {
    let failed = |source| Error::System { action: "make a socket", source };
    let inherited = |fd| Inherited::new(fd).map_err(failed);
    let Overlay { files, origin } = overlay;
    let (qmp, their_qmp) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
    let mut inherit = vec![
        inherited(files.read_write)?,
        inherited(files.read_only)?,
        inherited(their_qmp.into())?,
    ];
    let qmp_plan = QmpPlan::Fd { fd: inherit[2].number() };
    #[cfg(target_os = "linux")]
    let mut own: Vec<Own> = [OwnEnd::Disk, OwnEnd::DiskForReading, OwnEnd::Qmp]
        .into_iter()
        .zip(&inherit)
        .map(|(end, file)| Own { end, number: file.number() })
        .collect();
    let mut fd_sets =
        vec![FdSet { fd: inherit[0].number(), set: 0 }, FdSet { fd: inherit[1].number(), set: 0 }];
    let mut layers = Vec::with_capacity(files.layers.len());
    for (layer, set) in files.layers.into_iter().zip(FIRST_LAYER_SET..) {
        let layer = inherited(layer)?;
        fd_sets.push(FdSet { fd: layer.number(), set });
        layers.push(fd_set_path(set));
        inherit.push(layer);
    }
    let image = &located.image;
    #[cfg(target_os = "linux")]
    let (template, memory) = template_plan(located, source, &mut inherit)?;
    #[cfg(not(target_os = "linux"))]
    let template = None;
    #[cfg(not(target_os = "linux"))]
    let Source::Cold = source;
    #[cfg(target_os = "linux")]
    let kept_token = token.clone();
    let kernel = boot_file(&image.files.kernel, &image.kernel, &mut inherit)?;
    let initrd = boot_file(&image.files.initrd, &image.initrd, &mut inherit)?;
    let screen = if let Some(display) = located.display(config) {
        let (screen, theirs, set) = Screen::new(display, config.limits().picture())?;
        let theirs = inherited(theirs)?;
        fd_sets.push(FdSet { fd: theirs.number(), set });
        Some((screen, theirs))
    } else {
        None
    };
    let budget = Budget::new(config.limits());
    #[cfg(target_os = "linux")]
    let mut shares = None;
    let (mut link, mut link_fd) = (None, None);
    if located.has_link(config, is_socket) {
        let (stream, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
        let theirs = inherited(theirs.into())?;
        link_fd = Some(theirs.number());
        #[cfg(target_os = "linux")]
        own.push(Own { end: OwnEnd::Link, number: theirs.number() });
        inherit.push(theirs);
        #[cfg(target_os = "linux")]
        let rules = source.rules();
        #[cfg(not(target_os = "linux"))]
        let rules = None;
        link = Some(open_link(config, stream, &budget, rules)?);
    }
    let (control, wires) = if is_socket {
        let (agent, their_agent) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
        let secret = inherited(secret_file(token.as_bytes())?)?;
        let their_agent = inherited(their_agent.into())?;
        #[cfg(not(target_os = "linux"))]
        let (shares_fd, window_fd) = (None, None);
        #[cfg(target_os = "linux")]
        let (shares_fd, window_fd) = if located.has_share_port(is_socket) {
            let (channel, theirs) = Channel::pair(&token, located.has_share_window(is_socket))?;
            shares = Some(channel);
            let mut hand_over = |theirs| {
                let theirs = inherited(theirs)?;
                let number = theirs.number();
                inherit.push(theirs);
                Ok::<_, Error>(number)
            };
            let port = hand_over(theirs.port)?;
            own.push(Own { end: OwnEnd::Shares, number: port });
            (Some(port), theirs.window.map(hand_over).transpose()?)
        } else {
            (None, None)
        };
        let control = ControlPlan::Socket {
            agent_fd: their_agent.number(),
            shares_fd,
            window_fd,
            token_file: descriptor_path(secret.number()),
        };
        #[cfg(target_os = "linux")]
        own.extend([
            Own { end: OwnEnd::Token, number: secret.number() },
            Own { end: OwnEnd::Agent, number: their_agent.number() },
        ]);
        inherit.extend([secret, their_agent]);
        (control, WireEnds::Socket { qmp, agent, token })
    } else {
        // A command line can be read by every process of the host: the token goes by a file.
        let line =
            kernel_cmdline::tcp(MachineType::for_arch(located.image.arch), &token, GUEST_PORT);
        let file = format!("[machine]\n  append = \"{line}\"\n");
        let secret = inherited(secret_file(file.as_bytes())?)?;
        let path = descriptor_path(secret.number());
        inherit.push(secret);
        let control = tcp_control(AppendPlan::File { path });
        let forwards = config.port_forwards().to_vec();
        let port = match &mut link {
            Some(link) => Some(link.agent_port()?),
            None => None,
        };
        (control, WireEnds::Tcp { qmp: QmpEnd::Socket(qmp), forwards, port, token })
    };
    let drive = DiskPlan { file: fd_set_path(0), layers, cache: DiskCache::Unsafe };
    let qmp = qmp_plan;
    let is_asked = located.accelerator == Accelerator::Tcg && !source.is_copy();
    let tsc_khz = is_asked.then(time_stamp::khz).flatten();
    let disk = drive;
    let ends = Ends { kernel, initrd, control, qmp, disk, fd_sets, link_fd, template, tsc_khz };
    let plan = located.plan(config, ends);
    let screen = screen.map(|(screen, theirs)| {
        inherit.push(theirs);
        screen
    });
    let launch = to_launch(located, &plan, inherit, origin.size);
    let shown = shown(located, &plan);
    let forwards = match &link {
        Some(link) => link.forwards.clone(),
        None => config.port_forwards().to_vec(),
    };
    Ok(Prepared {
        launch,
        shown,
        wires,
        origin,
        forwards,
        limits: config.limits().clone(),
        link,
        #[cfg(target_os = "linux")]
        shares,
        budget,
        #[cfg(target_os = "linux")]
        memory,
        #[cfg(target_os = "linux")]
        token: kept_token,
        #[cfg(target_os = "linux")]
        own,
        #[cfg(target_os = "linux")]
        from: source.forked_from(),
        screen,
    })
}

/// The memory of a machine that becomes a template, or of one that goes on from another.
#[cfg(target_os = "linux")]
fn template_plan(
    located: &Located,
    source: &Source,
    inherit: &mut Vec<Inherited>,
) -> Result<(Option<TemplatePlan>, Option<std::fs::File>)> {
    let (file, kept) = match source {
        Source::Cold => return Ok((None, None)),
        Source::Make => {
            let file = crate::guest_memory::memory_file(located.memory.bytes())?;
            (file.try_clone(), Some(file))
        }
        Source::Copy(template) | Source::Zygote(template) => (template.memory.try_clone(), None),
        Source::Fork(zygote) => (zygote.template.memory.try_clone(), None),
        Source::Live(pause) | Source::Stand(pause) => {
            (pause.zygote.template.memory.try_clone(), None)
        }
        Source::Still(still) | Source::Back(still, _) => {
            (still.zygote.template.memory.try_clone(), None)
        }
        Source::Resume(_) => return Ok((Some(TemplatePlan::Resume), None)),
    };
    let failed = |source| Error::System { action: "hand a file to QEMU", source };
    let file = Inherited::new(file.map_err(failed)?.into()).map_err(failed)?;
    let memory = descriptor_path(file.number());
    inherit.push(file);
    let plan = match kept {
        Some(_) => TemplatePlan::Make { memory },
        None => TemplatePlan::Copy { memory, forks: matches!(source, Source::Zygote(_)) },
    };
    Ok((Some(plan), kept))
}

/// What QEMU reads kernel or initrd by: the file that was opened when the image was found. QEMU opens
/// a kernel several times, which `/proc` makes new openings of; where that is a copy of the
/// descriptor with one position for all, the path has to do.
#[cfg(unix)]
fn boot_file(
    file: &std::fs::File,
    path: &std::path::Path,
    inherit: &mut Vec<Inherited>,
) -> Result<std::path::PathBuf> {
    if !cfg!(target_os = "linux") {
        return Ok(path.to_owned());
    }
    let failed = |source| Error::System { action: "hand a file to QEMU", source };
    let file = Inherited::new(file.try_clone().map_err(failed)?.into()).map_err(failed)?;
    let path = descriptor_path(file.number());
    inherit.push(file);
    Ok(path.into())
}

/// How QEMU names the files of a descriptor set.
#[cfg(unix)]
fn fd_set_path(set: u32) -> String {
    format!("/dev/fdset/{set}")
}

#[cfg(not(unix))]
fn prepare_platform(
    config: &SandboxConfig,
    located: &Located,
    overlay: Overlay,
    token: String,
    _is_socket: bool,
    _source: &Source,
) -> Result<Prepared> {
    let port = free_port()?;
    let control = tcp_control(AppendPlan::Argument { token: token.clone() });
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let disk = DiskPlan {
        file: text(&overlay.path),
        layers: located.image.chain.iter().map(|layer| text(layer)).collect(),
        cache: DiskCache::Unsafe,
    };
    let qmp = QmpPlan::Tcp { port };
    let (kernel, initrd) = (located.image.kernel.clone(), located.image.initrd.clone());
    let fd_sets = Vec::new();
    let (link_fd, template, tsc_khz) = (None, None, None);
    let ends = Ends { kernel, initrd, control, qmp, disk, fd_sets, link_fd, template, tsc_khz };
    let plan = located.plan(config, ends);
    let forwards = config.port_forwards().to_vec();
    let wires = WireEnds::Tcp { qmp: QmpEnd::Port(port), forwards, port: None, token };
    let launch = to_launch(located, &plan, Vec::new(), overlay.origin.size);
    let screen = located.display(config);
    let screen =
        screen.map(|display| Screen::new(display, config.limits().picture())).transpose()?;
    let (origin, overlay) = (overlay.origin, overlay.path);
    let shown = shown(located, &plan);
    Ok(Prepared {
        shown,
        launch,
        wires,
        origin,
        forwards: config.port_forwards().to_vec(),
        limits: config.limits().clone(),
        screen,
        overlay,
    })
}

/// The host's port is QEMU's choice, so that no two machines can ever want the same.
fn tcp_control(append: AppendPlan) -> ControlPlan {
    ControlPlan::Tcp { host_port: 0, guest_port: GUEST_PORT, append }
}

fn to_launch(located: &Located, plan: &MachinePlan, inherit: Vec<Inherited>, disk: u64) -> Launch {
    let needs = needs(plan, located.memory.bytes(), disk);
    Launch { program: located.qemu.system.clone(), args: qemu_args(plan), inherit, needs }
}

/// What QEMU opens by itself with these arguments.
fn needs(plan: &MachinePlan, memory: u64, disk: u64) -> jail::Needs {
    let is_tcp = matches!(plan.control, ControlPlan::Tcp { .. });
    // QEMU's own network: the agent's port is one of the system's choice, and forwards come and go.
    let has_network = is_tcp || plan.network_mode != NetworkMode::None;
    let listens = match plan.display {
        _ if plan.link_fd.is_none() && has_network => jail::Ports::Any,
        Some(DisplayPlan::Vnc { first }) => {
            jail::Ports::Some((first..=LAST_DISPLAY).map(|display| 5900 + display).collect())
        }
        _ => jail::Ports::None,
    };
    // QEMU asks it whether the kernel has locks of open files.
    let mut devices = vec!["/dev/null".into()];
    if plan.accelerator == Accelerator::Kvm {
        devices.push("/dev/kvm".into());
    }
    jail::Needs {
        read: plan.firmware.iter().cloned().collect(),
        shares: plan
            .plan9
            .iter()
            .map(|share| jail::Share { path: share.path.clone(), readonly: share.readonly })
            .collect(),
        devices,
        listens,
        memory,
        disk,
        has_own_arguments: !plan.extra_args.is_empty(),
        forks: matches!(&plan.template, Some(TemplatePlan::Copy { forks: true, .. })),
        ..jail::Needs::default()
    }
}

fn shown(located: &Located, plan: &MachinePlan) -> Vec<String> {
    let mut command = vec![located.qemu.system.to_string_lossy().into_owned()];
    command.extend(shown_args(plan));
    command
}

/// The command line that a start would use, with descriptor numbers of no meaning.
pub(crate) fn preview(config: &SandboxConfig, located: &Located) -> Result<Vec<String>> {
    let is_socket = located.transport(config)? == Transport::Socket;
    let control = if is_socket {
        let shares_fd = located.has_share_port(is_socket).then_some(19);
        let window_fd = located.has_share_window(is_socket).then_some(20);
        let token_file = "/proc/self/fd/14".into();
        ControlPlan::Socket { agent_fd: 15, shares_fd, window_fd, token_file }
    } else {
        tcp_control(AppendPlan::Argument { token: String::new() })
    };
    let layers = (FIRST_LAYER_SET..).map(|set| format!("/dev/fdset/{set}"));
    let layers = layers.take(located.image.chain.len()).collect();
    let disk = DiskPlan { file: "/dev/fdset/0".into(), layers, cache: DiskCache::Unsafe };
    let link_fd = located.has_link(config, is_socket).then_some(16);
    let qmp = QmpPlan::Fd { fd: 13 };
    let (kernel, initrd) = if cfg!(target_os = "linux") {
        ("/proc/self/fd/17".into(), "/proc/self/fd/18".into())
    } else {
        (located.image.kernel.clone(), located.image.initrd.clone())
    };
    // The rate that is measured says nothing of what the machine is.
    let (fd_sets, template, tsc_khz) = (Vec::new(), None, None);
    let ends = Ends { kernel, initrd, control, qmp, disk, fd_sets, link_fd, template, tsc_khz };
    Ok(shown(located, &located.plan(config, ends)))
}

impl Prepared {
    /// Starts QEMU, or forks one that runs. Must be called in a runtime.
    pub(crate) async fn launch(self) -> Result<(QemuProcess, Wires, Origin)> {
        let wires = self.wires.into_runtime()?;
        #[cfg(unix)]
        let net = self.link.map(Link::connect).transpose()?;
        #[cfg(not(unix))]
        let net = None;
        #[cfg(target_os = "linux")]
        let (process, output, own) = match (&self.from, &wires) {
            (Some(from), Wires::Socket { qmp, token, .. }) => {
                let copy = self.origin.overlay();
                let forking = from.fork(self.launch.inherit, self.own, qmp, token, copy);
                let (process, output) = forking.await?;
                (process, output, from.own())
            }
            _ => {
                let (process, output) = launch(self.launch)?;
                (process, output, self.own)
            }
        };
        #[cfg(not(target_os = "linux"))]
        let (process, output) = launch(self.launch)?;
        tracing::debug!(pid = process.pid(), command = ?self.shown, "QEMU runs");
        let qemu = QemuProcess {
            process,
            console: Console::follow(output.stdout),
            stderr: Console::follow(output.stderr),
            screen: self.screen,
            command: self.shown,
            forwards: self.forwards,
            limits: self.limits,
            net,
            #[cfg(target_os = "linux")]
            shares: self.shares.map(Arc::new),
            #[cfg(target_os = "linux")]
            memory: self.memory,
            #[cfg(target_os = "linux")]
            token: self.token,
            #[cfg(target_os = "linux")]
            own,
            #[cfg(unix)]
            budget: self.budget,
            #[cfg(not(unix))]
            _overlay: self.overlay,
        };
        Ok((qemu, wires, self.origin))
    }
}
