//! `quicksand run`: a sandbox for one command, or for a person at a terminal.
//!
//! Streams pass byte for byte, and so does the exit code. Invariant: the machine has ended before
//! the process does, whatever ended the run.
//!
//! Signals are heard in every phase. The first one asks: a start or the opening of a session is given
//! up, a command gets it (SIGINT) or is ended (SIGTERM) and the machine is stopped as after any
//! command, a save that is being written is given up. The second one ends the machine at once, and
//! nothing is saved.

use crate::{
    args::RunArgs,
    install, places,
    report::{Failure, INTERRUPTED, SANDBOX, TIMED_OUT, USAGE},
    save,
    signals::{Signal, Signals},
    streams::{self, Writer},
    terminal::{self, PasswordFile, RawMode, Status},
    threads,
};
use sandbox::{
    ExecuteRequest, GuestText, Pty, Sandbox, SandboxConfig, SessionEvent, SessionInput,
    SessionOutput,
};
use std::{
    ffi::{OsStr, OsString},
    sync::Arc,
    time::Duration,
};

/// How long a command may take to end after a signal was passed on to it.
const GRACE: Duration = Duration::from_secs(2);

/// How long what still runs may take to end with the process.
const LEAVE: Duration = Duration::from_secs(2);

/// The numbers of SIGINT and SIGTERM, in the guest as everywhere.
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// The exit code of a program that wrote to a closed pipe (128 plus SIGPIPE).
const BROKEN_PIPE: i32 = 141;

/// A shell for a person: the first of these that the image has.
const SHELLS: &str = "for s in /bin/bash /bin/sh; do [ -x \"$s\" ] && exec \"$s\"";

/// Runs it, and gives the exit code.
pub fn run(args: &RunArgs) -> Result<i32, Failure> {
    let request = request(args, terminal::is_interactive())?;
    let password_file = args.password_file.clone().map(PasswordFile::at);
    let mut options = args.machine.to_options(&args.image);
    if let Some(output) = &args.output {
        options["save"] = save::name_or_path(output).into();
    }
    let config = SandboxConfig::from_value(options).map_err(|error| Failure::sandbox(&error))?;
    let installed = install::missing(config.image(), config.arch());
    installed.map_err(|failure| failure.with_code(SANDBOX))?;
    let runtime = threads::runtime()?;
    let outcome = runtime.block_on(async {
        let mut signals = Signals::listen().map_err(|error| {
            Failure::new(SANDBOX, format!("Failed to take signals: {error}"), None)
        })?;
        let status = Arc::new(Status::new());
        let shown = status.clone();
        let sandbox = Sandbox::new(config)
            .with_locator(places::search())
            .on_progress(move |stage, _, _| shown.show(&format!("quicksand: {stage}")));
        let outcome = drive(&sandbox, request, &status, &mut signals, password_file).await;
        status.clear();
        if let Ok(Ended::AtOnce(code)) = outcome {
            // Dropping the sandbox ends the machine.
            return Ok(code);
        }
        let stopping = sandbox.stop();
        tokio::pin!(stopping);
        let stopped = loop {
            tokio::select! {
                stopped = &mut stopping => break stopped,
                signal = signals.next() => if let Some(code) = signal.exit_code() {
                    if args.output.is_some() {
                        eprintln!("quicksand: interrupted: nothing was saved");
                    }
                    return Ok(code);
                },
            }
        };
        let (Ended::ByItself(code) | Ended::AtOnce(code)) = outcome?;
        stopped.map_err(|error| Failure::sandbox(&error))?;
        Ok(code)
    });
    // What still runs is ended, and removes what it has written. A thread that waits for a file of
    // the host that never answers is left behind: the end of the process is its own.
    runtime.shutdown_timeout(LEAVE);
    outcome
}

/// How the run of the command ended.
enum Ended {
    /// The sandbox is stopped as its options say.
    ByItself(i32),
    /// The machine ends now, and nothing is saved.
    AtOnce(i32),
}

