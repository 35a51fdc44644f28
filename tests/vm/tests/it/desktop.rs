//! The screen, the keyboard and the pointer of a real machine, as its kernel sees them.

use super::run;
use sandbox::{
    ExecuteRequest, Key, MouseButton, POINTER_MAX, PointerUnit, Region, Sandbox, SandboxConfig,
    ScreenshotOptions, Transport, VncAccess, WaitFor,
};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const EVENT: usize = 24;

/// Every character that can be typed, with a line's end.
fn typable() -> String {
    (' '..='~').chain(['\t', '\n']).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_desktop_of_a_real_machine() {
    let config = SandboxConfig::builder("debian").wait_for(WaitFor::Boot).enable_display(true);
    let sandbox = vm_tests::started(config).await;
    run(&sandbox, "systemctl stop getty@tty1; udevadm settle --timeout=20").await;
    keyboard(&sandbox).await;
    pictures(&sandbox).await;
    pointer(&sandbox).await;
    assert!(sandbox.vnc_port().is_some_and(|port| (5900..=5999).contains(&port)));
    sandbox.stop().await.unwrap();
}

/// What is typed arrives, each character once and in order. The terminal is opened by a process
/// that leads no session, so that it does not become that session's.
async fn keyboard(sandbox: &Sandbox) {
    let text = typable().repeat(10) + "Hello!\n";
    let reader = format!(
        "(exec < /dev/tty1; stty -icanon -echo icrnl; echo ready; dd bs=1 count={} status=none); :",
        text.len()
    );
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let mut ready = Some(ready);
    let reading = sandbox.stream(
        ExecuteRequest::new(reader).timeout(Duration::from_secs(90)),
        move |_, _| {
            if let Some(ready) = ready.take() {
                let _ = ready.send(());
            }
            async { std::ops::ControlFlow::Continue(()) }
        },
    );
    let typing = async {
        is_ready.await.unwrap();
        sandbox.type_text(&text).await.unwrap();
    };
    let (read, ()) = tokio::join!(reading, typing);
    assert_eq!(read.unwrap().stdout_lossy(), format!("ready\n{text}"));

    let chord =
        "(exec < /dev/tty1; stty -icanon -echo; dd bs=1 count=1 status=none | od -An -tu1); :";
    let chord = sandbox.execute(ExecuteRequest::new(chord));
    let pressing = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        sandbox.press_key(&[Key::Ctrl, Key::D]).await.unwrap();
    };
    let (read, ()) = tokio::join!(chord, pressing);
    assert_eq!(read.unwrap().stdout_lossy().trim(), "4");

    let error = sandbox.type_text("caf\u{e9}").await.unwrap_err();
    assert!(error.to_string().contains("U+00E9"), "{error}");
    assert!(error.hint().unwrap().contains("clipboard"));
}

async fn pictures(sandbox: &Sandbox) {
    let size = sandbox.query_display_size().await.unwrap();
    let whole = sandbox.screenshot(ScreenshotOptions::default()).await.unwrap();
    assert_eq!(png_size(&whole), size);
    let region = Region { x: 8, y: 8, width: 64, height: 32 };
    let options = ScreenshotOptions { region: Some(region), scale: Some(0.5) };
    assert_eq!(png_size(&sandbox.screenshot(options).await.unwrap()), (32, 16));
    let outside = Region { x: size.0, ..region };
    let outside = ScreenshotOptions { region: Some(outside), scale: None };
    assert!(sandbox.screenshot(outside).await.is_err());

    // The cursor blinks: a change that counts must be there, and one that is not must not.
    run(sandbox, "printf '\\033[?25l' > /dev/tty1").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let waiting = sandbox.wait_for_change(Duration::from_millis(700));
    assert!(!waiting.await.unwrap(), "nothing was drawn");
    let waiting = sandbox.wait_for_change(Duration::from_secs(20));
    let drawing = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        run(sandbox, "echo quicksand > /dev/tty1").await;
    };
    let (changed, ()) = tokio::join!(waiting, drawing);
    assert!(changed.unwrap());
    assert_ne!(sandbox.screenshot(ScreenshotOptions::default()).await.unwrap(), whole);
}

