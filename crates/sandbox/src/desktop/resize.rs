//! A new size of the screen, set by the guest's X server at the agent's word.
//!
//! QEMU can only suggest a size to the guest (`ui-info`, which VNC's `SetDesktopSize` becomes), and
//! no X server follows a suggestion by itself; `xrandr` says it to the one who decides. Any size
//! will do: the monitor is not real, so its timings are ours to invent.

use crate::agent_client::execution::{Discard, run_to_end};
use crate::error::{Error, Result};
use crate::execute::ExecuteRequest;
use crate::machine::Machine;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const LEAST: u32 = 320;
const MOST: u32 = 8_192;
/// How long `xrandr` may take: seconds where each instruction is translated.
const GUEST_TIME: Duration = Duration::from_secs(60);
/// How long QEMU's picture may take to follow.
const FOLLOW_TIME: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The most characters of the guest's words that an error repeats.
const MAX_REASON: usize = 300;

/// Finds the X server by its socket, admits itself by the file that the server was started with,
/// and takes the mode of that name or makes it. `$1` is the mode's name, the rest its timings.
const SCRIPT: &str = r#"
command -v xrandr >/dev/null || { echo 'the guest has no xrandr' >&2; exit 1; }
for place in /proc/[0-9]*/cmdline; do
  line=$(tr '\0' '\n' < "$place" 2>/dev/null) || continue
  case ${line%%
*} in *Xorg|*/X|X) ;; *) continue ;; esac
  auth=$(echo "$line" | sed -n '/^-auth$/{n;p;q}')
  [ -z "$auth" ] || export XAUTHORITY="$auth"
done
for socket in /tmp/.X11-unix/X*; do
  [ -S "$socket" ] || continue
  export DISPLAY=:${socket##*/X}
  modes=$(xrandr --query) || continue
  output=$(echo "$modes" | sed -n '/ connected/{s/ .*//;p;q}')
  [ -n "$output" ] || continue
  if ! echo "$modes" | grep -q "^ *$1 "; then
    xrandr --newmode "$@" 2>/dev/null
    xrandr --addmode "$output" "$1" || exit
  fi
  exec xrandr --output "$output" --mode "$1"
done
echo 'no X server answers' >&2
exit 1
"#;

/// Refuses a size that no screen has.
pub(super) fn check(width: u32, height: u32) -> Result<()> {
    for (option, value) in [("width", width), ("height", height)] {
        if !(LEAST..=MOST).contains(&value) {
            return Err(Error::InvalidValue {
                option,
                value: value.to_string(),
                allowed: format!("{LEAST} to {MOST} pixels"),
                hint: None,
            });
        }
    }
    Ok(())
}

/// The mode's name and its timings at 60 Hz, in the words of `xrandr --newmode`: the clock in MHz,
/// then of each axis the end of the picture, the beginning and end of the pulse, and the total. The
/// blank parts are those of VESA's CVT with reduced blanking.
fn mode(width: u32, height: u32) -> String {
    let (across, down) = (width + 160, height + 40);
    let clock = f64::from(across) * f64::from(down) * 60.0 / 1e6;
    let (begin, end) = (width + 48, width + 80);
    let (top, bottom) = (height + 3, height + 13);
    format!(
        "{width}x{height} {clock:.2} {width} {begin} {end} {across} {height} {top} {bottom} {down}"
    )
}

/// What the guest's programs said, on one line and without what could steer a terminal.
fn reason(stderr: &[u8]) -> String {
    let lines: Vec<String> =
        stderr.trim_ascii().split(|byte| *byte == b'\n').map(agent_protocol::shown).collect();
    lines.join("; ").chars().take(MAX_REASON).collect()
}

impl Machine {
    pub(super) async fn resizes(&self, width: u32, height: u32) -> Result<()> {
        let failed = |reason: String| Error::DisplaySize { width, height, reason };
        let command = format!("set -- {}\n{SCRIPT}", mode(width, height));
        let request = ExecuteRequest::new(command).timeout(GUEST_TIME);
        let result = run_to_end(&self.agent, &request, &mut Discard).await?;
        if result.exit_code != 0 {
            return Err(failed(reason(&result.stderr)));
        }
        let end = Instant::now() + FOLLOW_TIME;
        loop {
            let seen = self.display_size().await?;
            if seen == (width, height) {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(failed(format!("it has stayed at {}x{}", seen.0, seen.1)));
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_guest_said_steers_no_terminal() {
        let said = b"\x1b]0;title\x07no display\nxrandr: gone\xff\n";
        assert_eq!(reason(said), r"\x1b]0;title\x07no display; xrandr: gone\xff");
        assert_eq!(reason(&[b'x'; 5000]).len(), MAX_REASON);
    }

    #[test]
    fn timings_are_in_order() {
        assert_eq!(mode(1024, 768), "1024x768 57.40 1024 1072 1104 1184 768 771 781 808");
        assert_eq!(mode(1919, 1079), "1919x1079 139.58 1919 1967 1999 2079 1079 1082 1092 1119");
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for (width, height, named) in
            [(0, 768, "width"), (1024, 319, "height"), (8193, 768, "width")]
        {
            let error = check(width, height).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains("8192"), "{error}");
        }
        assert!(check(320, 8192).is_ok());
    }
}
