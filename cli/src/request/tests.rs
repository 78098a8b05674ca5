use clap::Command;

use super::*;

fn parse(words: &[&str]) -> Result<RunRequest, Failure> {
    let command = flags::add(Command::new("run"), &[flags::CREATE, flags::RUN], "");
    let argv = std::iter::once("run").chain(words.iter().copied());
    let matches = command
        .try_get_matches_from(argv)
        .map_err(|e| Failure::new(e.to_string()).code(ENGINE))?;
    RunRequest::parse(&matches, "run")
}

#[test]
fn flags_end_at_the_image() {
    let got = parse(&["-it", "--rm", "img:1", "sh", "-c", "--name", "--", "-x"]).unwrap();
    assert_eq!(got.image, "img:1");
    assert_eq!(got.command, ["sh", "-c", "--name", "--", "-x"]);
    assert!(got.config.tty && got.config.open_stdin && got.host.auto_remove);
    assert_eq!(got.name, None);
    let got = parse(&["img", "--rm"]).unwrap();
    assert_eq!(got.command, ["--rm"]);
    assert!(!got.host.auto_remove);
}

#[test]
fn the_spellings_of_flags() {
    let got = parse(&[
        "-itd",
        "--name=x",
        "--name",
        "y",
        "-eA=1",
        "-e",
        "B",
        "-p8005:80",
        "-p=81:81",
        "--rm=false",
        "-m",
        "64m",
        "--memory-swap",
        "-1",
        "--init=true",
        "-w/x",
        "img",
    ])
    .unwrap();
    assert!(got.detach && !got.host.auto_remove && got.host.init);
    assert_eq!(got.name.as_deref(), Some("y"));
    assert_eq!(got.env, ["A=1", "B"]);
    assert_eq!(got.host.port_bindings["80/tcp"][0].host_port, "8005");
    assert_eq!((got.host.memory, got.host.memory_swap), (64 << 20, -1));
    assert_eq!(got.config.working_dir, "/x");
}

#[test]
fn every_flag_of_the_table_is_unique() {
    let mut seen = std::collections::BTreeSet::new();
    for flag in flags::CREATE.iter().chain(flags::RUN) {
        assert!(seen.insert(flag.long.to_owned()), "{}", flag.long);
        assert!(
            flag.short == '\0' || seen.insert(flag.short.to_string()),
            "{}",
            flag.short
        );
    }
}

#[test]
fn streams_follow_docker_s_rules() {
    let all = |words: &[&str]| {
        let got = parse(words).unwrap();
        (
            got.attach.stdin,
            got.attach.stdout,
            got.attach.stderr,
            got.config.stdin_once,
        )
    };
    assert_eq!(all(&["img"]), (false, true, true, false));
    assert_eq!(all(&["-i", "img"]), (true, true, true, true));
    assert_eq!(all(&["-id", "img"]), (false, false, false, false));
    assert_eq!(all(&["-a", "stdout", "img"]), (false, true, false, false));
    assert_eq!(
        all(&["-i", "-a", "STDIN", "img"]),
        (true, false, false, true)
    );
}

