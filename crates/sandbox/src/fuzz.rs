//! Hostile bytes for what the runtime reads: QEMU's words, the console, disks, saves, shares.

use crate::config::SandboxConfig;
use crate::console::Console;
use crate::qmp::Qmp;
use fuzz_driver::Target;
use std::io::Cursor;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// How long an answer of QEMU may take.
const SOON: std::time::Duration = std::time::Duration::from_secs(2);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn fuzz_qmp() {
    const GREETING: &[u8] = b"{\"QMP\":{}}\n{\"return\":{},\"id\":1}\n";
    let words: &[&[u8]] = &[
        b"\n",
        b"{\"return\":",
        b"\"id\":2}",
        b"\"error\"",
        b"\"desc\"",
        b"\"event\"",
        b"\"data\"",
        b"BLOCK_IO_ERROR",
        b"GUEST_PANICKED",
        b"\"status\":\"concluded\"",
        b"RESUME",
    ];
    let runtime = runtime();
    Target::new("qmp").words(words).run(|input| {
        runtime.block_on(async {
            let (ours, mut qemus) = tokio::io::duplex(1 << 16);
            qemus.write_all(GREETING).await.unwrap();
            qemus.write_all(input).await.unwrap();
            let Ok(qmp) = Qmp::connect(ours).await else { return };
            // The end of the words is the end of the connection: nobody waits for ever.
            let (_, _) = tokio::join!(
                async {
                    qemus.shutdown().await.unwrap();
                    qemus.read_to_end(&mut Vec::new()).await
                },
                async {
                    let _ = qmp.execute("query-status", serde_json::json!({})).await;
                    let _ = qmp.finish_job("snapshot-save", "job", SOON).await;
                    drop(qmp);
                }
            );
        });
    });
}

