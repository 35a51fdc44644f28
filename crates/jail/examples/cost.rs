//! What the walls cost: `cost TIMES FOLDER-TO-READ PROGRAM ARGS…` runs a program to its end behind the
//! walls of a plain machine and without them, in turns, and prints the milliseconds of both.
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
    for _ in 0..n_times {
        let begin = std::time::Instant::now();
        let jailed = jail::Program { path: &program, args: &args, inherit: &[] };
        let mut child = jail::spawn(&jailed, &needs).expect("it starts");
        assert!(child.plan.missing.is_empty(), "{:?}", child.plan.missing);
        assert!(child.wait().expect("it ends").success());
        with.push(begin.elapsed());
        let begin = std::time::Instant::now();
        assert!(plain(&program, &args).success());
        without.push(begin.elapsed());
    }
    for (name, times) in [("with", &mut with), ("without", &mut without)] {
        times.sort();
        let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1000.0;
        println!("{name}: median {:.2} ms, p10 {:.2} ms, p90 {:.2} ms", at(50), at(10), at(90));
    }
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
