//! Volumes, bind mounts and tmpfs.

use crate::harness::Sandbox;

#[test]
fn bind_mount_shows_the_hosts_files_both_ways() {
    let sandbox = Sandbox::with_busybox();
    sandbox.file("host/in", "from host");
    let output = sandbox
        .run(
            &format!("--rm -v {}/host:/m", sandbox.work().display()),
            "sh -c 'cat /m/in; echo back > /m/out'",
        )
        .ok();
    assert_eq!(output.line(), "from host");
    assert_eq!(sandbox.read("host/out"), "back\n");
}

#[test]
fn relative_bind_source_is_below_the_working_directory() {
    let sandbox = Sandbox::with_busybox();
    sandbox.file("rel/f", "content");
    assert_eq!(
        sandbox.run("--rm -v ./rel:/m", "cat /m/f").ok().line(),
        "content"
    );
}

#[test]
fn missing_bind_source_is_made_by_v_and_refused_by_mount() {
    let sandbox = Sandbox::with_busybox();
    let dir = sandbox.work().join("made");
    sandbox
        .run(
            &format!("--rm --mount type=bind,source={},target=/m", dir.display()),
            "true",
        )
        .fails(125)
        .says("does not exist");
    sandbox
        .run(&format!("--rm -v {}:/m", dir.display()), "true")
        .ok();
    assert!(dir.is_dir());
}

#[test]
fn read_only_bind_refuses_writes() {
    let sandbox = Sandbox::with_busybox();
    sandbox.file("d/f", "");
    let dir = sandbox.work().join("d");
    sandbox
        .run(&format!("--rm -v {}:/m:ro", dir.display()), "touch /m/x")
        .fails(1)
        .says("Read-only");
    sandbox
        .run(
            &format!(
                "--rm --mount type=bind,src={},dst=/m,readonly",
                dir.display()
            ),
            "touch /m/x",
        )
        .fails(1);
}

#[test]
fn named_volume_outlives_its_containers() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run("--rm -v data:/d", "sh -c 'echo kept > /d/f'")
        .ok();
    assert_eq!(
        sandbox.run("--rm -v data:/d", "cat /d/f").ok().line(),
        "kept"
    );
    assert_eq!(sandbox.rctr("volume ls -q").ok().line(), "data");
}

#[test]
fn new_volume_is_filled_from_the_image() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run(
            "--name c1",
            "sh -c 'mkdir /v; echo content > /v/f; chown 33:33 /v; chmod 700 /v'",
        )
        .ok();
    sandbox.rctr("commit c1 img").ok();
    let output = sandbox.rctr("run --rm --network none -v vol:/v img sh -c 'cat /v/f; stat -c %u:%a /v; echo changed > /v/f'").ok();
    assert_eq!(output.lines(), ["content", "33:700"]);
    // Only an empty volume is filled.
    assert_eq!(
        sandbox
            .rctr("run --rm --network none -v vol:/v img cat /v/f")
            .ok()
            .line(),
        "changed"
    );
    sandbox.rctr("run --rm --network none --mount type=volume,src=bare,dst=/v,volume-nocopy img test -e /v/f").fails(1);
}

#[test]
fn anonymous_volumes_go_with_rm_and_stay_with_rm_f() {
    let sandbox = Sandbox::with_busybox();
    let volumes = || sandbox.rctr("volume ls -q").ok().lines().len();
    sandbox.run("--rm -v /anon", "touch /anon/x").ok();
    assert_eq!(volumes(), 0);
    sandbox.run("-d --name kept -v /anon", "sleep 100").ok();
    sandbox.rctr("rm -f kept").ok();
    assert_eq!(volumes(), 1);
    sandbox
        .run("-d --name gone -v /anon -v named:/n", "sleep 100")
        .ok();
    sandbox.rctr("rm -f -v gone").ok();
    assert_eq!(volumes(), 2, "the kept anonymous one and the named one");
}

#[test]
fn volumes_from_shows_the_others_mounts() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run("--name owner -v shared:/s", "sh -c 'echo there > /s/f'")
        .ok();
    assert_eq!(
        sandbox
            .run("--rm --volumes-from owner", "cat /s/f")
            .ok()
            .line(),
        "there"
    );
    sandbox
        .run("--rm --volumes-from owner:ro", "touch /s/x")
        .fails(1);
}

