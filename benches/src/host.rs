//! The host that figures are of. It goes with each of them, so that those of several hosts can be put
//! together.

use runtime_locator::{AcceleratorRequest, Search, choose_accelerator};
use serde::Serialize;
use std::sync::LazyLock;

static HOST: LazyLock<Host> = LazyLock::new(Host::find);

/// This host, as it was when it was asked for first.
pub fn host() -> &'static Host {
    &HOST
}

/// What machines run with: the hardware accelerator where it works.
pub fn accelerator() -> &'static str {
    HOST.accelerator
}

/// Whether waiting machines can be forked: their threads and memory are this process' own under TCG alone.
pub fn has_forks() -> bool {
    accelerator() == "tcg"
}

/// What figures depend on.
#[derive(Debug, Serialize)]
pub struct Host {
    /// `kvm`, or `tcg` where no hardware accelerator works.
    accelerator: &'static str,
    /// What the probe of the hardware accelerator found.
    reason: String,
    /// The processor's name.
    processor: String,
    /// How many processors this program may use.
    n_processors: usize,
    kernel: String,
    /// The load of the last minute when the run began: figures of a busy host are worth less.
    load: f64,
}

impl Host {
    fn find() -> Self {
        let read = |path: &str| fs_err::read_to_string(path).unwrap_or_default();
        let search = Search::from_process(Vec::new());
        let choice = choose_accelerator(&search, AcceleratorRequest::Auto, search.host.arch);
        Self {
            accelerator: choice.accelerator.name(),
            reason: choice.reason,
            processor: model_name(&read("/proc/cpuinfo")),
            n_processors: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim_end().to_owned(),
            load: first_number(&read("/proc/loadavg")),
        }
    }
}

fn model_name(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim());
    name.unwrap_or_default().to_owned()
}

fn first_number(loadavg: &str) -> f64 {
    loadavg.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        let cpuinfo = "processor\t: 0\nmodel name\t: A Fast One @ 3.0GHz\nmodel name\t: other\n";
        assert_eq!(model_name(cpuinfo), "A Fast One @ 3.0GHz");
        assert_eq!(model_name(""), "");
        assert_eq!(first_number("1.25 0.70 0.50 1/200 4242\n"), 1.25);
    }
}
