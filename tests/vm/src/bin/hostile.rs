//! A hostile program that the product starts as its QEMU: it tries what a QEMU could try that a guest
//! has taken over, and says on its console what it reached.
//!
//! It has nothing but what QEMU has: the arguments, the descriptors in them, and the firmware's folder,
//! where its test has written the targets.

#[cfg(target_os = "linux")]
#[path = "../../../../crates/jail/tests/it/hostile.rs"]
mod attempts;

/// Characters of a line and lines of an error message; what is longer is not shown.
#[cfg(target_os = "linux")]
const LINE: usize = 280;

/// What a test writes in place of targets, for a program that only crashes.
#[cfg(target_os = "linux")]
const CRASH: &str = "crash";

#[cfg(target_os = "linux")]
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let at = args.iter().position(|arg| arg == "-L").expect("a folder with firmware");
    let text = fs_err::read_to_string(format!("{}/targets", args[at + 1])).expect("targets");
    if text == CRASH {
        std::process::abort();
    }
    let words: Vec<&str> = text.lines().collect();
    let [home, name, tcp, udp, parent, other] = words[..] else { panic!("{words:?}") };
    let number = |text: &str| text.parse().expect("a number");
    let targets = attempts::Targets {
        home: home.into(),
        name: name.into(),
        tcp: number(tcp) as u16,
        udp: number(udp) as u16,
        others: vec![("the parent", number(parent)), ("another machine", number(other))],
        handed: handed(&args),
        base: layer(&args),
        listens: args.iter().any(|arg| arg.contains("hostfwd=")),
    };
    let tried = attempts::attempts(&targets);
    let mut line = String::new();
    for (what, is_reached) in &tried {
        let word = format!("{}{what}; ", if *is_reached { "REACHED " } else { "" });
        if line.len() + word.len() > LINE {
            println!("{line}");
            line.clear();
        }
        line.push_str(&word);
    }
    println!("{line}");
    let n_reached = tried.iter().filter(|(_, is_reached)| *is_reached).count();
    println!("tried {} and reached {n_reached}", tried.len());
    std::process::exit(3);
}

/// The numbers that the arguments name.
#[cfg(target_os = "linux")]
fn handed(args: &[String]) -> Vec<i32> {
    let after = |arg: &String, word: &str| -> Vec<i32> {
        let rests = arg.split(word).skip(1);
        let digits = rests.map(|rest| rest.split(|it: char| !it.is_ascii_digit()).next());
        digits.filter_map(|digits| digits?.parse().ok()).collect()
    };
    let of = |arg| ["fd=", "/proc/self/fd/", "addr.str="].map(|word| after(arg, word)).concat();
    args.iter().flat_map(of).collect()
}

/// The descriptor of the lowest layer of the disk, `fd=N,set=100`.
#[cfg(target_os = "linux")]
fn layer(args: &[String]) -> i32 {
    let set = args.iter().find_map(|arg| arg.strip_suffix(",set=100"));
    let number = set.and_then(|arg| arg.strip_prefix("fd=")?.parse().ok());
    number.expect("a layer")
}

#[cfg(not(target_os = "linux"))]
fn main() {}
