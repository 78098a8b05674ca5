//! The main job: run a web server, change it, commit it, run the result, take it elsewhere.

use std::time::Duration;

use crate::harness::{Feature, Sandbox, Terminal, free_port, http_get, images, require};

#[test]
fn static_pages_changed_committed_saved_and_run_again() {
    require!(Feature::PrivateNetwork);
    let sandbox = Sandbox::with_busybox();
    let (first, second) = (free_port(), free_port());
    let mut terminal =
        Terminal::start(sandbox.rctr(&format!("run -it --name myweb -p {first}:80 busybox sh")));
    terminal.expect("# ");
    terminal.send("mkdir /www; echo first page > /www/index.html; httpd -p 80 -h /www\n");
    assert!(http_get(first, "/").ends_with("first page\n"));
    terminal.send("echo second page > /www/index.html\n");
    crate::harness::wait_for("the new page", || {
        http_get(first, "/").ends_with("second page\n")
    });
    assert_eq!(
        sandbox.rctr("exec myweb cat /www/index.html").ok().line(),
        "second page"
    );
    sandbox.rctr("logs myweb").ok().prints("httpd");
    sandbox.rctr("ps").ok().prints("myweb");
    sandbox.rctr("commit -m pages myweb myapp:1.0").ok();
    sandbox.rctr("history myapp:1.0").ok().prints("pages");
    sandbox.rctr("images").ok().prints("myapp");
    // The result, from an archive, beside the first one.
    sandbox.rctr("save -o app.tar myapp:1.0").ok();
    sandbox.rctr("rmi myapp:1.0").ok();
    sandbox.rctr("load -i app.tar").ok().prints("myapp:1.0");
    sandbox
        .rctr(&format!("run -itd -p {second}:80 --name app myapp:1.0"))
        .ok();
    sandbox.rctr("exec app httpd -p 80 -h /www").ok();
    assert!(http_get(second, "/").ends_with("second page\n"));
    assert!(http_get(first, "/").ends_with("second page\n"));
    terminal.send("exit\n");
    assert_eq!(terminal.wait(), 0);
    sandbox.rctr("rm -f myweb app").ok();
    sandbox.assert_nothing_left();
    sandbox.assert_clean();
}

#[test]
fn apache_installed_in_debian_committed_and_run_again() {
    require!(
        Feature::PrivateNetwork,
        Feature::SubordinateIds,
        Feature::Debian,
        Feature::Mirror
    );
    let sandbox = Sandbox::new();
    let (first, second) = (free_port(), free_port());
    let slow = Duration::from_secs(240);
    sandbox
        .words([
            "import",
            images::debian().unwrap().to_str().unwrap(),
            "ubuntu:14.04",
        ])
        .ok();
    let mut terminal = Terminal::start(sandbox.rctr(&format!(
        "run -it --name myweb -p {first}:80 ubuntu:14.04 bash"
    )));
    terminal.expect("# ");
    // The shell echoes the line as it is typed: only its answer has the number.
    terminal.send("apt-get update && apt-get -y install apache2; echo installed=$((7 * 6 + $?))\n");
    terminal.expect_within("installed=42", slow);
    terminal.send("service apache2 start; echo started=$?\n");
    assert!(http_get(first, "/").contains("Apache2"));
    terminal.send("cd /var/www/html; mv index.html old.html; echo my own page > index.html\n");
    crate::harness::wait_for("the new page", || {
        http_get(first, "/").contains("my own page")
    });
    sandbox
        .rctr("commit -m 'apache and php' myweb myphpapp:1.0")
        .limit(slow)
        .ok();
    sandbox
        .rctr(&format!(
            "run -itd -p {second}:80 --name phpapp myphpapp:1.0"
        ))
        .ok();
    sandbox.rctr("exec phpapp service apache2 start").ok();
    assert!(http_get(second, "/").contains("my own page"));
    // Nothing of dpkg's many owners, modes and links was lost on the way.
    sandbox
        .rctr("exec phpapp dpkg --verify apache2 apache2-bin")
        .ok();
    sandbox.rctr("rm -f myweb phpapp").ok();
    sandbox.assert_nothing_left();
    sandbox.assert_clean();
}
