//! `cp`: files in and out of running and stopped containers.

use std::os::unix::fs::MetadataExt;

use crate::harness::Sandbox;

fn with_container() -> Sandbox {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("-d --name c1", "sleep 1000").ok();
    sandbox
}

#[test]
fn file_goes_in_and_out() {
    let sandbox = with_container();
    sandbox.file("in", "content");
    sandbox.rctr("cp in c1:/tmp/renamed").ok();
    assert_eq!(
        sandbox.rctr("exec c1 cat /tmp/renamed").ok().stdout,
        "content"
    );
    assert_eq!(
        sandbox
            .rctr("exec c1 stat -c %u:%g /tmp/renamed")
            .ok()
            .line(),
        "0:0"
    );
    sandbox.rctr("cp c1:/tmp/renamed out").ok();
    assert_eq!(sandbox.read("out"), "content");
}

#[test]
fn stopped_container_is_served_too() {
    let sandbox = with_container();
    sandbox.rctr("kill c1").ok();
    sandbox.rctr("wait c1").ok();
    sandbox.file("in", "content");
    sandbox.rctr("cp in c1:/in").ok();
    sandbox.rctr("cp c1:/in out").ok();
    assert_eq!(sandbox.read("out"), "content");
}

#[test]
fn directory_rules_are_those_of_cp() {
    let sandbox = with_container();
    sandbox.file("dir/sub/f", "f");
    sandbox.rctr("cp dir c1:/new").ok();
    sandbox.rctr("exec c1 test -f /new/sub/f").ok();
    sandbox.rctr("cp dir c1:/new").ok();
    sandbox.rctr("exec c1 test -f /new/dir/sub/f").ok();
    sandbox.rctr("cp dir/. c1:/tmp").ok();
    sandbox.rctr("exec c1 test -f /tmp/sub/f").ok();
    sandbox.rctr("cp c1:/new/. back").ok();
    assert_eq!(sandbox.read("back/sub/f"), "f");
    sandbox.rctr("cp dir c1:/no/such/parent/x").fails(1);
}

#[test]
fn dash_is_a_tar_stream() {
    let sandbox = with_container();
    let tar = crate::harness::archive::Archive::new()
        .file("from-tar", 0o640, b"x")
        .bytes();
    sandbox.rctr("cp - c1:/tmp").stdin(tar).ok();
    assert_eq!(
        sandbox.rctr("exec c1 stat -c %a /tmp/from-tar").ok().line(),
        "640"
    );
    let out = sandbox.rctr("cp c1:/etc -").ok();
    std::fs::write(sandbox.file("out.tar", ""), &out.bytes).unwrap();
    sandbox.program("tar tf out.tar").ok().prints("etc/passwd");
}

#[test]
fn volumes_are_reached_in_running_containers() {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("-d --name c1 -v vol:/v", "sleep 1000").ok();
    sandbox.file("in", "content");
    sandbox.rctr("cp in c1:/v/in").ok();
    assert_eq!(
        sandbox.run("--rm -v vol:/v", "cat /v/in").ok().line(),
        "content"
    );
}

#[test]
fn links_of_the_container_never_lead_outside() {
    let sandbox = with_container();
    let outside = sandbox.work();
    sandbox
        .rctr(&format!("exec c1 ln -s {} /escape", outside.display()))
        .ok();
    sandbox
        .rctr("exec c1 ln -s ../../../../../../../../etc /up")
        .ok();
    sandbox.file("in", "content");
    drop(sandbox.rctr("cp in c1:/escape/pwned").output());
    assert!(!outside.join("pwned").exists());
    sandbox.rctr("cp c1:/up/passwd out").ok();
    assert!(sandbox.read("out").contains("www-data"));
    assert_ne!(
        sandbox.read("out"),
        std::fs::read_to_string("/etc/passwd").unwrap()
    );
    // A link itself is copied as a link.
    sandbox.rctr("cp c1:/escape link").ok();
    assert!(sandbox.work().join("link").is_symlink());
}

#[test]
fn missing_paths_are_named() {
    let sandbox = with_container();
    sandbox.rctr("cp c1:/nope out").fails(1).says("/nope");
    sandbox.rctr("cp nope c1:/tmp").fails(1).says("nope");
    sandbox
        .rctr("cp nobody:/x out")
        .fails(1)
        .says("No such container: nobody");
    assert!(!sandbox.work().join("out").exists());
}

#[test]
fn set_user_id_bits_stay_as_with_docker() {
    let sandbox = with_container();
    sandbox
        .rctr("exec c1 sh -c 'echo x > /tmp/f; chmod 6755 /tmp/f'")
        .ok();
    for options in ["", "-a"] {
        let out = format!("out{options}");
        sandbox.rctr(&format!("cp {options} c1:/tmp/f {out}")).ok();
        let meta = std::fs::metadata(sandbox.work().join(&out)).unwrap();
        assert_eq!(meta.mode() & 0o7777, 0o6755);
        let dir = std::fs::metadata(sandbox.work()).unwrap();
        assert_eq!(meta.uid(), dir.uid(), "the caller's, nobody else's");
        sandbox.rctr(&format!("cp {out} c1:/tmp/back")).ok();
        let mode = sandbox.rctr("exec c1 stat -c %a /tmp/back").ok().line();
        assert_eq!(mode, "6755");
    }
}
