//! Desktop control: the screen, the keyboard and the pointer of a machine with a display.
//!
//! Everything goes through QMP: `screendump`, `send-key` and `input-send-event`
//! (<https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html>), so that it works while the guest
//! boots and needs nothing inside it. VNC is for people who want to watch.

#[cfg(test)]
mod fuzz;
mod key_names;
mod keys;
mod picture;
mod pointer;
mod raster;
mod resize;

pub use keys::Key;
pub use picture::{Region, ScreenshotOptions};
pub use pointer::{MouseButton, POINTER_MAX, PointerUnit};

use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::sandbox::Sandbox;
use crate::screen::{Screen, Vnc};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a typed key is held, in milliseconds: QEMU's default of 100 would be ten characters a
/// second.
const TYPE_HOLD_MS: u64 = 1;
/// How long keys that are pressed together are held, in milliseconds.
const PRESS_HOLD_MS: u64 = 100;
/// Characters that are typed before the guest must show that it keeps up: a Linux guest's queue
/// holds 64 events for its reader, and each character is four to eight of them.
const TYPE_BURST: usize = 3;
/// The least time that a burst takes.
const BURST_TIME: Duration = Duration::from_millis(24);
/// How often the guest must answer after a burst. Whoever reads the keys may wait behind others for
/// the processor, and the agent is one of them: each of its turns is one that the reader had too.
const BURST_ANSWERS: u32 = 3;
/// How much longer than for its answers the guest is then left alone: the slower it answers, the
/// more it has to do, and drawing a character takes longer than an answer.
const BURST_REST: u32 = 3;
/// How often the guest asks the tablet what happened, and again for each thing that did.
const POLL_TIME: Duration = Duration::from_millis(10);
/// How long the guest may take to show that it keeps up, when its agent answers at all.
const KEEP_UP: Duration = Duration::from_secs(2);
/// Pause between the clicks of a double click.
const DOUBLE_CLICK: Duration = Duration::from_millis(50);
/// Pause between the steps of a drag, so that the guest sees a movement and not a jump.
const DRAG_STEP: Duration = Duration::from_millis(20);
const DRAG_STEPS: u32 = 10;
/// How often a screen is looked at that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a screen must stay the same to have settled.
const SETTLED: Duration = Duration::from_millis(300);