/// What to run, and in which terminal.
struct Job {
    request: ExecuteRequest,
    has_pty: bool,
}

fn request(args: &RunArgs, is_interactive: bool) -> Result<Job, Failure> {
    let wants_shell = args.command.is_empty();
    let has_pty = args.tty || (wants_shell && is_interactive);
    let command = match (wants_shell, &args.shell) {
        (false, _) => quote(&args.command)?,
        (true, Some(shell)) => [b"exec ", &quote(&[shell.into()])?[..]].concat(),
        // A login shell reads the profile, which a person expects and a script does not.
        (true, None) if has_pty => format!("{SHELLS} -l; done").into_bytes(),
        (true, None) => format!("{SHELLS}; done").into_bytes(),
    };
    let mut request = ExecuteRequest::new(command).timeout(limit(args.timeout));
    request.cwd = args.cwd.as_deref().map(GuestText::from);
    request.user = args.user.clone();
    if let (false, Some(shell)) = (wants_shell, &args.shell) {
        request = request.shell(shell.as_str());
    }
    for entry in &args.env {
        if let Some((name, value)) = variable(entry)? {
            request = request.env(name, value);
        }
    }
    Ok(Job { request, has_pty })
}

/// A variable of `-e NAME=VALUE`, or of `-e NAME` when this process has it.
fn variable(entry: &OsStr) -> Result<Option<(String, GuestText)>, Failure> {
    let text = GuestText::from(entry);
    let bytes = text.as_bytes();
    let (name, value) = match bytes.iter().position(|byte| *byte == b'=') {
        Some(at) => (&bytes[..at], Some(GuestText::from(&bytes[at + 1..]))),
        None => (bytes, std::env::var_os(entry).as_deref().map(GuestText::from)),
    };
    match std::str::from_utf8(name) {
        Ok(name) if !name.is_empty() => Ok(value.map(|value| (name.to_owned(), value))),
        _ => Err(Failure::new(
            USAGE,
            format!("Invalid value `{text}` for `--env`"),
            Some("allowed is NAME=VALUE, or the NAME of a variable to pass on"),
        )),
    }
}

fn quote(words: &[OsString]) -> Result<Vec<u8>, Failure> {
    let words: Vec<GuestText> =
        words.iter().map(|word| GuestText::from(word.as_os_str())).collect();
    shlex::bytes::try_join(words.iter().map(GuestText::as_bytes)).map_err(|_| {
        let message = "A word of the command has a NUL character in it";
        Failure::new(USAGE, message, Some("no program can be given such an argument"))
    })
}

