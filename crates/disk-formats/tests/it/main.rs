//! Our overlays in the hands of another implementation of qcow2, and what that one writes in ours.
//!
//! `imago` decompresses no zstd, and refuses each image whose header says that a compressed cluster
//! would be zstd's. The overlays here have no compressed cluster, so that the two fields are changed
//! for it and back. What is compressed is judged by qemu-img in the tests of `image-builder`.

#![cfg(unix)]

use disk_formats::qcow2::{copy_active, empty_overlay, inspect, read};
use fs_err as fs;
use imago::{
    FormatAccess, FormatDriverBuilder as _, PermissiveImplicitOpenGate, file::File, qcow2::Qcow2,
};
use std::{
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Larger than what one table of tables of a small disk covers, and no multiple of a cluster.
const DISK: u64 = (3 << 30) + 512;
const CLUSTER: usize = 1 << 16;
type Image = Arc<FormatAccess<File>>;

/// What the header says of compression: bit 3 of the incompatible features, and the type itself.
fn says_zstd(path: &Path, state: bool) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.file().write_all_at(&(u64::from(state) << 3).to_be_bytes(), 72).unwrap();
    file.file().write_all_at(&[u8::from(state)], 104).unwrap();
}

/// The other implementation's view of an overlay and what it lies on.
fn opened(path: &Path, below: Option<Image>) -> Image {
    says_zstd(path, false);
    let image = Qcow2::<File, Image>::builder_path(path).write(true).backing(below);
    Arc::new(FormatAccess::new(image.open(PermissiveImplicitOpenGate::default()).unwrap()))
}

fn overlay(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    let (head, length) = empty_overlay(DISK, "").unwrap();
    fs::write(&path, head).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
    path
}

/// The bytes of our own reader at a place of the disk.
fn ours(chain: &[&Path], offset: u64, length: usize) -> Vec<u8> {
    let chunks = read(chain).unwrap();
    (offset..offset + length as u64)
        .map(|at| {
            let chunk = chunks[at as usize / CLUSTER].as_deref();
            chunk.map_or(0, |chunk| chunk[at as usize % CLUSTER])
        })
        .collect()
}

#[test]
fn another_implementation_reads_and_writes_our_overlays() {
    let folder = tempfile::tempdir().unwrap();
    let lower = overlay(folder.path(), "lower.qcow2");
    let upper = overlay(folder.path(), "upper.qcow2");
    // Across two clusters, at the disk's end, and over what the layer below has.
    let writes: [(&Path, u64, usize, u8); 5] = [
        (&lower, 0, 512, 1),
        (&lower, CLUSTER as u64 - 512, 1024, 2),
        (&lower, DISK - 512, 512, 3),
        (&upper, CLUSTER as u64, 512, 4),
        (&upper, 1 << 30, 4096, 5),
    ];
    {
        let below = opened(&lower, None);
        for (path, offset, length, byte) in writes {
            let alone = if path == lower {
                Arc::clone(&below)
            } else {
                opened(path, Some(Arc::clone(&below)))
            };
            alone.write(&vec![byte; length], offset).unwrap();
            alone.flush().unwrap();
        }
    }
    says_zstd(&lower, true);
    says_zstd(&upper, true);

    // Ours reads what the other one wrote.
    let chain = [lower.as_path(), upper.as_path()];
    let places = [
        (0, 1024, [vec![1; 512], vec![0; 512]].concat()),
        (CLUSTER as u64 - 512, 1536, [vec![2; 512], vec![4; 512], vec![0; 512]].concat()),
        (1 << 30, 4608, [vec![5; 4096], vec![0; 512]].concat()),
        (DISK - 512, 512, vec![3; 512]),
    ];
    for (offset, length, expect) in &places {
        assert!(ours(&chain, *offset, *length) == *expect, "ours at {offset}");
    }

    // The other one reads what ours copies.
    let copies = ["lower-copy.qcow2", "upper-copy.qcow2"].map(|name| folder.path().join(name));
    for (from, to) in chain.iter().zip(&copies) {
        let mut from = fs::File::open(from).unwrap();
        let mut to = fs::File::create(to).unwrap();
        copy_active(&mut from, &mut to, "").unwrap();
        assert_eq!(inspect(&mut from, false).unwrap().size, DISK);
    }
    let below = opened(&copies[0], None);
    let image = opened(&copies[1], Some(below));
    assert_eq!(image.size(), DISK);
    for (offset, length, expect) in &places {
        let mut bytes = vec![0xff; *length];
        image.read(&mut bytes[..], *offset).unwrap();
        assert!(bytes == *expect, "the copy at {offset}");
    }
}
