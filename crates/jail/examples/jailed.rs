//! Runs a program behind the walls of a plain machine: `jailed FOLDER-TO-READ PROGRAM ARGS…`.
//! Arguments `@PATH` become an open file's path. Prints the walls and the milliseconds to the start.
fn main() {
    #[cfg(target_os = "linux")]
    run();
}

#[cfg(target_os = "linux")]
fn run() {
    use std::io::Write;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    let mut words = std::env::args().skip(1);
    let read = vec![words.next().expect("a folder").into()];
    let program = std::path::PathBuf::from(words.next().expect("a program"));
    let (mut args, mut files) = (Vec::new(), Vec::new());
    for word in words {
        match word.strip_prefix('@') {
            Some(path) => {
                let file = fs_err::File::open(path).expect("a file");
                // SAFETY: the descriptor is open, and the new one is nobody else's.
                let file: OwnedFd = unsafe {
                    OwnedFd::from_raw_fd(libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 10))
                };
                args.push(format!("/proc/self/fd/{}", file.as_raw_fd()));
                files.push(file);
            }
            None => args.push(word),
        }
    }
    let inherit: Vec<i32> = files.iter().map(AsRawFd::as_raw_fd).collect();
    let needs = jail::Needs { read, memory: 512 << 20, disk: 1 << 30, ..jail::Needs::default() };
    let start = std::time::Instant::now();
    let program = jail::Program { path: &program, args: &args, inherit: &inherit };
    let mut child = jail::spawn(&program, &needs).expect("it starts");
    eprintln!("{:?} after {:?}", child.plan, start.elapsed());
    let mut from = std::fs::File::from(child.stdout.take().expect("a pipe"));
    let mut errors = std::fs::File::from(child.stderr.take().expect("a pipe"));
    let other = std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::stderr()));
    let _ = std::io::copy(&mut from, &mut std::io::stdout());
    let _ = std::io::stdout().flush();
    let _ = other.join();
    eprintln!("{:?}", child.wait());
}
