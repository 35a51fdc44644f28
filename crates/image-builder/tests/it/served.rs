//! Repositories for tests: a folder that is served on loopback, and the files that lie in one.

use flate2::{Compression, write::GzEncoder};
use fs_err as fs;
use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
};

/// Serves a folder until the process ends; gives its URI.
pub fn serve(folder: &Path) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    let folder = folder.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let folder = folder.clone();
            std::thread::spawn(move || answer(&stream, &folder));
        }
    });
    uri
}

fn answer(mut stream: &TcpStream, folder: &Path) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    while let Some(line) = lines.next() {
        // The rest of the request does not matter.
        while lines.next().is_some_and(|line| !line.is_empty()) {}
        let target = line.split(' ').nth(1).unwrap_or_default().replace("%2b", "+");
        let (status, body) = match fs::read(folder.join(target.trim_start_matches('/'))) {
            Ok(body) => ("200 OK", body),
            Err(_) => ("404 Not Found", Vec::new()),
        };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
        if stream.write_all(&[head.as_bytes(), &body].concat()).is_err() {
            return;
        }
    }
}

/// Puts a file into a repository.
pub fn put(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Changes one byte of a file.
pub fn spoil(path: &Path, place: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[place] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// A file of a package.
pub struct File {
    pub path: String,
    pub bytes: Vec<u8>,
    pub mode: u32,
    pub owner: &'static str,
}

pub fn file(path: &str, bytes: impl Into<Vec<u8>>) -> File {
    File { path: path.to_owned(), bytes: bytes.into(), mode: 0o644, owner: "root" }
}

/// A tar of these files; an empty file whose path has an arrow is a link.
pub fn tar(files: &[File]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(file.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_username(file.owner).unwrap();
        header.set_groupname(file.owner).unwrap();
        header.set_size(file.bytes.len() as u64);
        match file.path.split_once(" -> ") {
            Some((path, target)) => {
                header.set_entry_type(tar::EntryType::Symlink);
                builder.append_link(&mut header, path, target).unwrap();
            }
            None => builder.append_data(&mut header, &file.path, file.bytes.as_slice()).unwrap(),
        }
    }
    builder.into_inner().unwrap()
}

/// A package of Debian's form.
pub fn deb(control: &str, files: &[File]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    let data = zstd::encode_all(tar(files).as_slice(), 1).unwrap();
    for (name, body) in [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar", tar(&[file("./control", control)])),
        ("data.tar.zst", data),
    ] {
        let head =
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, body.len());
        out.extend(head.bytes());
        out.extend(&body);
        if body.len() % 2 == 1 {
            out.push(b'\n');
        }
    }
    out
}

/// One gzip stream.
pub fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A kernel for arm64 in a program for EFI, as Alpine packs it.
pub fn zboot(kernel: &[u8]) -> Vec<u8> {
    let payload = gz(kernel);
    let mut file = vec![0; 512];
    file[..8].copy_from_slice(b"MZ\0\0zimg");
    file[8..12].copy_from_slice(&512_u32.to_le_bytes());
    file[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    file[24..28].copy_from_slice(b"gzip");
    [file, payload, vec![0; 4096]].concat()
}

/// A kernel for arm64, which is a header and nothing more.
pub fn kernel() -> Vec<u8> {
    let mut image = vec![0; 64];
    image[56..60].copy_from_slice(b"ARM\x64");
    image
}

/// A kernel module: an ELF with nothing but the names of its sections and `.modinfo`.
pub fn module(modinfo: &str) -> Vec<u8> {
    let text = [modinfo.as_bytes(), b"\0"].concat();
    let names = b"\0.shstrtab\0.modinfo\0";
    let mut elf = vec![0; 64];
    elf[..5].copy_from_slice(b"\x7fELF\x02");
    elf.extend_from_slice(names);
    elf.extend_from_slice(&text);
    let table = elf.len();
    for (name, start, length) in
        [(0, 0, 0), (1, 64, names.len()), (11, 64 + names.len(), text.len())]
    {
        let mut header = vec![0; 64];
        header[..4].copy_from_slice(&(name as u32).to_le_bytes());
        header[24..32].copy_from_slice(&(start as u64).to_le_bytes());
        header[32..40].copy_from_slice(&(length as u64).to_le_bytes());
        elf.extend(header);
    }
    elf[0x28..0x30].copy_from_slice(&(table as u64).to_le_bytes());
    elf[0x3a..0x3c].copy_from_slice(&64_u16.to_le_bytes());
    elf[0x3c..0x3e].copy_from_slice(&3_u16.to_le_bytes());
    elf[0x3e..0x40].copy_from_slice(&1_u16.to_le_bytes());
    elf
}

/// Programs of this host with the libraries that they need, as files of a package.
pub fn programs(paths: &[&str]) -> Vec<File> {
    let mut wanted: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
    for path in paths {
        let listing = duct::cmd!("ldd", path).read().unwrap();
        let found = listing.split_whitespace().filter(|word| word.starts_with('/'));
        wanted.extend(found.map(PathBuf::from));
    }
    wanted.sort();
    wanted.dedup();
    let as_file = |path: PathBuf| File {
        path: path.to_str().unwrap().trim_start_matches('/').to_owned(),
        bytes: fs::read(&path).unwrap(),
        mode: 0o755,
        owner: "root",
    };
    wanted.into_iter().map(as_file).collect()
}