impl Sandbox {
    /// Takes a picture of the screen as PNG, at any time after the start of QEMU.
    ///
    /// # Errors
    /// [`Error::NoDisplay`] without `enable_display`; a region outside the screen; a scale that is
    /// not above 0 and at most 1.
    ///
    /// ```no_run
    /// # async fn example(sandbox: &sandbox::Sandbox) -> Result<(), Box<dyn std::error::Error>> {
    /// use sandbox::ScreenshotOptions;
    ///
    /// let png = sandbox.screenshot(ScreenshotOptions::default()).await?;
    /// std::fs::write("screen.png", png)?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn screenshot(&self, options: ScreenshotOptions) -> Result<Vec<u8>> {
        let machine = self.display("take a screenshot")?;
        let dump = machine.during("a screenshot", machine.dump()).await?;
        // Milliseconds of work that would hold up whatever else this thread drives.
        let work = tokio::task::spawn_blocking(move || picture::png(dump, options));
        work.await.unwrap_or_else(|error| {
            Err(Error::Screen { reason: format!("the encoder ended: {error}") })
        })
    }

    /// Waits until the screen differs from what it shows now and has then stayed the same for
    /// 0.3 s. Gives whether it did within the timeout: a screen that never rests has changed too.
    /// `None` is no limit.
    pub async fn wait_for_change(&self, timeout: impl Into<Option<Duration>>) -> Result<bool> {
        let machine = self.display("wait for a change of the screen")?;
        let changes = machine.changes(timeout.into());
        machine.during("waiting for a change of the screen", changes).await
    }

    /// Types text: every printable ASCII character, newline as Return, and tab.
    ///
    /// # Errors
    /// [`Error::Untypable`] for any other character, before anything is typed.
    pub async fn type_text(&self, text: &str) -> Result<()> {
        let machine = self.display("type")?;
        let strokes = text.chars().enumerate().map(|(position, character)| {
            keys::typing(character).ok_or(Error::Untypable { character, position })
        });
        let strokes = strokes.collect::<Result<Vec<_>>>()?;
        machine.during("typing", machine.types(&strokes)).await
    }

    /// Presses keys in their order, holds them together for 100 ms, and releases them in reverse, with
    /// 100 ms after each step.
    pub async fn press_key(&self, keys: &[Key]) -> Result<()> {
        let machine = self.display("press keys")?;
        let mut once: Vec<Key> = Vec::with_capacity(keys.len());
        for key in keys {
            if !once.contains(key) {
                once.push(*key);
            }
        }
        let keys = &once[..];
        let press = async {
            machine.send_keys(keys, PRESS_HOLD_MS).await?;
            // QEMU answers at once, and lets the time pass after each key that goes down or up. The
            // mouse would overtake what is still to come.
            let n_waits = u64::try_from(keys.len() * 2).unwrap_or(u64::MAX);
            sleep(Duration::from_millis(PRESS_HOLD_MS.saturating_mul(n_waits))).await;
            machine.keeps_up().await;
            Ok(())
        };
        machine.during("pressing keys", press).await
    }

    /// Moves the pointer.
    pub async fn mouse_move(&self, x: u32, y: u32, unit: PointerUnit) -> Result<()> {
        let machine = self.display("move the mouse")?;
        machine.during("moving the mouse", machine.moves(x, y, unit)).await
    }

    /// Presses and releases a button where the pointer is, twice for a double click.
    pub async fn mouse_click(&self, button: MouseButton, double: bool) -> Result<()> {
        let machine = self.display("click the mouse")?;
        let click = async {
            machine.clicks(button).await?;
            if double {
                sleep(DOUBLE_CLICK).await;
                machine.clicks(button).await?;
            }
            machine.heeds(if double { 4 } else { 2 }).await;
            Ok(())
        };
        machine.during("clicking the mouse", click).await
    }

    /// Moves to the first place, and from there to the second with the button held.
    pub async fn mouse_drag(
        &self,
        from: (u32, u32),
        to: (u32, u32),
        button: MouseButton,
        unit: PointerUnit,
    ) -> Result<()> {
        let machine = self.display("drag the mouse")?;
        machine.during("dragging the mouse", machine.drags(from, to, button, unit)).await
    }

    /// The size of the screen in pixels, width and height.
    pub async fn query_display_size(&self) -> Result<(u32, u32)> {
        let machine = self.display("query the display's size")?;
        machine.during("querying the display's size", machine.display_size()).await
    }

    /// Makes the screen `width` times `height` pixels, 320 to 8192 each, through the X server of the
    /// guest: its agent finds the server and runs `xrandr`. What runs on it hears of the change as
    /// of that of a monitor. The size is there when this returns.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for other sizes; [`Error::DisplaySize`] when no X server is there (a
    /// text console, a Wayland session, a boot), or when it refuses.
    pub async fn set_display_size(&self, width: u32, height: u32) -> Result<()> {
        let machine = self.display("set the display's size")?;
        resize::check(width, height)?;
        machine.during("setting the display's size", machine.resizes(width, height)).await
    }

    /// Where the last movement put the pointer, 0 to 32767 on each axis; `None` before the first.
    /// Only the guest knows where else it may have gone.
    pub async fn query_mouse_position(&self) -> Result<Option<(u32, u32)>> {
        Ok(self.display("query the mouse's position")?.screen()?.pointer())
    }

    /// The port of the VNC server on 127.0.0.1, where there is one.
    pub fn vnc_port(&self) -> Option<u16> {
        self.vnc(|vnc| vnc.port)
    }

    /// The password of the VNC server, where there is one: drawn again at each start.
    pub fn vnc_password(&self) -> Option<String> {
        self.vnc(|vnc| vnc.password.clone())
    }

    fn vnc<T>(&self, get: impl Fn(&Vnc) -> T) -> Option<T> {
        let machine = self.machine("watch").ok()?;
        machine.qemu.screen.as_ref()?.vnc().map(get)
    }

    fn display(&self, action: &'static str) -> Result<Arc<Machine>> {
        let machine = self.machine(action)?;
        machine.screen()?;
        Ok(machine)
    }
}

impl Machine {
    fn screen(&self) -> Result<&Screen> {
        self.qemu.screen.as_ref().ok_or(Error::NoDisplay)
    }

    async fn dump(&self) -> Result<Vec<u8>> {
        self.screen()?.dump(&self.qmp).await
    }

