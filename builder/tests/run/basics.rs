//! The program and its world.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rctr_builder::dockerfile::{NetworkFlag, SecurityFlag};
use rctr_builder::engine::run::RunError;
use rctr_builder::plan::{RunNetwork, RunStep};
use rctr_storage::explain::Explain;
use rctr_storage::record::Ulimit;

use crate::mounts::{bind, from};
use crate::scene::{Scene, shell};

pub(crate) fn exit_codes_and_output(scene: &Scene) {
    let ran = scene.sh("echo out; echo err >&2; cat");
    assert_eq!((ran.ok(), ran.err.as_str()), ("out\n", "err\n"));
    let ran = scene.sh("echo before; exit 3");
    assert_eq!((ran.code(), ran.out.as_str()), (3, "before\n"));
    let message = ran.result.unwrap_err().to_string();
    let want = "process \"sh -c echo before; exit 3\" did not complete successfully: exit code: 3";
    assert_eq!(message, want);
    assert!(matches!(
        scene.sh("sh -c 'kill -9 $$'; exit 1").result,
        Err(RunError::Exit { code: 1, .. })
    ));
    let ran = scene.sh("pwd; echo $HOME $http_proxy; id -u; hostname");
    assert_eq!(ran.ok(), "/\n/root\n0\nbuildkitsandbox\n");
    let step = RunStep {
        cwd: "/srv/new".into(),
        user: "user".to_owned(),
        proxies: vec!["http_proxy=http://p".to_owned()],
        ..shell("pwd; echo $HOME $http_proxy; id -u; echo x >/dev/stdout")
    };
    let ran = scene.run(&step, Vec::new());
    assert_eq!(ran.ok(), "/srv/new\n/home/user http://p\n1000\nx\n");
}

pub(crate) fn output_comes_at_once(scene: &Scene) {
    let pieces = RefCell::new(Vec::new());
    let output = |_, bytes: &[u8]| pieces.borrow_mut().push((Instant::now(), bytes.to_vec()));
    let step = shell("printf a; sleep 0.3; printf b");
    scene.run_with(&step, Vec::new(), &output).unwrap();
    let pieces = pieces.into_inner();
    assert_eq!(pieces.len(), 2);
    assert!(pieces[1].0 - pieces[0].0 > Duration::from_millis(200));
}

pub(crate) fn large_output_is_whole(scene: &Scene) {
    let ran = scene.sh("yes 0123456789abcde | head -n 300000; echo end >&2");
    assert_eq!(ran.ok().len(), 300_000 * 16);
    assert_eq!(ran.err, "end\n");
}

pub(crate) fn failures_say_why(scene: &Scene) {
    let with = |argv: &[&str]| {
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        let step = RunStep { argv, ..shell("") };
        scene.run(&step, Vec::new())
    };
    let ran = with(&["/no/shell", "-c", "true"]);
    assert_eq!(ran.code(), 127);
    let error = ran.result.unwrap_err();
    assert_eq!(
        error.to_string(),
        "exec: \"/no/shell\": no such file or directory"
    );
    assert!(error.hint().unwrap().contains("in the image"));
    // A header of a program for s390x: elf(5), e_machine 22, big endian.
    let mut foreign = [0; 64];
    foreign[..7].copy_from_slice(b"\x7fELF\x02\x02\x01");
    (foreign[17], foreign[19]) = (2, 22);
    fs::write(scene.layer().join("bin/foreign"), foreign).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(scene.layer().join("bin/foreign"), mode).unwrap();
    let ran = with(&["foreign"]);
    assert_eq!(ran.code(), 126);
    let error = ran.result.unwrap_err();
    assert!(error.to_string().contains("s390x"), "{error}");
    assert!(
        error.hint().unwrap().contains("qemu-user-static"),
        "{error}"
    );
    // A program that the shell doesn't find is the shell's to tell.
    let ran = scene.sh("nosuch");
    assert_eq!(ran.code(), 127);
    assert!(ran.err.contains("nosuch: not found"), "{}", ran.err);
    let step = RunStep {
        user: "nobody-here".to_owned(),
        ..shell("true")
    };
    let error = scene.run(&step, Vec::new()).result.unwrap_err();
    assert!(error.to_string().contains("nobody-here"), "{error}");
}

