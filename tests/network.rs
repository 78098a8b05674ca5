//! Network modes and published ports.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Feature, Sandbox, copy_program, free_port, http_get, require, wait_for};

/// busybox's web server in the foreground, with one page.
const SERVER: &str =
    "sh -c 'mkdir -p /www; hostname > /www/index.html; exec httpd -f -v -p 80 -h /www'";

#[test]
fn none_has_only_loopback() {
    let sandbox = Sandbox::with_busybox();
    let output = sandbox
        .rctr("run --rm --network none busybox ls /sys/class/net")
        .ok();
    assert_eq!(output.line(), "lo");
    sandbox
        .rctr("run --rm --network none busybox ping -c 1 127.0.0.1")
        .ok();
}

#[test]
fn host_sees_the_hosts_interfaces() {
    let sandbox = Sandbox::with_busybox();
    let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
    let output = sandbox
        .rctr("run --rm --network host busybox readlink /proc/self/ns/net")
        .ok();
    assert_eq!(output.line(), ours.to_str().unwrap());
}

#[test]
fn published_port_answers_on_the_host() {
    require!(Feature::PrivateNetwork);
    let sandbox = Sandbox::with_busybox();
    let port = free_port();
    sandbox
        .rctr(&format!(
            "run -d --name web -h web -p {port}:80 busybox {SERVER}"
        ))
        .ok();
    assert!(http_get(port, "/").ends_with("web\n"));
    sandbox
        .rctr("port web")
        .ok()
        .prints(&format!("80/tcp -> 0.0.0.0:{port}"));
    sandbox
        .rctr("ps")
        .ok()
        .prints(&format!("0.0.0.0:{port}->80/tcp"));
    sandbox.rctr("rm -f web").ok();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    sandbox.assert_nothing_left();
}

#[test]
fn port_on_loopback_only_is_bound_there() {
    require!(Feature::PrivateNetwork);
    let sandbox = Sandbox::with_busybox();
    let port = free_port();
    sandbox
        .rctr(&format!(
            "run -d --name web -p 127.0.0.1:{port}:80 busybox {SERVER}"
        ))
        .ok();
    http_get(port, "/");
    assert_eq!(
        sandbox.rctr("port web 80").ok().line(),
        format!("127.0.0.1:{port}")
    );
}

#[test]
fn free_host_port_is_chosen_and_told() {
    require!(Feature::PrivateNetwork);
    let sandbox = Sandbox::with_busybox();
    sandbox
        .rctr(&format!(
            "run -d --name web -P --expose 80 busybox {SERVER}"
        ))
        .ok();
    let told = sandbox.rctr("port web 80").ok();
    let port = told.lines()[0].rsplit(':').next().unwrap().parse().unwrap();
    http_get(port, "/");
}

#[test]
fn udp_port_is_published() {
    require!(Feature::PrivateNetwork);
    let sandbox = Sandbox::with_busybox();
    let port = free_port();
    // busybox has no UDP server; this test program is static and has one.
    let program = sandbox.work().join("receiver");
    copy_program(&std::env::current_exe().unwrap(), &program);
    let receive = "/receiver --ignored --exact network::receive_a_datagram";
    let bind = format!("-v {}:/receiver:ro", program.display());
    sandbox
        .rctr(&format!(
            "run -d --name udp {bind} -p {port}:9/udp busybox {receive}"
        ))
        .ok();
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    wait_for("the datagram", || {
        drop(socket.send_to(b"datagram", ("127.0.0.1", port)));
        sandbox
            .rctr("cp udp:/got -")
            .output()
            .stdout
            .contains("datagram")
    });
}

/// What `udp_port_is_published` runs in a container.
#[test]
#[ignore = "runs inside a container, for another test"]
fn receive_a_datagram() {
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 9)).unwrap();
    let mut bytes = [0; 100];
    let (length, _) = socket.recv_from(&mut bytes).unwrap();
    std::fs::write("/got", &bytes[..length]).unwrap();
}

