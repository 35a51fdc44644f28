//! Desktop control: pictures beside QEMU's own PNG encoder, typing, a click until it shows, and the
//! time until a desktop is there. The pictures are those of the window of `desktop-test`.

use crate::figure::{Figure, GoalKind};
use anyhow::{Context as _, Result, bail};
use sandbox::{
    ExecuteRequest, Key, MouseButton, PointerUnit, Region, Sandbox, SandboxConfig,
    ScreenshotOptions,
};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

const N_PICTURES: u32 = 50;
const N_CHARACTERS: usize = 1000;
const PATIENCE: Duration = Duration::from_secs(300);
/// The window's button before and after it was pressed, and the panels of Xfce.
const RED: [u8; 3] = [0xd0, 0x20, 0x20];
const GREEN: [u8; 3] = [0x20, 0xc0, 0x20];
const PANEL: [u8; 3] = [0xf6, 0xf5, 0xf4];
/// A pixel of the button that its words do not cover.
const BUTTON: (u32, u32) = (575, 70);

/// All figures of the desktop. The second image is a large one, and is measured where it is installed.
pub async fn measure(n_samples: u32) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let monitor = folder.path().join("qmp");
    let options = json!({
        "image": "desktop-test",
        "accel": crate::host::accelerator(),
        "enable_display": true,
        "extra_qemu_args": ["-qmp", format!("unix:{},server=on,wait=off", monitor.display())],
    });
    let begin = Instant::now();
    let sandbox = start(options).await?;
    wait_for_pixel(&sandbox, BUTTON, RED).await?;
    let ready = begin.elapsed().as_secs_f64();
    let mut figures = vec![Figure::new("desktop-test: start to its window", "s", vec![ready])];
    figures.push(typing(&sandbox).await?);
    figures.push(click(&sandbox, n_samples).await?);
    let mut qmp = Monitor::open(&monitor).await?;
    for size in [(1024, 768), (1920, 1080)] {
        sandbox.set_display_size(size.0, size.1).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        figures.push(pictures(&sandbox, &mut qmp, folder.path(), size).await?);
    }
    sandbox.stop().await?;

    let begin = Instant::now();
    let options = json!({
        "image": "debian-desktop",
        "accel": crate::host::accelerator(),
        "enable_display": true,
        "memory": "1G",
    });
    let sandbox = start(options).await?;
    // The upper panel first, and the lower one, which comes when all else is there.
    wait_for_pixel(&sandbox, (400, 5), PANEL).await?;
    wait_for_pixel(&sandbox, (640, 755), PANEL).await?;
    let ready = begin.elapsed().as_secs_f64();
    figures.push(Figure::new("debian-desktop: start to its panels", "s", vec![ready]));
    sandbox.stop().await?;
    Ok(figures)
}

async fn start(options: Value) -> Result<Sandbox> {
    let sandbox = Sandbox::new(SandboxConfig::from_value(options)?);
    sandbox.start().await?;
    Ok(sandbox)
}

