//! The network of a namespace by hand, for the integration tests too: `net PID [-p PORT]… [--helper NAME]` attaches
//! and waits for the end of its input, or with a line of input mends what has died meanwhile; `net relay` is the relay; `net serve PORT` tells TCP and UDP clients their
//! address, then echoes; `net probe ADDRESS` says what a TCP server says first, or `closed`.
#![expect(clippy::print_stdout, reason = "a command")]

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rctr_runtime::net::{self, Helper, NetworkPlan};
use rctr_storage::explain::Explain;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("relay") => std::process::exit(net::relay::run()),
        Some("serve") => return serve(words[1].parse().expect("a port")),
        Some("probe") => return println!("{}", probe(&words[1]).unwrap_or("closed".to_owned())),
        _ => {}
    }
    let (mut plan, mut pid) = (NetworkPlan::default(), 0);
    let mut rest = words.into_iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "-p" => plan
                .ports
                .extend(net::parse_publish(&rest.next().unwrap_or_default()).expect("a port")),
            "--helper" if rest.next().as_deref() == Some("pasta") => {
                plan.helper = Some(Helper::Pasta)
            }
            "--helper" => plan.helper = Some(Helper::Slirp4netns),
            "--add-host" => plan
                .extra_hosts
                .push((rest.next().unwrap_or_default(), "host-gateway".to_owned())),
            pid_word => pid = pid_word.parse().expect("a PID"),
        }
    }
    if let Err((message, hint)) = attach(&plan, pid) {
        println!("error {message}");
        println!("hint {}", hint.unwrap_or_default());
        std::process::exit(125);
    }
}

fn attach(plan: &NetworkPlan, pid: i32) -> Result<(), (String, Option<String>)> {
    let explain = |error: net::NetError| (error.to_string(), error.hint());
    let start = Instant::now();
    let prepared = net::prepare(plan, &Vec::new).map_err(explain)?;
    let prepared_us = start.elapsed().as_micros();
    print!("{}", prepared.resolv_conf());
    print!("{}", prepared.hosts());
    let relay: [OsString; 2] = ["/proc/self/exe".into(), "relay".into()];
    let attaching = prepared.attach(pid, &relay).map_err(explain)?;
    let started_us = start.elapsed().as_micros();
    let mut handle = attaching.finish().map_err(explain)?;
    println!(
        "times prepared {prepared_us} started {started_us} up {} us",
        start.elapsed().as_micros()
    );
    println!(
        "ports {}",
        serde_json::to_string(handle.ports()).expect("plain data")
    );
    println!("helper {:?}", handle.helper());
    println!("pids {:?}", handle.pids());
    println!("ready");
    for line in std::io::stdin().lines() {
        line.expect("standard input");
        while handle.take_dead().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        handle.mend().map_err(explain)?;
        println!("pids {:?}", handle.pids());
    }
    Ok(())
}

fn serve(port: u16) {
    for address in [IpAddr::from([0; 4]), IpAddr::from([0u8; 16])] {
        let Ok(listener) = TcpListener::bind((address, port)) else {
            continue; // [::] serves IPv4 too where the system says so.
        };
        std::thread::spawn(move || listener.incoming().flatten().for_each(echo));
    }
    let socket = UdpSocket::bind(("0.0.0.0", port)).expect("a socket");
    println!("serving");
    let mut buffer = [0; 2048];
    while let Ok((_, client)) = socket.recv_from(&mut buffer) {
        let answer = format!("peer {}", client.ip());
        socket
            .send_to(answer.as_bytes(), client)
            .expect("an answer");
    }
}

fn echo(mut client: TcpStream) {
    std::thread::spawn(move || {
        let peer = client.peer_addr()?.ip().to_canonical();
        client.write_all(format!("peer {peer}\n").as_bytes())?;
        let mut reader = client.try_clone()?;
        std::io::copy(&mut reader, &mut client)?;
        client.shutdown(Shutdown::Write)
    });
}

fn probe(address: &str) -> std::io::Result<String> {
    let address: SocketAddr = address.parse().map_err(std::io::Error::other)?;
    let client = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
    client.set_read_timeout(Some(Duration::from_secs(3)))?;
    let mut line = String::new();
    BufReader::new(client).read_line(&mut line)?;
    Ok(line.trim().to_owned())
}