#[test]
fn volume_commands_create_list_inspect_remove_prune() {
    let sandbox = Sandbox::with_busybox();
    assert_eq!(
        sandbox.rctr("volume create --label a=b v1").ok().line(),
        "v1"
    );
    let made = sandbox.rctr("volume create").ok().line();
    assert_eq!(made.len(), 64);
    sandbox.rctr("volume ls").ok().prints("DRIVER").prints("v1");
    sandbox
        .rctr("volume inspect v1")
        .ok()
        .prints("\"Mountpoint\"")
        .prints("\"a\": \"b\"");
    sandbox.run("-d --name c1 -v v1:/v", "sleep 100").ok();
    sandbox
        .rctr("volume rm v1")
        .fails(1)
        .says("volume is in use");
    sandbox.rctr("volume prune -f").ok().prints(&made);
    sandbox.rctr("rm -f c1").ok();
    assert_eq!(sandbox.rctr("volume rm v1").ok().line(), "v1");
    sandbox.rctr("volume rm v1").fails(1).says("o such volume");
    assert_eq!(sandbox.rctr("volume ls -q").ok().stdout, "");
}

#[test]
fn mounts_are_told_by_inspect() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run("--name c1 -v named:/n:ro --tmpfs /t -v /anon", "true")
        .ok();
    let inspect = sandbox.inspect("c1");
    let mounts = inspect["Mounts"].as_array().unwrap();
    let named = mounts.iter().find(|m| m["Destination"] == "/n").unwrap();
    assert_eq!(
        (&named["Type"], &named["Name"], &named["RW"]),
        (&"volume".into(), &"named".into(), &false.into())
    );
    assert!(
        mounts.iter().any(|m| m["Destination"] == "/anon"),
        "{inspect}"
    );
}

#[test]
fn bind_over_a_symlink_stays_in_the_container() {
    let sandbox = Sandbox::with_busybox();
    // A target below an absolute link of the image must resolve inside, never on the host.
    let work = sandbox.work().display().to_string();
    sandbox
        .run(
            "--name c1",
            &format!("sh -c 'mkdir -p {work}; ln -s {work} /link'"),
        )
        .ok();
    sandbox.rctr("commit c1 img").ok();
    sandbox.file("src/f", "bound");
    let bind = format!(
        "run --rm --network none -v {}/src:/link/sub img cat /link/sub/f",
        sandbox.work().display()
    );
    assert_eq!(sandbox.rctr(&bind).ok().line(), "bound");
    assert!(!sandbox.work().join("sub").exists());
}

#[test]
fn option_u_gives_the_source_to_the_user() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run("--rm -v data:/d", "sh -c 'mkdir /d/sub; touch /d/sub/file'")
        .ok();
    let owners = "stat -c %u:%g /d /d/sub /d/sub/file";
    let output = sandbox.run("--rm -u 1000:1001 -v data:/d:U", owners).ok();
    assert_eq!(output.lines(), ["1000:1001"; 3]);
    // They stay so.
    let output = sandbox.run("--rm -v data:/d", owners).ok();
    assert_eq!(output.lines(), ["1000:1001"; 3]);
}

#[test]
fn mount_labels_its_volume_and_refuses_options() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run("--rm --mount src=labelled,dst=/d,volume-label=a=b", "true")
        .ok();
    let labels = sandbox
        .rctr("volume inspect -f '{{json .Labels}}' labelled")
        .ok();
    assert_eq!(labels.line(), "{\"a\":\"b\"}");
    sandbox
        .run("--mount dst=/d,volume-opt=type=nfs", "true")
        .fails(125)
        .says("volume-opt is not supported");
}

#[test]
fn target_below_a_link_to_nothing_makes_what_the_link_names_inside() {
    let sandbox = Sandbox::with_busybox();
    let work = sandbox.work().display().to_string();
    // /abs leads nowhere in the container though the host has it; /real/sub/rel leads to /real/new, also through /via.
    let links = format!(
        "sh -c 'mkdir -p /real/sub; ln -s {work}/out /abs; ln -s ../new /real/sub/rel; ln -s /real/sub /via; \
         ln -s ../../../../../up /out; ln -s out/deep /chain; ln -s /loop /loop'"
    );
    sandbox.run("--name c1", &links).ok();
    sandbox.rctr("commit c1 img").ok();
    sandbox.file("src/f", "bound");
    for (target, seen) in [
        ("/abs/y", format!("{work}/out/y")),
        ("/abs", format!("{work}/out")),
        ("/via/rel/y", "/real/new/y".to_owned()),
        ("/via/rel", "/real/new".to_owned()),
        ("/out/y", "/up/y".to_owned()),
        ("/chain", "/up/deep".to_owned()),
    ] {
        let run =
            format!("run --rm --network none -v {work}/src:{target} img cat {seen}/f {target}/f");
        assert_eq!(sandbox.rctr(&run).ok().stdout, "boundbound", "{target}");
    }
    assert!(!sandbox.work().join("out").exists());
    sandbox
        .rctr(&format!(
            "run --rm --network none -v {work}/src:/loop/y img true"
        ))
        .fails(125)
        .says("levels of symbolic links");
}

#[test]
fn bad_tmpfs_values_are_named() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run("--rm --tmpfs /t:size=zz", "true")
        .fails(125)
        .says("invalid tmpfs option \"size=zz\": want bytes");
}
