//! `quicksand view`: the screen of a running machine as a web page of this computer.
//!
//! The page is noVNC's, and what it shows comes from the machine's VNC server on loopback. Invariant:
//! VNC's password is in no command line and in no address; the page's address holds a secret of its
//! own, which lets its holder in for as long as this process runs.

mod novnc;
mod relay;
mod server;

use crate::{
    args::ViewArgs,
    report::{FAILURE, Failure, USAGE},
    signals::{Signal, Signals},
};
use std::{io::BufRead as _, net::SocketAddr};
use tokio::net::{TcpListener, TcpStream};

/// The variable that may hold VNC's password; without it, it is read from standard input.
const PASSWORD: &str = "QUICKSAND_VNC_PASSWORD";
/// Bytes of the secret in the page's address.
const SECRET: usize = 16;

/// Serves the page until a signal ends it, and gives the exit code.
pub fn run(args: &ViewArgs) -> Result<i32, Failure> {
    let vnc = address(&args.address)?;
    let password = password()?;
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Failure::new(FAILURE, format!("Failed to {what}: {error}"), None)
    };
    let mut secret = [0; SECRET];
    getrandom::fill(&mut secret).map_err(|error| failed("draw a secret", &error))?;
    let secret = hex::encode(secret);
    let files = novnc::files().map_err(|error| failed("unpack noVNC", &error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed("start threads", &error))?;
    runtime.block_on(async {
        // A wrong address is an error here, and not by a page that stays black.
        TcpStream::connect(vnc).await.map_err(|error| {
            Failure::new(
                FAILURE,
                format!("No VNC server answers at {vnc}: {error}"),
                Some("`quicksand run IMAGE --enable-display` says where its screen is"),
            )
        })?;
        let listener = TcpListener::bind(("127.0.0.1", args.port))
            .await
            .map_err(|error| failed("open a port", &error))?;
        let port = listener.local_addr().map_err(|error| failed("open a port", &error))?.port();
        let mut signals = Signals::listen().map_err(|error| failed("take signals", &error))?;
        println!("http://127.0.0.1:{port}/{secret}/");
        eprintln!("quicksand: open this address in a browser; Ctrl-C ends the view");
        let page = server::Page { secret, port, vnc, password, files };
        tokio::select! {
            never = server::serve(listener, page) => match never {},
            code = end(&mut signals) => Ok(code),
        }
    })
}

async fn end(signals: &mut Signals) -> i32 {
    loop {
        match signals.next().await {
            Signal::Interrupt => return 0,
            Signal::End(code) => return code,
            Signal::Resize => {}
        }
    }
}

/// `5900`, `127.0.0.1:5900` or `vnc://127.0.0.1:5900`. Other hosts are refused: VNC's own protection
/// is made for a loopback at best.
fn address(text: &str) -> Result<SocketAddr, Failure> {
    let bare = text.strip_prefix("vnc://").unwrap_or(text);
    let bare = bare.strip_suffix('/').unwrap_or(bare).replace("localhost:", "127.0.0.1:");
    let address = match bare.parse::<u16>() {
        Ok(port) => Some(SocketAddr::from(([127, 0, 0, 1], port))),
        Err(_) => bare.parse().ok(),
    };
    match address {
        Some(address) if address.ip().is_loopback() && address.port() != 0 => Ok(address),
        _ => Err(Failure::new(
            USAGE,
            format!("Invalid value for `ADDRESS`: `{text}`"),
            Some("allowed: a port of this computer, such as 5900 or vnc://127.0.0.1:5900"),
        )),
    }
}

fn password() -> Result<String, Failure> {
    if let Ok(password) = std::env::var(PASSWORD) {
        return Ok(password);
    }
    if std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        eprint!("quicksand: VNC password: ");
    }
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(|error| {
        Failure::new(FAILURE, format!("Failed to read the password: {error}"), None)
    })?;
    let password = line.trim_end_matches(['\r', '\n']).to_owned();
    if password.is_empty() {
        return Err(Failure::new(
            USAGE,
            "The VNC password is missing",
            Some("type it when asked, pipe it in, or set QUICKSAND_VNC_PASSWORD"),
        ));
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_computer() {
        for text in ["5901", "127.0.0.1:5901", "vnc://127.0.0.1:5901", "vnc://localhost:5901/"] {
            assert_eq!(address(text).unwrap(), ([127, 0, 0, 1], 5901).into(), "{text}");
        }
        assert!(address("[::1]:5900").is_ok());
        for text in ["", "0", "10.0.0.1:5900", "example.org:5900", "vnc://0.0.0.0:5900", "99999"] {
            assert!(address(text).is_err(), "{text}");
        }
    }
}