#[test]
fn shared_network_is_the_other_containers() {
    require!(Feature::PrivateNetwork);
    let sandbox = Sandbox::with_busybox();
    sandbox
        .rctr(&format!("run -d --name web -h web busybox {SERVER}"))
        .ok();
    wait_for("the server, seen from its neighbour", || {
        let output = sandbox
            .rctr("run --rm --network container:web busybox wget -q -O - http://127.0.0.1/")
            .output();
        output.stdout == "web\n"
    });
}

#[test]
fn hosts_loopback_is_out_of_reach() {
    require!(Feature::PrivateNetwork);
    let sandbox = Sandbox::with_busybox();
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    for address in [
        "127.0.0.1",
        "$(ip route | sed -n \"s/^default via \\([^ ]*\\).*/\\1/p\")",
    ] {
        let script = format!("run --rm busybox sh -c 'nc -w 2 {address} {port} < /dev/null'");
        assert_ne!(
            sandbox.rctr(&script).output().code,
            0,
            "the host's loopback answered through {address}"
        );
    }
}

#[test]
fn name_server_works_like_the_hosts() {
    require!(Feature::PrivateNetwork, Feature::Debian, Feature::Mirror);
    let sandbox = Sandbox::with_busybox();
    let sources = crate::harness::images::debian().unwrap();
    let list = std::process::Command::new("tar")
        .arg("xOf")
        .arg(sources)
        .arg("./etc/apt/sources.list")
        .output()
        .unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let host = list
        .split("http://")
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap();
    sandbox
        .rctr(&format!("run --rm busybox nslookup {host}"))
        .ok();
}

#[test]
fn dns_option_is_written_to_resolv_conf() {
    let sandbox = Sandbox::with_busybox();
    let output = sandbox
        .run("--rm --dns 10.1.2.3", "cat /etc/resolv.conf")
        .ok();
    assert!(output.stdout.contains("nameserver 10.1.2.3"), "{output}");
}

#[test]
fn inspect_tells_the_address_while_it_runs() {
    require!(Feature::PrivateNetwork);
    let sandbox = Sandbox::with_busybox();
    sandbox.rctr("run -d --name one busybox sleep 1000").ok();
    let address = sandbox.field("one", "{{.NetworkSettings.IPAddress}}");
    let inside = sandbox.rctr("exec one ip -o -4 addr show eth0").ok();
    assert!(
        inside.stdout.contains(&format!(" {address}/24 ")),
        "{inside}"
    );
    let gateway = sandbox.field("one", "{{.NetworkSettings.Gateway}}");
    let routes = sandbox.rctr("exec one ip route").ok();
    assert!(
        routes.stdout.contains(&format!("default via {gateway} ")),
        "{routes}"
    );
    // slirp4netns before 1.1.9 chooses it.
    let mac = sandbox.field("one", "{{.NetworkSettings.MacAddress}}");
    let link = sandbox
        .rctr("exec one cat /sys/class/net/eth0/address")
        .ok();
    assert!(mac.is_empty() || link.line() == mac, "{mac} {link}");
    let template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}/{{.IPPrefixLen}}{{end}}";
    assert_eq!(sandbox.field("one", template), format!("{address}/24"));
    sandbox.rctr("kill one").ok();
    sandbox.rctr("wait one").ok();
    assert_eq!(sandbox.field("one", "{{.NetworkSettings.IPAddress}}"), "");
}

#[test]
fn published_port_is_exposed_gone_when_stopped_and_back_when_started() {
    require!(Feature::PrivateNetwork);
    let sandbox = Sandbox::with_busybox();
    let port = free_port();
    sandbox
        .rctr(&format!("run -d --name web -p {port}:80 busybox {SERVER}"))
        .ok();
    let shown = format!("0.0.0.0:{port}->80/tcp");
    assert_eq!(
        sandbox.field("web", "{{json .Config.ExposedPorts}}"),
        r#"{"80/tcp":{}}"#
    );
    let bound = r#"{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}"#;
    assert_eq!(sandbox.field("web", bound), port.to_string());
    sandbox.rctr("stop -t 0 web").ok();
    let stopped = sandbox.rctr("ps -a").ok();
    assert!(!stopped.stdout.contains("80/tcp"), "{stopped}");
    assert_eq!(
        sandbox.field("web", "{{json .NetworkSettings.Ports}}"),
        "{}"
    );
    assert_eq!(sandbox.rctr("port web").ok().stdout, "");
    sandbox.rctr("start web").ok();
    sandbox.rctr("ps").ok().prints(&shown);
    http_get(port, "/");
}

