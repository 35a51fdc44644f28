//! Delayed imports of PE files: a table that linkers fill in another form than the usual imports.
//!
//! The files are laid out by hand after Microsoft's "PE Format", sections "Optional Header Data
//! Directories" and "Delay-Load Import Tables".

use binary_bundler::{
    closure::{Options, Root},
    inspect::{Format, inspect_file},
    relocate::{self, Placed, Request},
};
use std::path::Path;

/// Where the one section is, in memory and in the file.
const SECTION: u32 = 0x1000;
const IN_FILE: usize = 0x200;

/// Directory 13 is that of delayed imports, directory 1 that of imports.
const DELAYED: usize = 13;
const IMPORTS: usize = 1;

/// An x86_64 file that imports and delays these DLLs and has no code.
fn pe(is_dll: bool, imports: &[&str], delayed: &[&str]) -> Vec<u8> {
    let (usual_len, delayed_len) = ((imports.len() + 1) * 20, (delayed.len() + 1) * 32);
    let mut section = vec![0; usual_len + delayed_len + 8];
    let empty = SECTION + (usual_len + delayed_len) as u32;
    let put_name = |section: &mut Vec<u8>, name: &str| {
        let at = SECTION + section.len() as u32;
        section.extend(name.as_bytes());
        section.push(0);
        at
    };
    for (row, name) in imports.iter().enumerate() {
        let name = put_name(&mut section, name);
        let words = [empty, 0, 0, name, empty].map(u32::to_le_bytes).concat();
        section[row * 20..row * 20 + 20].copy_from_slice(&words);
    }
    for (row, name) in delayed.iter().enumerate() {
        let name = put_name(&mut section, name);
        // Attributes (1: the fields are relative addresses), name, handle, tables, time.
        let words = [1, name, empty, empty, empty, 0, 0, 0].map(u32::to_le_bytes).concat();
        let at = usual_len + row * 32;
        section[at..at + 32].copy_from_slice(&words);
    }
    section.resize(0x600, 0);

    let mut file = b"MZ".to_vec();
    file.resize(0x3C, 0);
    file.extend(0x40_u32.to_le_bytes());
    file.extend(b"PE\0\0");
    file.extend([0x8664_u16, 1].map(u16::to_le_bytes).concat());
    file.extend([0; 12]);
    file.extend([240, if is_dll { 0x2022 } else { 0x0022_u16 }].map(u16::to_le_bytes).concat());
    let optional = file.len();
    file.extend(0x20B_u16.to_le_bytes());
    file.resize(optional + 24, 0);
    file.extend(0x1_4000_0000_u64.to_le_bytes());
    file.extend([0x1000_u32, 0x200].map(u32::to_le_bytes).concat());
    file.extend([6_u16, 0, 0, 0, 6, 0].map(u16::to_le_bytes).concat());
    file.extend([0_u32, 0x2000, IN_FILE as u32, 0].map(u32::to_le_bytes).concat());
    file.extend([3_u16, 0].map(u16::to_le_bytes).concat());
    file.resize(optional + 108, 0);
    file.extend(16_u32.to_le_bytes());
    let directories = file.len();
    file.resize(optional + 240, 0);
    let mut directory = |index: usize, at: usize, len: usize| {
        let words = [SECTION + at as u32, len as u32].map(u32::to_le_bytes).concat();
        file[directories + index * 8..directories + index * 8 + 8].copy_from_slice(&words);
    };
    directory(IMPORTS, 0, usual_len);
    if !delayed.is_empty() {
        directory(DELAYED, usual_len, delayed_len);
    }
    file.extend(b".rdata\0\0");
    let header = [0x600, SECTION, 0x600, IN_FILE as u32, 0, 0, 0, 0x4000_0040];
    file.extend(header.map(u32::to_le_bytes).concat());
    file.resize(IN_FILE, 0);
    file.extend(section);
    file
}

fn request(root: &Path) -> Request {
    Request {
        root: Root::at(root).unwrap(),
        files: vec![Placed { from: "/bin/tool.exe".into(), to: "tool.exe".into() }],
        data: Vec::new(),
        library_folder: "lib".into(),
        options: Options::default(),
        entitlements: Vec::new(),
    }
}

#[test]
fn delayed_imports_are_read_and_bundled_and_may_be_absent() {
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    fs_err::create_dir_all(&bin).unwrap();
    let tool =
        pe(false, &["KERNEL32.dll", "usual.dll"], &["late.dll", "WinHvPlatform.dll", "absent.dll"]);
    fs_err::write(bin.join("tool.exe"), &tool).unwrap();
    fs_err::write(bin.join("usual.dll"), pe(true, &["KERNEL32.dll"], &[])).unwrap();
    // What a delayed library needs at once is needed as soon as it is loaded.
    fs_err::write(bin.join("late.dll"), pe(true, &["deeper.dll"], &[])).unwrap();
    fs_err::write(bin.join("deeper.dll"), pe(true, &["KERNEL32.dll"], &[])).unwrap();

    let Format::Pe(read) = inspect_file(&bin.join("tool.exe")).unwrap().unwrap().format else {
        panic!("no PE")
    };
    assert_eq!(read.imports, ["KERNEL32.dll", "usual.dll"]);
    assert_eq!(read.delayed, ["late.dll", "WinHvPlatform.dll", "absent.dll"]);

    let plan = relocate::plan(&request(folder.path())).unwrap();
    let tree = folder.path().join("tree");
    relocate::apply(&plan, &tree).unwrap();
    relocate::verify(&plan, &tree).unwrap();
    let mut names: Vec<String> = fs_err::read_dir(&tree)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["deeper.dll", "late.dll", "tool.exe", "usual.dll"]);

    // Without the table's end, and with a table that leads nowhere, the reading ends all the same.
    let mut endless = tool.clone();
    let row = IN_FILE + 3 * 20 + 3 * 32;
    endless[row..row + 32].copy_from_slice(&tool[row - 32..row]);
    fs_err::write(bin.join("tool.exe"), &endless).unwrap();
    inspect_file(&bin.join("tool.exe")).unwrap();

    fs_err::remove_file(bin.join("usual.dll")).unwrap();
    fs_err::write(bin.join("tool.exe"), &tool).unwrap();
    let error = relocate::plan(&request(folder.path())).unwrap_err();
    assert!(error.to_string().contains("needs `usual.dll`"), "{error}");
}
