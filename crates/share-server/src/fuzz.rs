//! Hostile requests, as a guest's root writes them: whatever they say, nothing outside of the shared
//! folder changes, and nothing stays open beyond the allowance.

use crate::tests::Plenty;
use crate::wire::{IN_HEADER, MAX_MESSAGE};
use crate::{Options, Share};
use fs_err::os::unix::fs::symlink;
use fuzz_driver::Target;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

/// Requests one after another: each is given by its opcode, its node and the length of its body.
fn requests(mut input: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    std::iter::from_fn(move || {
        let [opcode, node, length, rest @ ..] = input else { return None };
        let length = usize::from(*length).min(rest.len());
        let (body, rest) = rest.split_at(length);
        input = rest;
        let mut request = Vec::with_capacity(IN_HEADER + length);
        request.extend_from_slice(&((IN_HEADER + length) as u32).to_le_bytes());
        request.extend_from_slice(&u32::from(*opcode).to_le_bytes());
        request.extend_from_slice(&7u64.to_le_bytes());
        request.extend_from_slice(&u64::from(*node).to_le_bytes());
        request.resize(IN_HEADER, 0);
        request.extend_from_slice(body);
        Some(request)
    })
}

/// Empties a folder, whatever modes the guest has given to what is in it.
fn clear(folder: &Path) {
    let _ = fs_err::set_permissions(folder, Permissions::from_mode(0o700));
    for entry in fs_err::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            clear(&entry.path());
            fs_err::remove_dir(entry.path()).unwrap();
        } else {
            fs_err::remove_file(entry.path()).unwrap();
        }
    }
}

#[test]
fn fuzz_share() {
    const SECRET: &[u8] = b"what-no-guest-sees";
    let outer = tempfile::tempdir().unwrap();
    let (secret, folder) = (outer.path().join("outside"), outer.path().join("folder"));
    fs_err::write(&secret, SECRET).unwrap();
    fs_err::create_dir(&folder).unwrap();
    let words: &[&[u8]] = &[
        b"\x01\x01\x03up\0",
        b"\x01\x01\x05file\0",
        b"\x01\x01\x08outside\0",
        b"\x01\x01\x03..\0",
        b"\x01\x02\x08outside\0",
        b"\x0a\x01\x05link\0",
        b"\x05\x02\x00",
        b"\x0e\x02\x08\0\0\0\0\0\0\0\0",
        b"\x1b\x01\x08\0\0\0\0\0\0\0\0",
        b"\x1a\x01\x10\x07\0\0\0\x26\0\0\0\0\0\0\0\xff\xff\xff\xff",
        b"\x0f\x01\x28\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff",
        b"../outside\0",
    ];
    let allowance = Arc::new(Plenty::default());
    Target::new("share").words(words).run(|input| {
        clear(&folder);
        symlink("../outside", folder.join("link")).unwrap();
        symlink("..", folder.join("up")).unwrap();
        fs_err::write(folder.join("file"), "text").unwrap();
        let share = Share::open(&folder, Options::default(), allowance.clone()).unwrap();
        let mut answer = Vec::new();
        share.answer(input, &mut answer);
        for request in requests(input) {
            answer.clear();
            share.answer(&request, &mut answer);
            assert!(answer.len() <= MAX_MESSAGE);
            assert!(!answer.windows(SECRET.len()).any(|window| window == SECRET));
        }
        assert_eq!(fs_err::read(&secret).unwrap(), SECRET);
        assert_eq!(fs_err::read_dir(outer.path()).unwrap().count(), 2);
        share.revoke();
        drop(share);
        assert_eq!(allowance.held(), (0, 0));
    });
}