/// Our pictures and QEMU's by turns.
async fn pictures(
    sandbox: &Sandbox,
    qmp: &mut Monitor,
    folder: &Path,
    (width, height): (u32, u32),
) -> Result<Figure> {
    let file = folder.join("screen.png");
    let (mut ours, mut its) = (vec![], vec![]);
    for _ in 0..N_PICTURES {
        let begin = Instant::now();
        sandbox.screenshot(ScreenshotOptions::default()).await?;
        ours.push(begin.elapsed().as_secs_f64() * 1e3);
        let begin = Instant::now();
        qmp.execute("screendump", json!({ "filename": file, "format": "png" })).await?;
        fs_err::read(&file)?;
        its.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    Ok(Figure::new(format!("screenshot {width}x{height}"), "ms", ours)
        .beside("QEMU's PNG encoder", its)
        .goal(GoalKind::RatioAtMost, 0.5))
}

/// Characters a second, of which the window must have been told each.
async fn typing(sandbox: &Sandbox) -> Result<Figure> {
    let text: String = (' '..='~').cycle().take(N_CHARACTERS).collect();
    let begin = Instant::now();
    sandbox.type_text(&(text.clone() + "\n")).await?;
    let rate = N_CHARACTERS as f64 / begin.elapsed().as_secs_f64();
    let end = Instant::now() + PATIENCE;
    let typed = loop {
        let lines = run(sandbox, "cat /run/desktop/events").await?;
        let codes = lines.lines().filter_map(|line| line.strip_prefix("key down "));
        let codes = codes.filter_map(|key| key.split(' ').nth(1)?.parse::<u8>().ok());
        let typed: String = codes.map(char::from).collect();
        if typed.ends_with('\r') {
            break typed;
        }
        anyhow::ensure!(Instant::now() < end, "the line's end never arrived");
    };
    if typed.trim_end_matches('\r') != text {
        bail!("of {N_CHARACTERS} characters {} arrived as they were typed", typed.len() - 1);
    }
    Ok(Figure::new(format!("type_text, none of {N_CHARACTERS} lost"), "characters/s", vec![rate]))
}

/// Milliseconds from the call that clicks to the first picture that shows it.
async fn click(sandbox: &Sandbox, n_samples: u32) -> Result<Figure> {
    let mut times = vec![];
    for _ in 0..n_samples {
        sandbox.press_key(&[Key::Esc]).await?;
        wait_for_pixel(sandbox, BUTTON, RED).await?;
        sandbox.mouse_move(BUTTON.0, BUTTON.1, PointerUnit::Pixels).await?;
        let begin = Instant::now();
        sandbox.mouse_click(MouseButton::Left, false).await?;
        wait_for_pixel(sandbox, BUTTON, GREEN).await?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    Ok(Figure::new("click to the change of a pixel", "ms", times))
}

/// The first pixel of a PNG of ours, which has three bytes for each.
fn first_pixel(png: &[u8]) -> Result<[u8; 3]> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info()?;
    let mut pixels = vec![0; reader.output_buffer_size().context("The picture is too large")?];
    reader.next_frame(&mut pixels)?;
    Ok([pixels[0], pixels[1], pixels[2]])
}

async fn wait_for_pixel(sandbox: &Sandbox, (x, y): (u32, u32), colour: [u8; 3]) -> Result<()> {
    let region = Region { x, y, width: 1, height: 1 };
    let options = ScreenshotOptions { region: Some(region), scale: None };
    let end = Instant::now() + PATIENCE;
    // While the guest boots, its screen may be smaller.
    loop {
        if let Ok(png) = sandbox.screenshot(options).await
            && first_pixel(&png)? == colour
        {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < end, "no pixel at {x},{y} became {colour:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn run(sandbox: &Sandbox, command: &str) -> Result<String> {
    Ok(sandbox.execute(ExecuteRequest::new(command)).await?.stdout_lossy())
}

/// A second monitor of the same QEMU.
struct Monitor(BufReader<UnixStream>);

impl Monitor {
    async fn open(path: &Path) -> Result<Self> {
        let mut monitor = Self(BufReader::new(UnixStream::connect(path).await?));
        monitor.answer().await?;
        monitor.execute("qmp_capabilities", json!({})).await?;
        Ok(monitor)
    }

    async fn execute(&mut self, command: &str, arguments: Value) -> Result<()> {
        let request = json!({ "execute": command, "arguments": arguments }).to_string() + "\n";
        self.0.get_mut().write_all(request.as_bytes()).await?;
        loop {
            let answer = self.answer().await?;
            if answer.get("return").is_some() {
                return Ok(());
            }
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses `{command}`: {error}");
            }
        }
    }

    async fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.0.read_line(&mut line).await?;
        serde_json::from_str(&line).context("QEMU's answer is no JSON")
    }
}