/// Seconds as a duration; what no clock can count to is no limit.
fn limit(seconds: Option<f64>) -> Option<Duration> {
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

async fn drive(
    sandbox: &Sandbox,
    job: Job,
    status: &Status,
    signals: &mut Signals,
    password_file: Option<PasswordFile>,
) -> Result<Ended, Failure> {
    match unless_interrupted(sandbox.start(), signals).await {
        Ok(started) => started.map_err(|error| Failure::sandbox(&error))?,
        Err(code) => return Ok(Ended::AtOnce(code)),
    }
    status.clear();
    if let (Some(port), Some(password)) = (sandbox.vnc_port(), sandbox.vnc_password()) {
        eprintln!("quicksand: the screen is at vnc://127.0.0.1:{port}");
        match &password_file {
            Some(file) => {
                file.write(&password)?;
                eprintln!("quicksand: its password is in {}", file.path.display());
            }
            // A terminal is a person's; anything else may be a log that others read.
            None if status.is_terminal() => eprintln!("quicksand: its password is {password}"),
            None => eprintln!("quicksand: --password-file FILE would write its password"),
        }
        eprintln!("quicksand: to see it in a browser: quicksand view {port}");
    }
    for forward in sandbox.forwards().await {
        // Whoever asked for any free port does not know it yet.
        if sandbox.config().port_forwards().contains(&forward) {
            continue;
        }
        let (host, port) = (forward.host_address, forward.host_port);
        eprintln!("quicksand: {host}:{port} leads to port {} of the guest", forward.guest_port);
    }
    let (rows, cols) = terminal::size();
    let pty = job.has_pty.then(|| Pty { rows, cols, term: terminal::kind() });
    let opening = sandbox.session(job.request, pty);
    let (input, output) = match unless_interrupted(opening, signals).await {
        Ok(opened) => opened.map_err(|error| Failure::sandbox(&error))?,
        Err(code) => return Ok(Ended::AtOnce(code)),
    };
    let _raw = match job.has_pty && terminal::is_interactive() {
        true => Some(RawMode::enter().map_err(|error| {
            Failure::new(SANDBOX, format!("Failed to set the terminal up: {error}"), None)
        })?),
        false => None,
    };
    attend(input, output, signals).await
}

/// Waits for a phase of the run, or gives the exit code of the signal that ends it.
async fn unless_interrupted<T>(
    phase: impl Future<Output = T>,
    signals: &mut Signals,
) -> Result<T, i32> {
    tokio::pin!(phase);
    loop {
        tokio::select! {
            done = &mut phase => return Ok(done),
            signal = signals.next() => if let Some(code) = signal.exit_code() {
                return Err(code);
            },
        }
    }
}

/// Passes everything on in both directions until the command ends or a signal ends it.
async fn attend(
    input: SessionInput,
    output: SessionOutput,
    signals: &mut Signals,
) -> Result<Ended, Failure> {
    // Tasks of their own, because a command that does not read its input, or a reader that does not
    // read ours, may hold them up for ever while signals must still be heard.
    let pump = tokio::spawn(feed(input.clone()));
    let mut relay = tokio::spawn(relay(output));
    let mut asked = None;
    // It begins to count once the command was asked to end.
    let grace = tokio::time::sleep(GRACE);
    tokio::pin!(grace);
    let outcome = loop {
        tokio::select! {
            ended = &mut relay => break ended.unwrap_or_else(|error| {
                Err(Failure::new(SANDBOX, format!("The relay of output failed: {error}"), None))
            }),
            signal = signals.next() => match signal {
                Signal::Interrupt | Signal::End(_) if asked.is_some() => {
                    return Ok(Ended::AtOnce(signal.exit_code().unwrap_or(INTERRUPTED)));
                }
                Signal::Interrupt | Signal::End(_) => {
                    asked = signal.exit_code();
                    let number = if signal == Signal::Interrupt { SIGINT } else { SIGTERM };
                    grace.as_mut().reset(tokio::time::Instant::now() + GRACE);
                    let input = input.clone();
                    tokio::spawn(async move { input.signal(number).await });
                }
                Signal::Resize => {
                    let (rows, cols) = terminal::size();
                    let input = input.clone();
                    tokio::spawn(async move { input.resize(rows, cols).await });
                }
            },
            () = &mut grace, if asked.is_some() => break Ok(INTERRUPTED),
        }
    };
    // With both ends of the session gone, the guest kills what still runs.
    pump.abort();
    relay.abort();
    match asked {
        // Whatever the command made of it, its end was asked for.
        Some(code) => Ok(Ended::ByItself(code)),
        None => outcome.map(Ended::ByItself),
    }
}

/// The command's output to our own, until it ends; gives the exit code.
async fn relay(mut output: SessionOutput) -> Result<i32, Failure> {
    let (stdout, stderr) = (Writer::stdout(), Writer::stderr());
    let code = loop {
        match output.next().await.map_err(|error| Failure::sandbox(&error))? {
            Some(SessionEvent::Stdout(data)) if stdout.write(data.clone()).await => {}
            Some(SessionEvent::Stderr(data)) if stderr.write(data.clone()).await => {}
            Some(SessionEvent::Stdout(_) | SessionEvent::Stderr(_)) => break BROKEN_PIPE,
            Some(SessionEvent::Exit { timed_out: true, .. }) => break TIMED_OUT,
            Some(SessionEvent::Exit { exit_code, .. }) => break exit_code,
            None => return Err(Failure::new(SANDBOX, "The guest ended the session", None)),
        }
    };
    for writer in [stdout, stderr] {
        match writer.finish().await {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(BROKEN_PIPE),
            Err(error) => {
                return Err(Failure::new(
                    SANDBOX,
                    format!("Failed to write output: {error}"),
                    None,
                ));
            }
        }
    }
    Ok(code)
}

/// Standard input to the command, and its end.
async fn feed(input: SessionInput) {
    let mut stdin = streams::read_stdin();
    while let Some(chunk) = stdin.recv().await {
        if input.write(chunk).await.is_err() {
            return;
        }
    }
    let _ = input.close().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Task};
    use clap::Parser as _;

    fn job(line: &[&str], is_interactive: bool) -> Job {
        let line = ["quicksand", "run", "minimal"].iter().chain(line);
        let Task::Run(args) = Cli::try_parse_from(line).unwrap().task else { panic!() };
        request(&args, is_interactive).unwrap()
    }

    #[test]
    fn the_guests_shell_sees_the_words_as_they_were_given() {
        for (words, expect) in [
            (&["uname", "-a"][..], "uname -a"),
            (&["echo", "a b", "$HOME"], "echo 'a b' '$HOME'"),
            (&["echo", "it's"], "echo \"it's\""),
            (&["echo", ""], "echo ''"),
        ] {
            let line: Vec<&str> = ["--"].iter().chain(words).copied().collect();
            assert_eq!(job(&line, true).request.command, expect);
        }
    }

    #[test]
    fn only_a_person_gets_a_terminal() {
        for (line, is_interactive, expect) in [
            (&["--", "ls"][..], true, false),
            (&["--tty", "--", "ls"], false, true),
            (&[], true, true),
            (&[], false, false),
        ] {
            assert_eq!(job(line, is_interactive).has_pty, expect, "{line:?}");
        }
    }

    #[test]
    fn a_run_has_no_time_limit_unless_one_is_given() {
        assert_eq!(job(&["--", "ls"], false).request.timeout, None);
        let limited = job(&["--timeout", "1.5", "--", "ls"], false);
        assert_eq!(limited.request.timeout, Some(Duration::from_millis(1500)));
    }

    #[test]
    fn variables_with_and_without_a_value() {
        let line =
            ["-e", "A=b=c", "-e", "B=", "-e", "QUICKSAND_TEST_UNSET", "-e", "PATH", "--", "env"];
        let job = job(&line, false);
        assert_eq!(job.request.env["A"], "b=c");
        assert_eq!(job.request.env["B"], "");
        assert_eq!(job.request.env["PATH"], std::env::var("PATH").unwrap().as_str());
        // A variable that is not set here is not set there: an empty one would count as set.
        assert!(!job.request.env.contains_key("QUICKSAND_TEST_UNSET"));
        for wrong in ["", "=", "=value"] {
            let failure = variable(OsStr::new(wrong)).unwrap_err();
            assert_eq!(failure.print(), USAGE, "{wrong}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn words_that_are_not_utf8_reach_the_guest_as_they_are() {
        use std::os::unix::ffi::OsStrExt as _;
        let word = |bytes: &'static [u8]| OsStr::from_bytes(bytes).to_owned();
        let line = [
            word(b"quicksand"),
            word(b"run"),
            word(b"minimal"),
            word(b"-e"),
            word(b"A=a\xffb"),
            word(b"-w"),
            word(b"/d\xfe"),
            word(b"--"),
            word(b"cat"),
            word(b"a \xff"),
        ];
        let Task::Run(args) = Cli::try_parse_from(line).unwrap().task else { panic!() };
        let request = request(&args, false).unwrap().request;
        assert_eq!(request.command.as_bytes(), b"cat 'a \xff'");
        assert_eq!(request.env["A"].as_bytes(), b"a\xffb");
        assert_eq!(request.cwd.unwrap().as_bytes(), b"/d\xfe");
    }
}
