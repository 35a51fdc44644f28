//! Ends the process when an input never comes back, with the input written down.
//!
//! A thread looks at the input that each target is at. What a parser burns is measured in processor
//! time of its own thread, since other work on the host is not its fault; the watch has a clock.

use crate::findings;
use std::{
    collections::BTreeMap,
    io::Write as _,
    sync::{Mutex, Once, OnceLock, PoisonError},
    time::{Duration, Instant},
};

/// No input takes so long on any host.
const HUNG: Duration = Duration::from_secs(120);

/// An input, and since when it is tried.
type Under = (Vec<u8>, Option<Instant>);
/// What each target does now.
static NOW: Mutex<BTreeMap<String, Under>> = Mutex::new(BTreeMap::new());

thread_local! {
    static CURRENT: std::cell::RefCell<(String, Vec<u8>)> = const { std::cell::RefCell::new((String::new(), Vec::new())) };
}

/// Begins to watch.
pub fn begin() {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        std::thread::spawn(watch);
    });
}

fn watch() {
    loop {
        std::thread::sleep(Duration::from_secs(5));
        let now = NOW.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, (input, since)) in now.iter() {
            if since.is_some_and(|since| since.elapsed() > HUNG) {
                end(name, input, "never came back");
            }
        }
    }
}

/// Notes the input that is about to be tried.
pub fn at(name: &str, input: &[u8]) {
    CURRENT.with_borrow_mut(|(target, bytes)| {
        name.clone_into(target);
        bytes.clear();
        bytes.extend_from_slice(input);
    });
    let mut now = NOW.lock().unwrap_or_else(PoisonError::into_inner);
    match now.get_mut(name) {
        Some((bytes, since)) => {
            bytes.clear();
            bytes.extend_from_slice(input);
            *since = Some(Instant::now());
        }
        None => {
            now.insert(name.to_owned(), (input.to_vec(), Some(Instant::now())));
        }
    }
    drop(now);
    static IS_TRACED: OnceLock<bool> = OnceLock::new();
    if *IS_TRACED.get_or_init(|| std::env::var_os("QUICKSAND_FUZZ_TRACE").is_some()) {
        let folder = findings::folder(name);
        let _ = fs_err::create_dir_all(&folder);
        let _ = fs_err::write(folder.join("last"), input);
    }
}

/// Notes that the input came back.
pub fn done(name: &str) {
    if let Some((_, since)) = NOW.lock().unwrap_or_else(PoisonError::into_inner).get_mut(name) {
        *since = None;
    }
}

/// Ends the process because of the input that this thread is at.
pub fn give_up(what: &str) -> ! {
    let (name, input) = CURRENT.with_borrow(Clone::clone);
    end(&name, &input, what)
}

fn end(name: &str, input: &[u8], what: &str) -> ! {
    let path = findings::write(name, input);
    // The test runner may hold back what is printed by a macro; the process ends here.
    let text = format!("\nfuzz {name}: {what} with the bytes of {}\n", path.display());
    let _ = std::io::stderr().write_all(text.as_bytes());
    std::process::abort()
}

/// Processor time that this thread has used.
#[cfg(unix)]
pub fn thread_time() -> Duration {
    // SAFETY: all fields of timespec are numbers, for which zero is a value.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a timespec that lives through the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Time that passes: Windows counts a thread's own in steps that are too coarse.
#[cfg(not(unix))]
pub fn thread_time() -> Duration {
    static BEGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    BEGIN.get_or_init(Instant::now).elapsed()
}