/// The kernel's own input events tell where the tablet was and which button was pressed.
async fn pointer(sandbox: &Sandbox) {
    let node = run(
        sandbox,
        "for e in /sys/class/input/event*; do if grep -q Tablet $e/device/name; then echo /dev/input/${e##*/}; fi; done",
    )
    .await;
    assert!(node.starts_with("/dev/input/event"), "the guest has no tablet: `{node}`");
    assert_eq!(sandbox.query_mouse_position().await.unwrap(), None);
    let (width, height) = sandbox.query_display_size().await.unwrap();
    let events = record(sandbox, &node, async {
        sandbox.mouse_move(500, 300, PointerUnit::Absolute).await.unwrap();
        sandbox.mouse_click(MouseButton::Right, false).await.unwrap();
        sandbox.mouse_move(width - 1, height - 1, PointerUnit::Pixels).await.unwrap();
        sandbox.mouse_click(MouseButton::WheelDown, false).await.unwrap();
        sandbox
            .mouse_drag((0, 0), (POINTER_MAX, 300), MouseButton::Left, PointerUnit::Absolute)
            .await
            .unwrap();
    })
    .await;
    let has = |kind, code, value| events.contains(&(kind, code, value));
    // EV_ABS 3 (X 0, Y 1), EV_KEY 1 (BTN_LEFT 0x110, BTN_RIGHT 0x111), EV_REL 2 (REL_WHEEL 8).
    assert!(has(3, 0, 500) && has(3, 1, 300), "{events:?}");
    assert!(has(1, 0x111, 1) && has(1, 0x111, 0), "{events:?}");
    assert!(has(2, 8, -1), "{events:?}");
    let down = events.iter().position(|event| *event == (1, 0x110, 1)).expect("a press");
    let up = events.iter().position(|event| *event == (1, 0x110, 0)).expect("a release");
    let moves = events[down..up].iter().filter(|event| event.0 == 3 && event.1 == 0).count();
    assert!(moves >= 5, "a drag is a movement: {events:?}");
    assert_eq!(sandbox.query_mouse_position().await.unwrap(), Some((POINTER_MAX, 300)));
    assert!(sandbox.mouse_move(width, 0, PointerUnit::Pixels).await.is_err());
    assert!(sandbox.mouse_move(0, POINTER_MAX + 1, PointerUnit::Absolute).await.is_err());
}

/// Runs something and gives the events (type, code, value) that an input device reported meanwhile.
async fn record(
    sandbox: &Sandbox,
    node: &str,
    act: impl Future<Output = ()>,
) -> Vec<(u16, u16, i32)> {
    let command = format!("echo ready >&2; timeout 8 cat {node}");
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let mut ready = Some(ready);
    let reading = sandbox.stream(ExecuteRequest::new(command), move |_, _| {
        if let Some(ready) = ready.take() {
            let _ = ready.send(());
        }
        async { std::ops::ControlFlow::Continue(()) }
    });
    let acting = async {
        is_ready.await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        act.await;
    };
    let (read, ()) = tokio::join!(reading, acting);
    let half = |bytes: &[u8]| u16::from_le_bytes([bytes[0], bytes[1]]);
    read.unwrap()
        .stdout
        .chunks_exact(EVENT)
        .map(|event| {
            let value = i32::from_le_bytes(event[20..24].try_into().unwrap());
            (half(&event[16..]), half(&event[18..]), value)
        })
        .collect()
}

fn png_size(png: &[u8]) -> (u32, u32) {
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"));
    let side = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (side(16), side(20))
}

/// VNC lets nobody in without the password, on either transport's port.
#[tokio::test(flavor = "multi_thread")]
async fn vnc_asks_for_a_password() {
    let config =
        |transport, vnc| vm_tests::minimal().enable_display(true).transport(transport).vnc(vnc);
    let sandbox = vm_tests::started(config(Transport::Socket, VncAccess::Port)).await;
    let port = sandbox.vnc_port().unwrap();
    assert!((5900..=5999).contains(&port), "{port}");
    assert_eq!(sandbox.vnc_password().unwrap().len(), 8);
    assert!(!sandbox.qemu_command().unwrap().join(" ").contains(&sandbox.vnc_password().unwrap()));
    let mut vnc = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut version = [0; 12];
    vnc.read_exact(&mut version).await.unwrap();
    assert_eq!(&version, b"RFB 003.008\n");
    vnc.write_all(&version).await.unwrap();
    // One way to authenticate is offered, and it is number 2, by password.
    let mut kinds = [0; 2];
    vnc.read_exact(&mut kinds).await.unwrap();
    assert_eq!(kinds, [1, 2]);
    vnc.write_all(&[2]).await.unwrap();
    let mut challenge = [0; 16];
    vnc.read_exact(&mut challenge).await.unwrap();
    vnc.write_all(&[0; 16]).await.unwrap();
    let mut verdict = [0; 4];
    vnc.read_exact(&mut verdict).await.unwrap();
    assert_ne!(verdict, [0; 4], "a wrong answer was let in");
    sandbox.stop().await.unwrap();
    // Whoever says nothing gets a port, and who wants none none.
    for (vnc, is_served) in [(VncAccess::Auto, true), (VncAccess::Off, false)] {
        let sandbox = vm_tests::started(config(Transport::Socket, vnc)).await;
        assert_eq!(sandbox.vnc_port().is_some(), is_served, "{vnc:?}");
        assert_eq!(sandbox.vnc_password().is_some(), is_served, "{vnc:?}");
        sandbox.stop().await.unwrap();
    }

    let without = SandboxConfig::builder("minimal").build().unwrap();
    assert!(!without.enable_display());
}

#[test]
fn a_machine_without_a_display_says_so() {
    super::on_shared(async |sandbox: &Sandbox| {
        let error = sandbox.screenshot(ScreenshotOptions::default()).await.unwrap_err();
        assert!(error.hint().unwrap().contains("enable_display=True"), "{error}");
        assert!(sandbox.type_text("x").await.is_err());
        assert!(sandbox.mouse_click(MouseButton::Left, true).await.is_err());
    });
}