#[test]
fn fuzz_console() {
    let words: &[&[u8]] = &[
        b"quicksand-agent: mark ",
        b"quicksand-agent: ready",
        b"Kernel panic - not syncing",
        b"\x1b[2J",
        b"\x9b",
        b"\xc2\x9b",
        b"root 0.5",
        b"NaN",
        b"inf",
    ];
    let runtime = runtime();
    Target::new("console").words(words).run(|input| {
        let console = runtime.block_on(async {
            let console = Console::follow(Box::new(Cursor::new(input.to_vec())));
            console.ended().await;
            console
        });
        for text in [console.text(), console.tail()] {
            assert!(!text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{text:?}");
        }
        assert!(console.progress().marks.iter().all(|(_, seconds)| seconds.is_finite()));
    });
}

#[test]
fn fuzz_qcow2() {
    tables_of_layers_at_their_limits();
    Target::new("qcow2").max_input(1 << 16).max_memory(160 << 20).run(|input| {
        for is_base in [true, false] {
            if let Ok(layer) = disk_formats::qcow2::inspect(&mut Cursor::new(input), is_base) {
                assert!(layer.size > 0);
                let _ = disk_formats::qcow2::empty_overlay(layer.size, "below");
            }
        }
    });
}

/// Sizes and clusters at the limits of the format: no arithmetic of the tables may overflow.
fn tables_of_layers_at_their_limits() {
    let numbers =
        [0, 1, 511, 512, 1 << 16, 1 << 31, 1 << 32, 1 << 53, 1 << 62, u64::MAX - 1, u64::MAX];
    for cluster_bits in [0u32, 8, 9, 12, 16, 21, 22, 31, 32, 63, u32::MAX] {
        for size in numbers {
            for n_entries in [0u32, 1, 1 << 16, 1 << 22, u32::MAX] {
                for offset in numbers {
                    let mut image = vec![0u8; 1024];
                    image[..4].copy_from_slice(b"QFI\xfb");
                    image[4..8].copy_from_slice(&3u32.to_be_bytes());
                    image[20..24].copy_from_slice(&cluster_bits.to_be_bytes());
                    image[24..32].copy_from_slice(&size.to_be_bytes());
                    image[36..40].copy_from_slice(&n_entries.to_be_bytes());
                    image[40..48].copy_from_slice(&offset.to_be_bytes());
                    image[100..104].copy_from_slice(&104u32.to_be_bytes());
                    let _ = disk_formats::qcow2::inspect(&mut Cursor::new(image), true);
                }
            }
        }
    }
    for size in numbers {
        let _ = disk_formats::qcow2::empty_overlay(size, "below");
    }
}

#[test]
fn fuzz_config() {
    let words: &[&[u8]] = &[
        b"\"image\"",
        b"\"memory\"",
        b"\"mounts\"",
        b"\"port_forwards\"",
        b"\"allow\"",
        b"\"disk_size\"",
        b"\"extra_qemu_args\"",
        b"\"host\"",
        b"\"guest\"",
        b"1e400",
        b"-1",
        b"\"16T\"",
        b"/8",
        b"*.",
    ];
    Target::new("config").words(words).run(|input| {
        if let Ok(text) = std::str::from_utf8(input)
            && let Err(error) = SandboxConfig::from_json(text)
        {
            let _ = (error.to_string(), error.hint());
        }
    });
}

/// Puts the right checksum into every header of a tar, as a maker of hostile saves would.
fn with_checksums(input: &[u8]) -> Vec<u8> {
    let mut tar = input.to_vec();
    let mut at = 0;
    while let Some(block) = tar.get_mut(at..at + 512) {
        if block.iter().all(|byte| *byte == 0) {
            break;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let header = tar::Header::from_byte_slice(block);
        let length = header.entry_size().unwrap_or(0).min(1 << 20) as usize;
        at += 512 + length.div_ceil(512) * 512;
    }
    tar
}

#[test]
fn fuzz_save_archive() {
    let words: &[&[u8]] =
        &[b"manifest.json", b"overlays/0.qcow2", b"overlays/", b"../", b"ustar\0"];
    let folder = tempfile::tempdir().unwrap();
    let (file, target) = (folder.path().join("save.tar"), folder.path().join("saves/save"));
    fs_err::create_dir(folder.path().join("saves")).unwrap();
    Target::new("save_archive").max_input(1 << 16).words(words).run(|input| {
        fs_err::write(&file, with_checksums(input)).unwrap();
        if let Ok(manifest) = crate::save::import(&file, &target, true, None) {
            assert!(manifest.base_image().is_some_and(|base| !base.contains('/')));
            fs_err::remove_dir_all(&target).unwrap();
        }
        // Nothing is written beside the save, and nothing is left of a refused one.
        let count = |path: &std::path::Path| fs_err::read_dir(path).unwrap().count();
        assert_eq!(count(folder.path()), 2);
        assert_eq!(count(&folder.path().join("saves")), 0);
    });
}

/// Panics of the server's own threads; the runtime catches them, and only the hook sees them.
static SERVER_PANICS: AtomicUsize = AtomicUsize::new(0);

#[test]
fn fuzz_smb() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().name() == Some("smb-fuzz") {
            SERVER_PANICS.fetch_add(1, Ordering::SeqCst);
        }
        before(info);
    }));
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("smb-fuzz")
        .enable_all()
        .build()
        .unwrap();
    let address = runtime.block_on(async {
        let share = smb_server::LocalFsBackend::new(folder.path()).unwrap();
        let server = smb_server::SmbServer::builder()
            .listen(std::net::SocketAddr::from(([127, 0, 0, 1], 0)))
            .user("user", "password")
            .require_signing(false)
            .max_connections(64)
            .build()
            .unwrap();
        let address = server.bind().await.unwrap();
        let config = server.config_handle();
        tokio::spawn(server.serve());
        let share =
            smb_server::Share::new("share", share).user("user", smb_server::Access::ReadWrite);
        config.add_share(share).await.unwrap();
        address
    });
    let words: &[&[u8]] =
        &[b"\xfeSMB", b"\xfcSMB", b"NTLMSSP\0", b"\x11\x03", b"\xff\xff", b"\x40\0"];
    Target::new("smb").words(words).run(|input| {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        // Frames in the input end where it says so; their lengths are always true, or the rest would
        // never be looked at.
        for frame in input.split(|byte| *byte == 0xfd) {
            let length = (frame.len() as u32).to_be_bytes();
            if stream.write_all(&[&length, frame].concat()).is_err() {
                break;
            }
        }
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.take(1 << 20).read_to_end(&mut Vec::new());
        assert_eq!(SERVER_PANICS.load(Ordering::SeqCst), 0, "the server panicked");
    });
}