pub(crate) fn the_sandbox_is_run_s(scene: &Scene) {
    let status = "grep -E '^(CapEff|CapBnd|Seccomp):' /proc/self/status";
    let ran = scene.sh(status);
    // The 14 default capabilities, and a filter.
    assert_eq!(
        ran.ok(),
        "CapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nSeccomp:\t2\n"
    );
    assert_ne!(scene.sh("mount -t tmpfs t /tmp").code(), 0);
    assert_ne!(scene.sh("echo x >/proc/sys/kernel/domainname").code(), 0);
    assert_eq!(scene.sh("wc -c </proc/timer_list").ok().trim(), "0");
    let insecure = RunStep {
        security: SecurityFlag::Insecure,
        ..shell("mount -t tmpfs t /tmp && grep Seccomp: /proc/self/status")
    };
    let refused = scene.run(&insecure, Vec::new()).result;
    assert!(matches!(refused, Err(RunError::InsecureNotAllowed)));
    scene.request.borrow_mut().allow_insecure = true;
    assert_eq!(scene.run(&insecure, Vec::new()).ok(), "Seccomp:\t0\n");
}

pub(crate) fn networks(scene: &Scene) {
    let interfaces = "ls /sys/class/net | grep -v lo";
    assert_eq!(scene.sh(interfaces).code(), 1);
    scene.request.borrow_mut().network = RunNetwork::Private;
    let ran = scene.sh("ip -4 addr show; cat /etc/resolv.conf");
    if let Some(why) = &ran.result.as_ref().unwrap().host_network {
        assert!(!why.is_empty());
    } else {
        assert!(ran.ok().contains("10.0.2.100/24"), "{}", ran.out);
        assert!(ran.ok().contains("nameserver"), "{}", ran.out);
    }
    let none = RunStep {
        network: NetworkFlag::None,
        ..shell(interfaces)
    };
    assert_eq!(scene.run(&none, Vec::new()).code(), 1);
    let host = RunStep {
        network: NetworkFlag::Host,
        ..shell("cat /proc/net/dev | wc -l")
    };
    let ours = fs::read_to_string("/proc/net/dev").unwrap().lines().count();
    assert_eq!(scene.run(&host, Vec::new()).ok().trim(), ours.to_string());
}

pub(crate) fn without_a_helper_the_host_s_network_is_used(scene: &Scene) {
    let tun = "/dev/net/tun";
    let hide = |from: &str| {
        let (none, bind) = (None::<&str>, nix::mount::MsFlags::MS_BIND);
        nix::mount::mount(Some(from), tun, none, bind, none)
    };
    // In this process's mount namespace only. The helpers need it.
    if hide("/dev/null").is_err() {
        crate::say("skipped: there is no /dev/net/tun to hide");
        return;
    }
    scene.request.borrow_mut().network = RunNetwork::Private;
    let line = "cat /proc/net/dev | wc -l; grep -c . /etc/resolv.conf; touch /tmp/x /src/x";
    let ran = scene.mounted(line, bind("", "/src", true), from(&[&scene.layer()]));
    let ours = fs::read_to_string("/proc/net/dev").unwrap().lines().count();
    assert!(ran.ok().starts_with(&format!("{ours}\n")), "{}", ran.out);
    assert_eq!(ran.left(), ["tmp", "tmp/x"]);
    let why = ran.result.unwrap().host_network.unwrap();
    assert!(why.contains("cannot give the container a network"), "{why}");
}

pub(crate) fn hosts_and_limits(scene: &Scene) {
    {
        let mut request = scene.request.borrow_mut();
        request.extra_hosts = vec![("db".to_owned(), "10.1.2.3".to_owned())];
        request.shm_size = Some(2 << 20);
        request.ulimits = vec![Ulimit {
            name: "nofile".to_owned(),
            soft: 77,
            hard: 99,
        }];
    }
    let ran = scene.sh("cat /etc/hosts; df -k /dev/shm | grep -o ' 2048 '; ulimit -Sn; ulimit -Hn");
    assert!(ran.ok().contains("127.0.0.1\tlocalhost"), "{}", ran.out);
    assert!(ran.ok().contains("10.1.2.3\tdb"), "{}", ran.out);
    assert!(ran.ok().ends_with(" 2048 \n77\n99\n"), "{}", ran.out);
    // As with BuildKit: it would be lost.
    assert_ne!(scene.sh("echo 1.2.3.4 x >>/etc/hosts").code(), 0);
}

pub(crate) fn the_layer_has_only_changes(scene: &Scene) {
    assert_eq!(scene.sh("true").left(), [""; 0]);
    // The image's own files are covered, not changed.
    fs::write(scene.layer().join("etc/hosts"), "image's\n").unwrap();
    assert_eq!(scene.sh("touch /tmp/a").left(), ["tmp", "tmp/a"]);
    let ran = scene.sh("rm /etc/passwd; mkdir -p /x/y");
    assert_eq!(ran.left(), ["etc", "etc/passwd", "x", "x/y"]);
    let ran = scene.sh("chmod 700 /etc");
    assert_eq!(ran.left(), ["etc"]);
    let etc = fs::metadata(ran.result.unwrap().upper.join("etc")).unwrap();
    assert_eq!(etc.mode() & 0o777, 0o700);
}