    async fn changes(&self, timeout: Option<Duration>) -> Result<bool> {
        // What no clock can count to is no limit.
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        // Pictures are compared by their sums: a guest with a large screen costs one picture, not three.
        let look = async || Ok::<_, Error>(checksum::sha256(&self.dump().await?));
        let first = look().await?;
        let mut last: Option<(_, Instant)> = None;
        loop {
            let now = Instant::now();
            let rest = end.map_or(LOOK_EVERY, |end| end.saturating_duration_since(now));
            if rest.is_zero() {
                return Ok(last.is_some());
            }
            sleep(LOOK_EVERY.min(rest)).await;
            let dump = look().await?;
            let now = Instant::now();
            last = match last {
                None if dump == first => None,
                Some((seen, since)) if seen == dump => {
                    if now - since >= SETTLED {
                        return Ok(true);
                    }
                    Some((seen, since))
                }
                _ => Some((dump, now)),
            };
        }
    }

    async fn types(&self, strokes: &[Vec<Key>]) -> Result<()> {
        for burst in strokes.chunks(TYPE_BURST) {
            let begin = Instant::now();
            for keys in burst {
                self.send_keys(keys, TYPE_HOLD_MS).await?;
            }
            let sent = Instant::now();
            for _ in 0..BURST_ANSWERS {
                self.keeps_up().await;
            }
            let rest = sent.elapsed() * BURST_REST;
            tokio::time::sleep_until((begin + BURST_TIME).max(Instant::now() + rest)).await;
        }
        Ok(())
    }

    /// The agent's answer says that the guest has come to do something after what it was told; one
    /// that is not there yet, as in a boot, is not waited for.
    async fn keeps_up(&self) {
        let _ = tokio::time::timeout(KEEP_UP, self.agent.ping()).await;
    }

    /// Gives the guest the time to ask the tablet for that many events. QEMU makes one of a button's
    /// or wheel's event and of the movement after it for as long as nobody has asked: a button
    /// would be released, and a wheel turned, where the pointer went next.
    async fn heeds(&self, n_events: u32) {
        for _ in 0..n_events {
            sleep(POLL_TIME).await;
            self.keeps_up().await;
        }
    }

    async fn send_keys(&self, keys: &[Key], hold_ms: u64) -> Result<()> {
        let keys: Vec<Value> =
            keys.iter().map(|key| json!({"type": "qcode", "data": key.qcode()})).collect();
        self.qmp.execute("send-key", json!({"keys": keys, "hold-time": hold_ms})).await?;
        Ok(())
    }

    async fn moves(&self, x: u32, y: u32, unit: PointerUnit) -> Result<()> {
        let (x, y) = self.place(x, y, unit).await?;
        self.move_to(x, y).await
    }

    /// Turns coordinates into absolute ones.
    async fn place(&self, x: u32, y: u32, unit: PointerUnit) -> Result<(u32, u32)> {
        let (width, height) = match unit {
            PointerUnit::Absolute => (POINTER_MAX + 1, POINTER_MAX + 1),
            PointerUnit::Pixels => self.display_size().await?,
        };
        pointer::check("x", x, width.saturating_sub(1))?;
        pointer::check("y", y, height.saturating_sub(1))?;
        Ok(match unit {
            PointerUnit::Absolute => (x, y),
            PointerUnit::Pixels => (pointer::absolute(x, width), pointer::absolute(y, height)),
        })
    }

    async fn move_to(&self, x: u32, y: u32) -> Result<()> {
        self.qmp.execute("input-send-event", pointer::moved(x, y)).await?;
        self.screen()?.note_pointer(x, y);
        Ok(())
    }

    /// Down and up are calls of their own, so that a window manager sees two events.
    async fn clicks(&self, button: MouseButton) -> Result<()> {
        for down in [true, false] {
            self.qmp.execute("input-send-event", pointer::pressed(button, down)).await?;
        }
        Ok(())
    }

    async fn drags(
        &self,
        from: (u32, u32),
        to: (u32, u32),
        button: MouseButton,
        unit: PointerUnit,
    ) -> Result<()> {
        let from = self.place(from.0, from.1, unit).await?;
        let to = self.place(to.0, to.1, unit).await?;
        self.move_to(from.0, from.1).await?;
        self.qmp.execute("input-send-event", pointer::pressed(button, true)).await?;
        self.heeds(2).await;
        let step = |from: u32, to: u32, n: u32| {
            let way = i64::from(to) - i64::from(from);
            (i64::from(from) + way * i64::from(n) / i64::from(DRAG_STEPS)) as u32
        };
        for n in 1..=DRAG_STEPS {
            sleep(DRAG_STEP).await;
            self.move_to(step(from.0, to.0, n), step(from.1, to.1, n)).await?;
        }
        self.heeds(2).await;
        self.qmp.execute("input-send-event", pointer::pressed(button, false)).await?;
        self.heeds(1).await;
        Ok(())
    }

    async fn display_size(&self) -> Result<(u32, u32)> {
        picture::size(&self.dump().await?)
    }
}