/// The child of a container's monitor that has this name.
fn helper(sandbox: &Sandbox, container: &str, name: &str) -> Option<Pid> {
    let id = sandbox.field(container, "{{.Id}}");
    let state = sandbox
        .store()
        .join("containers")
        .join(id)
        .join("state.json");
    let state: serde_json::Value = serde_json::from_slice(&std::fs::read(state).unwrap()).unwrap();
    let monitor = format!("PPid:\t{}\n", state["MonitorPid"]);
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.into_iter().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let ours = status.starts_with(&format!("Name:\t{name}\n")) && status.contains(&monitor);
        ours.then_some(Pid::from_raw(pid))
    })
}

#[test]
fn killed_helpers_start_again() {
    require!(Feature::PrivateNetwork);
    let sandbox = Sandbox::with_busybox();
    let port = free_port();
    sandbox
        .rctr(&format!(
            "run -d --name web -h web -p {port}:80 busybox {SERVER}"
        ))
        .ok();
    http_get(port, "/");
    for name in ["rctr-net", "slirp4netns"] {
        let Some(victim) = helper(&sandbox, "web", name) else {
            assert_eq!(name, "slirp4netns", "no {name}");
            Feature::skip(
                "slirp4netns is not used here: pasta's restart is tested in runtime/tests/net.rs",
            );
            continue;
        };
        kill(victim, Signal::SIGKILL).unwrap();
        wait_for("another process", || {
            helper(&sandbox, "web", name).is_some_and(|pid| pid != victim)
        });
        wait_for("the way out", || {
            let output = sandbox.rctr("exec web ip route").output();
            output.stdout.contains("default via ")
        });
        assert!(http_get(port, "/").ends_with("web\n"));
    }
    sandbox.rctr("rm -f web").ok();
    sandbox.assert_nothing_left();
}

#[test]
fn default_sysctls_are_set_and_the_users_win() {
    require!(Feature::PrivateNetwork);
    let sandbox = Sandbox::with_busybox();
    let name = "net.ipv4.ip_unprivileged_port_start";
    let file = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    let output = sandbox.run("--rm", &format!("cat {file}"));
    assert_eq!(output.ok().line(), "0");
    let options = format!("--rm --sysctl {name}=80");
    assert_eq!(
        sandbox.run(&options, &format!("cat {file}")).ok().line(),
        "80"
    );
    let options = "--rm --sysctl net.ipv4.no_such_thing=1";
    sandbox.run(options, "true").fails(125);
}

#[test]
fn doctor_names_the_helper_that_is_used() {
    let sandbox = Sandbox::with_busybox();
    let said = sandbox.rctr("doctor").output().stdout;
    let line = said.lines().find(|line| line.contains("private network"));
    let first = ["slirp4netns", "pasta"]
        .into_iter()
        .find(|name| crate::harness::find_program(name).is_some());
    if let (Some(line), Some(name)) = (line.filter(|l| l.starts_with("ok ")), first) {
        assert!(line.contains("uses ") && line.ends_with(name), "{line}");
    }
}

#[test]
fn help_names_no_network_that_is_refused() {
    let sandbox = Sandbox::with_busybox();
    let help = sandbox.rctr("run --help").ok().stdout;
    let line = help.lines().find(|l| l.contains("--network ")).unwrap();
    assert!(
        line.ends_with("private, none, host or container:NAME"),
        "{line}"
    );
    assert!(!help.contains("--network-alias") && !help.contains("--ip "));
}
