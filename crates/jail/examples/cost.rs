//! What the walls cost: `cost TIMES FOLDER-TO-READ PROGRAM ARGS…` runs a program to its end behind the
//! walls of a plain machine and without them, in turns, and prints the milliseconds of both: on the
//! clock, and of processor time, which a busy host does not change.
fn main() {
    #[cfg(target_os = "linux")]
    run();
}

#[cfg(target_os = "linux")]
fn run() {
    let mut words = std::env::args().skip(1);
    let n_times: usize = words.next().and_then(|it| it.parse().ok()).expect("how many times");
    let read = vec![words.next().expect("a folder").into()];
    let program = std::path::PathBuf::from(words.next().expect("a program"));
    let args: Vec<String> = words.collect();
    let needs = jail::Needs { read, memory: 512 << 20, disk: 1 << 30, ..jail::Needs::default() };
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let mut spent = [0.0; 2];
    for _ in 0..n_times {
        let (begin, before) = (std::time::Instant::now(), processor_ms());
        let jailed = jail::Program { path: &program, args: &args, inherit: &[] };
        let mut child = jail::spawn(&jailed, &needs).expect("it starts");
        assert!(child.plan.missing.is_empty(), "{:?}", child.plan.missing);
        assert!(child.wait().expect("it ends").success());
        with.push(begin.elapsed());
        spent[0] += processor_ms() - before;
        let (begin, before) = (std::time::Instant::now(), processor_ms());
        assert!(plain(&program, &args).success());
        without.push(begin.elapsed());
        spent[1] += processor_ms() - before;
    }
    for (name, times, spent) in [("with", &mut with, spent[0]), ("without", &mut without, spent[1])]
    {
        times.sort();
        let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1000.0;
        let processor = spent / n_times as f64;
        let [p10, p50, p90] = [10, 50, 90].map(at);
        println!(
            "{name}: median {p50:.2} ms, p10 {p10:.2} ms, p90 {p90:.2} ms; processor {processor:.2} ms"
        );
    }
}

/// Processor time of this process and of those that it has waited for.
#[cfg(target_os = "linux")]
fn processor_ms() -> f64 {
    let of = |who| {
        // SAFETY: the structure is of this frame.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(who, &mut usage);
            usage
        };
        let ms = |time: libc::timeval| time.tv_sec as f64 * 1e3 + time.tv_usec as f64 / 1e3;
        ms(usage.ru_utime) + ms(usage.ru_stime)
    };
    of(libc::RUSAGE_SELF) + of(libc::RUSAGE_CHILDREN)
}

/// As a program is started without walls: a fork, and one call before the exec.
#[cfg(target_os = "linux")]
fn plain(program: &std::path::Path, args: &[String]) -> std::process::ExitStatus {
    use std::os::unix::process::CommandExt;
    use std::process::Stdio;
    #[allow(clippy::disallowed_methods)]
    let mut command = std::process::Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: one system call, which takes a number.
    unsafe {
        command.process_group(0).pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
            Ok(())
        });
    }
    command.spawn().and_then(|mut child| child.wait()).expect("it ends")
}