#[test]
fn refusals_end_with_125_and_say_why() {
    for (words, message) in [
        (
            &["--memory", "nonsense", "img"][..],
            "invalid argument \"nonsense\" for \"-m, --memory\" flag: invalid size",
        ),
        (&["-m", "5m", "img"], "Minimum memory limit allowed is 6MB"),
        (
            &["--memory-swap", "1g", "img"],
            "always set the Memory limit",
        ),
        (
            &["--oom-score-adj", "2000", "img"],
            "range for oom score adj",
        ),
        (
            &["--restart", "always", "--rm", "img"],
            "cannot specify both --restart and --rm",
        ),
        (
            &["--restart", "sometimes", "img"],
            "unknown policy 'sometimes'",
        ),
        (&["--restart", "always:3", "img"], "maximum retry count"),
        (&["-d", "-a", "stdin", "img"], "--attach and --detach"),
        (&["-a", "stdwhat", "img"], "valid streams"),
        (&["--pull", "maybe", "img"], "invalid pull option: 'maybe'"),
        (
            &["-v", "/a:rel", "img"],
            "invalid volume specification: '/a:rel'",
        ),
        (
            &["-v", "/a:/c", "--tmpfs", "/c", "img"],
            "Duplicate mount point: /c",
        ),
        (
            &["--mount", "type=bind,src=/a", "img"],
            "target is required",
        ),
        (
            &["-h", "x", "--uts", "host", "img"],
            "conflicting options: hostname and the UTS mode",
        ),
        (
            &["--network", "container:x", "-p", "80:80", "img"],
            "conflicting options: port publishing",
        ),
        (
            &["--network", "container:x", "--dns", "1.1.1.1", "img"],
            "conflicting options: dns",
        ),
        (
            &["--network", "container:x", "--add-host", "a:1.1.1.1", "img"],
            "conflicting options: custom host",
        ),
        (&["-p", "8005:", "img"], "no port specified"),
        (
            &["--sysctl", "vm.swappiness=1", "img"],
            "not in a separate kernel namespace",
        ),
        (
            &["--sysctl", "net.x=1", "--network", "host", "img"],
            "not allowed in host network namespace",
        ),
        (
            &["--network", "container:", "img"],
            "invalid container format",
        ),
        (&["--dns", "x", "img"], "not an ip address"),
        (
            &["--add-host", "a:b", "img"],
            "invalid IP address in add-host",
        ),
        (&["--add-host", "a", "img"], "bad format for add-host"),
        (
            &["--ulimit", "nofile=5:3", "img"],
            "soft limit must be less",
        ),
        (&["--ulimit", "what=5", "img"], "invalid ulimit type: what"),
        (
            &["--security-opt", "what", "img"],
            "invalid --security-opt 1: \"what\"",
        ),
        (
            &["--device", "/dev/null:/x:abc", "img"],
            "invalid device mode: abc",
        ),
        (&["--pid", "what", "img"], "--pid: invalid PID mode"),
        (&["-w", "rel", "img"], "needs to be an absolute path"),
        (&["--stop-signal", "NOPE", "img"], "invalid signal: NOPE"),
        (&["--expose", "x", "img"], "invalid port format"),
        (
            &["--no-healthcheck", "--health-cmd", "true", "img"],
            "--no-healthcheck conflicts",
        ),
        (
            &["--health-interval", "1us", "img"],
            "cannot be less than 1ms",
        ),
        (&["--health-interval", "5", "img"], "invalid duration"),
        (
            &["--cpus", "1", "--cpu-period", "1000", "img"],
            "--cpus cannot be set",
        ),
        (&["--cpus", "x", "img"], "invalid number of CPUs"),
        (
            &["--log-driver", "syslog", "img"],
            "no log driver named 'syslog'",
        ),
        (&["--log-opt", "what=1", "img"], "unknown log opt 'what'"),
        (&["-e", "=x", "img"], "invalid environment variable"),
        (&["--gpus", "all", "img"], "--gpus is not supported"),
        (&["--runtime", "kata", "img"], "invalid runtime name: kata"),
        (
            &["--volumes-from", "x:what", "img"],
            "invalid mode for volumes-from",
        ),
        (&["--ip", "10.0.0.1", "img"], "user defined networks only"),
        (&["--network-alias", "a", "img"], "network-scoped aliases"),
    ] {
        let failure = parse(words).unwrap_err();
        assert_eq!(failure.code, ENGINE, "{words:?}");
        assert!(
            failure.message.contains(message),
            "{words:?}: {}",
            failure.message
        );
    }
}

