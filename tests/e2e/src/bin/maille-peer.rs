// SPDX-License-Identifier: Apache-2.0
//! A small program that stands in pods of the tests: it serves, or asks and writes down what it was told. It knows nothing of a mesh.
//!
//! `serve NAME BASE` listens on three ports from BASE: TCP that answers a line, TCP that greets first, UDP that answers a datagram.
//! Each answer says NAME and where the question came from. `ask WHAT...` asks `line|greet|udp[4|6]:HOST:PORT` and writes one JSON
//! line for each. Both then stay. Read `tests/destinations.rs` next.

#![forbid(unsafe_code)]

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);
/// A question is asked again for so long: whoever answers may still be starting.
const TRIES: u32 = 20;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["serve", name, base] => base
            .parse()
            .map_err(io::Error::other)
            .and_then(|base| serve(name, base)),
        ["ask", ref questions @ ..] => ask_all(questions),
        _ => Err(io::Error::other("serve NAME BASE, or ask WHAT...")),
    };
    match done {
        Ok(()) => loop {
            thread::park();
        },
        Err(error) => {
            say(&format!("{error}"));
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) {
    // Nobody to tell, if that fails.
    let _ = writeln!(io::stdout().lock(), "{line}");
}

fn serve(name: &str, base: u16) -> io::Result<()> {
    accept(base, name, |name, stream| {
        let mut line = String::new();
        let mut reader = BufReader::new(&stream);
        reader.read_line(&mut line)?;
        writeln!(&stream, "{name} {} {}", from(&stream)?, line.trim())?;
        // What else comes goes back, up to the end.
        io::copy(&mut reader, &mut &stream).map(drop)
    })?;
    accept(base + 1, name, |name, mut stream| {
        writeln!(stream, "{name} {} greets", from(&stream)?)?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    })?;
    let socket = UdpSocket::bind(("::", base + 2))?;
    let name = name.to_owned();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((n, client)) = socket.recv_from(&mut buffer) {
            let said = String::from_utf8_lossy(&buffer[..n]);
            let answer = format!("{name} {} {said}", client.ip().to_canonical());
            // A client that has gone asks again, or does not care.
            let _ = socket.send_to(answer.as_bytes(), client);
        }
    });
    Ok(())
}

fn accept(port: u16, name: &str, answer: fn(&str, TcpStream) -> io::Result<()>) -> io::Result<()> {
    let listener = TcpListener::bind(("::", port))?;
    let name = name.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let name = name.clone();
            // A client that leaves is no concern of the others.
            thread::spawn(move || answer(&name, stream));
        }
    });
    Ok(())
}

fn from(stream: &TcpStream) -> io::Result<String> {
    Ok(stream.peer_addr()?.ip().to_canonical().to_string())
}

fn ask_all(questions: &[&str]) -> io::Result<()> {
    // Nobody sends: it is the wait between two tries.
    let (_keep, pause) = mpsc::channel::<()>();
    for question in questions {
        let mut tries = 0;
        let answer = loop {
            tries += 1;
            match ask(question) {
                Err(_) if tries < TRIES => drop(pause.recv_timeout(Duration::from_millis(250))),
                answer => break answer,
            }
        };
        let (key, text) = match answer {
            Ok(text) => ("said", text),
            Err(error) => ("failed", error.to_string()),
        };
        let escaped = text.replace(['"', '\\'], "'");
        say(&format!(r#"{{"ask":"{question}","{key}":"{escaped}"}}"#));
    }
    say(r#"{"ask":"","said":"that was all"}"#);
    Ok(())
}

/// The addresses of `HOST:PORT`. A host that names its link, as in `[fe80::1%eth0]`, only the resolver can read.
fn resolve(target: &str) -> io::Result<Vec<SocketAddr>> {
    let bare = target
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("]:"));
    match bare {
        Some((host, port)) if host.contains('%') => {
            let port: u16 = port.parse().map_err(io::Error::other)?;
            Ok((host, port).to_socket_addrs()?.collect())
        }
        _ => Ok(target.to_socket_addrs()?.collect()),
    }
}

fn ask(question: &str) -> io::Result<String> {
    let malformed = || io::Error::other("no question");
    let (how, target) = question.split_once(':').ok_or_else(malformed)?;
    let addresses = resolve(target)?;
    let family = how.chars().last();
    let wanted = addresses.into_iter().find(|address| match family {
        Some('4') => address.is_ipv4(),
        Some('6') => address.is_ipv6(),
        _ => true,
    });
    let to = wanted.ok_or_else(|| io::Error::other("no address of this family"))?;
    match how.trim_end_matches(['4', '6']) {
        "line" => {
            let mut stream = connect(to)?;
            stream.write_all(b"hello\n")?;
            line(&stream)
        }
        "greet" => line(&connect(to)?),
        "udp" => {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.connect(to)?;
            socket.send(b"hello")?;
            let mut buffer = [0; 2048];
            let n = socket.recv(&mut buffer)?;
            Ok(String::from_utf8_lossy(&buffer[..n]).into_owned())
        }
        _ => Err(malformed()),
    }
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn line(stream: &TcpStream) -> io::Result<String> {
    let mut line = String::new();
    if BufReader::new(stream).read_line(&mut line)? == 0 {
        return Err(io::Error::other("closed without a word"));
    }
    Ok(line.trim().to_owned())
}
