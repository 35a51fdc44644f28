//! The window that the host may have into this machine's shares: found on the PCI bus, and mapped.
//!
//! There is no driver for it: the kernel shows the device's memory as files in `/sys`. A machine
//! without one, or a kernel that shows none, does without: every request goes by the port then.

use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use agent_protocol::share_window::{
    Asked, DOORBELL, N_SLOTS, PCI_IDS, RING, WINDOW_LEN, Window as Memory,
};
use rustix::fs::{Mode, OFlags};

const DEVICES: &str = "/sys/bus/pci/devices";
const PAGE: usize = 4096;
/// How long an answer is looked for. To sleep instead costs an emulated machine 1 to 2 milliseconds of
/// its processor, and on a busy host the server needs as long to be given one.
const PATIENCE_US: u32 = 4000;
/// And at least, after requests that took longer.
const LEAST_PATIENCE_US: u32 = 500;
/// How often is looked before the clock is.
const LOOKS: u32 = 16;

/// The mapped device.
pub struct Window {
    memory: Memory,
    doorbell: *mut u32,
    busy: [AtomicBool; N_SLOTS],
    /// In microseconds: less after what was looked for in vain.
    patience: AtomicU32,
}

// SAFETY: the doorbell is a register that any thread may write.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

fn number(path: &Path) -> Option<u64> {
    let text = fs_err::read_to_string(path).ok()?;
    u64::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
}

/// Maps the start of a file for as long as this process lives.
fn map(path: &Path, length: usize) -> Option<*mut u8> {
    let flags = OFlags::RDWR | OFlags::SYNC | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let (protection, file) = (libc::PROT_READ | libc::PROT_WRITE, file.as_raw_fd());
    // SAFETY: a new mapping, at a place that the kernel chooses.
    let start =
        unsafe { libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, file, 0) };
    (start != libc::MAP_FAILED).then(|| start.cast())
}

impl Window {
    /// Finds the device.
    pub fn find() -> Option<Self> {
        let is_ours = |device: &Path| {
            number(&device.join("vendor")) == Some(PCI_IDS.0.into())
                && number(&device.join("device")) == Some(PCI_IDS.1.into())
        };
        let devices = fs_err::read_dir(DEVICES).ok()?.flatten().map(|entry| entry.path());
        devices.filter(|device| is_ours(device)).find_map(|device| Self::open(&device))
    }

    fn open(device: &Path) -> Option<Self> {
        // Firmware has enabled it, as a rule.
        let _ = fs_err::write(device.join("enable"), "1");
        let regions = fs_err::read_to_string(device.join("resource")).ok()?;
        let region = |index: usize| {
            let mut words = regions.lines().nth(index)?.split_whitespace();
            let word = words.next()?.trim_start_matches("0x");
            let start = usize::from_str_radix(word, 16).ok()?;
            let end = usize::from_str_radix(words.next()?.trim_start_matches("0x"), 16).ok()?;
            Some((start, end.checked_sub(start)? + 1))
        };
        let ((registers, n_bytes), (_, length)) = (region(0)?, region(2)?);
        let offset = registers % PAGE;
        if length < WINDOW_LEN || n_bytes < DOORBELL + 4 || offset + DOORBELL + 4 > PAGE {
            return None;
        }
        let registers = map(&device.join("resource0"), PAGE)?;
        let start = map(&device.join("resource2_wc"), WINDOW_LEN)?;
        // SAFETY: the memory was mapped just now, and stays.
        let memory = unsafe { Memory::new(start) };
        // SAFETY: the register lies in the page.
        let doorbell = unsafe { registers.add(offset + DOORBELL) }.cast();
        let window = Self {
            memory,
            doorbell,
            busy: Default::default(),
            patience: AtomicU32::new(PATIENCE_US),
        };
        window.memory.is_marked().then_some(window)
    }

    /// Asks the host, where a slot is free.
    pub fn ask(&self, share: u32, request: &[u8], answer: &mut Vec<u8>) -> Asked {
        for (index, busy) in self.busy.iter().enumerate() {
            if busy.swap(true, Ordering::Acquire) {
                continue;
            }
            let slot = self.memory.slot(index);
            let asked = slot
                .is_free()
                .then(|| slot.ask(share, request, || self.ring(), self.patience(), answer));
            busy.store(false, Ordering::Release);
            if let Some(asked) = asked {
                let patience = self.patience.load(Ordering::Relaxed);
                let patience = match asked {
                    Asked::Answered => (patience * 2).min(PATIENCE_US),
                    Asked::OnThePort | Asked::Unasked => {
                        (patience - patience / 4).max(LEAST_PATIENCE_US)
                    }
                };
                self.patience.store(patience, Ordering::Relaxed);
                return asked;
            }
        }
        Asked::Unasked
    }

    fn ring(&self) {
        // SAFETY: the register is mapped for as long as this process lives.
        unsafe { self.doorbell.write_volatile(RING.to_le()) };
    }

    fn patience(&self) -> impl FnMut() -> bool {
        let patience = Duration::from_micros(self.patience.load(Ordering::Relaxed).into());
        let begin = Instant::now();
        let mut n_looks = 0u32;
        move || {
            n_looks += 1;
            !n_looks.is_multiple_of(LOOKS) || begin.elapsed() < patience
        }
    }
}