#[test]
fn values_end_up_in_the_host_config() {
    let got = parse(&[
        "--cap-add",
        "cap_sys_admin",
        "--cap-drop",
        "all",
        "--security-opt",
        "no-new-privileges:true",
        "--security-opt",
        "seccomp=unconfined",
        "--ulimit",
        "nofile=123:456",
        "--ulimit",
        "core=-1",
        "--shm-size",
        "8m",
        "--sysctl",
        "net.ipv4.ip_default_ttl=4",
        "--device",
        "/dev/null:/dev/foo:r",
        "--restart",
        "on-failure:2",
        "--add-host",
        "h:host-gateway",
        "--add-host",
        "six:[::1]",
        "--cpus",
        "1.5",
        "--health-cmd",
        "true",
        "--health-interval",
        "1s",
        "img",
    ])
    .unwrap();
    let host = &got.host;
    assert_eq!(
        (&host.cap_add[..], &host.cap_drop[..]),
        (&["SYS_ADMIN".to_owned()][..], &["ALL".to_owned()][..])
    );
    assert_eq!(
        host.security_opt,
        ["no-new-privileges=true", "seccomp=unconfined"]
    );
    assert_eq!(
        (
            host.ulimits[0].soft,
            host.ulimits[0].hard,
            host.ulimits[1].soft
        ),
        (123, 456, -1)
    );
    assert_eq!(host.shm_size, 8 << 20);
    assert_eq!(host.devices[0].path_in_container, "/dev/foo");
    assert_eq!(
        (
            host.restart_policy.name.as_str(),
            host.restart_policy.maximum_retry_count
        ),
        ("on-failure", 2)
    );
    assert_eq!(host.extra_hosts, ["h:host-gateway", "six:::1"]);
    assert_eq!(host.nano_cpus, 1_500_000_000);
    let health = got.config.healthcheck.unwrap();
    assert_eq!(
        (health.test[1].as_str(), health.interval),
        ("true", 1_000_000_000)
    );
}

#[test]
fn the_host_network_discards_ports() {
    let got = parse(&["--net", "host", "-p", "80:80", "img"]).unwrap();
    assert!(got.host.port_bindings.is_empty());
    assert_eq!(got.warnings.len(), 1);
    assert_eq!(
        parse(&["--network", "name=x,alias=y", "img"])
            .unwrap()
            .network,
        Network::Named("x".to_owned())
    );
}

#[test]
fn the_environment_comes_from_files_words_and_the_caller() {
    let file = std::env::temp_dir().join(format!("rctr-env-{}", std::process::id()));
    std::fs::write(&file, "# c\nA=1\nB=two words\nCALLER\n").unwrap();
    let mut got = parse(&[
        "--env-file",
        file.to_str().unwrap(),
        "-e",
        "A=2",
        "-e",
        "GONE",
        "-v",
        "./x:/x",
        "img",
    ])
    .unwrap();
    got.settle(&settle::Surroundings {
        env: &|name| (name == "CALLER").then(|| "c".to_owned()),
        directory: &|| Ok(PathBuf::from("/here")),
    })
    .unwrap();
    std::fs::remove_file(file).unwrap();
    assert_eq!(got.env, ["A=2", "B=two words", "CALLER=c"]);
    assert_eq!(got.mounts[0].source, "/here/x");
}

#[test]
fn details_of_the_long_network_form_are_not_ignored() {
    assert!(parse(&["--network", "name=private,alias=web", "i"]).is_err());
    assert!(parse(&["--network", "name=private,ip=10.0.0.2", "i"]).is_err());
    let warned = |words: &[&str]| parse(words).unwrap().warnings.len();
    assert_eq!(
        warned(&["--network", "name=none,mac-address=02:00:00:00:00:01", "i"]),
        1
    );
    assert_eq!(warned(&["--network", "name=none,driver-opt=a=b", "i"]), 1);
    assert_eq!(warned(&["--kernel-memory", "1g", "i"]), 1);
    assert_eq!(warned(&["--network", "name=none", "i"]), 0);
}
