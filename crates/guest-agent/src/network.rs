//! The fixed address that QEMU's user network gives its guest, without the second that DHCP takes.
//!
//! See <https://www.qemu.org/docs/master/system/devices/net.html> and netdevice(7).

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

const INTERFACE: &[u8] = b"eth0";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The name server of QEMU's user network.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

/// Brings up loopback, and `eth0` when there is one; says whether there is.
pub fn configure() -> bool {
    let Ok(socket) = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    ) else {
        return false;
    };
    // Without loopback some programs fail and the machine is still of use.
    let _ = bring_up(&socket, b"lo");
    configure_eth0(&socket).is_ok()
}

fn configure_eth0(socket: &OwnedFd) -> io::Result<()> {
    let mut request = named(INTERFACE);
    request.ifr_ifru.ifru_addr = internet(ADDRESS);
    ioctl(socket, libc::SIOCSIFADDR as _, &request)?;
    request.ifr_ifru.ifru_netmask = internet(MASK);
    ioctl(socket, libc::SIOCSIFNETMASK as _, &request)?;
    bring_up(socket, INTERFACE)?;
    // SAFETY: a route is numbers and pointers, for which zero is a value.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = internet(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = internet(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = internet(GATEWAY);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    ioctl(socket, libc::SIOCADDRT as _, &route)
}

/// Gives `eth0` another hardware address, where there is one.
///
/// # Errors
/// A driver that refuses.
pub fn set_address(address: [u8; 6]) -> io::Result<()> {
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let mut request = named(INTERFACE);
    let mut data = [0; 14];
    for (target, source) in data.iter_mut().zip(address) {
        *target = source as libc::c_char;
    }
    request.ifr_ifru.ifru_hwaddr = libc::sockaddr { sa_family: libc::ARPHRD_ETHER, sa_data: data };
    match ioctl(&socket, libc::SIOCSIFHWADDR as _, &request) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        result => result,
    }
}

fn bring_up(socket: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let mut request = named(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    ioctl(socket, libc::SIOCSIFFLAGS as _, &request)
}

fn named(name: &[u8]) -> libc::ifreq {
    // SAFETY: a request is numbers, for which zero is a value; the name stays terminated.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (target, source) in request.ifr_name.iter_mut().zip(name) {
        *target = *source as libc::c_char;
    }
    request
}

fn internet(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    for (target, source) in data[2..6].iter_mut().zip(address.octets()) {
        *target = source as libc::c_char;
    }
    libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: data }
}

fn ioctl<T>(socket: &OwnedFd, request: libc::Ioctl, value: &T) -> io::Result<()> {
    // SAFETY: the request fits the structure, which the kernel only reads.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), request, value) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
